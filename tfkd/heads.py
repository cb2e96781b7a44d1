"""What the numbers of an output mean: logits, probabilities or plain numbers.

One description for everything that must know: losses, metrics, cache, evaluation and export.
`tfkd.taps.heads_of` makes it of a model.
"""

import dataclasses

import keras
import tensorflow as tf

from tfkd import _keras

# Smallest probability that a logarithm is taken of, just above float32's smallest normal number.
_TINY = 1.2e-38

_NAMES = {
    "logits": ("logits", "one_of_many"),
    "independent_logits": ("logits", "independent"),
    "probabilities": ("probabilities", "one_of_many"),
    "independent_probabilities": ("probabilities", "independent"),
    "numbers": ("numbers", None),
    "code": ("code", None),
}


@keras.saving.register_keras_serializable(package="tfkd")
@dataclasses.dataclass(frozen=True)
class Head:
    """What the numbers of an output mean.

    Args:
        kind: "logits", "probabilities", "numbers" (a regression), "code" (bits: whether each number
            is above 0), or None where it is not known.
        labels: "one_of_many" (softmax over the last axis), "independent" (a sigmoid a label), or
            None where it is not known; logits alone do not tell. With an unknown kind: numbers
            made of such probabilities that are none themselves (percentages, say).
    """

    kind: str | None = None
    labels: str | None = None

    @classmethod
    def get(cls, given):
        """The head of that name, or `given` itself if it is a head.

        Args:
            given: "logits", "independent_logits", "probabilities", "independent_probabilities",
                "numbers", "code", a `Head`, or None for an unknown one.

        Raises:
            ValueError: another name.
        """
        if given is None:
            return cls()
        if isinstance(given, cls):
            return given
        if given not in _NAMES:
            raise ValueError(
                f"A head is one of {sorted(_NAMES)}, got {given!r}. Logits become probabilities by "
                "a softmax over the classes; independent ones by a sigmoid for each label."
            )
        return cls(*_NAMES[given])

    def get_config(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    @property
    def name(self):
        """The name that `get` understands; None for an unknown head."""
        plain = self.kind in ("numbers", "code")
        labels = None if plain else self.labels or "one_of_many"
        return next((n for n, parts in _NAMES.items() if parts == (self.kind, labels)), None)

    @property
    def activation(self):
        """ "softmax" or "sigmoid", what turns this head's logits into probabilities; or None."""
        return {"one_of_many": "softmax", "independent": "sigmoid"}.get(self.labels)

    def as_logits(self):
        """The head of the logits behind this one; itself where there are none."""
        known = self.kind == "probabilities" and self.labels is not None
        return Head("logits", self.labels) if known else self

    def logits(self, tensor):
        """Logits, in float32 where they are recovered from probabilities.

        Args:
            tensor: float tensor, shape (..., classes), of this head.

        Raises:
            ValueError: the head has no logits, or is not known.
        """
        if self.kind == "logits":
            return tensor
        if self.kind != "probabilities" or self.labels is None:
            raise ValueError(f"There are no logits behind an output of kind {self.kind}.")
        probabilities = tf.cast(tensor, tf.float32)
        found = tf.math.log(tf.maximum(probabilities, _TINY))
        if self.labels == "independent":
            found -= tf.math.log(tf.maximum(1.0 - probabilities, _TINY))
        return _keras.with_mask(found, tensor)

    def probabilities(self, tensor):
        """Probabilities: those of the output itself, or of its logits (float32).

        Args:
            tensor: float tensor, shape (..., classes), of this head.

        Raises:
            ValueError: the head has no probabilities, or is not known well enough to tell.
        """
        if self.kind == "probabilities":
            return tensor
        if self.kind != "logits" or self.labels is None:
            raise ValueError(
                f"The output is not known well enough for probabilities: its kind is {self.kind}, "
                f"its labels are {self.labels}. Say which of {sorted(_NAMES)} it is."
            )
        function = tf.nn.softmax if self.labels == "one_of_many" else tf.nn.sigmoid
        return _keras.with_mask(function(tf.cast(tensor, tf.float32)), tensor)


GivenHead = str | Head | dict | None  # for all outputs, or {output: head}


def of_outputs(given, outputs):
    """{output: `Head`} of heads as they are given: one for all, or {output: head}.

    Args:
        given: a name, a `Head`, None, or a dict of them.
        outputs: names of the outputs.

    Raises:
        ValueError: an unknown head, or an output that there is not.
    """
    if given is None:
        return {}
    given = given if isinstance(given, dict) else dict.fromkeys(outputs, given)
    unknown = sorted(set(given) - set(outputs))
    if unknown:
        raise ValueError(f"There is no output {unknown}; the outputs are {sorted(outputs)}.")
    return {name: Head.get(head) for name, head in given.items() if head is not None}


def refined(heads, shapes, losses):
    """Heads with what the losses on the labels tell beside the graph.

    Args:
        heads: {output name: `Head`} as found in the graph.
        shapes: {output name: static shape}.
        losses: a loss, its name, or a list or dict of them as `keras.Model.compile` takes it; None
            where there is none.
    """
    found = {}
    for position, (name, head) in enumerate(heads.items()):
        own = losses
        if isinstance(losses, list | tuple):
            own = losses[position] if position < len(losses) else None
            own = losses[0] if len(losses) == 1 else own
        elif isinstance(losses, dict):
            own = losses.get(name, next(iter(losses.values())) if len(heads) == 1 else None)
        found[name] = _refined(head, shapes[name][-1] if shapes[name] else None, own)
    return found


def _refined(head, width, loss):
    if head.kind != "logits" or head.labels is not None:
        return head
    says = meaning_of_loss(loss)
    if says == "numbers":
        # Many classes are also trained by squared errors; a single number then is a regression.
        return Head("numbers") if width == 1 else head
    return dataclasses.replace(head, labels=says)


_LOSSES = {
    "one_of_many": (
        "sparse_categorical_crossentropy",
        "categorical_crossentropy",
        "categorical_focal_crossentropy",
        "categorical_hinge",
    ),
    "independent": ("binary_crossentropy", "binary_focal_crossentropy", "hinge", "squared_hinge"),
    "numbers": (
        "mean_squared_error",
        "mean_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_logarithmic_error",
        "huber",
        "log_cosh",
        "poisson",
    ),
}


def meaning_of_loss(loss):
    """What a loss on the labels says of its output: "one_of_many", "independent", "numbers", None.

    Args:
        loss: a `keras.losses.Loss`, a function, a name, or None.
    """
    if isinstance(loss, str) and loss not in ("crossentropy", "ce"):
        loss = keras.losses.get(loss)
    # Keras's classes hold their function; a user's own class tells nothing.
    name = getattr(getattr(loss, "fn", loss), "__name__", None)
    return next((says for says, names in _LOSSES.items() if name in names), None)
