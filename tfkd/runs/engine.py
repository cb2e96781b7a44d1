"""The engine: every row of a table, trained for every seed under one budget, each once.

A finished training is kept and found again, an unfinished one goes on from its last checkpoint, so
that a run that was stopped at any moment ends in the figures of one that was not.
"""

import contextlib
import functools
import gc
from typing import Any, NamedTuple

from tfkd import tasks, terminal
from tfkd.files import write_json, write_text
from tfkd.runs import devices, knowledge, outcomes, report, teacher_check
from tfkd.runs.checkpoints import Checkpoint
from tfkd.runs.directory import JOBS, SEEDS, SETTINGS
from tfkd.runs.lessons import Prepared, with_folders
from tfkd.runs.record import Begun
from tfkd.runs.rows import part_name
from tfkd.runs.team import Alone
from tfkd.runs.temporary import temporary_files_in
from tfkd.runs.trainer import Trainer

BEGUN = f"{SEEDS}/begun.json"


class Student(NamedTuple):
    """One training of a student.

    Attributes:
        row: the `Row`.
        seed: of the student.
        part: name of the training.
        name, about: what it is called, and what is said of it when it begins.
    """

    row: Any
    seed: int
    part: str
    name: str
    about: str


def run(table, directory, overwrite=False, resume=False, jobs=None, team=None):
    """Trains what is not trained yet, writes the report and prints it.

    Args:
        as for `opened`.

    Returns:
        `tfkd.runs.record.Record`; None in a worker that is not the chief.
    """
    with opened(table, directory, overwrite, resume, jobs, team) as trainings:
        record = trainings.finished_before() if trainings.team.chief else None
        if trainings.team.says(record is not None):
            if record is not None:
                directory.drop_work()
                return report.show(record, directory, "The run was finished before.")
            return None
        with trainings.team.chief_first():
            trainings.begin() if trainings.team.chief else trainings.follow()
        return trainings.finish()


@contextlib.contextmanager
def opened(table, directory, overwrite=False, resume=False, jobs=None, team=None):
    """Gives the `Trainings` of a table; no other process can write into the directory meanwhile.

    Args:
        table: `tfkd.runs.rows.Table`, its settings and the directory looked at already.
        directory: `RunDirectory`.
        overwrite: replace a run that is there.
        resume: continue a run that is there, with the same settings.
        jobs: `tfkd.runs.parallel.Jobs` that train its students, or None.
        team: the `tfkd.runs.team.Team` of workers that trains; by default this process alone.
    """
    devices.check(table.settings)
    team = team or Alone()
    rows = [row._replace(settings=with_folders(row.settings)) for row in table.rows]
    table = table._replace(settings=with_folders(table.settings), rows=rows)
    with temporary_files_in(directory.path):
        with terminal.step("Reading the data, looking at the models"):
            prepared = Prepared(table)
        team.check(prepared, directory)
        with directory.locked() if team.alone else contextlib.nullcontext():
            if team.chief:
                # Once more, now that nobody else can write here.
                directory.check_free(table.settings, overwrite=overwrite, resume=resume)
                if overwrite:
                    directory.clear()
                (directory / JOBS).unlink(missing_ok=True)  # of jobs whose run was killed
                team.begun()
            with contextlib.closing(jobs) if jobs else contextlib.nullcontext():
                yield Trainings(directory, prepared, jobs, team)


