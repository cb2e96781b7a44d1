"""One training in several processes (`MultiWorkerMirroredStrategy`): data, agreement, files.

All of it is for Keras, whose own `fit` fails there. A worker is a process, the chief the first.
"""

import functools
import hashlib
import json
import os
import tempfile

import keras
import numpy as np
import tensorflow as tf

import tfkd
from tfkd import _keras, fingerprints
from tfkd.data.shares import Shares

# Callbacks that only write: the chief's are enough, and two would write into one file.
_WRITERS = (keras.callbacks.CSVLogger, keras.callbacks.TensorBoard)


def is_chief(strategy):
    """Whether this process is the one that keeps files; always true of a single process."""
    if not _keras.over_workers(strategy):
        return True
    resolver = strategy.cluster_resolver
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return resolver.task_type == first and resolver.task_id == 0


# Data: every worker reads the same dataset, and takes its own rows of every batch.


def as_datasets(given, shuffled=False):
    """Arguments of `fit`, `evaluate` or `predict` with their arrays as datasets of batches.

    Args:
        given: {name: argument}, "x" among them.
        shuffled: whether arrays are shuffled unless they say otherwise.

    Raises:
        ValueError: arrays that every worker would shuffle for itself; what is no array.
    """
    given = dict(given)
    if "validation_data" in given and not _is_dataset(given["validation_data"]):
        arrays = keras.utils.unpack_x_y_sample_weight(given.pop("validation_data"))
        size = given.pop("validation_batch_size", None) or given.get("batch_size")
        if arrays[0] is not None:
            given["validation_data"] = _batched(arrays, size)
    if _is_dataset(given["x"]):
        return given
    if given.pop("shuffle", shuffled):
        raise ValueError(
            "fit would shuffle these arrays in each worker by itself, and workers that disagree "
            "would see some examples twice and others not at all. Give tfkd.data.batches(..., "
            "shuffle=True, seed=...), whose order is the same everywhere, or shuffle=False."
        )
    if given.pop("validation_split", 0):
        raise ValueError(
            "validation_split does not work over several workers. Give validation_data."
        )
    arrays = [given["x"], given.pop("y", None), given.pop("sample_weight", None)]
    given["x"] = _batched(arrays, given.pop("batch_size", None))
    return given


def _batched(arrays, batch_size):
    arrays = list(arrays)
    while arrays[-1] is None:
        arrays = arrays[:-1]
    leaves = keras.tree.flatten(arrays)
    if any(part is None for part in arrays):
        raise ValueError("sample_weight was given without labels. Give both, or neither.")
    if not all(hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves):
        raise ValueError(
            "Over several workers the data must be arrays or a tf.data.Dataset, which is the same "
            f"in every process; got {type(leaves[0]).__name__}. Make a dataset of it, "
            "tf.data.Dataset.from_generator(...), that gives every worker the same batches."
        )
    structure = keras.tree.lists_to_tuples(tuple(arrays))
    return tf.data.Dataset.from_tensor_slices(structure).batch(batch_size or 32)


def of_worker(given, strategy):
    """Arguments of `as_datasets` as Keras is to get them in this worker: its data, its callbacks.

    Raises:
        ValueError: a dataset that is cut already; several devices in a worker.
    """
    devices = strategy.extended.worker_devices
    if len(devices) > 1:
        raise ValueError(
            f"Each worker has {len(devices)} devices, of which Keras counts every batch as so "
            "many steps. Start a worker for each device, which sees that one alone "
            "(CUDA_VISIBLE_DEVICES)."
        )
    given, told = dict(given), _described(given["x"])
    for name in ("x", "validation_data"):
        if isinstance(given.get(name), tf.data.Dataset):
            given[name] = _shared_out(given[name], strategy)
    if isinstance(given.get("callbacks"), list):
        given["callbacks"] = _callbacks(given["callbacks"], strategy, told)
    return given


def _described(data):
    if not _is_dataset(data) or data is None:
        return None
    length = data.cardinality() if callable(data.cardinality) else data.cardinality
    return [str(data.element_spec), int(length)]


def _shared_out(data, strategy):
    """This worker's rows of a dataset of whole batches, as the strategy reads them."""
    policies = tf.data.experimental.AutoShardPolicy
    if data.options().experimental_distribute.auto_shard_policy is policies.OFF:
        raise ValueError(
            "This dataset is not to be cut any more (its auto_shard_policy is OFF, as "
            "tfkd.data.batches makes it with an input_context), but fit would share out its "
            "batches once more. Give strategy.distribute_datasets_from_function(lambda context: "
            "tfkd.data.batches(..., input_context=context)), or whole batches."
        )
    return strategy.distribute_datasets_from_function(
        lambda context: Shares(None, None, input_context=context).cut(data)
    )


