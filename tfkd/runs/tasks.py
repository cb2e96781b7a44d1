"""What rows share: data sets, teachers, and tasks (a fraction of a data set with its teacher);
everything that can be checked before training."""

import hashlib
import json
import os

import numpy as np

from tfkd import data, evaluation, fingerprints
from tfkd.data.loading import is_tfds_name
from tfkd.runs import models, teacher_check
from tfkd.runs.directory import label_names_beside
from tfkd.runs.knowledge import tensors_of
from tfkd.runs.rows import check_names
from tfkd.runs.training import EVALUATION_BATCH, balanced_weights
from tfkd.settings import DataSettings
from tfkd.settings.base import is_path

# The cut into train and validation is the same for every seed: a teacher from another run must not
# have been trained on what is validation here.
DATA_SEED = 0


class Teacher:
    """The teacher of one data set.

    Attributes:
        settings: `TrainingSettings` that name it.
        part: name of its training, and of its file.
        splits: `tfkd.data.Splits` that it is trained or judged on.
        given: the model, where it is trained already; else None.
        figures: a given teacher's on the validation split.
        findings: what is seen of validation split and teacher before training, list of str.
        fingerprint: of a given teacher's file, or of its weights; None of one that is trained.
    """

    def __init__(self, settings, part, splits):
        self.settings, self.part, self.splits = settings, part, splits
        self.given = self.figures = self.fingerprint = None
        self.name = os.path.basename(settings.teacher)
        if settings.teacher_is_given:
            self.given = models.build("teacher", settings, splits.info)
            self.fingerprint = self._fingerprint()
            self._judge()
        else:
            self.findings = teacher_check.settled(teacher_check.look(splits.info))
        # Of one that is still to be trained names and shapes are checked.
        self.model = self.given or models.build("teacher", settings, splits.info)

    def _fingerprint(self):
        if is_path(self.settings.teacher):
            return file_fingerprint(self.settings.teacher)
        return fingerprints.of_weights(self.given)

    def _judge(self):
        info, batches = self.splits.info, data.batches(self.splits.validation, EVALUATION_BATCH)
        images, _ = next(iter(batches))
        answers, labels = evaluation.predict(models.Logits(self.given, images[:64]), batches)
        text = self.settings.teacher
        names = label_names_beside(text) if is_path(text) else None
        found = teacher_check.look(info, labels, answers, self.name, names)
        self.findings = teacher_check.settled(found, self.settings.any_teacher)
        self.figures = evaluation.quality(answers, labels)


class Task:
    """A data set, a fraction of it to train on, and its teacher: what its rows share.

    Attributes:
        key: its position among the run's tasks.
        train, validation: unbatched datasets.
        rows: list of `Row`, as far as they were checked.
        needs: {row: {tensor: shape}} of rows that ask the run's teacher.
        plans: list of `Knowledge`, once it is planned.
    """

    def __init__(self, key, data_key, teacher_key, fraction, splits, teacher, settings):
        self.key, self.data, self.teacher_key, self.fraction = key, data_key, teacher_key, fraction
        self.splits, self.teacher, self.settings = splits, teacher, settings
        self.train, self.validation, self.info = splits.train, splits.validation, splits.info
        self.sizes, self.fingerprint = splits.info.sizes, splits.info.fingerprint
        self.rows, self.needs, self.plans = [], {}, []
        self.class_weights = None
        if settings.class_weight == "balanced":
            self.class_weights = balanced_weights(_labels(self.train), self.info.num_classes)

    @property
    def augmented(self):
        return self.settings.augment != "none"

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
        return fingerprints.of_weights(self.teacher.model)

    def check(self, row):
        """Builds a row's model once, and notes what it reads of the teacher."""
        student = models.build("student", row.settings, self.info)
        system = row.system(self.teacher.model, student)
        self.rows.append(row)
        if system.losses:
            distiller = system.distiller(system.source or self.teacher.model)
            if system.asks_teacher and system.source is None:
                self.needs[row.name] = tensors_of(distiller, self.info.image_shape)


class Prepared:
    """Checked inputs of a run: data sets, teachers and tasks of a table's rows.

    Raises:
        ValueError, FileNotFoundError: what does not fit, and how to fix it.
    """

    def __init__(self, table):
        self.table = table._replace(rows=[])
        self.data, self.teachers, self.tasks = [], [], []
        self._keys, self._row_tasks = {}, {}
        check_names(table.rows)
        for row in table.rows:
            self.add(row)

    def add(self, row):
        """Checks a row and puts it into the table."""
        task = self._row_tasks[row.name] = self._task(row)
        task.check(row)
        self.table = self.table._replace(rows=[*self.table.rows, row])

    def task(self, row):
        """The `Task` of a row."""
        return self._row_tasks[row.name]

    def _task(self, row):
        settings = row.settings
        read = {name: getattr(settings, name) for name in DataSettings.model_fields}
        data_key = (settings.data, *read.values())
        options = json.dumps(settings.teacher_options, sort_keys=True, default=str)
        teacher_key = (*data_key, settings.teacher, options)
        number = self._once(self.data, data_key, lambda: _checked_data(settings))
        splits = self.data[number]
        part = f"teacher{len(self.teachers) + 1}" if self.teachers else "teacher"
        teacher = self._once(self.teachers, teacher_key, lambda: Teacher(settings, part, splits))
        key = (number, teacher, row.fraction)

        def made():
            part = splits if row.fraction == 1 else load_data(settings, row.fraction, splits)
            return Task(len(self.tasks), *key, part, self.teachers[teacher], settings)

        return self.tasks[self._once(self.tasks, key, made)]

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
        seen = [*(own.info for own in self.data), *self.teachers]
        return list(dict.fromkeys(text for own in seen for text in own.findings))

    @property
    def inputs(self):
        """Fingerprints of what the run depends on besides its settings."""
        found = {f"data {own.info.name}": own.info.fingerprint for own in self.data}
        given = {f"teacher {own.name}": own.fingerprint for own in self.teachers}
        return found | {name: own for name, own in given.items() if own is not None}


def load_data(settings, fraction=1.0, splits=None):
    """`tfkd.data.Splits` of the settings; of a fraction of `splits`' training examples."""
    limit = settings.limit
    if splits is not None:
        limit = max(1, round(fraction * splits.info.sizes["train"]))
    return data.load(
        settings.data,
        settings.data_dir,
        seed=DATA_SEED,
        limit=limit,
        image_size=settings.image_size,
        resize=settings.resize,
        skip_damaged=settings.skip_damaged,
    )


def _checked_data(settings):
    splits = load_data(settings)
    teacher_check.require_classes(splits)
    return splits


def with_folders(settings):
    """Settings whose data is a folder named without "./" have its absolute path, for other folders.

    Names that TensorFlow Datasets knows stay names, as `tfkd.data.load` has it.
    """

    def absolute(name, data_dir):
        known = name in data.names() or not os.path.isdir(name)
        return name if known or is_tfds_name(name, data_dir) else os.path.abspath(name)

    names = settings.data
    if isinstance(names, str):
        return settings.replace(data=absolute(names, settings.data_dir))
    return settings.replace(data=tuple(absolute(name, settings.data_dir) for name in names))


def file_fingerprint(path):
    """ "sha256:..." of a file's bytes."""
    return f"sha256:{sha256_of(path)}"


def sha256_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _labels(dataset):
    batches = dataset.map(lambda image, label: label).batch(1024)
    return np.concatenate(list(batches.as_numpy_iterator()))
