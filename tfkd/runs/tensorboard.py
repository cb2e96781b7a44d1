"""TensorBoard's logs of a run: a curve for each figure of each training."""

import importlib.util

import keras
import tensorflow as tf


def wanted(settings):
    """Whether trainings are logged: as the settings say, else where TensorBoard is installed."""
    installed = importlib.util.find_spec("tensorboard") is not None
    return installed if settings.tensorboard is None else settings.tensorboard


class Scalars(keras.callbacks.Callback):
    """Writes what each epoch ended in: a few numbers, and nothing of the steps.

    Args:
        directory: of this training's logs.
    """

    def __init__(self, directory):
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(directory))

    def on_epoch_end(self, epoch, logs=None):
        with self._writer.as_default():
            write(logs or {}, epoch + 1)
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._writer.close()


def write(figures, step):
    """Writes {name: number or None} of a step into the default writer."""
    for name, value in figures.items():
        if value is not None:
            tf.summary.scalar(name, value, step=step)
