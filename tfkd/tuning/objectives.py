"""Which figures may choose between trials: those that mean the same in every trial."""

import math

import keras
import keras_tuner

_MORE_IS_BETTER = (
    "acc", "accuracy", "agreement", "auc", "f1", "f", "fbeta", "iou", "precision", "r2", "recall",
    "similarity", "specificity",
)  # fmt: skip
_LESS_IS_BETTER = (
    "brier", "crossentropy", "ece", "entropy", "error", "loss", "mae", "mse", "nll", "perplexity",
    "rmse",
)  # fmt: skip

_SUMS = {
    "loss": "the weighted sum of all losses",
    "total_loss": "the weighted sum of all losses",
    "distillation_loss": "the weighted sum of the distillation losses",
}


def objective(name, direction=None):
    """A `keras_tuner.Objective` that compares trials of different weights honestly.

    Args:
        name: a metric on the validation data: "val_accuracy", "val_teacher_agreement" (of
            `tfkd.metrics.TeacherAgreement`), or any metric of yours with "val_" before its name.
        direction: "max" or "min"; by default told from the name.

    Raises:
        ValueError: a figure of the training data, one that changes its meaning with the weights, or
            a name that does not tell its direction.
    """
    check_name(name)
    if direction not in (None, "max", "min"):
        raise ValueError(f'direction must be "max", "min" or None, got {direction!r}.')
    return keras_tuner.Objective(name, direction or _direction(name))


def check_name(name, changing=None):
    """Raises ValueError for an objective that cannot compare trials.

    Args:
        name: of the metric, with "val_".
        changing: {metric without "val_": why it differs between trials}.
    """
    if not name.startswith("val_"):
        raise ValueError(
            f'Objective "{name}" is measured on the training data, which a student can learn by '
            f'heart. Use a figure of the validation data, such as "val_{name}" or "val_accuracy".'
        )
    reason = {**_reasons(), **(changing or {})}.get(name.removeprefix("val_"))
    if reason is not None:
        raise ValueError(
            f'Objective "{name}" cannot compare trials: it is {reason}. '
            'Choose a figure that means the same in every trial: "val_accuracy", '
            '"val_teacher_agreement" (of teacher_metrics=[tfkd.metrics.TeacherAgreement()]), or a '
            "metric of yours."
        )


def check(given, model, validation_data, changing):
    """Raises ValueError unless a tuner's objective can be had from `model` and compares trials.

    Args:
        given: `keras_tuner.Objective`, or several in one.
        model: the compiled `tfkd.Distiller` of a trial.
        validation_data: as `fit` takes it; one batch of it is evaluated, to learn what there is.
        changing: {metric without "val_": why it differs between trials}.
    """
    wanted = names(given)
    for name in wanted:
        if name == "default_objective":
            raise ValueError('The tuner has no objective; give it objective="val_accuracy", say.')
        check_name(name, changing)
    there = [f"val_{name}" for name in _metrics(model, validation_data)]
    fit = sorted(set(there) - {f"val_{name}" for name in {**_reasons(), **changing}})
    for name in wanted:
        if name not in there:
            raise ValueError(
                f'No metric "{name}" to be the objective. There are: {", ".join(fit)}.'
            )


def names(given):
    """Names of the metrics that an objective is made of."""
    return [one.name for one in getattr(given, "objectives", [given])]


def best_epoch(given, history):
    """The epoch that KerasTuner keeps, from 1: the first with the best objective.

    Args:
        given: `keras_tuner.Objective`.
        history: {metric: one value an epoch}.
    """
    epochs = range(len(next(iter(history.values()))))
    logs = [{name: values[epoch] for name, values in history.items()} for epoch in epochs]
    best = 0
    for epoch in epochs:
        if given.better_than(given.get_value(logs[epoch]), given.get_value(logs[best])):
            best = epoch
    return best + 1


class Divergence(keras.callbacks.Callback):
    """Stops a training whose loss or objective is no longer finite, and remembers why.

    Args:
        watched: names of the logs to look at besides the loss.
    """

    def __init__(self, watched=()):
        super().__init__()
        self.message = None
        self._watched = ("loss", *watched)

    def on_epoch_end(self, epoch, logs=None):
        lost = [n for n in self._watched if not math.isfinite((logs or {}).get(n, 0.0))]
        if lost and self.message is None:
            self.message = (
                f"The student diverged in epoch {epoch + 1}: {' and '.join(lost)} is no longer "
                "finite. Lower the learning rate or the weights of the losses."
            )
            self.model.stop_training = True


def _reasons():
    why = "whose weights are what is searched: lower weights make it lower, not the student better"
    return {name: f"{what}, {why}" for name, what in _SUMS.items()}


def _direction(name):
    words = name.removeprefix("val_").replace("cross_entropy", "crossentropy").split("_")
    more = any(word in _MORE_IS_BETTER for word in words)
    less = any(word in _LESS_IS_BETTER for word in words)
    if more == less:
        raise ValueError(
            f'The name "{name}" does not tell whether more of it is better. Say so: '
            f'tfkd.tuning.objective("{name}", direction="max") or direction="min".'
        )
    return "max" if more else "min"


def _metrics(model, validation_data):
    """Names of what the model reports of validation data, by evaluating one batch of it."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(validation_data)
    logs = model.evaluate(x, y, sample_weight=sample_weight, steps=1, verbose=0, return_dict=True)
    return list(logs)
