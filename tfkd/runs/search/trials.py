"""The trials of a search: KerasTuner over a `DistillationHyperModel`, taught as the rows are."""

import contextlib
import io
from dataclasses import replace
from typing import Any, NamedTuple

import keras
import keras_tuner

from tfkd import data, losses, metrics, tuning
from tfkd.recipes.base import System
from tfkd.runs import models, training
from tfkd.runs.directory import TRIALS, WORK
from tfkd.runs.rows import Row, distillation_terms
from tfkd.settings import SettingsError
from tfkd.settings.search import OBJECTIVES, student_option
from tfkd.tasks import labels
from tfkd.tasks.classification import EVALUATION_BATCH
from tfkd.tasks.logits import Logits
from tfkd.teachers.cache import TeacherCache

TUNERS = {
    "halving": tuning.SuccessiveHalving,
    "random": tuning.RandomSearch,
    "bayesian": tuning.BayesianOptimization,
    "hyperband": tuning.Hyperband,
    "grid": tuning.GridSearch,
}
FINALISTS = 2  # beside the defaults


class TrialSetup(NamedTuple):
    """What all trials have in common.

    Attributes:
        settings: `SearchSettings`.
        lesson: `tfkd.runs.lessons.Lesson`: data, teacher, views.
        terms: list of (loss, its weight: a number, `Range` or `Choice`).
        teacher: the model; None where its answers are stored.
        stored: `TeacherCache` of the training split, or None.
        validation: the same of the validation split, where the objective asks the teacher.
    """

    settings: Any
    lesson: Any
    terms: list
    teacher: keras.Model | None
    stored: TeacherCache | None
    validation: TeacherCache | None


def trial_row(settings):
    """What trials read of the teacher, as a `Row`: the losses of every one of them."""

    def build(_, teacher, student):
        own = [loss for loss, _ in _terms(settings, teacher, student)]
        return System(student, own, [1.0] * len(own), 1.0)

    return Row("trials", settings.distillation, build)


def _terms(settings, teacher, student):
    """Losses and their weights, where they move a space; one weight for all hints."""
    space, base = settings.space, settings.distillation
    # A loss of weight 0 is left out, but where the weight moves it only starts there.
    moving = {name for name in ("logits_weight", "hint_weight") if name in space}
    base = base.replace(**{name: getattr(base, name) or 1.0 for name in moving})
    terms = []
    for loss, number in distillation_terms(base, teacher, student):
        name = "hint_weight" if loss.name.startswith("hint") else "logits_weight"
        terms.append((loss, replace(space[name], name=name) if name in space else number))
    hinted = any(loss.name.startswith("hint") for loss, _ in terms)
    if "hint_weight" in settings.search and not hinted:
        raise SettingsError(
            'search moves hint_weight, but hints="auto" found no stages to pair. Name the '
            'layers: hints = ["teacher_layer:student_layer"].'
        )
    kinds = (losses.AnnealedDistillation, losses.LogitsDistillation)
    logits = any(isinstance(loss, kinds) for loss, _ in terms)
    if settings.objective == "val_teacher_agreement" and not logits:
        terms.append((losses.LogitsDistillation(), 0.0))  # so that the outputs are asked for
    return terms


def prepare(settings, trainings):
    """The `TrialSetup` of a search; the teacher is asked, where that has not been done yet.

    Args:
        settings: `SearchSettings`.
        trainings: `tfkd.runs.engine.Trainings` that has begun and has a teacher; its one lesson
            knows the `trial_row`.
    """
    (lesson,) = trainings.prepared.lessons
    row = next(row for row in lesson.rows if row.name == "trials")
    teacher, student = (
        trainings.trainer.teacher(lesson),
        models.build("student", row.settings, lesson.info),
    )
    stored, validation = trainings.trainer.store(lesson, row), None
    if stored and settings.objective == "val_teacher_agreement":
        path = trainings.directory / WORK / "knowledge" / "validation"
        asking = row.system(teacher, student).distiller(teacher)
        validation = TeacherCache.build(path, asking, lesson.validation)
    terms = _terms(settings, teacher, student)
    live = None if stored else teacher
    return TrialSetup(settings, lesson, terms, live, stored, validation)


