"""The search space of a distillation, for any tuner of KerasTuner."""

import functools
import inspect
import time
import weakref

import keras
import keras_tuner

from tfkd import fingerprints, losses, validation
from tfkd.coefficient import Coefficient
from tfkd.distiller import Distiller
from tfkd.spaces import is_space
from tfkd.tuning import objectives, spaces
from tfkd.tuning.race import SEED
from tfkd.tuning.results import Executions
from tfkd.tuning.reuse import (
    AdjustableOptimizer,
    AskedHyperparameters,
    ReusableDistiller,
    uses_global_generator,
)

# How many compiled Distillers of different structure are kept for later trials.
KEPT = 4
# Which loss has such a number.
_EXAMPLES = {"temperature": "LogitsDistillation", "softness": "AnnealedDistillation"}


class DistillationHyperModel(keras_tuner.HyperModel):
    """Distillations to search among: a student, a teacher, losses, and what may move.

    Works in every tuner of KerasTuner, chief and workers included. Its hyperparameters are
    "student_loss_weight", "temperature", "softness", "learning_rate" and "<loss name>_weight",
    as far as they are given as `Range` or `Choice`, and whatever the factories ask of `hp`
    themselves. Their defaults are the published baseline; the tuners of `tfkd.tuning` begin there.

    Trials that differ in nothing but those numbers share one compiled Distiller: its variables are
    set back to what they were when it was new, the numbers assigned. The figures are those of a
    new one. Each execution of a trial has a seed of its own, `seed` plus its number: of initial
    weights, order and dropout. `tuner.search` may be given functions of the seed as `x` and
    `validation_data`, called for each execution, so that the order of a `tf.data` pipeline too
    belongs to the seed and not to the trial; with a second parameter they are told the epoch at
    which a training goes on.

    A tuner's objective must mean the same in every trial; see `tfkd.tuning.objective`. A training
    that diverges is a failed trial. What each execution ended in stands in `executions.json` in
    the trial's directory; `tfkd.tuning.trials` reads it.

    Args:
        student: function `student()` or `student(hp)` that returns a new, built `keras.Model`.
        teacher: as `tfkd.Distiller`'s; None where the data brings stored knowledge.
        distillation_losses: list of losses, or function of `hp` that returns a new one.
        loss: the student's loss on the labels.
        metrics: metrics of the student, names or objects.
        teacher_metrics: list of metrics that compare student and teacher, such as
            `tfkd.metrics.TeacherAgreement()`.
        student_loss_weight, temperature, softness, learning_rate: a number, `Range` or `Choice`.
            `temperature` and `softness` are those of every loss that has one; None leaves the
            losses' own.
        distillation_loss_weights: list of the same, one for each loss; 1.0 by default.
        optimizer: function of the learning rate that returns a new optimizer. A learning rate
            within a schedule is searched as well: `lambda rate: Adam(CosineDecay(rate, 1000))`.
        knowledge_shapes: {name: shape} of stored knowledge where there is no teacher, such as
            `TeacherCache(directory).knowledge_shapes`.
        seed: the first execution's seed.
        name: name of the hypermodel.

    Raises:
        ValueError: a number or space out of range, or nothing to search.
    """

    def __init__(
        self,
        student,
        teacher,
        distillation_losses,
        *,
        loss,
        metrics=("accuracy",),
        teacher_metrics=(),
        student_loss_weight=spaces.STUDENT_LOSS_WEIGHT.baseline,
        distillation_loss_weights=None,
        temperature=None,
        softness=None,
        learning_rate=spaces.LEARNING_RATE.baseline,
        optimizer=keras.optimizers.Adam,
        knowledge_shapes=None,
        seed=0,
        name=None,
    ):
        super().__init__(name=name)
        if not callable(student) or isinstance(student, keras.Model):
            raise ValueError(
                "student must be a function that returns a new model, `student()` or "
                f"`student(hp)`, as every trial needs a new one; got {type(student).__name__}."
            )
        validation.same_in_every_trial(teacher)
        spaces.STUDENT_LOSS_WEIGHT.check(student_loss_weight)
        spaces.LEARNING_RATE.check(learning_rate)
        self._coefficients = {"temperature": temperature, "softness": softness}
        self._coefficients = {n: own for n, own in self._coefficients.items() if own is not None}
        for attribute, given in self._coefficients.items():
            spaces.OF_LOSSES[attribute].check(given)
        if not callable(distillation_losses):
            distillation_losses = validation.losses(distillation_losses)
            self._check_coefficients(map(losses.get, distillation_losses), ValueError)
            validation.weights(distillation_loss_weights, len(distillation_losses))
        for weight in distillation_loss_weights or ():
            spaces.LOSS_WEIGHT.check(weight)
        self._student, self._teacher, self._losses = student, teacher, distillation_losses
        self._loss, self._metrics, self._optimizer = loss, metrics, optimizer
        self._teacher_metrics = list(teacher_metrics)
        self._student_loss_weight = student_loss_weight
        self._weights, self._learning_rate = distillation_loss_weights, learning_rate
        self._knowledge_shapes, self.seed = knowledge_shapes, seed
        free = [student_loss_weight, learning_rate, *self._coefficients.values()]
        free += distillation_loss_weights or ()
        self._searches_numbers = any(map(is_space, free))
        if not (self._searches_numbers or _asks(student) or callable(distillation_losses)):
            raise ValueError(
                "There is nothing to search: every weight is a plain number. Give one of "
                "student_loss_weight, distillation_loss_weights, temperature, softness or "
                "learning_rate as tfkd.tuning.Range(low, high) or tfkd.tuning.Choice(values), or a "
                "student(hp)."
            )
        self._unused = []  # (AskedHyperparameters, ReusableDistiller), the latest last
        self._in_use = None  # the pair that the last `build` gave away
        self._executions = weakref.WeakKeyDictionary()  # {hp of a trial: how many are done}
        self._checked = weakref.WeakKeyDictionary()  # {Distiller: objective that suits it}

    def build(self, hp):
        """A compiled Distiller of the trial's hyperparameters, as new.

        A Distiller is given to one caller at a time: only when a tuner has trained it through
        `fit` may a later trial be given it again.
        """
        seed = self.seed + hp.values.get(SEED, 0) + self._executions.get(hp, 0)
        asked, reusable = self._in_use = self._take(hp, seed)
        distiller = reusable.distiller
        distiller.student_loss_weight = spaces.STUDENT_LOSS_WEIGHT.value(
            self._student_loss_weight, hp
        )
        for attribute, given in self._coefficients.items():
            value = spaces.OF_LOSSES[attribute].value(given, hp)
            for loss in _with(attribute, distiller.distillation_losses):
                setattr(loss, attribute, value)
        if self._weights is not None:
            distiller.distillation_loss_weights = [
                spaces.LOSS_WEIGHT.value(weight, hp, f"{tracker.name}_weight")
                for tracker, weight in zip(distiller.loss_trackers, self._weights, strict=True)
            ]
        if not self._searches_numbers and not asked:
            raise keras_tuner.errors.FatalValueError(
                "There is nothing to search: the factories asked nothing of hp, and every weight "
                "is a plain number."
            )
        return distiller

    def fit(self, hp, model, *args, **kwargs):
        """Trains a Distiller of `build`; takes what `keras.Model.fit` takes.

        Raises:
            keras_tuner.errors.FatalValueError: no validation data, or an objective that there is
                not or that cannot compare trials.
            keras_tuner.errors.FailedTrialError: the training diverged.
        """
        asked, reusable = self._in_use or (None, None)
        if reusable is None or reusable.distiller is not model:
            reusable = None
        seed = self.seed if reusable is None else reusable.seed
        args, kwargs = _of_seed(seed, args, kwargs)
        tuner, trial = _tuner(kwargs.get("callbacks"))
        if tuner is None:
            keras.utils.set_random_seed(seed)
            return model.fit(*args, **kwargs)
        wanted = tuner.oracle.objective
        self._check(wanted, model, args, kwargs)
        execution = self._executions.pop(hp, 0)  # stays out if anything is raised
        divergence = objectives.Divergence(objectives.names(wanted))
        kwargs["callbacks"] = [*kwargs["callbacks"], divergence]
        initial_weights = fingerprints.of_weights(model.student)
        keras.utils.set_random_seed(seed)
        start = time.perf_counter()
        history = model.fit(*args, **kwargs)
        seconds = time.perf_counter() - start
        if reusable is not None:
            if reusable.repeatable and not uses_global_generator():
                self._unused = [*self._unused, (asked, reusable)][-KEPT:]
            self._in_use = None
        figures, failure = history.history, divergence.message
        epoch = objectives.best_epoch(wanted, figures) if failure is None else None
        Executions(tuner.get_trial_dir(trial.trial_id)).add(
            execution,
            seed,
            figures,
            seconds,
            model.student.count_params(),
            epoch,
            failure,
            initial_weights,
        )
        if failure is not None:
            raise keras_tuner.errors.FailedTrialError(failure)
        if execution + 1 < getattr(tuner, "executions_per_trial", 1):
            self._executions[hp] = execution + 1
        return history

    def _take(self, hp, seed):
        """(AskedHyperparameters, ReusableDistiller) for the answers of `hp`, used before or new."""
        rate = spaces.LEARNING_RATE.value(self._learning_rate, hp)
        make = functools.partial(self._new, hp, rate)
        for pair in reversed(self._unused):
            asked, reusable = pair
            if asked.same_answers(hp) and reusable.can_have(rate):
                self._unused.remove(pair)
                asked.repeat(hp)
                reusable.reset(seed, rate, make)
                return pair
        asked = AskedHyperparameters()
        with asked.record(hp):
            reusable = ReusableDistiller(make, seed)
        return asked, reusable

    def _new(self, hp, rate):
        """(a built and compiled Distiller, its `AdjustableOptimizer`)."""
        student = self._student(hp) if _asks(self._student) else self._student()
        given = self._losses(hp) if callable(self._losses) else self._own(self._losses)
        given = validation.losses(given)
        validation.weights(self._weights, len(given))
        distiller = Distiller(self._teacher, student, given)
        if self._knowledge_shapes is not None:
            distiller.build_from_config({"knowledge_shapes": self._knowledge_shapes})
        if not distiller.built:
            raise keras_tuner.errors.FatalValueError(
                "Shapes must be known before training: let student() return a built model (one "
                "with a keras.Input, or after model.build(shape)), and where there is no teacher "
                "give knowledge_shapes=TeacherCache(directory).knowledge_shapes."
            )
        self._check_coefficients(distiller.distillation_losses, keras_tuner.errors.FatalValueError)
        others = [rate]
        if is_space(self._learning_rate):
            others = self._learning_rate.extremes
        other = next((value for value in others if value != rate), None)
        adjustable = AdjustableOptimizer(self._optimizer, rate, other)
        metrics = keras.tree.map_structure(_copy, self._metrics)
        metrics = list(metrics) if isinstance(metrics, tuple) else metrics
        distiller.compile(
            adjustable.optimizer,
            self._loss,
            metrics=metrics,
            teacher_metrics=list(map(_copy, self._teacher_metrics)),
        )
        distiller.optimizer.build(distiller.trainable_variables)
        return distiller, adjustable

    def _own(self, given):
        """Losses for one Distiller: those that will be changed or own layers are copied."""
        return [
            _copy(loss) if _changeable(loss) or _may_own_layers(loss) else loss
            for loss in map(losses.get, given)
        ]

    def _check(self, wanted, model, args, kwargs):
        data = kwargs.get("validation_data")
        if data is None and kwargs.get("validation_split"):
            data = args or (kwargs["x"], kwargs.get("y"))
        if data is None:
            raise keras_tuner.errors.FatalValueError(
                "There is no validation data to compare trials on: call "
                "tuner.search(..., validation_data=...). Never give it the test split."
            )
        if self._checked.get(model) == str(wanted):
            return
        # One batch for every new Distiller: besides, metrics that are made here and not while the
        # train step is traced save tracing it twice.
        try:
            objectives.check(wanted, model, data, self._changing(model))
        except ValueError as error:
            raise keras_tuner.errors.FatalValueError(str(error)) from error
        self._checked[model] = str(wanted)

    def _check_coefficients(self, given, error):
        """Raises an error where a number is given that no loss has."""
        given = list(given)
        for attribute in self._coefficients:
            if not _with(attribute, given):
                raise error(
                    f"{attribute} is given, but none of the distillation losses has one that can "
                    f"be set; leave it out, or distil by tfkd.losses.{_EXAMPLES[attribute]}()."
                )

    def _changing(self, distiller):
        """{metric: why it does not mean the same in every trial}."""
        changing = {}
        for tracker, loss in zip(
            distiller.loss_trackers, distiller.distillation_losses, strict=True
        ):
            searched = [n for n, own in self._coefficients.items() if is_space(own)]
            searched = [n for n in searched if _with(n, [loss])]
            if searched:
                changing[tracker.name] = f"a loss at a {searched[0]} that is searched"
            elif callable(self._losses):
                changing[tracker.name] = "a loss that may be another one in each trial"
        return changing


