"""The order of a run: teacher, then seed by seed the student alone and distilled, then the report.

What each training ended in stands in `.work/` until the run is finished.
"""

import hashlib
from pathlib import Path

import keras

from tfkd import recipes
from tfkd.runs import preparation, report
from tfkd.runs.directory import VARIANTS, WORK, write_text
from tfkd.runs.parts import Parts, loaded
from tfkd.runs.training import train

TEACHER = "teacher"


def run(settings, directory, overwrite=False, resume=False):
    """See `tfkd.runs.distill`; the settings and the directory were looked at already."""
    prepared = preparation.prepare(settings)
    inputs = inputs_of(settings, prepared.splits.info)
    with directory.locked():
        # Once more, now that nobody else can write here.
        directory.check_free(settings, overwrite=overwrite, resume=resume)
        if resume and directory.finished:
            directory.drop_work()
            return report.show_finished(directory)
        if overwrite:
            directory.clear()
        work = Work(directory / WORK, settings, prepared)
        work.begin(inputs)
        if not resume or not (directory / "run.toml").exists():
            write_text(directory / "run.toml", settings.to_toml())
        outcomes = work.all_trainings()
        try:
            return report.write(directory, work, settings, prepared.splits, inputs, outcomes)
        finally:
            if directory.finished:  # though its export may have failed
                directory.drop_work()


def part_name(seed, variant):
    """The name of one student's training."""
    return f"seed{seed}-{variant}"


class Work(Parts):
    """The trainings of a run, each done once and then found on disk."""

    def __init__(self, path, settings, prepared):
        super().__init__(path)
        self.settings, self.prepared = settings, prepared
        self._teacher = None

    def all_trainings(self):
        """Trains what is not trained yet.

        Returns:
            {part: `Outcome`}.
        """
        settings = self.settings
        outcomes = {TEACHER: self.part(TEACHER, self.train_teacher)}
        for number, seed in enumerate(settings.all_seeds, start=1):
            for variant in VARIANTS:
                title = f"student {variant}, seed {seed} ({number} of {settings.seeds})"
                part = part_name(seed, variant)
                outcomes[part] = self.part(part, self.train_student, seed, variant, title=title)
        return outcomes

    def train_teacher(self):
        settings, figures = self.settings, self.prepared.teacher_quality
        if figures is not None:
            return loaded(figures), self.prepared.teacher
        keras.utils.set_random_seed(settings.seed)
        teacher = self._build(TEACHER)
        outcome, weights = train(
            teacher, teacher, self.prepared.splits, settings, settings.teacher_epochs, settings.seed
        )
        return outcome, self._bare(TEACHER, weights)

    def train_student(self, seed, variant):
        settings, splits = self.settings, self.prepared.splits
        if variant == "distilled" and settings.recipe:
            return self._train_by_recipe(seed)
        # Both variants of a seed start here from the same weights.
        keras.utils.set_random_seed(seed)
        student = model = self._build("student")
        if variant == "distilled":
            model = preparation.distiller(settings, self.teacher, student, self.prepared.hints)
        outcome, weights = train(model, student, splits, settings, settings.epochs, seed)
        return outcome, self._bare("student", weights)

    def _train_by_recipe(self, seed):
        """As the other students of the seed; what is kept is what the recipe deploys."""
        settings, splits = self.settings, self.prepared.splits
        keras.utils.set_random_seed(seed)
        system = preparation.recipe_system(settings, self.teacher, self._build("student"))
        outcome, weights = train(
            *(system.model(self.teacher), system.student, splits, settings, settings.epochs, seed),
            label_weights=system.loss_weights,
        )
        keras.utils.set_random_seed(seed)
        bare = preparation.recipe_system(settings, self.teacher, self._build("student")).student
        bare.set_weights(weights)
        deployed = recipes.get(settings.recipe).deployed(bare)
        return outcome, next(iter(deployed.values()))

    @property
    def teacher(self):
        """Always read from the file, so that a resumed run sees what an undisturbed one sees."""
        if self._teacher is None:
            self._teacher = preparation.load_model(self.model_path(TEACHER))
        return self._teacher

    def _build(self, role):
        return preparation.build(role, self.settings, self.prepared.splits.info)

    def _bare(self, role, weights):
        """A model as a user wants it: never compiled, never tapped."""
        model = self._build(role)
        model.set_weights(weights)
        return model


def inputs_of(settings, info):
    """What a run depends on besides its settings: fingerprints of the data and of a loaded teacher.

    Args:
        settings: `TrainingSettings`.
        info: `tfkd.data.DataInfo`.
    """
    inputs = {"data": info.fingerprint}
    if settings.teacher_is_file:
        digest = hashlib.sha256(Path(settings.teacher).read_bytes()).hexdigest()
        inputs["teacher"] = f"sha256:{digest}"
    return inputs
