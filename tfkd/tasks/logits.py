"""A classifier's logits, and how good they are."""

import keras
import numpy as np
import tensorflow as tf

from tfkd import data, evaluation


class Logits:
    """A model as a function of images that returns logits, also where it ends in a softmax.

    Args:
        model: built, with one output of shape (batch, classes), or a dict of such.
        images: some of the data's, on which the output is looked at.
        output: of a dict, the output to return.

    Attributes:
        from_logits: whether the model's own output is logits.
    """

    def __init__(self, model, images, output=None):
        self.model, self.name, self._output = model, model.name, output
        output = self._of(model(images, training=False))
        # Probabilities in half precision sum to 1 but for their rounding.
        off = 1e-3 if output.dtype == tf.float32 else 0.02
        values = np.asarray(tf.cast(output, tf.float64))
        within = bool(((values >= 0) & (values <= 1)).all())
        self.from_logits = not (within and np.allclose(values.sum(axis=-1), 1.0, atol=off))

    def _of(self, output):
        return output[self._output] if self._output else keras.tree.flatten(output)[0]

    def __call__(self, images, training=False):
        output = tf.cast(self._of(self.model(images, training=training)), tf.float32)
        return output if self.from_logits else tf.math.log(tf.maximum(output, 1e-30))


class Judge:
    """Accuracy and cross-entropy of a classifier on a split; no teacher is run.

    Args:
        model: the model.
        dataset: unbatched, of (image, label).
        batch_size: images at once.
        output: of several outputs, the one that counts.

    Attributes:
        logits: its `Logits`.
    """

    def __init__(self, model, dataset, batch_size, output=None):
        batches = data.batches(dataset, batch_size)
        images, _ = next(iter(batches))
        self.logits = Logits(model, images[:64], output)
        self._run = evaluation.prediction(self.logits, batches)

    def __call__(self):
        figures = evaluation.quality(*self._run())
        return {name: figures[name] for name in ("accuracy", "cross_entropy")}
