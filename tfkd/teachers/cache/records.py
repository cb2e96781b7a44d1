"""Reading records from a cache's shards, by example and view, in any order.

Rows are read with `pread`: nothing of the cache is held, not even as mapped pages, and a file that
shrank is an error instead of a signal.
"""

import hashlib
import os
import weakref
from pathlib import Path

import numpy as np

from tfkd.teachers.cache import disk
from tfkd.teachers.cache.examples import fingerprints
from tfkd.teachers.cache.layout import FINGERPRINT_BYTES, Layout
from tfkd.teachers.cache.manifest import shard_header, shard_range

# Bytes. TensorFlow copies an array that starts elsewhere, which takes longer than to read it.
_ALIGNMENT = 64


class Records:
    """The records of a cache whose files are whole.

    Args:
        directory: the cache's.
        manifest: its manifest; shards without checksum are not opened.
    """

    def __init__(self, directory, manifest):
        self.layout = Layout(manifest["knowledge"], manifest["temperature"])
        self._directory, self._manifest = Path(directory), manifest
        self._files, self._starts = [], []
        for number, shard in enumerate(manifest["shards"]):
            if shard["sha256"] is None:
                self._files.append(-1)
                self._starts.append(0)
                continue
            self._files.append(disk.open_plain(self._directory / shard["file"]))
            self._starts.append(shard_header(manifest, number)[0])
        weakref.finalize(self, _close, [file for file in self._files if file >= 0])
        self._files, self._starts = np.array(self._files), np.array(self._starts)

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
        files, offsets = self._files[shards], self._starts[shards] + rows * size
        # Every record goes straight into its row of each field.
        fields = [_aligned(len(indices), kind.itemsize) for kind in self.layout.kinds]
        read = sum(map(os.preadv, files.tolist(), zip(*fields, strict=True), offsets.tolist()))
        if read < len(indices) * size:
            raise ValueError(
                f'Teacher cache "{self._directory}": a shard has become shorter while it is read. '
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

    def data_fingerprint(self):
        """ "sha256:..." over the fingerprints of all examples, in order."""
        digest = hashlib.sha256()
        for number, shard in enumerate(self._manifest["shards"]):
            stored = np.memmap(
                self._directory / shard["file"],
                np.uint8,
                "r",
                int(self._starts[number]),
                (self._rows(number), self.layout.dtype.itemsize),
            )
            step = self._manifest["views"]
            digest.update(np.ascontiguousarray(stored[::step, :FINGERPRINT_BYTES]).data)
        return f"sha256:{digest.hexdigest()}"

    def _rows(self, number):
        first, last = shard_range(self._manifest, number)
        return (last - first) * self._manifest["views"]

    def _check_range(self, indices):
        if len(indices) and indices.max() >= self._manifest["examples"]:
            raise ValueError(
                f'Teacher cache "{self._directory}" holds {self._manifest["examples"]} examples, '
                f"but the dataset has an example {indices.max()}. Read it with the dataset that it "
                "was built from."
            )

    def _wrong_example(self, index):
        return (
            f'Teacher cache "{self._directory}": example {index} of the dataset is not the image '
            "that the stored knowledge belongs to (the fingerprints of its bytes differ). Read the "
            "cache with the data that it was built from, in the same order (same split, seed and "
            "limit), or build another cache in another directory."
        )


def _aligned(rows, size):
    """Empty uint8 array (rows, size) at an address that TensorFlow takes as it is, uncopied."""
    memory = np.empty(rows * size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + rows * size].reshape(rows, size)


def _close(files):
    for file in files:
        os.close(file)
