"""A `.keras` file in a fresh process with a set number of threads, behind the protocol of
`messages.py`.

TensorFlow's threads are fixed at its start, so the speed of a Keras model on one thread can only be
measured in a process of its own.
"""

import sys
from multiprocessing.connection import Connection
from pathlib import Path


class KerasModel:
    """A Keras model of one input, compiled as a `tf.function`; `run` gives {"output": array}."""

    def __init__(self, path, threads=None):
        import keras
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads or 0)
        tf.config.threading.set_inter_op_parallelism_threads(threads or 0)
        model = keras.saving.load_model(path, compile=False)
        self._call = tf.function(lambda feed: model(feed, training=False), autograph=False)
        self._constant = tf.constant

    def signatures(self):
        """Keras models have no signatures."""
        return {}

    def compiled_functions(self):
        """Nothing demands XLA."""
        return []

    def run(self, signature, feeds, seconds=None):
        """Run the model; signature and seconds are not looked at."""
        (feed,) = feeds.values()
        return {"output": self._call(self._constant(feed)).numpy()}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tfkd.runtime.messages import INVALID_ARGUMENT, LoaderError, serve_connection

    descriptor, model_path, thread_count = sys.argv[1:4]

    def load():
        try:
            return KerasModel(model_path, int(thread_count) or None)
        except Exception as error:
            raise LoaderError(INVALID_ARGUMENT, f"{type(error).__name__}: {error}") from error

    serve_connection(Connection(int(descriptor)), load)