def _is_dataset(data):
    return data is None or isinstance(data, tf.data.Dataset | tf.distribute.DistributedDataset)


# Before the first step: all workers are to train the same.


class Agreement(keras.callbacks.Callback):
    """Compares what the workers are about to do, and stops them all where they differ.

    Args:
        data: what is known of the data, for JSON.
    """

    def __init__(self, data):
        super().__init__()
        self._data = data

    def on_train_begin(self, logs=None):
        model, strategy = self.model, self.model.distribute_strategy
        told = {name: _number(value) for name, value in self._said(model).items()}
        found = _gathered(np.array([list(told.values())], np.int64), strategy)
        others = np.flatnonzero((found != found[0]).any(axis=1))
        if not len(others):
            return
        same = (found == found[0]).all(axis=0)
        different = [name for name, equal in zip(told, same, strict=True) if not equal]
        named = [_addresses(strategy)[worker] for worker in others]
        raise ValueError(
            f"The workers are not about to train the same. Not as in the first of them: "
            f"{' and '.join(different)} of {', '.join(named)}. Start all workers with the same "
            "program, arguments, data, seed and versions; a directory that a training is to go on "
            "from must be one that all of them see."
        )

    def _said(self, model):
        optimizer = model.optimizer
        settings = {
            "weights": [model.student_loss_weight, *model.distillation_loss_weights],
            "losses": model.matching.metric_names,
            "optimizer": [type(optimizer).__name__, optimizer.get_config()],
            "fit": [self.params["epochs"], self.params["steps"]],
        }
        order = tf.data.Dataset.range(16).shuffle(16, seed=0)  # follows the global seed
        return {
            "the versions": [tfkd.__version__, keras.__version__, tf.__version__],
            "the settings": settings,
            "the data": self._data,
            "the random seed": [int(number) for number in order],
            "the teacher": fingerprints.of_weights(*model.source.models()),
            "the student": fingerprints.of_weights(model.student, model.adapters),
            "the optimizer's state": fingerprints.of_variables(optimizer.variables),
        }


def _number(value):
    """63 bits that tell plain data apart."""
    text = json.dumps(value, sort_keys=True, default=lambda one: type(one).__name__)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _gathered(row, strategy):
    """The rows of all workers, in their order."""
    return strategy.experimental_local_results(_gather(tf.constant(row), strategy))[0].numpy()


@tf.function
def _gather(row, strategy):
    def own():
        return tf.distribute.get_replica_context().all_gather(tf.identity(row), axis=0)

    return strategy.run(own)


def _addresses(strategy):
    cluster = strategy.cluster_resolver.cluster_spec().as_dict()
    return [
        f"{job} {index} ({address})"
        for job in ("chief", "worker")
        for index, address in enumerate(cluster.get(job, []))
    ]


# Files: the chief writes. Saving reads what replicas count together, so that all have to take part.


def by_chief(model, strategy):
    """Has what a model saves kept by the chief alone; the others write to a temporary place."""
    if is_chief(strategy):
        return
    for name in ("save", "save_weights", "export"):
        method = getattr(model, name)
        if not isinstance(method, functools.partial):  # not twice
            setattr(model, name, functools.partial(_written_nowhere, method))


def _written_nowhere(method, filepath, *args, **kwargs):
    with tempfile.TemporaryDirectory() as folder:
        return method(os.path.join(folder, os.path.basename(filepath)), *args, **kwargs)


def _callbacks(given, strategy, data):
    """A worker's callbacks: the chief's write, and all agree before they start."""
    for callback in given:
        folder = os.path.dirname(getattr(callback, "filepath", ""))
        if isinstance(callback, keras.callbacks.ModelCheckpoint) and folder:
            # Keras's way of making it fails where two workers do so at the same time.
            tf.io.gfile.makedirs(folder.partition("{")[0])
    if not is_chief(strategy):
        given = [_reading(one) for one in given if not isinstance(one, _WRITERS)]
    return [*given, Agreement(data)]


def _reading(callback):
    if not isinstance(callback, keras.callbacks.BackupAndRestore):
        return callback
    return _Restored(callback)


class _Restored(keras.callbacks.Callback):
    """A BackupAndRestore that reads what the chief's has written, and writes nothing."""

    def __init__(self, backup):
        super().__init__()
        self._backup = backup

    def set_model(self, model):
        super().set_model(model)
        self._backup.set_model(model)

    def on_train_begin(self, logs=None):
        self._backup.on_train_begin(logs)
