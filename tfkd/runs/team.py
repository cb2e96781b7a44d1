"""Who trains a run: one process alone, or workers that take every step together.

Under several workers each takes its share of every batch (`MultiWorkerMirroredStrategy`). The chief
alone validates, chooses, measures and writes; what it finds, the others are told.
"""

import contextlib
import hashlib
import json
import secrets
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tfkd
from tfkd import _keras
from tfkd.files import write_text
from tfkd.runs.record import Outcome
from tfkd.runs.teachers import sha256_of
from tfkd.settings.base import is_path
from tfkd.taps import output_names

# Seconds until a file that another host has written must be seen: network file systems take some.
SEEN_WITHIN = 30.0
# Settings that may differ from host to host.
OWN = ("data_dir", "cache")


class Alone:
    """A process that trains alone: what a `Team` shares among workers, it does by itself.

    Args:
        checkpoint_minutes: minutes between two checkpoints within an epoch.

    Attributes:
        alone: whether there is no other worker.
        chief: whether this process validates and writes.
        context: `tf.distribute.InputContext` of its share of every batch; None for whole batches.
        notes: what a reader should know of how the run was trained, list of str.
    """

    alone = chief = True
    context, notes = None, ()

    def __init__(self, checkpoint_minutes=10.0):
        self.checkpoint_minutes = checkpoint_minutes

    def check(self, prepared, directory):
        """Raises ValueError unless all workers are about to do the same in the same directory."""

    def begun(self):
        """Takes down that the run's directory is this run's from now on."""

    def scope(self):
        """In it models, losses and optimizers are made that all workers train."""
        return contextlib.nullcontext()

    def fitted(self, model):
        """What is fitted of a model; made in `scope`."""
        return model

    def distributed(self, dataset):
        """This worker's shares of the batches, as `fit` takes them."""
        return dataset

    def together(self, value):
        """Every worker's value, plain data, in the order of the workers; all call it at once."""
        return [value]

    def says(self, value):
        """The chief's value; all call it at once."""
        return self.together(value)[0]

    def chief_does(self, work):
        """What `work()` gives the chief, who alone does it; plain data."""
        return self.says(work() if self.chief else None)

    def outcome(self, work):
        """As `chief_does`, for an `Outcome` or None."""
        return work()

    def agree(self, what, value):
        """Raises RuntimeError unless all workers have the same value."""
        found = self.together(value)
        if any(other != found[0] for other in found):
            raise RuntimeError(f"{what} is not the same for all workers: {found}.")

    @contextlib.contextmanager
    def chief_first(self):
        """The chief goes through first, and the others behind it."""
        if not self.chief:
            self.says(None)
        yield
        if self.chief:
            self.says(None)


