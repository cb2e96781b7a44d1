"""Losses with a formula for each output of models with several."""

import keras

from tfkd.losses.base import DistillationLoss, members


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
        return [(loss, name, name) for loss, name in members(self)]

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
        return self.formula(self.loss)(teacher, student)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        formulas = keras.tree.map_structure(
            lambda loss: loss if loss is None or isinstance(loss, str) else serialize(loss),
            self.loss,
        )
        return {**super().get_config(), "loss": formulas}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "loss": _restored(config["loss"])})


def _restored(loss):
    if isinstance(loss, dict) and "class_name" in loss:
        return keras.saving.deserialize_keras_object(loss)
    if isinstance(loss, dict):
        return {name: _restored(member) for name, member in loss.items()}
    if isinstance(loss, list | tuple):
        return [_restored(member) for member in loss]
    return loss
