"""The contract of every distillation loss."""

import re

import keras
import tensorflow as tf
from keras import ops

from tfkd import _keras
from tfkd.coefficient import Coefficient
from tfkd.losses.described import call_of


class DistillationLoss(keras.losses.Loss, keras.distillation.DistillationLoss):
    """Compares one named tensor of the teacher with one of the student.

    A subclass writes `call(teacher, student)`, which gets two float32 tensors of shape (batch, ...)
    and returns one value per example, shape (batch,), or one per position, (batch, length, ...).
    Sample weights and padding masks are applied by the base class, which averages over the batch
    and scales for replicas. It also works in `keras.distillation.Distiller`, through
    `compute_loss`.

    What a subclass needs beyond that it declares in the attributes below. A value that is no sum
    over examples is still returned as one per example, whose mean it is.

    ```python
    class ProjectedDistance(DistillationLoss):
        adapts = "itself"                             # both sides are projected here
        needs = ("training",)

        def build(self, teacher_shape, student_shape):
            self.teacher_side, self.student_side = keras.layers.Dense(16), keras.layers.Dense(16)
            self.teacher_side.build(teacher_shape)
            self.student_side.build(student_shape)

        def call(self, teacher, student, training):
            difference = self.teacher_side(teacher) - self.student_side(student)
            return keras.ops.mean(keras.ops.square(difference), axis=-1)
    ```

    Args:
        teacher_layer_name: output or layer of the teacher to read; None for its only output. Layers
            inside nested models are named by path, "backbone/conv5"; a `keras.Layer` of the model
            gets its path when the Distiller is made. A tuple of them makes `teacher` a tuple.
        student_layer_name: the same for the student.
        name: name of the loss's metric; by default the class's name in snake case.

    Attributes:
        adapts: what becomes of tensors of different shapes: False, they are refused; True, an
            adapter brings the student's to the teacher's shape; "itself", the loss compares them as
            they are.
        taught_by: "teacher"; or "student" where `teacher` is read from the student's own tensors,
            with the gradient stopped.
        needs: names of what `call` gets by keyword: "labels" as the data gives them; "index", the
            numbers of the examples in the data, int64, shape (batch,); "heads", the pair of the
            teacher's and the student's `tfkd.heads.Head`; "training", whether the student trains;
            "progress", the share of the training that is done, a scalar from 0 to 1; "counted",
            the batch's sample weights and mask, those that there are, for what is taken over all
            values at once: what has the weight 0 or is masked counts in no value.
        settings: names of the constructor's further arguments, which are attributes too: what
            `get_config` holds beside the names.
    """

    adapts = False
    taught_by = "teacher"
    needs = ()
    settings = ()

    def __init__(
        self,
        teacher_layer_name: str | keras.Layer | tuple | None = None,
        student_layer_name: str | keras.Layer | tuple | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name or snake_case(type(self).__name__), dtype="float32")
        # Configurations read from JSON hold lists for tuples.
        names = (teacher_layer_name, student_layer_name)
        names = (tuple(name) if isinstance(name, list) else name for name in names)
        self.teacher_layer_name, self.student_layer_name = names

    def __repr__(self):
        return call_of(self, snake_case(type(self).__name__))

    def name_layers(self, path):
        """Puts its path in the place of every layer that was given as an object.

        Args:
            path: function of (this loss, the role of the model, a `keras.Layer`).
        """
        names = (self.teacher_layer_name, self.student_layer_name)
        self.teacher_layer_name, self.student_layer_name = (
            keras.tree.map_structure(
                lambda own, role=role: path(self, role, own) if _is_layer(own) else own, name
            )
            for role, name in zip((self.taught_by, "student"), names, strict=True)
        )

    def terms(self):
        """The comparisons that the loss is the sum of, as (loss, teacher's name, student's name).

        A name is None for a model's only output and an integer for an output by its position. A
        loss over several outputs has a term for each; all other losses are their own only term.
        """
        return [(self, self.teacher_layer_name, self.student_layer_name)]

    def build(self, teacher_shape, student_shape):
        """Makes the layers that the loss owns, as attributes, built; called once.

        They are trained, clipped and saved with the Distiller's adapters, and are in no student.
        What is no layer is a `keras.Variable`.

        Args:
            teacher_shape: shape of the teacher's tensor, batch included; a tuple of them where
                `teacher_layer_name` is a tuple.
            student_shape: the same for the student.
        """

    def build_once(self, teacher_shape, student_shape):
        """Builds the loss where that has not been done; ValueError for other shapes than then."""
        shapes = keras.tree.map_structure(lambda n: n, (teacher_shape, student_shape))
        if not self.parts():
            self.build(teacher_shape, student_shape)
            self._built_for = shapes
        elif self._built_for != shapes:
            raise ValueError(
                f"{self.name} owns layers for tensors of the shapes {self._built_for}, and is now "
                f"given {shapes}. Use a loss object of its own for each Distiller."
            )

    def parts(self):
        """{name: layer, variable, or list or dict of them} that the loss owns."""
        found = {}
        for name, value in vars(self).items():
            if name in ("teacher_layer_name", "student_layer_name"):
                continue
            if isinstance(value, DistillationLoss):
                found |= {f"{name}_{inner}": part for inner, part in value.parts().items()}
            elif _owned(value):
                found[name] = value
        return found

    def check_shapes(self, teacher_shape, student_shape):
        """Raises ValueError where two static shapes, batch included, cannot be compared."""
        if self.adapts == "itself":
            return
        if len(teacher_shape) < 2 or not _compatible(teacher_shape, student_shape):
            raise ValueError(
                f"{type(self).__name__} compares tensors of one shape (batch, ..., classes), but "
                f"the teacher's is {tuple(teacher_shape)} and the student's "
                f"{tuple(student_shape)}. Give both models the same number of classes, or compare "
                "features with FeatureDistillation."
            )

    def __call__(self, y_true, y_pred, sample_weight=None, **needs):
        """The mean over the batch, a float32 scalar.

        Args:
            y_true: the teacher's tensor, or tuple of tensors.
            y_pred: the student's.
            sample_weight: optional, shape (batch,), or (batch, ...) with a weight for each
                position. Weights are matched with the loss's values from the batch's side; where
                there are more of them than values, the mean of those of one value counts.
            needs: what the loss's `needs` name.

        Raises:
            ValueError: tensors, weights or masks whose shapes do not fit, or a need that is None.
        """
        with keras.name_scope(self.name):
            mask = _keras.mask_of(keras.tree.flatten(y_pred)[0])
            teacher, student = keras.tree.map_structure(_in_float32, (y_true, y_pred))
            self.check_tensors(teacher, student)
            for name in self.needs:
                if needs.get(name) is None and name in _MISSING:
                    raise ValueError(f"{self.name} reads {_MISSING[name]}")
            if "counted" in self.needs:
                needs["counted"] = [own for own in (sample_weight, mask) if own is not None]
            values = self.call(teacher, student, **needs)
            if len(values.shape) == 0:
                raise ValueError(
                    f"{self.name} must give one value for each example, but its call() gave a "
                    "scalar. Average over all axes but the first."
                )
            return _keras.reduce_weighted_values(
                values,
                sample_weight=None if sample_weight is None else aligned(sample_weight, values),
                mask=None if mask is None else aligned(mask, values),
                reduction=self.reduction,
                dtype="float32",
            )

    def check_tensors(self, teacher, student):
        """Raises ValueError where the two tensors to compare, adapted by now, differ in shape."""
        if self.adapts == "itself":
            shapes = (teacher, student)
            self.check_shapes(*(keras.tree.map_structure(_static_shape, s) for s in shapes))
        elif not _compatible(teacher.shape, student.shape, whole=True):
            raise ValueError(
                f"{type(self).__name__} compares tensors of one shape and broadcasts nothing: the "
                f"teacher's is {tuple(teacher.shape)}, the student's {tuple(student.shape)}. "
                "tfkd.Distiller adapts features by itself."
            )

    def compute_loss(self, teacher_outputs, student_outputs, sample_weight=None, **kwargs):
        """The loss of one batch as a scalar, from outputs in the models' own structure.

        Args:
            teacher_outputs: tensor, or list or dict of tensors, shape (batch, ...) each.
            student_outputs: the same structure from the student.
            sample_weight: optional weights, shape (batch,).
        """
        del kwargs
        alone = self.taught_by == "student" or set(self.needs) & set(_MISSING) or self.parts()
        names = (self.teacher_layer_name, self.student_layer_name)
        if alone or any(isinstance(name, tuple) for name in names):
            raise ValueError(
                f"{self.name} reads more than one output of each model: labels, the examples' "
                "numbers, trained layers or the student's own tensors. Use it in tfkd.Distiller, "
                "which hands them over."
            )
        self.validate_outputs(teacher_outputs, student_outputs)
        formulas = getattr(self, "loss", None)
        try:
            keras.tree.assert_same_structure(
                formulas if isinstance(formulas, list | tuple | dict) else 0, student_outputs
            )
        except ValueError as error:
            raise ValueError(
                f"The structure of the outputs is not that of {self.name}'s loss= ({formulas!r}): "
                "give a list or dict with one entry (or None) for each output."
            ) from error
        return sum(
            loss(_member(teacher_outputs, name), _member(student_outputs, name), sample_weight)
            for loss, name in members(self)
        )

    def get_config(self):
        names = (self.teacher_layer_name, self.student_layer_name)
        if any(map(_is_layer, keras.tree.flatten(names))):
            raise ValueError(
                f"{self!r} reads a layer that was given as an object: its path is known once a "
                "Distiller is made with the loss, and it cannot be saved or copied before. Give "
                "the layer's path (tfkd layers MODEL lists them)."
            )
        return {
            "teacher_layer_name": self.teacher_layer_name,
            "student_layer_name": self.student_layer_name,
            "name": self.name,
            **{name: getattr(self, name) for name in self.settings},
        }

    def coefficient(self, name):
        """The current value of a `Coefficient` of the loss, a float32 scalar for the step."""
        return getattr(type(self), name).tensor(self)


