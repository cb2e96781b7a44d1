"""The order of a run: teacher, then seed by seed the student alone and distilled, then the report.

Each training leaves `<part>.keras` and, last, `<part>.json` in `.work/`; a part with both is done.
"""

import hashlib
import json
from pathlib import Path

import keras
from rich.console import Console

from tfkd.files import written
from tfkd.runs import preparation, report
from tfkd.runs.directory import VARIANTS, WORK, write_json, write_text
from tfkd.runs.training import Outcome, train

TEACHER = "teacher"


def run(settings, directory, overwrite=False, resume=False):
    """See `tfkd.runs.distill`; the settings and the directory were looked at already."""
    prepared = preparation.prepare(settings)
    inputs = _inputs(settings, prepared)
    with directory.locked():
        # Once more, now that nobody else can write here.
        directory.check_free(settings, overwrite=overwrite, resume=resume)
        if resume and directory.finished:
            directory.drop_work()
            return report.show_finished(directory)
        if overwrite:
            directory.clear()
        work = _Work(directory / WORK, settings, prepared)
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


class _Work:
    """The trainings of a run, each done once and then found on disk."""

    def __init__(self, path, settings, prepared):
        self.path, self.settings, self.prepared = path, settings, prepared
        self.console = Console()
        self._teacher = None

    def model_path(self, part):
        return self.path / f"{part}.keras"

    def begin(self, inputs):
        """Keeps what the run was begun with; refuses to continue with anything else.

        Raises:
            ValueError: data or teacher changed since.
        """
        path = self.path / "inputs.json"
        if not path.exists():
            write_json(path, inputs)
        kept = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in inputs if kept.get(name) != inputs[name]]
        if changed:
            raise ValueError(
                f"Since the run was begun the {' and the '.join(changed)} changed: what it trained "
                "so far would not fit the rest. Put it back, or start anew with --overwrite."
            )

    def all_trainings(self):
        """Trains what is not trained yet.

        Returns:
            {part: `Outcome`}.
        """
        settings = self.settings
        outcomes = {TEACHER: self._part(TEACHER, self._train_teacher)}
        for number, seed in enumerate(settings.all_seeds, start=1):
            for variant in VARIANTS:
                title = f"student {variant}, seed {seed} ({number} of {settings.seeds})"
                part = part_name(seed, variant)
                outcomes[part] = self._part(part, self._train_student, seed, variant, title=title)
        return outcomes

    def _part(self, part, work, *arguments, title=None):
        result = self.path / f"{part}.json"
        title = title or part
        if result.exists():
            outcome = Outcome(**json.loads(result.read_text(encoding="utf-8")))
            self.console.rule(f"{title}: done before")
        else:
            self.console.rule(title)
            outcome, model = work(*arguments)
            with written(self.model_path(part)) as partial:
                model.save(partial)
            write_json(result, outcome._asdict())
        kept = f"epoch {outcome.epoch} kept, {outcome.seconds:.0f} s" if outcome.epoch else "loaded"
        line = f"{title}: validation accuracy {100 * outcome.accuracy:.2f} % ({kept})"
        self.console.print(line, highlight=False, soft_wrap=True)
        return outcome

    def _train_teacher(self):
        settings, figures = self.settings, self.prepared.teacher_quality
        if figures is not None:
            outcome = Outcome({}, 0, figures["accuracy"], figures["cross_entropy"], 0.0)
            return outcome, self.prepared.teacher
        keras.utils.set_random_seed(settings.seed)
        teacher = self._build(TEACHER)
        outcome, weights = train(
            teacher, teacher, self.prepared.splits, settings, settings.teacher_epochs, settings.seed
        )
        return outcome, self._bare(TEACHER, weights)

    def _train_student(self, seed, variant):
        settings, splits = self.settings, self.prepared.splits
        # Both variants of a seed start here from the same weights.
        keras.utils.set_random_seed(seed)
        student = model = self._build("student")
        if variant == "distilled":
            model = preparation.distiller(settings, self.teacher, student, self.prepared.hints)
        outcome, weights = train(model, student, splits, settings, settings.epochs, seed)
        return outcome, self._bare("student", weights)

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


def _inputs(settings, prepared):
    """What a run depends on besides its settings."""
    inputs = {"data": prepared.splits.info.fingerprint}
    if settings.teacher_is_file:
        digest = hashlib.sha256(Path(settings.teacher).read_bytes()).hexdigest()
        inputs["teacher"] = f"sha256:{digest}"
    return inputs
