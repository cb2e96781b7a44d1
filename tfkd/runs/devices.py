"""Where a run trains, and in which precision: what depends on the machine's devices."""

import contextlib
import functools

import keras
import tensorflow as tf

import tfkd
from tfkd import _keras, tasks


def local():
    """Names of the GPUs of this machine; where there are none, of its logical CPUs."""
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in found]


def check(settings):
    """Raises ValueError where a strategy finds no devices to share batches out over, or batches
    that cannot be shared out evenly."""
    if settings.strategy == "none":
        return
    if not tasks.get(settings.learns).classifies:
        raise ValueError(
            f"--strategy mirrored is for classes of images, not for {settings.learns}: other tasks "
            "make batches of their own, which are not shared out evenly. Leave it out."
        )
    devices = local()
    if len(devices) < 2:
        raise ValueError(
            "--strategy mirrored shares every batch out over several GPUs, but there is one "
            f"device here: {devices[0]}. Leave it out."
        )
    if settings.batch_size % len(devices):
        raise ValueError(
            f"--strategy mirrored shares every batch out over {len(devices)} devices, but "
            f"--batch-size {settings.batch_size} is no multiple of {len(devices)}."
        )
    if (settings.jobs or 1) > 1:
        raise ValueError(
            f"--strategy mirrored trains on all {len(devices)} devices at once, and --jobs "
            f"{settings.jobs} several students at once, each on them all. Give one of the two."
        )


def findings(settings, data):
    """What a strategy changes in a run, list of sentences.

    Args:
        settings: of the run.
        data: list of `tfkd.data.DataInfo`.
    """
    if settings.strategy == "none":
        return []
    shares = len(local())
    said = [
        f"Every batch is shared out over {shares} devices. BatchNormalization takes the statistics "
        "of the whole batch; a loss that compares the examples of a batch with each other compares "
        "those of a device."
    ]
    left_over = {own.name: own.sizes["train"] % shares for own in data}
    if any(left_over.values()):
        counts = ", ".join(f"{count} of {name}" for name, count in left_over.items() if count)
        said.append(
            f"So that every device has as many examples, each epoch leaves out {counts}, others "
            "each time."
        )
    return said


@contextlib.contextmanager
def used(settings):
    """While open, models are built in the settings' precision, on the devices of its strategy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(settings.precision)
    try:
        with contextlib.ExitStack() as opened:
            if settings.strategy == "mirrored":
                opened.enter_context(_mirrored().scope())
            yield
    finally:
        keras.config.set_dtype_policy(before)


@functools.cache
def _mirrored():
    # One for all trainings: a second one would number its reductions as the first does.
    return tf.distribute.MirroredStrategy(local())


def _replicas():
    return tf.distribute.get_strategy().num_replicas_in_sync


def even(batches, examples, batch_size):
    """Batches that can be shared out evenly: of an epoch's last one the rest is left out.

    A device with fewer examples than another would weigh them more, in Keras as everywhere.

    Args:
        batches: dataset of tuples of tensors (batch, ...), or of structures of them.
        examples: how many an epoch has.
        batch_size: of all batches but the last; a multiple of the number of devices.
    """
    shares = _replicas()
    if shares == 1 or examples % shares == 0:
        return batches

    def shared(*batch):
        kept = tf.shape(tf.nest.flatten(batch)[0])[0] // shares * shares
        return tf.nest.map_structure(lambda part: part[:kept], batch)

    # Of a last batch of fewer examples than devices nothing is left.
    steps = len(batches) - (examples % batch_size < shares)
    return batches.take(steps).map(shared)


def prepare(model, batches):
    """Has a model train on several devices as on one, where there are several.

    BatchNormalization takes the statistics of a whole batch, and not of a device's share, and no
    batch is drawn that is not trained on.

    Args:
        model: compiled: a `keras.Model`, or a `tfkd.Distiller`.
        batches: what it is fitted to.
    """
    if _replicas() == 1:
        return
    if not isinstance(model, tfkd.Distiller):  # which draws none by itself
        _keras.build_parts(model, batches.element_spec)
    sources = model.source.models() if isinstance(model, tfkd.Distiller) else []
    for own in (model, *sources):
        for layer in _keras.layers_of(own):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
