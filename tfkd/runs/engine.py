"""The engine: every row of a table, trained for every seed under one budget, each once.

A finished training is kept and found again, an unfinished one goes on from its last checkpoint, so
that a run that was stopped at any moment ends in the figures of one that was not. Seeds are set
where they are used, after everything else of a training is loaded.
"""

import contextlib
import functools
import gc
import zipfile
from typing import Any, NamedTuple

import keras

from tfkd import fingerprints, tasks, terminal
from tfkd import models as networks
from tfkd.files import write_json, write_text, written
from tfkd.runs import devices, knowledge, models, report, teacher_check, tensorboard
from tfkd.runs.checkpoints import Checkpoint
from tfkd.runs.directory import JOBS, SEEDS, SETTINGS, TENSORBOARD, WORK
from tfkd.runs.record import Begun, Outcome, Training
from tfkd.runs.rows import part_name
from tfkd.runs.tasks import Prepared, with_folders
from tfkd.runs.teachers import sha256_of
from tfkd.runs.team import Alone
from tfkd.runs.temporary import temporary_files_in
from tfkd.runs.training import BOTH, STUDENT, TEACHER, examples, train

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
        prepared: `tfkd.runs.tasks.Prepared`.
        jobs: as for `opened`.
        team: who trains; by default this process alone.

    Attributes:
        outcomes: {part: `Outcome`}.
        findings: what was seen before students were trained, list of str.
        learns: the `tfkd.tasks.base.Task` of the run.
    """

    checkpoint = Checkpoint

    def __init__(self, directory, prepared, jobs=None, team=None):
        self.team = team or Alone()
        self.directory, self.prepared, self.table = directory, prepared, prepared.table
        self.settings, self.jobs, self._follows = self.table.settings, jobs, False
        self.learns = tasks.get(self.settings.learns)
        self.outcomes, self._stores, self._teachers, self.findings = {}, {}, {}, []

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
        damaged = self._damaged(record)
        if damaged:
            self.say(f"Damaged or missing, and made again: {', '.join(damaged)}.")
        return None if damaged else record

    def _damaged(self, record):
        """Names of a finished run's files that are not whole."""
        damaged, epochs = [], 0
        for part in record.trainings:
            outcome = self.whole(part)
            if outcome is None:
                damaged.append(part)
            else:
                epochs += len(outcome.history.get("loss", []))
        if not zipfile.is_zipfile(self.directory / "student.keras"):
            damaged.append("student.keras")
        history = self.directory / "history.csv"
        if not history.exists() or history.read_bytes().count(b"\n") != epochs + 1:
            damaged.append("history.csv")
        return damaged

    def whole(self, part):
        """The outcome of a training whose model and record are whole; None otherwise."""
        path = self.directory.model_path(part)
        outcome = Outcome.read(path.with_suffix(".json"))
        if outcome is None or not path.exists() or outcome.model_sha256 != sha256_of(path):
            return None
        return outcome

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
        for task in self.prepared.tasks:
            stores = len(self.settings.all_seeds) if task.teacher.of_each_seed else 1
            kept, wanted = None, self.settings
            # What is there takes no room; with --cache-gb 0 the teacher answers live all the same.
            if wanted.cache and wanted.cache_gb != 0 and task.teacher.given is not None:
                kept = functools.partial(knowledge.kept_stores, wanted.cache, task, wanted)
            task.plans = knowledge.plan(task, (room / stores, why), begun.knowledge, kept)
            room -= stores * sum(own.bytes for own in task.plans if not own.store)
        plans = [own for task in self.prepared.tasks for own in task.plans]
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
        self._follows = True
        for task in self.prepared.tasks:
            task.plans = [own for own in begun.knowledge if own.task == task.key]

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
            self._part(teacher.part, name, about, lambda own=teacher: self._train_teacher(own))
            if teacher.given is None and self.learns.classifies:
                accuracy = self.outcomes[teacher.part].training.figures["accuracy"]
                info = teacher.splits.info
                self.see(f.text for f in teacher_check.trained(teacher.name, accuracy, info))

    def all(self):
        """Trains what is not trained yet."""
        self.train_teachers()
        for task in self.prepared.tasks:
            for own in task.plans:
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
        work = functools.partial(self._train_student, student.row, student.seed)
        self._part(student.part, student.name, student.about, work)
        gc.collect()  # models and their compiled steps are full of circles

    def model(self, part):
        """A trained model, from its file."""
        return models.load_model(self.directory.model_path(part))

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
            outcome = self.team.outcome(lambda: self._keep(part, training, history, model))
        self.take(part, name, outcome)

    def take(self, part, name, outcome):
        """Keeps the `Outcome` of a training, and says it."""
        self.outcomes[part], own = outcome, outcome.training
        kept = f" (epoch {own.epoch} kept, {own.seconds:.0f} s)" if own.epoch else ""
        self.say(f"{name}: validation {self.learns.told(own.figures)}{kept}")

    def _validated(self, model, splits):
        """Figures of a model on the validation split."""
        return self.learns.judge(model, splits.validation, splits.info)()

    def _keep(self, part, training, history, model):
        """Writes what a training ended in, the model first; its checkpoint is not needed then."""
        path = self.directory.model_path(part)
        with written(path) as partial:
            model.save(partial)
        outcome = Outcome(training=training, history=history, model_sha256=sha256_of(path))
        write_json(path.with_suffix(".json"), outcome.model_dump())
        self._checkpoint(part, None).drop()
        return outcome

    def _checkpoint(self, part, start):
        return self.checkpoint(self.directory / WORK / f"{part.replace('/', '-')}.npz", start)

    def _logs(self, part):
        """The directory of a training's TensorBoard logs; None where there are to be none."""
        return self.directory / TENSORBOARD / part if tensorboard.wanted(self.settings) else None

    def _train_teacher(self, teacher):
        settings = teacher.settings
        if teacher.given is not None:
            return Training.given(teacher.figures, self.learns), {}, teacher.given
        if teacher.members:
            model = teacher.together([self.model(own.part) for own in teacher.members])
            return Training.given(self._validated(model, teacher.splits), self.learns), {}, model
        keras.utils.set_random_seed(settings.seed)
        with self.team.scope():
            model = models.build("teacher", settings, teacher.splits.info)
        start = fingerprints.of_weights(model)
        settings = settings.replace(callback=(), early_stopping=None, label_smoothing=0.0)
        epochs = settings.teacher_epochs
        splits = teacher.splits
        views = epochs * max(1, self.learns.views_a_step)
        batches = functools.partial(
            *(examples, splits.train, settings, settings.seed, views),
            role=TEACHER,
            info=splits.info,
        )
        progress = train(
            *(model, model, batches, splits, settings, epochs, settings.seed),
            *(self._checkpoint(teacher.part, start), self.team),
            logs=self._logs(teacher.part),
            weights=1.0,
            classes=None,
        )
        bare = models.build("teacher", settings, teacher.splits.info)
        bare.set_weights(progress.best_weights)
        return Training.done(progress, start, start, self.learns), progress.history, bare

    def teacher(self, task, seed=None):
        """A task's teacher, always from its file: a resumed run sees what another one sees.

        Args:
            task: the `Task`.
            seed: of the student, where another row's student of the same seed teaches.
        """
        part = task.teacher.part_of(seed)
        if part not in self._teachers:
            self._teachers[part] = self.model(part)
        task.teacher.model = self._teachers[part]
        return self._teachers[part]

    def _train_student(self, row, seed):
        task, settings = self.prepared.task(row), row.settings
        if row.members:
            model = networks.ensemble([self.model(part_name(seed, own)) for own in row.members])
            return Training.given(self._validated(model, task.splits), self.learns), {}, model
        teacher = self.teacher(task, seed)
        stored = self.store(task, row, seed)
        # Nothing is loaded or built from here to the first step but the student and its losses.
        keras.utils.set_random_seed(seed)
        with self.team.scope():
            student = models.build("student", settings, task.info)
            student_start = fingerprints.of_weights(student)
            system = row.system(teacher, student)
            source = system.source or task.teacher.source(teacher)
            model = system.model(None, stored.heads) if stored else system.model(source)
            if stored:
                model.build_from_config({"knowledge_shapes": stored.knowledge_shapes})
        start = fingerprints.of_weights(model)
        role = BOTH if system.separate_inputs else STUDENT
        batches = functools.partial(
            *(examples, task.train, settings, seed, task.views, stored, role, task.info)
        )
        progress = train(
            *(model, system.student, batches, task.splits),
            *(settings, settings.epochs, seed),
            *(self._checkpoint(part_name(seed, row.name), start), self.team),
            logs=self._logs(part_name(seed, row.name)),
            weights=system.loss_weights,
            classes=task.class_weights,
        )
        # A model as a user wants it: never compiled, never tapped.
        keras.utils.set_random_seed(seed)
        bare = row.system(teacher, models.build("student", settings, task.info)).student
        bare.set_weights(progress.best_weights)
        return Training.done(progress, student_start, start, self.learns), progress.history, bare

    def store(self, task, row, seed=None):
        """The `TeacherCache` that a row learns from; None where it has none."""
        tensors, source = task.needs.get(row.name), task.sources.get(row.name)
        if not tensors or not task.plans[0].stored:
            return None
        number = knowledge.store_for(tensors, task.plans, source)
        key = (task.key, number, task.teacher.part_of(seed))
        if key not in self._stores:
            own, teacher = task.plans[number], self.teacher(task, seed)
            folder = self.settings.cache or self.directory / WORK / "knowledge"
            if self._follows:
                with self.team.chief_first():
                    self._stores[key] = knowledge.opened(own, folder, task, self.settings)
                return self._stores[key]
            asked = (own.tensors, own.source)
            asks = next(
                r for r in task.rows if (task.needs.get(r.name), task.sources.get(r.name)) == asked
            )
            system = asks.system(teacher, models.build("student", asks.settings, task.info))
            asking = system.distiller(system.source or task.teacher.source(teacher))
            with self.team.chief_first():
                self._stores[key] = knowledge.build(own, folder, asking, task, self.settings)
        return self._stores[key]

    def knowledge_of(self, row):
        """How a row was taught: "labels", "stored" or "live"."""
        task = self.prepared.task(row)
        if row.name in task.needs:
            return "stored" if task.plans[0].stored else "live"
        return "live" if row.name in task.live else "labels"


def _sentence(own):
    """Where knowledge comes from, for people."""
    what = ", ".join(own.tensors) + f"; {own.source}" * bool(own.source)
    if own.stored:
        size = knowledge.readable(own.bytes)
        return f"Teacher's answers ({what}): stored, {own.views} views, {size} ({own.why})."
    return f"Teacher's answers ({what}): live, in every epoch ({own.why})."
