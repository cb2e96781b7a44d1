"""What an export has to know of a student: its inputs, what its numbers mean, its labels."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from tfkd import taps
from tfkd.data.resizing import STRETCH, check_rule
from tfkd.export import codes, model_inputs, precision, served_head
from tfkd.heads import Head, refined
from tfkd.models import forks

THRESHOLD = 0.5  # above it an independent label is said to hold

_ROWS = 3  # made-up examples
_LONGEST_REASON = 400  # characters of an error that Keras raised
_MAXIMUM_RANK_OF_NAMES = 3  # names for each of a sequence's positions, not for each pixel


@dataclasses.dataclass(frozen=True)
class Served:
    """A student, seen as a function from named inputs to named outputs.

    Attributes:
        model: the student in float32 (a clone if the student computes in another precision).
        inputs: {name: `tf.TensorSpec` with a free batch dimension}; an image is called "image".
        output: name of the output that is served.
        head: `tfkd.heads.Head`, known.
        shape: static shape of the output, (None, ..., width); (None,) for one number an example.
        assumed: why the head is taken for what it is where the student does not tell; else "".
        labels: one name a class (two for a binary head), for each independent label, or for each
            number of a regression, () if these were not named.
        features: names of the taps to serve.
        reader: the traced `tfkd.taps.Taps` of the model.
        resize: the rule by which images of another size become such as the model takes.
    """

    model: keras.Model
    inputs: dict
    output: str
    head: Head
    shape: tuple
    assumed: str
    labels: tuple
    features: tuple
    reader: taps.Taps
    resize: str = STRETCH

    @property
    def task(self):
        """ "classes" (they exclude each other), "binary" (one logit or probability), "labels"
        (independent of each other), "numbers" or "code"."""
        if self.head.kind in ("numbers", "code"):
            return self.head.kind
        if self.head.labels == "one_of_many":
            return "classes"
        return "binary" if served_head.width_of(self.shape) == 1 else "labels"

    @property
    def names_classes(self):
        """Whether its answers have classes or labels, with probabilities."""
        return self.task not in ("numbers", "code")

    @property
    def image_shape(self):
        """(height, width, channels) if the student takes one image, else None."""
        if list(self.inputs) != [model_inputs.IMAGE]:
            return None
        return tuple(self.inputs[model_inputs.IMAGE].shape[1:])

    @property
    def takes_pixels(self):
        """Whether the student takes one image of raw pixels, 0..255."""
        return self.image_shape is not None and model_inputs.takes_pixels(self.model)

    def outputs(self, feeds, names=True):
        """What is served for {input name: tensor}: {output name: tensor}.

        Numbers are served as "values", a hash code as `codes.answers` says. Every other head gives
        "logits" and "probabilities" (float32, (batch, ..., classes); a binary head's are of both
        classes: 1 - p, p), and with `names` what follows from these: "class_id" and "label" of
        classes that exclude each other, "labels" of independent ones: a label's name where its
        probability is above 0.5, else "".
        """
        returned, tensors = self.reader(self._arranged(feeds), training=False)
        own = model_inputs.picked(returned, self.model, self.output)
        if self.task == "numbers":
            return {"values": tf.cast(own, tf.float32)}
        if self.task == "code":
            return codes.answers(own)
        logits = tf.cast(tensors[self.output], tf.float32)
        logits, own = (t[..., None] if len(self.shape) == 1 else t for t in (logits, own))
        probabilities = tf.cast(self.head.probabilities(own), tf.float32)
        if self.task == "binary":
            # 1 - p loses every digit of a small probability; the sigmoid of -z does not.
            probabilities = tf.concat([tf.sigmoid(-logits), probabilities], axis=-1)
        found = {"logits": logits, "probabilities": probabilities}
        return {**found, **self._named(probabilities)} if names else found

    def feature_maps(self, feeds):
        """{tap: float32 tensor} from {input name: tensor}."""
        tensors = self.reader(self._arranged(feeds), training=False)[1]
        return {name: tf.cast(tensors[name], tf.float32) for name in self.features}

    def own_output(self, feeds, batch_size=64):
        """What the Keras model itself returns for {input name: array}: float32 array.

        This is the reference of all checks: no head, no tap, no traced function takes part.
        """
        size = len(next(iter(feeds.values())))
        parts = []
        for start in range(0, size, batch_size):
            part = {name: array[start : start + batch_size] for name, array in feeds.items()}
            returned = model_inputs.call(self.model, self.inputs, part)
            own = model_inputs.picked(returned, self.model, self.output)
            parts.append(np.asarray(own, "float32"))
        return np.concatenate(parts)

    def sample(self, batch_size, seed=0):
        """Reproducible made-up inputs {name: array}, see `model_inputs.made_up`."""
        return model_inputs.made_up(self.model, self.inputs, batch_size, seed)

    def _named(self, probabilities):
        labels = tf.constant(self.labels)
        short = len(self.shape) <= _MAXIMUM_RANK_OF_NAMES
        if self.task == "labels":
            holds = probabilities > THRESHOLD
            return {"labels": tf.where(holds, labels, "")} if short else {}
        class_id = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        named = {"label": tf.gather(labels, class_id)} if short else {}
        return {"class_id": class_id, **named}

    def _arranged(self, feeds):
        return model_inputs.arranged(self.model, self.inputs, feeds)


def examine(
    student,
    labels=None,
    output=None,
    features=None,
    input_dtype="float32",
    head=None,
    resize=STRETCH,
):
    """Looks at a student and says how it is to be served.

    Args:
        student: built `keras.Model`, one output (or `output` names which one).
        labels: names in the order of the outputs; default "0", "1", ....
        output: name of the output to serve, for a student of several.
        features: names of taps to serve besides.
        input_dtype: dtype of a served image, "float32" or "uint8" (raw pixels).
        head: name of a head (see `tfkd.heads.Head.get`) or a `Head`; default: what the student's
            graph, its numbers and the loss that it is compiled with tell. A `Head` of which only
            `labels` are known adds these to what is found.
        resize: the rule by which images of another size become such as it takes.

    Raises:
        TypeError: not a plain Keras model.
        ValueError: it cannot be served as it is, or it is not known what its numbers mean; the
            message says how to fix it.
    """
    _require_plain_model(student)
    check_rule(resize)
    if input_dtype not in ("float32", "uint8"):
        raise ValueError(f'image_dtype must be "float32" or "uint8"; given {input_dtype!r}.')
    given = None if head is None else Head.get(head)
    inputs = model_inputs.specs(student, input_dtype)
    _require_numbers(student, inputs)
    model = precision.in_float32(student)
    if model is not student:
        precision.require_same_answers(student, model, inputs)
    output, loss = _chosen_output(student, output), served_head.loss_on(student, output)
    if len(taps.output_names(model) or ()) > 1:
        model, output = _narrowed(model, output), taps.OUTPUT
    known = given if given is not None and given.kind is not None else None
    reader = taps.Taps(model, features or (), "student", heads=known)
    dtypes = model_inputs.own_dtypes(model, inputs)
    signature = {name: tf.TensorSpec(spec.shape, dtypes[name]) for name, spec in inputs.items()}
    shapes = reader.trace(model_inputs.structured(model, signature))
    output = _chosen_output(student, output, tuple(reader.output_heads))
    found = refined({output: reader.output_heads[output]}, shapes, loss)[output]
    if given is not None and found.labels is None and found.kind in ("logits", "probabilities"):
        found = dataclasses.replace(found, labels=given.labels)
    head, assumed = served_head.decided(
        student, found, shapes[output], None if known is not None else loss
    )
    reader.output_heads = {output: head}
    served = Served(
        model,
        inputs,
        output,
        head,
        shapes[output],
        assumed,
        (),
        tuple(features or ()),
        reader,
        resize,
    )
    served_head.require_sense(served)
    return dataclasses.replace(served, labels=_checked_labels(labels, served))


def _require_plain_model(student):
    if hasattr(student, "student") and hasattr(student, "teacher"):
        raise TypeError(
            f"{type(student).__name__} holds a student and a teacher; only the student is "
            "exported. Pass distiller.student."
        )
    if not isinstance(student, keras.Model):
        raise TypeError(f"The student must be a keras.Model; given {type(student).__name__}.")
    if not student.built:
        raise ValueError(
            f'Student "{student.name}" is not built, so its input shape is unknown. Call it once '
            "on a batch, or give it a keras.Input."
        )


def _require_numbers(student, inputs):
    """Calls the student on made-up inputs, which no graph can stand for."""
    feeds = model_inputs.made_up(student, inputs, _ROWS)
    try:
        returned = keras.tree.flatten(model_inputs.call(student, inputs, feeds))
    except (tf.errors.OpError, TypeError, ValueError) as error:
        shapes = {name: (_ROWS, *spec.shape[1:]) for name, spec in inputs.items()}
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise ValueError(
            f'Student "{student.name}" cannot be called on made-up inputs of the shapes {shapes}, '
            f"but an export takes batches of any size: {reason}"
        ) from error
    if any(tensor.dtype == tf.string for tensor in returned):
        raise ValueError(
            f'Student "{student.name}" gives text, but an export serves numbers and gives them '
            "names itself: export the part before the layer that turns them into text, and give "
            "the names as labels."
        )


def _chosen_output(student, output, names=None):
    """The output to serve, None as long as only a call can tell which there are."""
    names = names or taps.output_names(student)
    if names is None or output in names:
        return output
    if output is not None and output != taps.OUTPUT:
        raise ValueError(
            f'Student "{student.name}" has no output {output!r}; it has {list(names)}.'
        )
    if len(names) > 1:
        raise ValueError(
            f'Student "{student.name}" has the outputs {list(names)}. Say which one to export, '
            f'for example output="{names[-1]}".'
        )
    return names[0]


def _narrowed(model, output):
    """The model with one of its outputs alone, and no layer beyond what that needs."""
    if isinstance(model.output, dict):
        return forks.narrowed(model, output, model.name)
    position = taps.output_names(model).index(output)
    return keras.Model(model.input, model.outputs[position], name=model.name)


def _checked_labels(labels, served):
    count = 2 if served.task == "binary" else served_head.width_of(served.shape)
    if labels is None:
        return tuple(str(index) for index in range(count)) if served.names_classes else ()
    labels = tuple(labels)
    if not all(isinstance(label, str) and label for label in labels):
        raise ValueError(f"labels must be names (non-empty strings); given {labels!r}.")
    broken = [label for label in labels if label.splitlines() != [label]]
    if broken:
        raise ValueError(
            f"labels must be names of one line, for labels.txt has one line a class; given "
            f"{broken[0]!r}."
        )
    if len(labels) != count:
        kinds = {"labels": "labels", "numbers": "numbers", "code": "bits"}
        kinds = kinds.get(served.task, "classes")
        raise ValueError(
            f"{len(labels)} labels were given, but the student tells {count} {kinds} apart. "
            "Give one label for each, in the order of the outputs."
        )
    if len(set(labels)) != count:
        twice = sorted({label for label in labels if labels.count(label) > 1})
        raise ValueError(f"Labels must differ; given more than once: {twice}.")
    return labels
