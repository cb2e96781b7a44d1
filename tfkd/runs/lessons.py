"""What rows share: data sets, teachers, and lessons, which are data and a teacher that it is learnt
from; everything that can be checked before training."""

import json
import os

import numpy as np

from tfkd import data, tasks
from tfkd.data.loading import is_tfds_name
from tfkd.runs import convolutions, devices, models, teacher_check
from tfkd.runs.knowledge import tensors_of
from tfkd.runs.rows import check_names, short_words
from tfkd.runs.teachers import SeveralTeachers, StudentAsTeacher, Teacher
from tfkd.runs.training import BOTH, augmentation_of, balanced_weights
from tfkd.settings import DataSettings


class Lesson:
    """A data set, a fraction of it to train on, its augmentation and its teacher: what rows share.

    Attributes:
        key: its position among the run's lessons.
        train, validation: unbatched datasets.
        rows: list of `Row`, as far as they were checked.
        needs: {row: {tensor: shape}} of rows that learn from answers that may be stored.
        sources: {row: name of what it asks}, "" for the lesson's teacher.
        live: names of rows that a source of their own teaches live, such as a teacher that learns.
        plans: list of `Knowledge`, once it is planned.
        findings: what is seen of the students before training, list of str.
    """

    def __init__(self, key, data_key, teacher_key, fraction, splits, teacher, settings):
        self.key, self.data, self.teacher_key, self.fraction = key, data_key, teacher_key, fraction
        self.splits, self.teacher, self.settings = splits, teacher, settings
        self.train, self.validation, self.info = splits.train, splits.validation, splits.info
        self.sizes, self.fingerprint = splits.info.sizes, splits.info.fingerprint
        self.rows, self.needs, self.sources, self.live, self.plans = [], {}, {}, set(), []
        self.findings = []
        self.class_weights, self.task = None, tasks.get(settings.learns)
        if settings.class_weight == "balanced":
            self.class_weights = balanced_weights(_labels(self.train), self.info.num_classes)

    @property
    def augmented(self):
        return self.task.replays and augmentation_of(self.settings, info=self.info) is not None

    @property
    def examples(self):
        """The training split as a teacher is asked about it."""
        return self.task.examples(self.train, self.info)

    @property
    def wanted_views(self):
        """Versions of each image that students are to see."""
        epochs = self.settings.epochs
        return min(epochs, self.settings.views or epochs) if self.augmented else 1

    @property
    def views(self):
        """Versions of each image that students see."""
        return self.plans[0].views if self.plans else self.wanted_views

    @property
    def teacher_fingerprint(self):
        return self.teacher.identity()

    def check(self, row):
        """Builds a row's model once, and notes what it reads of the teacher."""
        if row.members:
            return
        student = models.build("student", row.settings, self.info)
        system = row.system(self.teacher.model, student)
        self.rows.append(row)
        seen = convolutions.finding(system.student, f'The student "{row.settings.student}"')
        self.findings += [seen] * bool(seen)
        self.findings += self.task.seen("student", student, row.settings.student, self.info)
        if system.losses:
            distiller = system.distiller(system.source or self.teacher.source(self.teacher.model))
            own = system.source is not None and not system.source_name
            if system.asks_teacher and own:
                self.live.add(row.name)
            elif system.asks_teacher and not self.task.storable(distiller.matching.read_of_teacher):
                self.live.add(row.name)
            elif system.asks_teacher:
                augment = augmentation_of(self.settings, BOTH, self.info)
                self.needs[row.name] = tensors_of(distiller, self.examples, augment)
                self.sources[row.name] = system.source_name