def hypermodel(setup):
    """The `tfkd.tuning.DistillationHyperModel` of a search."""
    settings, space, info = setup.settings, setup.settings.space, setup.lesson.info
    base, steps = settings.distillation, settings.epochs * _steps(setup)

    def student(hp):
        moved = {
            student_option(name): hp.Choice(
                student_option(name), list(values), default=settings.student_options[name]
            )
            for name, values in settings.student_choices.items()
        }
        return models.build("student", settings.of_trial(moved), info)

    images, _ = next(iter(data.batches(setup.lesson.validation, 64)))
    from_logits = Logits(models.build("student", base, info), images).from_logits
    agreement = settings.objective == "val_teacher_agreement"
    return tuning.DistillationHyperModel(
        student,
        setup.teacher,
        [loss for loss, _ in setup.terms],
        loss=labels.loss(settings.label_smoothing, from_logits),
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            keras.metrics.SparseCategoricalCrossentropy("cross_entropy", from_logits=from_logits),
        ],
        teacher_metrics=[metrics.TeacherAgreement()] if agreement else [],
        student_loss_weight=space.get("student_loss_weight", settings.student_loss_weight),
        distillation_loss_weights=[weight for _, weight in setup.terms],
        temperature=space.get("temperature"),
        softness=space.get("softness"),
        learning_rate=space.get("learning_rate", settings.learning_rate),
        optimizer=lambda rate: training.optimizer(base.replace(learning_rate=rate), steps),
        knowledge_shapes=setup.stored.knowledge_shapes if setup.stored else None,
        seed=settings.trial_seed,
    )


def tuner(setup, directory, watcher=None):
    """The KerasTuner tuner of a search, continued where there is one.

    Args:
        setup: `TrialSetup`.
        directory: `RunDirectory`.
        watcher: as the tuner's, or None.
    """
    settings = setup.settings
    raced = {"max_epochs": settings.epochs} if settings.method in ("halving", "hyperband") else {}
    with contextlib.redirect_stdout(io.StringIO()):
        made = TUNERS[settings.method](
            hypermodel(setup),
            keras_tuner.Objective(settings.objective, OBJECTIVES[settings.objective]),
            seed=settings.seed + 1,  # KerasTuner takes 0 for no seed
            finalists=FINALISTS,
            seeds=settings.executions,
            max_consecutive_failed_trials=10**9,  # failures are recorded, and stop nothing
            directory=str(directory.path),
            project_name=TRIALS,
            **raced,
        )
    made.watcher, made.worker_timeout = watcher, settings.worker_timeout
    return made


def run(made, setup):
    """Trains trial after trial, until the oracle has no more.

    Raises:
        ValueError: what would fail in every trial.
    """
    settings, lesson = setup.settings, setup.lesson

    def train(seed, epoch):
        batches = training.examples(lesson.train, settings, seed, lesson.views, setup.stored)
        for _ in range(epoch):  # batches count their iterations
            next(iter(batches))
        if lesson.class_weights is not None:
            batches = training.weighted(batches, lesson.class_weights)
        return batches.repeat()

    def validation(_):
        if setup.validation is None:
            return data.batches(lesson.validation, EVALUATION_BATCH).repeat()
        stored = setup.validation.dataset(lesson.validation, EVALUATION_BATCH, shuffle=False)
        return stored.repeat()

    try:
        made.search(
            train,
            validation_data=validation,
            epochs=settings.epochs,
            verbose=0,
            shuffle=False,
            steps_per_epoch=_steps(setup),
            validation_steps=-(-lesson.sizes["validation"] // EVALUATION_BATCH),
            callbacks=training.callbacks_of(settings),
        )
    except keras_tuner.errors.FatalError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise ValueError(f"The search cannot go on: {error}") from error


def _steps(setup):
    return -(-setup.lesson.sizes["train"] // setup.settings.batch_size)
