"""A student whose probabilities are calibrated by one temperature, as it is exported."""

import math

import keras
import numpy as np

from tfkd.taps import heads_of

NAME = "calibration"  # of the layer that divides the logits
_TINY = 1e-30  # smallest probability that a logarithm is taken of


def calibrated(student, temperature):
    """The student with its logits divided by a temperature (Guo et al. 2017): a new model.

    It answers the same classes, with other probabilities. Weights are shared with the student,
    except where its last layer holds a softmax: that is taken out of a copy, the softmax put back
    behind the division, so that no digit of the logits is lost.

    ```python
    temperature = tfkd.evaluation.fitted_temperature(validation_logits, validation_labels)
    tfkd.export.export_saved_model(tfkd.export.calibrated(student, temperature), "models/student")
    ```

    Args:
        student: a built `keras.Model` with one output of logits, or of probabilities that sum to 1.
        temperature: above 0; see `tfkd.evaluation.fitted_temperature`.

    Returns:
        `keras.Model` of the same name, inputs and kind of output.

    Raises:
        ValueError: a temperature that is not above 0 and finite; outputs that are neither logits
            nor probabilities of classes that exclude each other.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be above 0 and finite; given {temperature}.")
    heads = heads_of(student)
    if len(heads) != 1 or next(iter(heads.values())).name not in ("logits", "probabilities"):
        shown = {name: head.name for name, head in heads.items()}
        raise ValueError(
            f'Student "{student.name}" has the outputs {shown}. One temperature calibrates one '
            "output of classes that exclude each other: logits, or probabilities of a softmax."
        )
    (head,) = heads.values()
    divide = keras.layers.Rescaling(1.0 / temperature, dtype="float32", name=NAME)
    if head.kind == "logits":
        inputs, logits = _called(student)
        return keras.Model(inputs, divide(logits), name=student.name)
    bare = _without_softmax(student)
    if bare is not None:
        inputs, logits = _called(bare)
    else:
        inputs, probabilities = _called(student)
        logits = keras.ops.log(keras.ops.maximum(probabilities, _TINY))
    softmax = keras.layers.Softmax(dtype="float32", name="probabilities")
    return keras.Model(inputs, softmax(divide(logits)), name=student.name)


def _called(model):
    """Symbolic inputs and the one output of a model, in its own layers where it is functional."""
    if getattr(model, "inputs", None):
        (output,) = keras.tree.flatten(model.output)
        return model.input, output
    shape = model.get_build_config()["input_shape"]
    image = keras.Input(shape[1:], name="image")
    (output,) = keras.tree.flatten(model(image))
    return image, output


def _without_softmax(student):
    """A copy that ends before the softmax of its last layer; None if it does not end so."""
    if not getattr(student, "inputs", None):
        return None
    (output,) = keras.tree.flatten(student.output)
    softmax = keras.activations.softmax
    last = [
        layer
        for layer in student.layers
        if isinstance(layer, keras.layers.Layer)
        and not isinstance(layer, keras.Model)
        and layer.output is output
        and (isinstance(layer, keras.layers.Softmax) or _activation(layer) is softmax)
    ]
    if not last:
        return None
    if isinstance(last[0], keras.layers.Softmax):
        return keras.Model(student.input, last[0].input, name=student.name)

    def linear(layer):
        config = layer.get_config()
        if layer is last[0]:
            config["activation"] = "linear"
        return type(layer).from_config(config)

    copy = keras.models.clone_model(student, clone_function=linear)
    copy.set_weights([np.asarray(weight) for weight in student.get_weights()])
    return copy


def _activation(layer):
    return getattr(layer, "activation", None)