class Prepared:
    """Checked inputs of a run: data sets, teachers and lessons of a table's rows.

    Raises:
        ValueError, FileNotFoundError: what does not fit, and how to fix it.
    """

    def __init__(self, table):
        self.table = table._replace(rows=[])
        self.data, self.teachers, self.lessons = [], [], []
        self._keys, self._row_lessons = {}, {}
        check_names(table.rows)
        for row in table.rows:
            self.add(row)

    def add(self, row):
        """Checks a row and puts it into the table."""
        lesson = self._row_lessons[row.name] = self._lesson(row)
        lesson.check(row)
        self.table = self.table._replace(rows=[*self.table.rows, row])

    def lesson(self, row):
        """The `Lesson` of a row."""
        return self._row_lessons[row.name]

    def _lesson(self, row):
        settings = row.settings
        fields = (*DataSettings.model_fields, *settings.reads)
        read = {name: getattr(settings, name) for name in fields}
        data_key = (settings.learns, settings.data, *read.values())
        number = self._once(self.data, data_key, lambda: _checked_data(settings))
        splits = self.data[number]
        if row.taught_by is None:
            name = self._teacher(settings, data_key, splits)
            teacher = self.teachers[name]
        else:
            name = row.taught_by
            teacher = StudentAsTeacher(self._row(name), splits.info)
        key = (number, name, row.fraction)
        seen = json.dumps(settings.augmentation, sort_keys=True)

        def made():
            part = splits if row.fraction == 1 else _checked_fraction(settings, row, splits)
            return Lesson(len(self.lessons), *key, part, teacher, settings)

        return self.lessons[self._once(self.lessons, (*key, seen), made)]

    def _row(self, name):
        return next(row for row in self.table.rows if row.name == name)

    def _teacher(self, settings, data_key, splits):
        """The position of the teacher, or of the teachers together, that settings name."""

        def made(kind, *arguments):
            part = f"teacher{len(self.teachers) + 1}" if self.teachers else "teacher"
            return lambda: kind(arguments[0], part, *arguments[1:])

        found = []
        texts = settings.teacher if settings.several_teachers else (settings.teacher,)
        for text, own in zip(texts, settings.each_teacher(), strict=True):
            options = json.dumps(own.teacher_options, sort_keys=True, default=str)
            # How it was trained is no matter of a teacher that is given.
            seen = () if own.teacher_is_given else own.teacher_augmentation
            key = (*data_key, own.teacher, options, json.dumps(seen, sort_keys=True))
            name = short_words(text) if settings.several_teachers else None
            found.append(self._once(self.teachers, key, made(Teacher, own, splits, name)))
        if len(found) == 1:
            return found[0]
        key = (*data_key, *found, settings.teacher_weights)
        members = [self.teachers[position] for position in found]
        return self._once(self.teachers, key, made(SeveralTeachers, settings, members))

    def _once(self, made, key, make):
        """Position of what a key stands for in a list, where it is put if it is new."""
        key = (id(made), key)
        if key not in self._keys:
            made.append(make())
            self._keys[key] = len(made) - 1
        return self._keys[key]

    @property
    def findings(self):
        """What is seen before training, list of str."""
        infos = [own.info for own in self.data]
        seen = [text for own in (*infos, *self.teachers, *self.lessons) for text in own.findings]
        return list(dict.fromkeys([*seen, *devices.findings(self.table.settings, infos)]))

    @property
    def inputs(self):
        """Fingerprints of what the run depends on besides its settings."""
        found = {f"data {own.info.name}": own.info.fingerprint for own in self.data}
        names = [own.name for own in self.teachers]
        given = {
            f"teacher {own.name}{f' ({own.part})' * (names.count(own.name) > 1)}": own.fingerprint
            for own in self.teachers
        }
        return found | {name: own for name, own in given.items() if own is not None}


def load_data(settings, fraction=1.0, splits=None):
    """`tfkd.data.Splits` of the settings; of a fraction of `splits`' training examples."""
    limit = settings.limit
    if splits is not None:
        limit = max(1, round(fraction * splits.info.sizes["train"]))
    task = tasks.get(settings.learns)
    if settings.store is not None and not task.stores:
        raise ValueError(f"A store keeps images of classes, not of {task.name}: leave --store out.")
    return task.load(settings, limit)


def _checked_data(settings):
    splits = load_data(settings)
    if tasks.get(settings.learns).classifies:
        teacher_check.require_classes(splits)
    return splits


def _checked_fraction(settings, row, splits):
    """A fraction of a data set, which leaves no class without an image."""
    part, info = load_data(settings, row.fraction, splits), splits.info
    kept = set(_labels(part.train).tolist())
    lost = [f'"{name}"' for label, name in enumerate(info.label_names) if label not in kept]
    if lost:
        many = len(lost) > 1
        raise ValueError(
            f'{100 * row.fraction:g} % of the training images of "{info.name}" are '
            f"{part.info.sizes['train']}, and leave the class{'es' * many} {', '.join(lost)} "
            "without an image. Give a larger fraction, or more images (limit, if there is one)."
        )
    return part


def with_folders(settings):
    """Settings whose data is a folder named without "./" have its absolute path, for other folders.

    Names that TensorFlow Datasets knows stay names, as `tfkd.data.load` has it.
    """

    def absolute(name, data_dir):
        known = name in data.names() or not os.path.exists(name)
        return name if known or is_tfds_name(name, data_dir) else os.path.abspath(name)

    names = settings.data
    if isinstance(names, str):
        return settings.replace(data=absolute(names, settings.data_dir))
    return settings.replace(data=tuple(absolute(name, settings.data_dir) for name in names))


def _labels(dataset):
    batches = dataset.map(lambda image, label: label).batch(1024)
    return np.concatenate(list(batches.as_numpy_iterator()))
