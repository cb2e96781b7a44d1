"""The contract of every distillation loss."""

import re

import keras
import tensorflow as tf

from tfkd.coefficients import Coefficient


class DistillationLoss(keras.losses.Loss, keras.distillation.DistillationLoss):
    """Compares one named tensor of the teacher with one of the student.

    A subclass writes `call(teacher, student)`, which gets two float32 tensors of shape (batch, ...)
    and returns one value per example, shape (batch,), or one per position of a sequence. Being a
    Keras loss, it has sample weights and padding masks applied, is averaged over the batch, and is
    scaled for replicas. It also works in `keras.distillation.Distiller`, through `compute_loss`.

    What a subclass needs beyond that it declares in the attributes below.

    Args:
        teacher_layer_name: output or layer of the teacher to read; None for its only output. Layers
            inside nested models are named by path, "backbone/conv5". A tuple of names makes
            `teacher` a tuple of tensors.
        student_layer_name: the same for the student.
        name: name of the loss's metric; by default the class's name in snake case.

    Attributes:
        adapts: whether the student's tensor may be brought to the teacher's shape by an adapter;
            otherwise different shapes are an error.
        taught_by: "teacher"; or "student" where `teacher` is read from the student's own tensors,
            with the gradient stopped.
        needs_labels: whether `call` gets the pair (teacher, labels) for `teacher`; the labels as
            float32, in the shape that the data gives.
    """

    adapts = False
    taught_by = "teacher"
    needs_labels = False

    def __init__(self, teacher_layer_name=None, student_layer_name=None, name=None):
        super().__init__(name=name or snake_case(type(self).__name__), dtype="float32")
        # Configurations read from JSON hold lists for tuples.
        names = (teacher_layer_name, student_layer_name)
        names = (tuple(name) if isinstance(name, list) else name for name in names)
        self.teacher_layer_name, self.student_layer_name = names

    def terms(self):
        """The comparisons that the loss is the sum of, as (loss, teacher's name, student's name).

        A name is None for a model's only output and an integer for an output by its position. A
        loss over several outputs has a term for each; all other losses are their own only term.
        """
        return [(self, self.teacher_layer_name, self.student_layer_name)]

    def check_shapes(self, teacher_shape, student_shape):
        """Raises ValueError where two static shapes, batch included, cannot be compared."""
        if len(teacher_shape) < 2 or not _compatible(teacher_shape, student_shape):
            raise ValueError(
                f"{type(self).__name__} compares tensors of one shape (batch, ..., classes), but "
                f"the teacher's is {tuple(teacher_shape)} and the student's "
                f"{tuple(student_shape)}. Give both models the same number of classes, or compare "
                "features with FeatureDistillation."
            )

    def __call__(self, y_true, y_pred, sample_weight=None, labels=None):
        self.check_tensors(y_true, y_pred)
        if self.needs_labels:
            if labels is None:
                raise ValueError(
                    f"{self.name} reads the labels, but the data has none. Give (images, labels)."
                )
            y_true = (y_true, labels)
        if sample_weight is not None and keras.ops.ndim(sample_weight) == 1:
            # One weight an example, also where the loss has a value for each position.
            sample_weight = keras.ops.expand_dims(sample_weight, -1)
        return super().__call__(y_true, y_pred, sample_weight)

    def check_tensors(self, teacher, student):
        """Raises ValueError where the two tensors to compare, adapted by now, differ in shape."""
        if not _compatible(teacher.shape, student.shape, whole=True):
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
        alone = self.taught_by == "student" or self.needs_labels
        if alone or isinstance(self.student_layer_name, tuple):
            raise ValueError(
                f"{self.name} reads more than one output of each model: labels, or the student's "
                "own tensors. Use it in tfkd.Distiller, which hands them over."
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
            for loss, name in _members(self)
        )

    def get_config(self):
        return {
            "teacher_layer_name": self.teacher_layer_name,
            "student_layer_name": self.student_layer_name,
            "name": self.name,
        }


class Softened:
    """Mixin of a loss with a temperature: a number that the compiled step reads from a variable."""

    def _soften(self, temperature):
        self._temperature = Coefficient(temperature, "temperature", positive=True)

    @property
    def temperature(self):
        """T as a float; assign to change it, also between two batches."""
        return self._temperature.value

    @temperature.setter
    def temperature(self, value):
        self._temperature.value = value


class StructuredLoss(DistillationLoss):
    """A loss whose `loss=` may be one formula, or a list or dict of them, one for each output."""

    def __init__(self, loss, **kwargs):
        super().__init__(**kwargs)
        self._check_formulas(loss)
        self.loss = loss

    def terms(self):
        if not isinstance(self.loss, list | tuple | dict):
            return super().terms()
        if self.teacher_layer_name or self.student_layer_name:
            raise ValueError(
                f"{type(self).__name__} got a formula for each output and layer names as well. Use "
                "one loss object for each pair of layers."
            )
        return [(loss, name, name) for loss, name in _members(self)]

    def _check_formulas(self, loss):
        formulas = keras.tree.flatten(loss)
        if all(formula is None for formula in formulas):
            raise ValueError(
                f"{type(self).__name__} needs at least one formula that is not `None`, got "
                f"{loss!r}."
            )
        for formula in formulas:
            if formula is not None:
                self.formula(formula)

    def formula(self, loss):
        """The function of (teacher, student) behind one entry of `loss`; ValueError if unknown."""
        raise NotImplementedError

    def call(self, teacher, student):
        value = self.formula(self.loss)(teacher, student)
        if len(value.shape) == 0:
            raise ValueError(
                f"{self.name} must have one value for each example, but its loss= gave a scalar "
                f"for tensors of shape {tuple(student.shape)}. Average over all axes but the first."
            )
        return value

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        formulas = keras.tree.map_structure(
            lambda loss: loss if loss is None or isinstance(loss, str) else serialize(loss),
            self.loss,
        )
        return {**super().get_config(), "loss": formulas}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "loss": _deserialize(config["loss"])})


def snake_case(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _compatible(first, second, whole=False):
    """Whether two static shapes may be one; the batch counts only if `whole`."""
    start = 0 if whole else 1
    return tf.TensorShape(tuple(first)[start:]).is_compatible_with(tuple(second)[start:])


def _deserialize(loss):
    if isinstance(loss, dict) and "class_name" in loss:
        return keras.saving.deserialize_keras_object(loss)
    if isinstance(loss, dict):
        return {name: _deserialize(member) for name, member in loss.items()}
    if isinstance(loss, list | tuple):
        return [_deserialize(member) for member in loss]
    return loss


def _members(loss):
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
