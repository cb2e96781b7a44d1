"""One training, from settings to its best weights: the teacher, a student, what they need.

Seeds are set where they are used, after everything else of a training is loaded.
"""

import functools

import keras

from tfkd import fingerprints
from tfkd import models as networks
from tfkd.runs import knowledge, models, tensorboard
from tfkd.runs.checkpoints import Checkpoint
from tfkd.runs.directory import TENSORBOARD, WORK
from tfkd.runs.record import Training
from tfkd.runs.rows import part_name
from tfkd.runs.training import BOTH, STUDENT, TEACHER, examples, train


class Trainer:
    """Trains teachers and students of a run; which, and when, is the engine's.

    Args:
        directory: `RunDirectory`.
        prepared: `tfkd.runs.lessons.Prepared`.
        task: the `tfkd.tasks.base.Task` of the run.
        team: `tfkd.runs.team.Alone`, or the `Team` of workers.
        checkpoint: class of the checkpoints.

    Attributes:
        follows: whether another process has decided, and builds first, what is stored.
    """

    def __init__(self, directory, prepared, task, team, checkpoint=Checkpoint):
        self.directory, self.prepared, self.settings = directory, prepared, prepared.table.settings
        self.task, self.team, self.follows = task, team, False
        self._checkpoint, self._stores, self._teachers = checkpoint, {}, {}

    def model(self, part):
        """A trained model, from its file."""
        return models.load_model(self.directory.model_path(part))

    def train_teacher(self, teacher):
        """(`Training`, history, model) of a `Teacher`."""
        settings = teacher.settings
        if teacher.given is not None:
            return Training.given(teacher.figures, self.task), {}, teacher.given
        if teacher.members:
            model = teacher.together([self.model(own.part) for own in teacher.members])
            return Training.given(self._validated(model, teacher.splits), self.task), {}, model
        keras.utils.set_random_seed(settings.seed)
        with self.team.scope():
            model = models.build("teacher", settings, teacher.splits.info)
        start = fingerprints.of_weights(model)
        settings = settings.replace(callback=(), early_stopping=None, label_smoothing=0.0)
        epochs = settings.teacher_epochs
        splits = teacher.splits
        batches = functools.partial(
            *(examples, splits.train, settings, settings.seed, epochs),
            role=TEACHER,
            info=splits.info,
        )
        progress = train(
            *(model, model, batches, splits, settings, epochs, settings.seed),
            *(self.checkpoint(teacher.part, start), self.team),
            logs=self._logs(teacher.part),
            weights=1.0,
            classes=None,
        )
        bare = models.build("teacher", settings, teacher.splits.info)
        bare.set_weights(progress.best_weights)
        return Training.done(progress, start, start, self.task), progress.history, bare

    def train_student(self, row, seed):
        """(`Training`, history, model) of the student of a `Row`, for a seed."""
        lesson, settings = self.prepared.lesson(row), row.settings
        if row.members:
            model = networks.ensemble([self.model(part_name(seed, own)) for own in row.members])
            return Training.given(self._validated(model, lesson.splits), self.task), {}, model
        teacher = self.teacher(lesson, seed)
        stored = self.store(lesson, row, seed)
        # Nothing is loaded or built from here to the first step but the student and its losses.
        keras.utils.set_random_seed(seed)
        with self.team.scope():
            student = models.build("student", settings, lesson.info)
            student_start = fingerprints.of_weights(student)
            system = row.system(teacher, student)
            source = system.source or lesson.teacher.source(teacher)
            model = system.model(None, stored.heads) if stored else system.model(source)
            if stored:
                shapes = self.task.trimmed_shapes(stored.knowledge_shapes)
                model.build_from_config({"knowledge_shapes": shapes})
        start = fingerprints.of_weights(model)
        role = BOTH if system.separate_inputs else STUDENT
        batches = functools.partial(
            *(examples, lesson.train, settings, seed, lesson.views, stored, role, lesson.info)
        )
        progress = train(
            *(model, system.student, batches, lesson.splits),
            *(settings, settings.epochs, seed),
            *(self.checkpoint(part_name(seed, row.name), start), self.team),
            logs=self._logs(part_name(seed, row.name)),
            weights=system.loss_weights,
            classes=lesson.class_weights,
        )
        # A model as a user wants it: never compiled, never tapped.
        keras.utils.set_random_seed(seed)
        bare = row.system(teacher, models.build("student", settings, lesson.info)).student
        bare.set_weights(progress.best_weights)
        return Training.done(progress, student_start, start, self.task), progress.history, bare

    def teacher(self, lesson, seed=None):
        """A lesson's teacher, always from its file: a resumed run sees what another one sees.

        Args:
            lesson: the `Lesson`.
            seed: of the student, where another row's student of the same seed teaches.
        """
        part = lesson.teacher.part_of(seed)
        if part not in self._teachers:
            self._teachers[part] = self.model(part)
        lesson.teacher.model = self._teachers[part]
        return self._teachers[part]

    def store(self, lesson, row, seed=None):
        """The `TeacherCache` that a row learns from; None where it has none."""
        tensors, source = lesson.needs.get(row.name), lesson.sources.get(row.name)
        if not tensors or not lesson.plans[0].stored:
            return None
        number = knowledge.store_for(tensors, lesson.plans, source)
        key = (lesson.key, number, lesson.teacher.part_of(seed))
        if key not in self._stores:
            own, teacher = lesson.plans[number], self.teacher(lesson, seed)
            folder = self.settings.cache or self.directory / WORK / "knowledge"
            if self.follows:
                with self.team.chief_first():
                    self._stores[key] = knowledge.opened(own, folder, lesson, self.settings)
                return self._stores[key]
            asked = (own.tensors, own.source)
            asks = next(
                r
                for r in lesson.rows
                if (lesson.needs.get(r.name), lesson.sources.get(r.name)) == asked
            )
            system = asks.system(teacher, models.build("student", asks.settings, lesson.info))
            asking = system.distiller(system.source or lesson.teacher.source(teacher))
            with self.team.chief_first():
                self._stores[key] = knowledge.build(own, folder, asking, lesson, self.settings)
        return self._stores[key]

    def _validated(self, model, splits):
        """Figures of a model on the validation split."""
        return self.task.judge(model, splits.validation, splits.info)()

    def checkpoint(self, part, start=None):
        """Where a training goes on from that was stopped."""
        return self._checkpoint(self.directory / WORK / f"{part.replace('/', '-')}.npz", start)

    def _logs(self, part):
        """The directory of a training's TensorBoard logs; None where there are to be none."""
        return self.directory / TENSORBOARD / part if tensorboard.wanted(self.settings) else None
