"""Images of a listing, read when they are asked for; kept in memory where all of them fit."""

import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from tfkd.data.headers import read_header
from tfkd.data.images import by_pillow, decode
from tfkd.data.listing import refuse
from tfkd.data.pipeline import AT_ONCE

_TOGETHER = 256


def _weakly(method, otherwise):
    """A function that calls `method` as long as its object lives, then `otherwise`.

    TensorFlow keeps what `tf.numpy_function` calls until the process ends; a gigabyte of pixels is
    not to stay with it. Datasets keep the object, through the functions they were made of.
    """
    reference = weakref.WeakMethod(method)

    def call(*arguments):
        return (reference() or otherwise)(*arguments)

    return call


class Images:
    """Random access to the pixels of files.

    Args:
        listing: `tfkd.data.listing.Listing`.
        shape: (height, width, channels) of every image.
        resized: whether images are resized to it.
        kept: whether pixels, once read, stay in memory.
    """

    def __init__(self, listing, shape, resized, kept):
        self.listing, self.shape, self.resized = listing, tuple(shape), resized
        self._paths = tf.constant(listing.paths())
        self._pixels = self._present = None
        if kept:
            # Memory is taken as it is written to.
            self._pixels = np.empty((len(listing.names), *self.shape), np.uint8)
            self._present = np.zeros(len(listing.names), bool)

    def gather(self, indices):
        """Images by number, in the graph or eagerly.

        Args:
            indices: int64 tensor (batch,).

        Returns:
            uint8 tensor (batch, height, width, channels). A file that cannot be read (any more) is
            named in an InvalidArgumentError, with every other one of the batch.
        """
        if self._pixels is None:
            return self._read(indices)
        shape = self.shape
        recall = _weakly(self._recall, lambda indices: (False, np.empty((0, *shape), np.uint8)))
        there, images = tf.numpy_function(recall, [indices], (tf.bool, tf.uint8))
        images = tf.cond(
            tf.ensure_shape(there, ()), lambda: images, lambda: self._read_and_keep(indices)
        )
        return tf.ensure_shape(images, (indices.shape[0], *self.shape))

    def read_all(self):
        """Reads all images into memory: uint8 array (n, height, width, channels).

        Raises:
            ValueError: for files that cannot be read; all are named, 20 at most one by one.
        """
        dataset = self._decoded(self._paths).batch(_TOGETHER)
        for numbers, images in dataset.as_numpy_iterator():
            self._pixels[numbers], self._present[numbers] = images, True
        self._refuse(np.flatnonzero(~self._present))
        return self._pixels

    def refuse_unreadable(self, indices):
        """Raises ValueError for those files among `indices` that cannot be decoded."""
        dataset = self._decoded(tf.gather(self._paths, indices)).map(lambda number, _: number)
        self._refuse(np.delete(indices, list(dataset.as_numpy_iterator())))

    def pixels(self, indices):
        """Images that `read_all` has read: uint8 array (batch, height, width, channels)."""
        return self._pixels[indices]

    def _decoded(self, paths):
        """A dataset of (number int64, image) of those files that can be read, in order."""

        def one(number, path):
            return number, decode(tf.io.read_file(path), self.shape, self.resized)

        numbered = tf.data.Dataset.from_tensor_slices(paths).enumerate()
        decoded = numbered.map(one, AT_ONCE, deterministic=True)
        return decoded.ignore_errors()

    def _read(self, indices):
        paths = tf.gather(self._paths, indices)
        count = tf.size(paths, tf.int64)
        # One more than there are, so that a batch without a readable image is one, too.
        last = tf.data.Dataset.from_tensors((count, tf.zeros(self.shape, tf.uint8)))
        found = self._decoded(paths).concatenate(last).batch(count + 1)
        numbers, images = found.get_single_element()
        name_unreadable = _weakly(self._name_unreadable, lambda indices, read: False)
        sound = tf.cond(
            tf.size(numbers, tf.int64) == count + 1,
            lambda: True,
            lambda: tf.ensure_shape(
                tf.numpy_function(name_unreadable, [indices, numbers[:-1]], tf.bool), ()
            ),
        )
        with tf.control_dependencies([tf.debugging.Assert(sound, ["images cannot be read"])]):
            return tf.ensure_shape(images[:-1], (indices.shape[0], *self.shape))

    def _read_and_keep(self, indices):
        keep = _weakly(self._keep, lambda indices, images: images)
        return tf.numpy_function(keep, [indices, self._read(indices)], tf.uint8)

    def _recall(self, indices):
        there = bool(self._present[indices].all())
        return there, self._pixels[indices if there else indices[:0]]

    def _keep(self, indices, images):
        self._pixels[indices] = images
        self._present[indices] = True
        return images

    def _name_unreadable(self, indices, read):
        """Raises ValueError, whose text the graph's error shows, for a batch but for those
        positions of it that were read."""
        self._refuse(np.delete(indices, read))

    def _refuse(self, indices):
        """Raises ValueError for files that could not be decoded."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            reasons = list(threads.map(self._why_unreadable, self.listing.paths(indices)))
        names = [self.listing.names[index] for index in indices]
        refuse(list(zip(names, reasons, strict=True)), self.listing.root)

    def _why_unreadable(self, path):
        """Why a file could not be decoded. Pillow says it in plainer words than TensorFlow."""
        try:
            header = read_header(path)
            with open(path, "rb") as file:
                by_pillow(file.read(), self.shape[-1])
        except OSError as error:
            return error.strerror or str(error)
        except ValueError as error:
            return str(error)
        if not self.resized and header[:2] != self.shape[:2]:
            return f"it is {header.height}x{header.width} pixels (height x width), as it was not"
        return "TensorFlow cannot decode it"