class Team(Alone):
    """One of several workers. It has to be made before TensorFlow does anything else.

    Args:
        cluster: `tfkd.settings.workers.Cluster`; TF_CONFIG says the same, and which one this is.
        index: which one this is.
        checkpoint_minutes: as for `Alone`.
        begun: file to write once the run's directory is this run's.
    """

    alone = False

    def __init__(self, cluster, index, checkpoint_minutes, begun):
        super().__init__(checkpoint_minutes)
        self.cluster, self.index, self.chief = cluster, index, index == 0
        self._begun = begun
        self.strategy = tf.distribute.MultiWorkerMirroredStrategy()
        self.context = tf.distribute.InputContext(cluster.size, index, cluster.size)
        self.notes = [f"Trained by {cluster.size} workers, each batch shared out among them."]

    def check(self, prepared, directory):
        found = self.together(identity(prepared))
        faults = [
            f"{self.cluster.name(index)}: {fault}"
            for index, other in enumerate(found)
            for fault in differences(found[0], other)
        ]
        if faults:
            raise ValueError(
                f"The workers are not about to do the same as {self.cluster.name(0)}. "
                f"{'; '.join(faults)}. Start the same command, with the same files and the same "
                "version, on all."
            )
        self._check_shared(directory.path)

    def _check_shared(self, folder):
        """Raises ValueError unless every worker sees what the others write into a folder."""
        own = folder / f".seen-{self.index}"
        write_text(own, secrets.token_hex(8))
        tokens = self.together(own.read_text())
        paths = [folder / f".seen-{index}" for index in range(len(tokens))]
        seen = [_appears(path, token) for path, token in zip(paths, tokens, strict=True)]
        blind = [
            f"{self.cluster.name(reader)} does not see what {self.cluster.name(writer)} writes"
            for reader, sees in enumerate(self.together(seen))
            for writer, found in enumerate(sees)
            if not found
        ]
        own.unlink(missing_ok=True)
        if blind:
            raise ValueError(
                f'"{folder}" is not one directory for all workers: {"; ".join(blind)}. They share '
                "one --out: a file system that all hosts see, under the same path or another."
            )

    def begun(self):
        write_text(self._begun, "")

    def scope(self):
        return self.strategy.scope()

    def fitted(self, model):
        given = model
        with self.scope():
            if not isinstance(model, tfkd.Distiller):
                model = Labelled(model)
        self._synchronize(given, model)
        return model

    def _synchronize(self, *models):
        """Has BatchNormalization take the whole batch's statistics, as one process does."""
        distillers = [own for own in models if isinstance(own, tfkd.Distiller)]
        sources = [source for own in distillers for source in own.source.models()]
        layers = [layer for own in (*models, *sources) for layer in _keras.layers_of(own)]
        for layer in layers:
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
                layer.synchronized = True
                if _keras.has_own_moments(layer):
                    self._note(f"Layer {layer.name} takes the statistics of each worker's share.")
            elif hasattr(layer, "seed_generator"):
                self._note(
                    "Layers that draw random numbers, such as dropout, draw them for each worker's "
                    "share: not the numbers of one process."
                )

    def _note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def distributed(self, dataset):
        return self.strategy.distribute_datasets_from_function(lambda context: dataset)

    def together(self, value):
        text = json.dumps([self.index, value], default=float) + "\n"
        codes = tf.constant(np.frombuffer(text.encode(), np.uint8).astype("int32"))
        own = self.strategy.experimental_distribute_values_from_function(lambda context: codes)
        found = bytes(self.strategy.gather(own, axis=0).numpy().astype("uint8"))
        values = dict(json.loads(line) for line in found.decode().splitlines())
        return [values[index] for index in range(self.cluster.size)]

    def outcome(self, work):
        def dumped():
            found = work()
            return None if found is None else found.model_dump()

        told = self.chief_does(dumped)
        return None if told is None else Outcome(**told)


class Nothing(tfkd.losses.DistillationLoss):
    """A Distiller has a loss: this one is 0, and reads nothing of a teacher."""

    taught_by = "student"

    def call(self, teacher, student):
        return keras.ops.zeros(keras.ops.shape(student)[:1])


class Labelled(tfkd.Distiller):
    """A model that only labels teach, as several workers can fit it; its figures are a model's."""

    def __init__(self, model):
        names = output_names(model) or ()
        name = names[0] if len(names) > 1 else None
        super().__init__(None, model, Nothing(name, name), student_loss_weight=1.0)

    def get_metrics_result(self):
        results = super().get_metrics_result()
        return {name: value for name, value in results.items() if name == "loss"}

    def reported(self, *batch, **others):
        results = super().reported(*batch, **others)
        return {name: value for name, value in results.items() if name == "loss"}


def identity(prepared):
    """What has to be the same for all workers, {name: plain data}: code, settings, data, models."""
    table = prepared.table
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__}
    students = {row.settings.student for row in table.rows if is_path(row.settings.student)}
    return {
        "tfkd": f"{tfkd.__version__}, {_code()}",
        **versions,
        **{f"setting {name}": value for name, value in _settings(table.settings).items()},
        **{name: value for name, value in prepared.inputs.items()},
        **{f"student {Path(path).name}": sha256_of(path) for path in sorted(students)},
    }


def _settings(settings):
    """Settings without what may differ from host to host: where the same files lie."""

    def named(value):
        if isinstance(value, str) and is_path(value):
            return Path(value).name
        return [named(own) for own in value] if isinstance(value, list | tuple) else value

    free = {*OWN, *settings.free}
    return {name: named(value) for name, value in settings.to_dict().items() if name not in free}


def _code():
    """A fingerprint of tfkd's source files."""
    folder, digest = Path(tfkd.__file__).parent, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def differences(own, other):
    """What another worker has otherwise, one "name: its value, not the chief's" each."""
    names = [name for name in {**own, **other} if own.get(name) != other.get(name)]
    return [f"{name} is {other.get(name)!r}, not {own.get(name)!r}" for name in names]


def _appears(path, content):
    """Whether a file with that content can be read here, now or within a while."""
    deadline = time.monotonic() + SEEN_WITHIN
    while True:
        with contextlib.suppress(OSError):
            if path.read_text() == content:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
