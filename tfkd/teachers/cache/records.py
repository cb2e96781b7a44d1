"""Reading records from a cache's shards, by example and view, in any order."""

import numpy as np

from tfkd.teachers.cache.examples import fingerprints
from tfkd.teachers.cache.layout import Layout
from tfkd.teachers.cache.manifest import shard_header

# Bytes. TensorFlow copies an array that starts elsewhere, which takes longer than to read it.
_ALIGNMENT = 64


class Records:
    """The records of a cache.

    Args:
        folder: the cache's.
        manifest: its manifest.
        numbers: of the shards that are there; by default all.
    """

    def __init__(self, folder, manifest, numbers=None):
        self.layout = Layout(manifest["knowledge"], manifest["temperature"])
        self._folder, self._manifest = folder, manifest
        shards = manifest["shards"]
        numbers = sorted(range(len(shards)) if numbers is None else numbers)
        self._read = folder.reader([shards[number]["file"] for number in numbers])
        self._positions = np.full(len(shards), -1)
        self._positions[numbers] = range(len(numbers))
        self._starts = np.array([len(shard_header(manifest, n)[0]) for n in range(len(shards))])

    def read(self, indices, views, marks):
        """The records of some examples, after a check that they belong to these.

        Args:
            indices: int64 array, shape (batch,): positions in the dataset.
            views: integers, scalar or (batch,).
            marks: uint8 array, shape (batch, 8), the fingerprints of the examples that are there.

        Returns:
            List of arrays (batch, ...), one for each field of the layout but the fingerprint.

        Raises:
            ValueError: a record belongs to another example, or the file has become shorter.
        """
        size, per_shard = self.layout.dtype.itemsize, self._manifest["shard_examples"]
        shards, places = np.divmod(indices, per_shard)
        self._check_range(indices)
        rows = places * self._manifest["views"] + views
        files, offsets = self._positions[shards], self._starts[shards] + rows * size
        # Every record goes straight into its row of each field.
        fields = [_aligned(len(indices), kind.itemsize) for kind in self.layout.kinds]
        if self._read(files, offsets, fields) < len(indices) * size:
            raise ValueError(
                f'Teacher cache "{self._folder}": a shard has become shorter while it is read. '
                "Call TeacherCache.build again with the same arguments, which makes it anew."
            )
        wrong = np.any(fields[0] != marks, axis=1)
        if wrong.any():
            raise ValueError(self._wrong_example(int(indices[np.argmax(wrong)])))
        return [
            field.view(kind.base).reshape(len(field), *kind.shape)
            for field, kind in zip(fields[1:], self.layout.kinds[1:], strict=True)
        ]

    def check(self, indices, x):
        """Raises ValueError unless the first records of these examples belong to these inputs."""
        if len(indices):
            self.read(indices, 0, fingerprints(x).numpy())

    def _check_range(self, indices):
        if len(indices) and indices.max() >= self._manifest["examples"]:
            raise ValueError(
                f'Teacher cache "{self._folder}" holds {self._manifest["examples"]} examples, '
                f"but the dataset has an example {indices.max()}. Read it with the dataset that it "
                "was built from."
            )

    def _wrong_example(self, index):
        return (
            f'Teacher cache "{self._folder}": example {index} of the dataset is not the image '
            "that the stored knowledge belongs to (the fingerprints of its bytes differ). Read the "
            "cache with the data that it was built from, in the same order (same split, seed and "
            "limit), or build another cache in another directory."
        )


def _aligned(rows, size):
    """Empty uint8 array (rows, size) at an address that TensorFlow takes as it is, uncopied."""
    memory = np.empty(rows * size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + rows * size].reshape(rows, size)
