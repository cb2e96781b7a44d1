"""What an export has to know of a student: its inputs, its logits, its kind of head, its labels."""

import dataclasses
import re

import keras
import numpy as np
import tensorflow as tf

from tfkd import taps
from tfkd.models import forks

_AUTOMATIC_NAME = re.compile(r"(keras_tensor|input|input_layer|inputs)(_\d+)?")


@dataclasses.dataclass(frozen=True)
class Served:
    """A student, seen as a function from named inputs to logits.

    Attributes:
        model: the student in float32 (a clone if the student computes in lower precision).
        inputs: {name: `tf.TensorSpec` with a free batch dimension}; an image is called "image".
        output: name of the output that holds the logits.
        head: "softmax" (classes exclude each other), "sigmoid" (each class for itself), or "binary"
            (one logit).
        labels: one name a class; a binary head has two classes.
        features: names of the taps to serve.
    """

    model: keras.Model
    inputs: dict
    output: str
    head: str
    labels: tuple
    features: tuple = ()

    @property
    def image_shape(self):
        """(height, width, channels) if the student takes one image, else None."""
        if list(self.inputs) != ["image"]:
            return None
        return tuple(self.inputs["image"].shape[1:])

    def logits(self, feeds):
        """Logits, float32, shape (batch, outputs), from {input name: tensor}."""
        return self._tensors(feeds, ())[self.output]

    def feature_maps(self, feeds):
        """{tap: float32 tensor} from {input name: tensor}."""
        tensors = self._tensors(feeds, self.features)
        return {name: tf.cast(tensors[name], tf.float32) for name in self.features}

    def probabilities(self, logits):
        """Probabilities, shape (batch, classes). A binary head gives both classes: (1 - p, p)."""
        if self.head == "binary":
            return tf.concat([tf.sigmoid(-logits), tf.sigmoid(logits)], axis=-1)
        return tf.sigmoid(logits) if self.head == "sigmoid" else tf.nn.softmax(logits)

    def sample(self, batch_size, seed=0):
        """Reproducible inputs {name: array}: whole pixel values 0..255 for an image, else standard
        normal or zeros."""
        generator = np.random.default_rng(seed)
        feeds = {}
        for name, spec in self.inputs.items():
            shape = (batch_size, *spec.shape[1:])
            dtype = spec.dtype.as_numpy_dtype
            if name == "image":
                feeds[name] = generator.integers(0, 256, shape).astype(dtype)
            elif spec.dtype.is_floating:
                feeds[name] = generator.standard_normal(shape).astype(dtype)
            else:
                feeds[name] = np.zeros(shape, dtype)
        return feeds

    def _tensors(self, feeds, names):
        floats = {n: tf.cast(t, tf.float32) if n == "image" else t for n, t in feeds.items()}
        arranged = _arrange(self.model, floats)
        return taps.Taps(self.model, names, "student")(arranged, training=False)[1]


def examine(student, labels=None, output=None, features=None, input_dtype="float32"):
    """Look at a student and say how it is to be served.

    Args:
        student: built `keras.Model`, one output (or `output` names which one).
        labels: class names in the order of the outputs; default "0", "1", ....
        output: name of the output with the logits, for a student of several outputs.
        features: tap names to serve besides.
        input_dtype: dtype of the served inputs, "float32" or "uint8" (raw pixels).

    Raises:
        TypeError: not a plain Keras model. ValueError: it cannot be served as it is; the message
            says how to mend it.
    """
    _require_plain_model(student)
    if input_dtype not in ("float32", "uint8"):
        raise ValueError(f'image_dtype must be "float32" or "uint8"; given {input_dtype!r}.')
    inputs = _input_specs(student, input_dtype)
    model = in_float32(student)
    served = Served(model, inputs, output or taps.OUTPUT, "softmax", (), tuple(features or ()))
    names = taps.output_names(student)
    if output is None and names and len(names) > 1:
        raise ValueError(
            f'Student "{student.name}" has the outputs {list(names)}. Say which one holds the '
            "logits, for example "
            f'output="{names[-1]}".'
        )
    if output is not None and output not in (names or (taps.OUTPUT,)):
        raise ValueError(f"No output {output!r} in student {student.name!r}; it has {list(names)}.")
    if output is not None and len(names) > 1:
        if isinstance(model.output, dict):
            model = forks.narrowed(model, output, student.name)
        else:
            model = keras.Model(model.input, model.outputs[names.index(output)], name=student.name)
        served = dataclasses.replace(served, model=model, output=taps.OUTPUT)
    width, activation = _head(served)
    head = "binary" if width == 1 else (activation or "softmax")
    labels = _checked_labels(labels, 2 if width == 1 else width)
    return dataclasses.replace(served, head=head, labels=labels)