class Trainings:
    """The trainings of a run, each done once and then found on disk.

    Args:
        directory: `RunDirectory`.
        prepared: `tfkd.runs.lessons.Prepared`.
        jobs: as for `opened`.
        team: who trains; by default this process alone.

    Attributes:
        outcomes: {part: `Outcome`}.
        findings: what was seen before students were trained, list of str.
        task: the `tfkd.tasks.base.Task` of the run.
        trainer: the `tfkd.runs.trainer.Trainer` of the run.
    """

    checkpoint = Checkpoint

    def __init__(self, directory, prepared, jobs=None, team=None):
        self.team = team or Alone()
        self.directory, self.prepared, self.table = directory, prepared, prepared.table
        self.settings, self.jobs = self.table.settings, jobs
        self.task = tasks.get(self.settings.learns)
        self.outcomes, self.findings = {}, []
        self.trainer = Trainer(directory, prepared, self.task, self.team, self.checkpoint)

    def see(self, findings):
        """Says what was seen, and keeps it for the record."""
        for text in findings:
            if text not in self.findings:
                self.say(f"Note: {text}")
                self.findings.append(text)

    def say(self, text, style=None):
        terminal.say(text, style)

    def finished_before(self):
        """The record of a run that is finished with all these rows; None where something is left.

        A damaged record is said to be so, and written anew from the trainings.
        """
        if not self.directory.finished:
            return None
        try:
            record = self.directory.record()
        except ValueError as error:
            self.say(str(error))
            return None
        rows = {row.name for row in record.rows}
        if not {row.name for row in self.table.rows} <= rows:
            return None
        damaged = outcomes.damaged(self.directory, record)
        if damaged:
            self.say(f"Damaged or missing, and made again: {', '.join(damaged)}.")
        return None if damaged else record

    def whole(self, part):
        """The `Outcome` of a training that is whole on disk; None otherwise."""
        return outcomes.whole(self.directory, part)

    def begin(self):
        """Keeps what the run begins with, and decides where the teacher's answers come from.

        Raises:
            ValueError: data or a teacher changed since the run was begun.
        """
        inputs, path = self.prepared.inputs, self.directory / BEGUN
        try:
            begun = Begun.read(path)
        except FileNotFoundError:
            begun = Begun(inputs=inputs)
        self._check_inputs(begun)
        if self.jobs is not None:
            self.jobs.begin(self.directory)
        room, why = knowledge.budget(self.settings, self.directory.path)
        for lesson in self.prepared.lessons:
            stores = len(self.settings.all_seeds) if lesson.teacher.of_each_seed else 1
            kept, wanted = None, self.settings
            # What is there takes no room; with --cache-gb 0 the teacher answers live all the same.
            if wanted.cache and wanted.cache_gb != 0 and lesson.teacher.given is not None:
                kept = functools.partial(knowledge.kept_stores, wanted.cache, lesson, wanted)
            lesson.plans = knowledge.plan(lesson, (room / stores, why), begun.knowledge, kept)
            room -= stores * sum(own.bytes for own in lesson.plans if not own.store)
        plans = [own for lesson in self.prepared.lessons for own in lesson.plans]
        write_json(path, Begun(inputs=inputs, knowledge=plans).model_dump())
        if not (self.directory / SETTINGS).exists():
            write_text(self.directory / SETTINGS, self.settings.to_toml())

    def _check_inputs(self, begun):
        inputs = self.prepared.inputs
        changed = [name for name in inputs if begun.inputs.get(name) != inputs[name]]
        if changed:
            raise ValueError(
                f"Since the run was begun the {' and the '.join(changed)} changed: what it trained "
                "so far would not fit the rest. Put it back, or start anew with --overwrite."
            )

    def follow(self):
        """As `begin`, in a process that helps another one: takes over what that one decided.

        Raises:
            ValueError: this process sees other data, or another teacher.
        """
        begun = Begun.read(self.directory / BEGUN)
        self._check_inputs(begun)
        self.trainer.follows = True
        for lesson in self.prepared.lessons:
            lesson.plans = [own for own in begun.knowledge if own.lesson == lesson.key]

    def add(self, row):
        """One more row, its data and teacher those of the others."""
        self.prepared.add(row)
        self.table = self.prepared.table

    def finish(self):
        """Trains what is not trained yet, and writes and prints the report; returns the record."""
        self.all()
        self.see(self.team.notes)
        if not self.team.chief:
            return None
        record = report.write(self.directory, self)
        self.directory.drop_work()
        return record

    def train_teachers(self):
        """Says what is seen before training; trains, or copies, the teachers that are not there."""
        self.see(self.prepared.findings)
        for teacher in self.prepared.teachers:
            if teacher.part in self.outcomes:
                continue
            name = "Teacher" if len(self.prepared.teachers) == 1 else f"Teacher {teacher.name}"
            how = f"{self.settings.teacher_epochs} epochs"
            how = how if teacher.given is None else "as given"
            how = "the mean of their probabilities" if teacher.members else how
            about = f": {teacher.name}, {how}"
            self._part(
                teacher.part, name, about, lambda own=teacher: self.trainer.train_teacher(own)
            )
            if teacher.given is None and self.task.classifies:
                accuracy = self.outcomes[teacher.part].training.figures["accuracy"]
                info = teacher.splits.info
                self.see(f.text for f in teacher_check.trained(teacher.name, accuracy, info))

    def all(self):
        """Trains what is not trained yet."""
        self.train_teachers()
        for lesson in self.prepared.lessons:
            for own in lesson.plans:
                self.say(_sentence(own))
        if self.jobs is not None:
            self.jobs.train(self)
        for own in self.students:
            if own.part in self.outcomes:  # jobs are done in any order
                self.outcomes[own.part] = self.outcomes.pop(own.part)
            else:
                self.train(own)

    @property
    def students(self):
        """All trainings of students, in their order: list of `Student`."""
        every = [(seed, row) for seed in self.settings.all_seeds for row in self.table.rows]
        return [
            Student(
                *(row, seed, part_name(seed, row.name), f"Student {number} of {len(every)}"),
                f": {row.name}, seed {seed}, {row.settings.epochs} epochs",
            )
            for number, (seed, row) in enumerate(every, start=1)
        ]

    def train(self, student):
        """Trains a `Student`, unless it is found on disk."""
        work = functools.partial(self.trainer.train_student, student.row, student.seed)
        self._part(student.part, student.name, student.about, work)
        gc.collect()  # models and their compiled steps are full of circles

    def _part(self, part, name, about, work):
        """Finds a training on disk, or does it: `work()` gives (`Training`, history, model)."""
        path = self.directory.model_path(part)
        result = path.with_suffix(".json")
        outcome = self.team.outcome(lambda: self.whole(part))
        if outcome is not None:
            self.say(f"{name}{about}: done before", style="bold")
        else:
            if result.exists():
                self.say(f'"{path}" or the record beside it is damaged or missing: trained again.')
            self.say(f"{name}{about}", style="bold")
            with devices.used(self.settings):
                training, history, model = work()
            ended = (part, training, history, model)
            outcome = self.team.outcome(lambda: outcomes.keep(self.directory, *ended))
            self.trainer.checkpoint(part).drop()
        self.take(part, name, outcome)

    def take(self, part, name, outcome):
        """Keeps the `Outcome` of a training, and says it."""
        self.outcomes[part], own = outcome, outcome.training
        kept = f" (epoch {own.epoch} kept, {own.seconds:.0f} s)" if own.epoch else ""
        self.say(f"{name}: validation {self.task.told(own.figures)}{kept}")

    def knowledge_of(self, row):
        """How a row was taught: "labels", "stored" or "live"."""
        lesson = self.prepared.lesson(row)
        if row.name in lesson.needs:
            return "stored" if lesson.plans[0].stored else "live"
        return "live" if row.name in lesson.live else "labels"


def _sentence(own):
    """Where knowledge comes from, for people."""
    what = ", ".join(own.tensors) + f"; {own.source}" * bool(own.source)
    if own.stored:
        size = knowledge.readable(own.bytes)
        return f"Teacher's answers ({what}): stored, {own.views} views, {size} ({own.why})."
    return f"Teacher's answers ({what}): live, in every epoch ({own.why})."
