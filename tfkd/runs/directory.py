"""A run directory: what lies where, and how it gets there whole or not at all.

While a run is under way, `.work/` holds what each finished training ended in; `run.json` is written
last and makes the run a finished one.
"""

import contextlib
import fcntl
import json
import os
import shutil
from pathlib import Path

from tfkd.files import written
from tfkd.runs.distill_settings import DistillSettings

# Everything that a run writes; --overwrite removes these and nothing else.
RUN_FILES = (
    *("run.json", "run.toml", "teacher.keras", "student.keras", "student_alone.keras"),
    *("history.csv", "curves.png", "table.md", "figures.csv", "early_exit.png"),
)
SEEDS, WORK = "seeds", ".work"
# Where a recipe's run keeps every trained model.
TRAININGS = "trainings"
# What `tfkd export` writes below EXPORT, beside `student_*.tflite`.
EXPORT, SAVED_MODEL = "export", "saved_model"
EXPORT_RECORD, EXPORT_PICTURE = "export.json", "export.png"
VARIANTS = ("alone", "distilled")


class RunDirectory:
    """The files of one run.

    Args:
        path: the directory; need not exist.
        settings_class: of the run's settings.
    """

    def __init__(self, path, settings_class=DistillSettings):
        self.path = Path(os.path.expanduser(path))
        self._settings_class = settings_class

    def __truediv__(self, name):
        return self.path / name

    def student(self, seed, variant):
        """Path of one seed's student, `variant` being "alone" or "distilled"."""
        return self.path / SEEDS / str(seed) / f"{variant}.keras"

    @property
    def finished(self):
        return (self / "run.json").exists()

    @property
    def begun(self):
        return self.finished or (self / "run.toml").exists() or (self / WORK).exists()

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
        elif overwrite and self.path.resolve() in Path(settings.teacher).resolve().parents:
            raise ValueError(
                f'--overwrite would remove the teacher "{settings.teacher}". Give another --out, '
                "or copy the teacher elsewhere first."
            )
        elif self.begun and not overwrite:
            unfinished = "" if self.finished else ", not finished"
            raise FileExistsError(
                f'"{self.path}" already holds a run{unfinished}. Give another --out, or '
                "--overwrite to replace it, or --resume to continue one that was interrupted."
            )
        elif not self.begun and self.path.is_dir() and any(self.path.iterdir()):
            raise FileExistsError(
                f'"{self.path}" holds files that are no run. Give a new or empty directory as '
                "--out."
            )

    def _check_resumable(self, settings):
        if not self.begun:
            raise FileNotFoundError(
                f'No run to resume in "{self.path}". Leave --resume out to start one.'
            )
        if (self / "run.toml").exists():
            differences = self._settings_class.from_toml(self / "run.toml").differences(settings)
            if differences:
                raise ValueError(
                    f'The run in "{self.path}" has other settings: {"; ".join(differences)}. '
                    "Resume with the same ones, or start anew with --overwrite or another --out."
                )

    def finished_run(self):
        """(content of run.json, settings) of a finished run.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is the run of a recipe, and another was expected.
        """
        if not self.finished:
            unfinished = "a run that is not finished; tfkd distill --resume continues it"
            raise FileNotFoundError(
                f'"{self.path}" holds {unfinished if self.begun else "no run"}.'
            )
        record = json.loads((self / "run.json").read_text(encoding="utf-8"))
        if "recipe" in record and self._settings_class is DistillSettings:
            raise ValueError(
                f'"{self.path}" is a run of the recipe {record["recipe"]}: its figures are in '
                f"table.md and run.json, its models in {TRAININGS}/. tfkd evaluate and tfkd export "
                "take runs of tfkd distill (which has --recipe)."
            )
        return record, self._settings_class.from_toml(self / "run.toml")

    @contextlib.contextmanager
    def locked(self):
        """Makes the directory and keeps other tfkd processes out of it meanwhile.

        Raises:
            FileExistsError: another process writes here.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FileExistsError(
                    f'Another tfkd process is writing into "{self.path}". Wait for it, or give '
                    "another --out."
                ) from None
            yield
        finally:
            os.close(descriptor)

    def clear(self):
        """Removes what a run wrote; killed half-way it leaves an unfinished run, no mixed one.

        Versions of an exported SavedModel stay: a server may be reading them, and it would not
        notice if another model took the number of one that it has loaded.
        """
        (self / "run.json").unlink(missing_ok=True)
        self.drop_work()
        for name in RUN_FILES:
            (self / name).unlink(missing_ok=True)
        for name in (SEEDS, TRAININGS):
            shutil.rmtree(self / name, ignore_errors=True)
        for name in (EXPORT_RECORD, EXPORT_PICTURE):
            (self / EXPORT / name).unlink(missing_ok=True)
        for path in (self / EXPORT).glob("student_*.tflite"):
            path.unlink()

    def drop_work(self):
        if (self / WORK).exists():
            shutil.rmtree(self / WORK)


def write_text(path, text):
    with written(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path, content):
    write_text(path, json.dumps(content, indent=2) + "\n")


def copy(source, path):
    with written(path) as partial:
        shutil.copyfile(source, partial)
