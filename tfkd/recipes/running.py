"""The order of a recipe's run: teacher, then seed by seed every row of the table, then report."""

import gc
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import keras

from tfkd import data, evaluation
from tfkd.recipes import base, report
from tfkd.runs import preparation
from tfkd.runs.directory import TRAININGS, write_text
from tfkd.runs.distillation import TEACHER, inputs_of
from tfkd.runs.parts import Parts, loaded
from tfkd.runs.training import EVALUATION_BATCH, train
from tfkd.teachers.cache import TeacherCache

ALONE, PLAIN = "student alone", "logit distillation"


class Row(NamedTuple):
    """One line of the table: a way to train the student.

    Attributes:
        name: what the table calls it.
        settings: of the training.
        build: function (settings, teacher, student) -> `System`; None for the student alone.
        deployed: as `Recipe.deployed`.
    """

    name: str
    settings: Any
    build: Any = None
    deployed: Any = base.itself


def rows_of(recipe, settings, ablate):
    """The rows of a run: the student alone, plain logit distillation, the recipe, its ablations."""
    rows = [
        Row(ALONE, settings),
        Row(PLAIN, settings, lambda own, _, student: base.plain(own, student)),
        Row(recipe.name, settings, recipe.build, recipe.deployed),
    ]
    if ablate:
        rows += [
            Row(f"{recipe.name}: {name}", variant, recipe.build, recipe.deployed)
            for name, variant in recipe.ablations(settings).items()
            if variant != settings
        ]
    return rows


def run(recipe, settings, directory, ablate=False, overwrite=False, resume=False):
    """See `tfkd.recipes.run`; the settings and the directory were looked at already."""
    rows = rows_of(recipe, settings, ablate)
    trainings = Trainings(directory / TRAININGS, recipe, settings, rows)
    inputs = inputs_of(settings, trainings.splits.info)
    with directory.locked():
        # Once more, now that nobody else can write here.
        directory.check_free(settings, overwrite=overwrite, resume=resume)
        if overwrite:
            directory.clear()
        if directory.finished:
            record, _ = directory.finished_run()
            if {row.name for row in rows} <= set(record["rows"]):
                return report.show(record, directory)
        trainings.begin(inputs)
        if not (directory / "run.toml").exists():
            write_text(directory / "run.toml", settings.to_toml())
        outcomes = trainings.all()
        record = report.write(directory, trainings, inputs, outcomes)
        if not settings.cache:
            shutil.rmtree(trainings.cache, ignore_errors=True)
        return record


class Trainings(Parts):
    """The trainings of a recipe's run, each done once and then found on disk.

    Args:
        path: directory of the trained models.
        recipe: `Recipe`.
        settings: of the recipe.
        rows: list of `Row`.

    Raises:
        ValueError, FileNotFoundError: data, models and settings that do not fit, before any
            training.
    """

    def __init__(self, path, recipe, settings, rows):
        super().__init__(path)
        self.recipe, self.settings, self.rows = recipe, settings, rows
        self.splits = preparation.load_data(settings)
        self._given = self._teacher_quality = self._teacher = None
        self.cache = Path(settings.cache) if settings.cache else path / "logits"
        self._stored = {}  # {seed: TeacherCache}
        if settings.teacher_is_file:
            self._given = preparation.load_model(settings.teacher)
            preparation.check_teacher(self._given, settings.teacher, self.splits.info)
            batches = data.batches(self.splits.validation, EVALUATION_BATCH)
            logits, labels = evaluation.predict(preparation.Logits(self._given), batches)
            self._teacher_quality = evaluation.quality(logits, labels)
        # A stand-in where the teacher is still to be trained: names and shapes are what is checked.
        teacher = self._given or self._network(TEACHER)
        for row in rows[1:]:
            row.build(row.settings, teacher, self._network("student")).model(teacher)

    def all(self):
        """Trains what is not trained yet.

        Returns:
            {part: `Outcome`}.
        """
        settings = self.settings
        outcomes = {TEACHER: self.part(TEACHER, self._train_teacher)}
        for number, seed in enumerate(settings.all_seeds, start=1):
            if not all(self.done(self.part_name(seed, row)) for row in self.rows):
                self._stored_logits(seed)  # a cache that does not fit is refused before training
            for row in self.rows:
                part = self.part_name(seed, row)
                title = f"{row.name}, seed {seed} ({number} of {settings.seeds})"
                outcomes[part] = self.part(part, self._train, row, seed, title=title)
                gc.collect()  # models and their compiled steps are full of circles
        return outcomes

    @staticmethod
    def part_name(seed, row):
        """The name of one training, fit for a file."""
        words = "".join(char if char.isalnum() or char == "." else " " for char in row.name)
        return f"seed{seed}-{'-'.join(words.split())}"

    @property
    def teacher(self):
        """Always read from the file, so that a resumed run sees what an undisturbed one sees."""
        if self._teacher is None:
            self._teacher = preparation.load_model(self.model_path(TEACHER))
        return self._teacher

    def kept(self, seed, row):
        """The trained network of a row, from its file."""
        return preparation.load_model(self.model_path(self.part_name(seed, row)))

    def _train_teacher(self):
        if self._given is not None:
            return loaded(self._teacher_quality), self._given
        settings = self.settings
        keras.utils.set_random_seed(settings.seed)
        teacher = self._network(TEACHER)
        outcome, weights = train(
            teacher, teacher, self.splits, settings, settings.teacher_epochs, settings.seed
        )
        bare = self._network(TEACHER)
        bare.set_weights(weights)
        return outcome, bare

    def _train(self, row, seed):
        settings = row.settings
        system = self._system(row, seed)
        stored = self._stored_logits(seed) if system.taught_by_logits_only else None
        model = system.model(None if stored else self.teacher)
        outcome, weights = train(
            *(model, system.student, self.splits, settings, settings.epochs, seed),
            label_weights=system.loss_weights,
            stored=stored,
        )
        # A model as a user wants it: never compiled, never tapped.
        bare = self._system(row, seed).student
        bare.set_weights(weights)
        return outcome, bare

    def _stored_logits(self, seed):
        """What the teacher says of every image that a seed's students see, asked once."""
        if seed not in self._stored:
            settings = self.settings
            augment = data.augmentation(settings.augment)
            asking = base.plain(settings, self._network("student")).distiller(self.teacher)
            self._stored[seed] = TeacherCache.build(
                *(self.cache / f"seed{seed}", asking, self.splits.train, augment),
                views=settings.epochs if augment else 1,
                seed=seed,
                dtype="float32",
            )
        return self._stored[seed]

    def _system(self, row, seed):
        """What a row trains; all rows of a seed start here from the same student."""
        keras.utils.set_random_seed(seed)
        student = self._network("student")
        if row.build is None:
            return base.System(student, [], [], 1.0)
        return row.build(row.settings, self.teacher, student)

    def _network(self, role):
        return preparation.build(role, self.settings, self.splits.info)
