"""Who teaches a run's students: a model of its own, several together, or another row's student."""

import hashlib
import os
import re

from tfkd import data, evaluation, fingerprints, tasks
from tfkd import models as networks
from tfkd.runs import models, teacher_check
from tfkd.runs.directory import label_names_beside
from tfkd.runs.rows import part_name
from tfkd.settings.base import is_path
from tfkd.settings.distill import plain
from tfkd.tasks.classification import EVALUATION_BATCH
from tfkd.tasks.logits import Logits
from tfkd.teachers import Ensemble


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
        members: list of `Teacher` that it is put together of.
        of_each_seed: whether there is one for each seed of the students.
    """

    members, of_each_seed = (), False

    def __init__(self, settings, part, splits, name=None):
        self.settings, self.part, self.splits = settings, part, splits
        self.task = tasks.get(settings.learns)
        self.given = self.figures = self.fingerprint = None
        self.name = os.path.basename(settings.teacher) if name is None else name
        if settings.teacher_is_given:
            self.given = models.build("teacher", settings, splits.info)
            self.fingerprint = self._fingerprint()
            self._judge()
        else:
            self.findings = self._seen()
        # Of one that is still to be trained names and shapes are checked.
        self.model = self.given or models.build("teacher", settings, splits.info)
        seen = self.task.seen("teacher", self.model, self.name, splits.info)
        self.findings = [*self.findings, *seen]

    def _fingerprint(self):
        if is_path(self.settings.teacher):
            return file_fingerprint(self.settings.teacher)
        return fingerprints.of_weights(self.given)

    def part_of(self, seed):
        """The training that it comes from, whatever the student's seed."""
        return self.part

    def source(self, model):
        """What teaches, given the model."""
        return model

    def identity(self):
        """What tells its answers from those of others."""
        return fingerprints.of_weights(self.model)

    def _seen(self, *answers):
        """What is seen of the validation split before training, and of a teacher's answers."""
        if not self.task.classifies:
            return []
        found = teacher_check.look(self.splits.info, *answers)
        return teacher_check.settled(found, self.settings.any_teacher)

    def _judge(self):
        info = self.splits.info
        if not self.task.classifies:
            self.findings = []
            self.figures = self.task.judge(self.given, self.splits.validation, info)()
            return
        answers, labels = validation_answers(self.given, self.splits)
        text = self.settings.teacher
        names = label_names_beside(text) if is_path(text) else None
        self.findings = self._seen(labels, answers, self.name, names)
        self.figures = evaluation.quality(answers, labels)


class SeveralTeachers:
    """Teachers of one data set together: their answers stay apart until a loss reads them.

    What is evaluated and kept is their model, which says the mean of their probabilities; each
    member is in it by its name, as layers for hints are named.

    Args:
        settings: `TrainingSettings` that name them.
        part: name of its file.
        members: list of `Teacher`.
    """

    given = figures = fingerprint = None
    findings, of_each_seed = (), False

    def __init__(self, settings, part, members):
        self.settings, self.part, self.members = settings, part, members
        self.splits, self.weights = members[0].splits, settings.weights_of_teachers()
        texts = [plain(own.settings.teacher) for own in members]
        self._names = _distinct(re.sub(r"[^\w.-]", "-", text) for text in texts)
        weights = settings.teacher_weights
        self.name = " + ".join(self._names) + (f" ({weights})" if weights else "")
        self.model = self.together([own.model for own in members])

    def together(self, given):
        """One model of the members' models."""
        shares = None
        if isinstance(self.weights, list):
            shares = [number / sum(self.weights) for number in self.weights]
        return networks.ensemble(dict(zip(self._names, given, strict=True)), shares)

    def part_of(self, seed):
        return self.part

    def source(self, model):
        members = networks.ensemble_members(model)
        return Ensemble({name: members[name] for name in self._names}, self.weights)

    def identity(self):
        return f"{fingerprints.of_weights(self.model)} {self.weights}"


class StudentAsTeacher:
    """The student of another row, of the same seed.

    Args:
        row: the `Row` whose student it is.
        info: `tfkd.data.DataInfo`.
    """

    given = figures = fingerprint = None
    findings, members, of_each_seed = (), (), True

    def __init__(self, row, info):
        self.name = row.name
        self.model = models.build("student", row.settings, info)

    def part_of(self, seed):
        return part_name(seed, self.name)

    def source(self, model):
        return model

    def identity(self):
        return fingerprints.of_weights(self.model)


def validation_answers(model, splits):
    """(logits, labels) of a model on the validation split, as arrays."""
    batches = data.batches(splits.validation, EVALUATION_BATCH)
    images, _ = next(iter(batches))
    return evaluation.predict(Logits(model, images[:64]), batches)


def file_fingerprint(path):
    """ "sha256:..." of a file's bytes."""
    return f"sha256:{sha256_of(path)}"


def sha256_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _distinct(names):
    """Names as they are, with a number behind those that were there before."""
    found = []
    for name in names:
        numbered = [name, *(f"{name}_{number}" for number in range(2, len(found) + 2))]
        found.append(next(own for own in numbered if own not in found))
    return found
