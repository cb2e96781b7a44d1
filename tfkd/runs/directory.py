"""A run directory: what lies where, and who may write there.

`run.json` is written last and makes the run a finished one. Each finished training leaves a model
and, last, its record (`seeds/0/alone.keras` and `.json`); `.work/` holds what only an unfinished
run needs: checkpoints and the teacher's stored answers.
"""

import contextlib
import os
import shutil
from pathlib import Path

from tfkd.files import locked
from tfkd.runs.record import Record
from tfkd.settings import DistillSettings, SettingsError
from tfkd.settings.base import is_path

RECORD, SETTINGS = "run.json", "run.toml"
# The page, and what it needs of data and models.
PAGE, KEPT = "report.html", "report.json"
# Everything that a run writes; --overwrite removes these and nothing else.
RUN_FILES = (
    *(RECORD, SETTINGS, "student.keras", "history.csv", "figures.csv", "table.md"),
    *("curves.png", "early_exit.png", PAGE, KEPT),
    *("search.json", "results.csv", "search.png", "best.toml"),
)
SEEDS, WORK = "seeds", ".work"
# Whose jobs may write here, see `tfkd.runs.parallel`.
JOBS = ".jobs"
# Of a search: KerasTuner's own directory, TensorBoard's logs, settings on the Pareto front.
TRIALS, TENSORBOARD, FRONT = "trials", "tensorboard", "pareto"
# What `tfkd export` writes below EXPORT, beside `student_*.tflite`.
EXPORT, SAVED_MODEL = "export", "saved_model"
EXPORT_RECORD, EXPORT_PICTURE = "export.json", "export.png"


class RunDirectory:
    """The files of one run.

    Args:
        path: the directory; need not exist.
    """

    def __init__(self, path):
        self.path = Path(os.path.expanduser(path))

    def __truediv__(self, name):
        return self.path / name

    @property
    def finished(self):
        return (self / RECORD).exists()

    @property
    def begun(self):
        return self.finished or (self / SETTINGS).exists() or (self / WORK).exists()

    def locked(self):
        """Makes the directory and keeps other tfkd processes out of it meanwhile."""
        return locked(self.path)

    def check_free(self, settings, overwrite=False, resume=False):
        """Raises unless a run of these settings may write here.

        Raises:
            FileExistsError: a run is there and neither `overwrite` nor `resume` is asked for, or
                the directory holds other files.
            FileNotFoundError: no run to resume.
            ValueError: the run to resume has other settings.
        """
        if overwrite and resume:
            raise ValueError(
                "--overwrite and --resume exclude each other: replace the run, or continue it."
            )
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f'"{self.path}" is a file; expected a directory for the run.')
        if resume:
            self._check_resumable(settings)
        elif overwrite and (model := self._own_model(settings)):
            raise ValueError(
                f'--overwrite would remove "{model}", which the run is to use. Give another --out, '
                "or copy the model elsewhere first."
            )
        elif self.begun and not overwrite:
            unfinished = "" if self.finished else ", not finished"
            raise FileExistsError(
                f'"{self.path}" already holds a run{unfinished}. Give another --out, or '
                "--overwrite to replace it, or --resume to continue one that was interrupted."
            )
        elif not self.begun and self.path.is_dir() and any(self._entries()):
            raise FileExistsError(
                f'"{self.path}" holds files that are no run. Give a new or empty directory as '
                "--out."
            )

    def _entries(self):
        return (entry for entry in self.path.iterdir() if not entry.name.startswith("."))

    def _own_model(self, settings):
        """A model file of the settings that lies in this directory; None if there is none."""
        values = [getattr(settings, role) for role in ("teacher", "student")]
        texts = [text for own in values for text in ([own] if isinstance(own, str) else own)]
        inside = (
            text
            for text in texts
            if is_path(text) and self.path.resolve() in Path(text).resolve().parents
        )
        return next(inside, None)

    def _check_resumable(self, settings):
        if not self.begun:
            raise FileNotFoundError(
                f'No run to resume in "{self.path}". Leave --resume out to start one.'
            )
        if (self / SETTINGS).exists():
            kept = self.settings(type(settings))
            differences = kept.differences(settings)
            if differences and kept.differences(_with_folders(settings)):
                raise ValueError(
                    f'The run in "{self.path}" has other settings: {"; ".join(differences)}. '
                    "Resume with the same ones, or start anew with --overwrite or another --out."
                )

    def settings(self, kind=DistillSettings, name=SETTINGS):
        """The settings in run.toml, or in another file; nothing that they name is imported here.

        Raises:
            ValueError: they are not of that kind.
        """
        try:
            return kind.from_toml(self / name, trust=True)
        except SettingsError as error:
            raise ValueError(
                f'"{self / name}" does not hold settings of this command: {error}'
            ) from None

    def record(self):
        """The `Record` of a finished run.

        Raises:
            FileNotFoundError: there is none.
            ValueError: run.json is damaged, or of another version.
        """
        if not self.finished:
            unfinished = "a run that is not finished; the same command with --resume continues it"
            raise FileNotFoundError(
                f'"{self.path}" holds {unfinished if self.begun else "no run"}.'
            )
        return Record.read(self / RECORD)

    def model_path(self, part):
        """Where the model of a training lies: "teacher", or "<seed>/<row>" below `seeds`."""
        return self.path / (f"{part}.keras" if "/" not in part else f"{SEEDS}/{part}.keras")

    def clear(self):
        """Removes what a run wrote; killed half-way it leaves an unfinished run, no mixed one.

        Versions of an exported SavedModel stay: a server may be reading them, and it would not
        notice if another model took the number of one that it has loaded.
        """
        (self / RECORD).unlink(missing_ok=True)
        self.drop_work()
        for name in RUN_FILES:
            (self / name).unlink(missing_ok=True)
        for path in (*self.path.glob("teacher*.keras"), *self.path.glob("teacher*.json")):
            path.unlink()
        for name in (SEEDS, TRIALS, TENSORBOARD, FRONT):
            shutil.rmtree(self / name, ignore_errors=True)
        for name in (EXPORT_RECORD, EXPORT_PICTURE):
            (self / EXPORT / name).unlink(missing_ok=True)
        for path in (self / EXPORT).glob("student_*.tflite"):
            path.unlink()

    def drop_work(self):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self / WORK)


def _with_folders(settings):
    """Settings with the absolute path of data that is a folder here, as run.toml has it."""

    def absolute(name):
        return os.path.abspath(name) if os.path.isdir(name) else name

    data = settings.data
    data = absolute(data) if isinstance(data, str) else tuple(map(absolute, data))
    return settings.replace(data=data)


def label_names_beside(path):
    """The classes that the run a model file lies in was trained on; None where that is unknown."""
    for folder in Path(path).resolve().parents[:3]:
        if (folder / RECORD).exists():
            with contextlib.suppress(ValueError, FileNotFoundError):
                return tuple(Record.read(folder / RECORD).data[0].label_names)
    return None
