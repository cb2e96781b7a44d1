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
        rule: one of `tfkd.data.resizing.RULES`, by which images are resized to it; None where they
            are to have it. Then height and width may be None, for images of their own sizes.
        kept: whether pixels, once read, stay in memory.

    Attributes:
        store: `tfkd.data.store.Store` of these images, from which they are read, or None: then they
            are decoded.
    """

    def __init__(self, listing, shape, rule, kept):
        self.listing, self.shape, self.rule, self.kept = listing, tuple(shape), rule, kept
        self.store = None
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

    def one(self, index):
        """One image by its number, int64 scalar, in the graph: uint8 (height, width, channels).

        Of a file that cannot be read the error does not say which one it is.
        """
        return decode(tf.io.read_file(tf.gather(self._paths, index)), self.shape, self.rule)

    def unreadable(self, indices):
        """Decodes files, and says which of them cannot be; pixels stay where they are kept.

        Args:
            indices: int64 array. Those whose pixels are in memory are not read again.

        Returns:
            {index: why}.
        """
        if self._present is not None:
            indices = indices[~self._present[indices]]
        read = [numbers for numbers, _ in self.decoded(indices)]
        return self.whys(np.delete(indices, np.concatenate(read)) if read else indices)

    def decoded(self, indices):
        """Decodes files, some at a time; pixels stay where they are kept.

        Args:
            indices: int64 array (n,).

        Yields:
            (positions in `indices` int64 array (some,), list of uint8 images) of those files that
            can be read, in order.
        """
        for numbers, images in self._stored(indices) if self.store else self._batches(indices):
            if self._present is not None:
                self._pixels[indices[numbers]], self._present[indices[numbers]] = images, True
            yield numbers, images

    def _stored(self, indices):
        for start in range(0, len(indices), _TOGETHER):
            numbers = np.arange(start, min(start + _TOGETHER, len(indices)))
            yield numbers, self.store.read(indices[numbers])

    def _batches(self, indices):
        dataset = self._decoded(tf.gather(self._paths, indices))
        # One by one where sizes differ: no batch holds them.
        together = _TOGETHER if None not in self.shape else 1
        yield from dataset.batch(together).as_numpy_iterator()

    def pixels(self, indices):
        """Images that are in memory, by their numbers, or one of them by its number."""
        return self._pixels[indices]

    def _decoded(self, paths):
        """A dataset of (number int64, image) of those files that can be read, in order."""

        def one(number, path):
            return number, decode(tf.io.read_file(path), self.shape, self.rule)

        numbered = tf.data.Dataset.from_tensor_slices(paths).enumerate()
        decoded = numbered.map(one, AT_ONCE, deterministic=True)
        return decoded.ignore_errors()

    def _read(self, indices):
        if self.store is not None:
            shape = self.shape
            read = _weakly(self._from_store, lambda indices: np.empty((0, *shape), np.uint8))
            images = tf.numpy_function(read, [indices], tf.uint8, stateful=False)
            return tf.ensure_shape(images, (indices.shape[0], *shape))
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

    def _from_store(self, indices):
        return self.store.read(indices)

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
        refuse(self.listing, self.whys(np.delete(indices, read)))

    def whys(self, indices):
        """{index: why it could not be decoded} of some files."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            whys = threads.map(self._why_unreadable, self.listing.paths(indices))
        return dict(zip(indices.tolist(), whys, strict=True))

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
        fixed = self.rule is None and None not in self.shape
        if fixed and header[:2] != self.shape[:2]:
            return f"it is {header.height}x{header.width} pixels (height x width), as it was not"
        return "TensorFlow cannot decode it"