def in_float32(model):
    """The model itself if it computes in float32, else a float32 clone with the same weights.

    Raises:
        ValueError: the model needs a clone and cannot be rebuilt from its configuration.
    """
    if {layer.compute_dtype for layer in model._flatten_layers()} <= {"float32", None}:
        return model
    try:
        configuration = keras.saving.serialize_keras_object(model)
        _set_policies(configuration)
        clone = keras.saving.deserialize_keras_object(configuration)
    except Exception as error:
        raise ValueError(
            f'Student "{model.name}" computes in mixed precision; exports are float32, and the '
            "student could not be "
            f"rebuilt from its configuration ({error}). Give its classes a get_config and register "
            "them."
        ) from error
    clone.set_weights(model.get_weights())
    return clone


def _set_policies(node):
    if isinstance(node, dict):
        if node.get("class_name") == "DTypePolicy":
            node["config"]["name"] = "float32"
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            _set_policies(child)


def _require_plain_model(student):
    if hasattr(student, "student") and hasattr(student, "teacher"):
        raise TypeError(
            f"{type(student).__name__} holds a student and a teacher; only the student is "
            "exported. "
            "Pass distiller.student."
        )
    if not isinstance(student, keras.Model):
        raise TypeError(f"The student must be a keras.Model; given {type(student).__name__}.")
    if not student.built:
        raise ValueError(
            f'Student "{student.name}" is not built, so its input shape is unknown. Call it once '
            "on a batch, or "
            "give it a keras.Input."
        )


def _keras_inputs(model):
    """The model's symbolic inputs, or None for a subclassed model."""
    try:
        return model.inputs or None
    except AttributeError:
        return None


def _arrange(model, feeds):
    """{input name: tensor} (in the order of the model's inputs) in the structure that the model's
    call takes."""
    symbols = _keras_inputs(model)
    if symbols is None:
        return next(iter(feeds.values()))
    by_symbol = dict(zip(map(id, symbols), feeds.values(), strict=True))
    return keras.tree.map_structure(lambda symbol: by_symbol[id(symbol)], model.input)


def _input_specs(student, image_dtype):
    symbols = _keras_inputs(student)
    if symbols is None:  # a subclassed model: Keras kept the shape it was built with
        shapes = list((getattr(student, "_build_shapes_dict", None) or {}).values())
        if len(shapes) != 1 or not isinstance(shapes[0], tuple):
            raise ValueError(
                f'The inputs of student "{student.name}" are unknown. Wrap it: keras.Model(inputs, '
                "student(inputs)), "
                'with inputs = keras.Input(shape, name="image").'
            )
        found = [("input", (None, *shapes[0][1:]), "float32")]
    else:
        keys = (
            {id(t): key for key, t in student.input.items()}
            if isinstance(student.input, dict)
            else {}
        )
        found = [(keys.get(id(t), t.name), t.shape, t.dtype) for t in symbols]
    unnamed = [name for name, _, _ in found if _AUTOMATIC_NAME.fullmatch(name)]
    if len(found) > 1 and unnamed:
        raise ValueError(
            f'Student "{student.name}" has {len(found)} inputs, and {unnamed} have no name of '
            "their own; clients "
            'would not know which is which. Name each: keras.Input(shape, name="image").'
        )
    if len(found) == 1:
        name, shape, dtype = found[0]
        if len(shape) == 4:
            found = [("image", shape, image_dtype)]
        elif unnamed:
            found = [("inputs", shape, dtype)]
    for name, shape, _ in found:
        if shape[0] is not None or None in shape[1:]:
            raise ValueError(
                f'Input "{name}" of student "{student.name}" has the shape {tuple(shape)}. An '
                "export needs a free "
                "batch dimension and fixed sizes behind it: keras.Input((height, width, channels))."
            )
    return {name: tf.TensorSpec(shape, dtype, name=name) for name, shape, dtype in found}


def _head(served):
    """(number of logits, "softmax" or "sigmoid" if such an activation had to be undone, else
    None)."""
    floats = {
        name: tf.TensorSpec(spec.shape, tf.float32 if name == "image" else spec.dtype)
        for name, spec in served.inputs.items()
    }
    shapes, activations = taps.Taps(served.model, served.features, "student").trace(
        _arrange(served.model, floats)
    )
    shape = shapes[served.output]
    if len(shape) != 2 or shape[-1] is None:
        raise ValueError(
            f'Student "{served.model.name}" returns the shape {shape}; a classifier returns '
            "(batch, classes)."
        )
    return shape[-1], activations[served.output]


def _checked_labels(labels, count):
    if labels is None:
        return tuple(str(index) for index in range(count))
    labels = tuple(labels)
    if not all(isinstance(label, str) and label for label in labels):
        raise ValueError(f"labels must be names (non-empty strings); given {labels!r}.")
    if len(labels) != count:
        raise ValueError(
            f"{len(labels)} labels were given, but the student tells {count} classes apart. "
            "Give one label a class, in the order of the outputs."
        )
    if len(set(labels)) != count:
        twice = sorted({label for label in labels if labels.count(label) > 1})
        raise ValueError(f"Labels must differ; given more than once: {twice}.")
    return labels
