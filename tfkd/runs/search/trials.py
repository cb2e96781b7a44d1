"""The trials of a search: KerasTuner over a `DistillationHyperModel`, fed from stored knowledge."""

import contextlib
import io
import math
from dataclasses import replace
from typing import NamedTuple

import keras
import keras_tuner
import numpy as np

from tfkd import data, losses, metrics, tuning
from tfkd.distiller import Distiller
from tfkd.runs import models
from tfkd.runs.directory import WORK
from tfkd.runs.rows import distillation_terms
from tfkd.runs.search.directory import TEACHER, TRIALS
from tfkd.runs.training import EVALUATION_BATCH
from tfkd.settings import SettingsError
from tfkd.settings.search import student_option
from tfkd.teachers.cache import TeacherCache

TUNERS = {
    "random": tuning.RandomSearch,
    "bayesian": tuning.BayesianOptimization,
    "hyperband": tuning.Hyperband,
    "grid": tuning.GridSearch,
}
CACHE_BYTES = 4e9  # unless `views` says otherwise


class TrialSetup(NamedTuple):
    """What all trials have in common.

    Attributes:
        settings: `SearchSettings`.
        splits: `tfkd.data.Splits`.
        space: {setting: `Range` or `Choice`}, as far as the losses have it.
        terms: list of (loss, its weight: a number, `Range` or `Choice`).
        train: `TeacherCache` of the training split.
        validation: the same of the validation split, or None where the objective asks no teacher.
    """

    settings: object
    splits: data.Splits
    space: dict
    terms: list
    train: TeacherCache
    validation: TeacherCache | None


def prepare(settings, directory, splits, build=True):
    """The `TrialSetup` of a search.

    Args:
        settings: `SearchSettings`.
        directory: `SearchDirectory` with a teacher.
        splits: `tfkd.data.Splits`.
        build: whether to build the caches, or what is missing of them; else they are there.

    Raises:
        SettingsError: weights of losses that there are not.
        ValueError, OSError: a cache of something else, a full disk.
    """
    space, base = settings.space, settings.distillation
    # A loss of weight 0 is left out, but where the weight moves it only starts there.
    moving = {name for name in ("logits_weight", "hint_weight") if name in space}
    base = base.replace(**{name: getattr(base, name) or 1.0 for name in moving})
    teacher = models.load_model(directory / TEACHER)
    student = models.build("student", base, splits.info)
    weighed = distillation_terms(base, teacher, student)
    if not any(loss.name.startswith("hint") for loss, _ in weighed) and "hint_weight" in space:
        if "hint_weight" in settings.search:
            raise SettingsError(
                'search moves hint_weight, but hints="auto" found no stages to pair. Name the '
                'layers: hints = ["teacher_layer:student_layer"].'
            )
        del space["hint_weight"]
    distiller = Distiller(teacher, student, [loss for loss, _ in weighed])
    terms = []
    for loss, number in weighed:
        name = "hint_weight" if loss.name.startswith("hint") else "logits_weight"
        # One weight for all hints.
        terms.append((loss, replace(space[name], name=name) if name in space else number))
    agreement = settings.objective == "val_teacher_agreement"
    if agreement:
        if not any(isinstance(loss, losses.LogitsDistillation) for loss, _ in terms):
            terms.append((losses.LogitsDistillation(), 0.0))  # so that the outputs are stored
        distiller = Distiller(teacher, student, [loss for loss, _ in terms])
    path = directory / WORK / "cache" if settings.cache is None else settings.cache
    train, validation = f"{path}/train", f"{path}/validation"
    if build:
        augment = data.augmentation(settings.augment)
        views = views_of(settings, distiller, splits.info) if augment else 1
        TeacherCache.build(train, distiller, splits.train, augment, views, seed=settings.seed)
        if agreement:
            TeacherCache.build(validation, distiller, splits.validation)
    train = TeacherCache(train, distiller)
    validation = TeacherCache(validation, distiller) if agreement else None
    return TrialSetup(settings, splits, space, terms, train, validation)


def views_of(settings, distiller, info):
    """How many augmented versions of each image to ask the teacher about.

    As many as epochs makes every trial see what `tfkd distill` shows its first student.
    """
    if settings.views is not None:
        return min(settings.views, settings.epochs)
    image = np.zeros((1, *info.image_shape), "uint8")
    numbers = sum(math.prod(tensor.shape) for tensor in distiller.knowledge(image).values())
    fitting = CACHE_BYTES / (2 * numbers * info.sizes["train"])  # float16
    return max(1, min(settings.epochs, int(fitting)))


def hypermodel(setup):
    """The `tfkd.tuning.DistillationHyperModel` of a search."""
    settings, space, info = setup.settings, setup.space, setup.splits.info
    steps = settings.epochs * -(-info.sizes["train"] // settings.batch_size)

    def student(hp):
        moved = {
            student_option(name): hp.Choice(
                student_option(name), list(values), default=settings.student_options[name]
            )
            for name, values in settings.student_choices.items()
        }
        return models.build("student", settings.of_trial(moved), info)

    def optimizer(rate):
        return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps))

    return tuning.DistillationHyperModel(
        student,
        None,
        [loss for loss, _ in setup.terms],
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy", from_logits=True),
        ],
        teacher_metrics=[metrics.TeacherAgreement()] if setup.validation else [],
        student_loss_weight=space.get("student_loss_weight", settings.student_loss_weight),
        distillation_loss_weights=[weight for _, weight in setup.terms],
        temperature=space.get("temperature"),
        learning_rate=space.get("learning_rate", settings.learning_rate),
        optimizer=optimizer,
        knowledge_shapes=setup.train.knowledge_shapes,
        seed=settings.seed,
    )


def tuner(setup, directory, watcher=None):
    """The KerasTuner tuner of a search, continued where there is one.

    Args:
        setup: `TrialSetup`.
        directory: `SearchDirectory`.
        watcher: object with `epoch(trial, epoch)` and `update(now)`, or None.
    """
    settings = setup.settings
    how_many = {}
    if settings.tuner == "hyperband":
        how_many = {"max_epochs": settings.epochs}
    with contextlib.redirect_stdout(io.StringIO()):
        made = TUNERS[settings.tuner](
            hypermodel(setup),
            tuning.objective(settings.objective),
            seed=settings.seed + 1,  # KerasTuner takes 0 for no seed
            executions_per_trial=settings.executions,
            max_consecutive_failed_trials=10**9,  # failures are recorded, and stop nothing
            directory=str(directory.path),
            project_name=TRIALS,
            **how_many,
        )
    made.watcher, made.worker_timeout = watcher, settings.worker_timeout
    return made


def run(made, setup):
    """Trains trial after trial, until the oracle has no more.

    Raises:
        ValueError: what would fail in every trial.
    """
    settings, splits = setup.settings, setup.splits

    def train(seed):
        return setup.train.dataset(splits.train, settings.batch_size, seed=seed)

    def validation(seed):
        if setup.validation is None:
            return data.batches(splits.validation, EVALUATION_BATCH)
        return setup.validation.dataset(splits.validation, EVALUATION_BATCH, shuffle=False)

    sizes = splits.info.sizes
    try:
        made.search(
            lambda seed: train(seed).repeat(),
            validation_data=lambda seed: validation(seed).repeat(),
            epochs=settings.epochs,
            verbose=0,
            shuffle=False,
            steps_per_epoch=-(-sizes["train"] // settings.batch_size),
            validation_steps=-(-sizes["validation"] // EVALUATION_BATCH),
        )
    except keras_tuner.errors.FatalError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise ValueError(f"The search cannot go on: {error}") from error