class Softened:
    """Mixin of a loss with a temperature T > 0; assign to change it, also between two batches."""

    temperature = Coefficient(positive=True)

    @property
    def temperature_tensor(self):
        """T as a float32 scalar, read when the step runs."""
        return Softened.temperature.tensor(self)


def aligned(weights, values):
    """Weights (or a mask) in the shape of the values, matched from the batch's side.

    Args:
        weights: shape (batch,) or (batch, ...).
        values: what a loss gave, shape (batch,) or (batch, ...).

    Returns:
        float32 tensor of as many axes as `values`: each axis of the same size or of size 1.

    Raises:
        ValueError: an axis of another size.
    """
    weights = ops.cast(ops.convert_to_tensor(weights), "float32")
    rank = len(values.shape)
    if not len(weights.shape) or not _broadcasts(weights.shape[:rank], values.shape):
        raise ValueError(
            f"Sample weights or a mask of shape {tuple(weights.shape)} do not fit the values of a "
            f"loss, {tuple(values.shape)}: the sizes must agree from the first axis on. Give one "
            "weight for each example, or one for each position of the output."
        )
    if len(weights.shape) > rank:
        return ops.mean(weights, axis=tuple(range(rank, len(weights.shape))))
    trailing = rank - len(weights.shape)
    return ops.reshape(weights, (*ops.shape(weights), *[1] * trailing))


