"""A hardened oblique tree: IF-THEN rules, and prediction by NumPy alone."""

import zipfile

import numpy as np

from tfkd.files import written

BLOCK = 256  # images at a time: their pixels and splits stay in the processor's cache
_ARRAYS = ("weights", "thresholds", "classes", "labels")


class HardTree:
    """Splits of the pixels, and a class at each leaf.

    An image goes right at split n where weights[n] · pixels > thresholds[n], else left; the splits
    below n are 2n + 1 on the left and 2n + 2 on the right. No TensorFlow is needed:

        tree = HardTree.load("tree.npz")
        tree.predict(images)

    Args:
        weights: (splits, pixels), as many splits as a whole tree has: 1, 3, 7, ...
        thresholds: (splits,).
        classes: (splits + 1,), the class number at each leaf, from left to right.
        labels: names of the classes.

    Attributes:
        weights, thresholds, classes, labels: as given; float32, float32, int64, tuple of str.
        depth: number of splits between an image and its leaf.
        parameters: number of weights and thresholds. The classes at the leaves are not counted:
            they are answers, not numbers that the input is multiplied by or compared with.

    Raises:
        ValueError: arrays that are no tree.
    """

    def __init__(self, weights, thresholds, classes, labels):
        self.weights = np.ascontiguousarray(weights, "float32")
        self.thresholds = np.asarray(thresholds, "float32")
        self.classes, self.labels = np.asarray(classes, "int64"), tuple(map(str, labels))
        splits = len(self.thresholds) if self.thresholds.ndim == 1 else 0
        self.depth = (splits + 1).bit_length() - 1
        shapes = self.weights.shape[:-1], self.classes.shape
        if splits < 1 or splits + 1 != 1 << self.depth or shapes != ((splits,), (splits + 1,)):
            raise ValueError(
                f"weights {self.weights.shape}, thresholds {self.thresholds.shape} and classes "
                f"{self.classes.shape} are no whole tree. Expected (splits, pixels), (splits,) and "
                "(splits + 1,), with 1, 3, 7, ... splits."
            )
        if not (np.isfinite(self.weights).all() and np.isfinite(self.thresholds).all()):
            raise ValueError("A tree's weights and thresholds must be finite.")
        if not set(self.classes) <= set(range(len(self.labels))):
            raise ValueError(
                f"The leaves name classes {sorted(set(self.classes.tolist()))}, but there are "
                f"{len(self.labels)} labels."
            )

    @property
    def parameters(self):
        return self.weights.size + self.thresholds.size

    def leaves(self, images):
        """The leaf that each image comes to, from 0 at the left.

        Args:
            images: (images, ...) numbers, as many in each as the tree has pixels.

        Returns:
            int64 array, shape (images,).

        Raises:
            ValueError: images of another size.
        """
        images = np.asarray(images)
        pixels = images.reshape(len(images), -1) if images.ndim > 1 else images[:, np.newaxis]
        if pixels.shape[1] != self.weights.shape[1]:
            raise ValueError(
                f"The images have shape {images.shape[1:]}, {pixels.shape[1]} numbers; this tree "
                f"was made for {self.weights.shape[1]}."
            )
        splits = np.empty(len(pixels), "int64")
        for start in range(0, len(pixels), BLOCK):
            block = pixels[start : start + BLOCK].astype("float32")
            split = np.zeros(len(block), "int64")
            for _ in range(self.depth):
                values = np.einsum("ip,ip->i", block, self.weights[split])
                split = 2 * split + 1 + (values > self.thresholds[split])
            splits[start : start + BLOCK] = split
        return splits - len(self.thresholds)

    def predict(self, images):
        """The class number of each image: int64 array (images,). Arguments as of `leaves`."""
        return self.classes[self.leaves(images)]

    def rules(self):
        """The tree as texts, one a leaf, from left to right.

        "IF split 0 <= 1.5 AND split 2 > -0.25 THEN fluid pound", where "split 2" stands for the sum
        of `weights[2]` times the pixels; a text holds the threshold to its last digit.
        """
        texts = []
        for leaf, number in enumerate(self.classes):
            split, conditions = 0, []
            for level in reversed(range(self.depth)):
                right = leaf >> level & 1
                sign = ">" if right else "<="
                conditions.append(f"split {split} {sign} {self.thresholds[split]!s}")
                split = 2 * split + 1 + right
            texts.append(f"IF {' AND '.join(conditions)} THEN {self.labels[number]}")
        return texts

    def save(self, path):
        """Writes the tree as an `.npz` file of plain arrays."""
        with written(path) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, **{name: getattr(self, name) for name in _ARRAYS})

    @classmethod
    def load(cls, path):
        """The tree in a file that `save` wrote.

        Raises:
            FileNotFoundError: there is none. ValueError: it is damaged, or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(*(stored[name] for name in _ARRAYS))
        except (KeyError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(
                f'"{path}" holds no tree ({error}). Expected a file of HardTree.save.'
            ) from None
