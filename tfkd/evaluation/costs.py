"""What a model costs to keep and to run."""

import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

WARM_UP_RUNS = 10
FEWEST_RUNS = 30
MOST_RUNS = 300
SECONDS_PER_MODEL = 2.0


def cost(model, image_shape=None):
    """Measure a model's size and speed.

    Args:
        model: a built `keras.Model` that takes one image batch.
        image_shape: (height, width, channels), needed only where the model's input leaves it open.

    Returns:
        dict: `parameters` (all weights: those that training moves and those that it does not, such
        as BatchNorm's moving statistics), `file_bytes` (the `.keras` file without optimizer),
        `latency_ms` and `latency_p95_ms` (see `latencies`; compare models with that, not with two
        calls of this).

    Raises:
        ValueError: the model's input shape is not known and `image_shape` is not given.
    """
    speed = latencies({"model": model}, image_shape)["model"]
    return {"parameters": model.count_params(), "file_bytes": _file_bytes(model), **speed}


def latencies(models, image_shape=None, example=None):
    """Time inference of a single image, or of another example, for several models in turns.

    Each model runs as a compiled `tf.function` on a batch of one, with as many threads as
    TensorFlow has. In turns, because a machine's speed drifts with what else it does: only then
    is the ratio of two models fair. Every timed run follows an untimed one of the same model, so
    that no model starts with the caches full of another's weights.

    Args:
        models: dict of name to `keras.Model`.
        image_shape: (height, width, channels), needed only where a model's input leaves it open.
        example: what the models take, as a batch of one; unless told an image of random pixels.

    Returns:
        dict of name to dict: `latency_ms` (median) and `latency_p95_ms` (95th percentile) in
        milliseconds over 30 to 300 runs, as many as about 2 seconds a model allow.

    Raises:
        ValueError: a model's input shape is not known and `image_shape` is not given.
    """
    runs = {name: _compiled_run(model, image_shape, example) for name, model in models.items()}
    for run in runs.values():
        for _ in range(WARM_UP_RUNS):
            run()
    times = {name: [] for name in runs}
    deadline = time.perf_counter() + SECONDS_PER_MODEL * len(runs)
    for turn in range(MOST_RUNS):
        if turn >= FEWEST_RUNS and time.perf_counter() > deadline:
            break
        for name, run in runs.items():
            run()
            start = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - start))
    return {
        name: {
            "latency_ms": float(np.median(values)),
            "latency_p95_ms": float(np.percentile(values, 95)),
        }
        for name, values in times.items()
    }


def _compiled_run(model, image_shape, example):
    image = _pixels(model, image_shape) if example is None else tf.constant(example)
    call = tf.function(lambda image: model(image, training=False)).get_concrete_function(image)
    # .numpy() waits for the result.
    return lambda: tf.nest.map_structure(lambda output: output.numpy(), call(image))


def _pixels(model, image_shape):
    if image_shape is None:
        image_shape = model.inputs[0].shape[1:] if getattr(model, "inputs", None) else (None,)
    if None in image_shape:
        raise ValueError(
            f'The input shape of model "{model.name}" is open (known: {tuple(image_shape)}); '
            "give image_shape=(height, width, channels)."
        )
    pixels = np.random.default_rng(0).integers(0, 256, (1, *image_shape), dtype=np.uint8)
    return tf.constant(pixels)


def _file_bytes(model):
    if getattr(model, "inputs", None):
        # The same layers under a model that was never compiled, hence without an optimizer.
        bare = keras.Model(model.inputs, model.outputs, name=model.name)
    else:
        bare = type(model).from_config(model.get_config())
        bare.build_from_config(model.get_build_config())
        bare.set_weights(model.get_weights())
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.keras"
        bare.save(path)
        return path.stat().st_size