def snake_case(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


# What may be missing of that which a loss needs, as messages say it.
_MISSING = {
    "labels": "the labels, but the data has none. Give (inputs, labels).",
    "index": (
        "the examples' numbers, but the data has none. Give batches of (inputs, labels, weights, "
        '{"index": numbers}), as tfkd.TeacherCache does.'
    ),
}


def _is_layer(name):
    return isinstance(name, keras.Layer)


def _owned(value):
    """Whether an attribute of a loss is a layer or variable, or a list or dict of them."""
    flat = keras.tree.flatten(value) if isinstance(value, list | tuple | dict) else [value]
    return bool(flat) and all(isinstance(part, keras.Layer | keras.Variable) for part in flat)


def _static_shape(tensor):
    return tuple(tensor.shape)


def _in_float32(tensor):
    return ops.cast(ops.convert_to_tensor(tensor), "float32")


def _broadcasts(shape, onto):
    """Whether each static size is 1 or may be that of the other shape."""
    return all(
        own is None or wanted is None or own in (1, wanted)
        for own, wanted in zip(shape, onto, strict=False)
    )


def _compatible(first, second, whole=False):
    """Whether two static shapes may be one; the batch counts only if `whole`."""
    start = 0 if whole else 1
    return tf.TensorShape(tuple(first)[start:]).is_compatible_with(tuple(second)[start:])


def members(loss):
    """(loss of one output, its key) for each entry of a structured loss; else [(loss, None)]."""
    formulas = getattr(loss, "loss", None)
    if isinstance(formulas, dict):
        entries = formulas.items()
    elif isinstance(formulas, list | tuple):
        entries = enumerate(formulas)
    else:
        return [(loss, None)]
    members = []
    for key, formula in entries:
        if formula is not None:
            # Not copy.copy, which saves and loads a Keras object: the terms share the temperature.
            member = object.__new__(type(loss))
            member.__dict__.update(loss.__dict__)
            member.loss = formula
            members.append((member, key))
    return members


def _member(outputs, key):
    return outputs if key is None else outputs[key]
