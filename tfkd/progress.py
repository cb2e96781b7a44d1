"""How much of the training is done, as the compiled step reads it."""

import keras
import tensorflow as tf

from tfkd.coefficient import Coefficient


class Progress:
    """Mixin of a model whose losses follow the training: 0 at the beginning of `fit`, 1 at its end.

    Within an epoch it follows the optimizer's steps, where their number is known before; a training
    that goes on with `initial_epoch` goes on at that epoch's share. `fit` leaves it at 1.
    """

    progress = Coefficient(maximum=1.0)
    # What each of the optimizer's steps adds, and what it had added before the epoch began.
    _progress_a_step = Coefficient()
    _progress_before = Coefficient()

    def set_progress(self, progress, a_step=0.0):
        """Sets the share that is done, and what each further step adds to it."""
        iterations = _iterations(self) if a_step else 0
        self.progress = min(progress, 1.0)
        self._progress_a_step, self._progress_before = a_step, a_step * iterations

    def progress_tensor(self):
        """The share that is done as a float32 scalar, read when the step runs."""
        own = Progress
        if self.optimizer is None:
            return own.progress.tensor(self)
        steps = tf.cast(self.optimizer.iterations, tf.float32)
        added = own._progress_a_step.tensor(self) * steps - own._progress_before.tensor(self)
        return tf.clip_by_value(own.progress.tensor(self) + added, 0.0, 1.0)


class Annealed:
    """Mixin of a student's layer that a training moves otherwise than by gradients."""

    def anneal(self, progress):
        """Puts the layer into the state of that share of the training, 0 to 1."""
        raise NotImplementedError


def anneal(model, progress):
    """Puts all `Annealed` layers of a model, nested ones too, into the state of that share."""
    for layer in getattr(model, "layers", ()):
        if isinstance(layer, Annealed):
            layer.anneal(progress)
        anneal(layer, progress)


class Follow(keras.callbacks.Callback):
    """Keeps the progress of a model, and anneals its student's layers; a Distiller's `fit` adds it
    by itself.

    Args:
        epochs: of the whole training, where `fit` is given a part of it; by default what `fit` is
            given.
    """

    def __init__(self, epochs=None):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        steps = self.params["steps"] or self._steps
        epochs = self.epochs or self.params["epochs"]
        self._begun = _iterations(self.model)
        anneal(self.model.student, epoch / epochs)
        self.model.set_progress(epoch / epochs, 1 / (epochs * steps) if steps else 0.0)

    def on_epoch_end(self, epoch, logs=None):
        self._steps = _iterations(self.model) - self._begun

    def on_train_begin(self, logs=None):
        self._steps = None

    def on_train_end(self, logs=None):
        self.model.set_progress(1.0)


def _iterations(model):
    return int(tf.convert_to_tensor(model.optimizer.iterations))  # a variable of every replica
