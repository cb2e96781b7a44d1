"""Keras's own distillation losses, taken as they are given and computed as they are meant."""

import keras

from tfkd.losses.base import DistillationLoss, snake_case
from tfkd.losses.features import FeatureDistillation
from tfkd.losses.logits import LogitsDistillation


def get(loss):
    """A tfkd loss from a tfkd loss or from an object of `keras.distillation`.

    Keras's `LogitsDistillation` and `FeatureDistillation` become tfkd's, with the same settings;
    any other `keras.distillation.DistillationLoss` is wrapped.

    Raises:
        ValueError: neither.
    """
    if isinstance(loss, DistillationLoss):
        return loss
    if type(loss) is keras.distillation.LogitsDistillation:
        return LogitsDistillation(temperature=loss.temperature, loss=loss.loss)
    if type(loss) is keras.distillation.FeatureDistillation:
        return FeatureDistillation(loss.loss, loss.teacher_layer_name, loss.student_layer_name)
    if isinstance(loss, keras.distillation.DistillationLoss):
        return KerasDistillation(loss)
    raise ValueError(
        f"Expected a distillation loss (tfkd.losses.LogitsDistillation(), for example), got "
        f"{loss!r}."
    )


@keras.saving.register_keras_serializable(package="tfkd")
class KerasDistillation(DistillationLoss):
    """A user's own `keras.distillation.DistillationLoss`, whose `compute_loss` returns a scalar.

    The scalar stands for every example of the batch, so sample weights scale it as a whole.
    """

    def __init__(self, loss, name=None):
        super().__init__(
            getattr(loss, "teacher_layer_name", None),
            getattr(loss, "student_layer_name", None),
            name=name or snake_case(type(loss).__name__),
        )
        self.loss = loss

    def check_shapes(self, teacher_shape, student_shape):
        pass  # what it compares is its own business

    def check_tensors(self, teacher, student):
        pass

    def call(self, teacher, student):
        self.loss.validate_outputs(teacher, student)
        value = self.loss.compute_loss(teacher, student)
        return keras.ops.broadcast_to(value, keras.ops.shape(student)[:1])

    def get_config(self):
        return {"loss": keras.saving.serialize_keras_object(self.loss), "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["loss"]), name=config["name"])