def _asks(factory):
    """Whether a factory wants `hp`: it has a parameter of that name, or one without a default."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(
        parameter.kind in kinds and (name == "hp" or parameter.default is parameter.empty)
        for name, parameter in inspect.signature(factory).parameters.items()
    )


def _with(attribute, given):
    """The losses that have a coefficient of a name, also those inside other losses."""
    found = []
    for loss in given:
        while isinstance(getattr(loss, "loss", None), losses.DistillationLoss):
            loss = loss.loss
        if isinstance(getattr(type(loss), attribute, None), Coefficient):
            found.append(loss)
    return found


def _changeable(loss):
    return any(_with(attribute, [loss]) for attribute in spaces.OF_LOSSES)


def _may_own_layers(loss):
    return type(loss).build is not losses.DistillationLoss.build


def _copy(given):
    """Another metric or loss of the same settings; names and functions as they are."""
    if isinstance(given, keras.metrics.Metric | losses.DistillationLoss):
        return type(given).from_config(given.get_config())
    return given


def _of_seed(seed, args, kwargs):
    """The arguments of `fit`, with data for this seed where a function of the seed was given."""

    def given(make):
        several = len(inspect.signature(make).parameters) > 1
        return make(seed, kwargs.get("initial_epoch", 0)) if several else make(seed)

    if args and callable(args[0]):
        args = (given(args[0]), *args[1:])
    made = {n: given(kwargs[n]) for n in ("x", "validation_data") if callable(kwargs.get(n))}
    return args, {**kwargs, **made}


def _tuner(callbacks):
    """(tuner, trial) of the callback that KerasTuner adds; (None, None) outside of a search."""
    for callback in callbacks or ():
        if hasattr(callback, "tuner") and hasattr(callback, "trial"):
            return callback.tuner, callback.trial
    return None, None
