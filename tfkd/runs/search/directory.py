"""The directory of a search: what lies where, and who may write there."""

import shutil

from tfkd.runs.directory import RunDirectory
from tfkd.runs.search.record import Inputs, portable, read_record
from tfkd.settings import SearchSettings
from tfkd.settings.search import FREE
from tfkd.tuning.results import read_json

# KerasTuner's own directory, TensorBoard's logs, and the runs of the final students.
TRIALS, TENSORBOARD, BEST, FRONT = "trials", "tensorboard", "best", "pareto"
RECORD, SETTINGS, RESULTS, PICTURE = "search.json", "search.toml", "results.csv", "search.png"
BEST_SETTINGS, TEACHER, INPUTS = "best.toml", "teacher.keras", "inputs.json"
FILES = (INPUTS, RECORD, SETTINGS, RESULTS, PICTURE, BEST_SETTINGS, TEACHER, "teacher.json")
FOLDERS = (TRIALS, TENSORBOARD, BEST, FRONT)


class SearchDirectory(RunDirectory):
    """The files of one search.

    Args:
        path: the directory; need not exist.
    """

    @property
    def finished(self):
        return (self / RECORD).exists()

    @property
    def begun(self):
        return any((self / name).exists() for name in (INPUTS, SETTINGS))

    def record(self):
        """The content of search.json; None where the search is not finished.

        Raises:
            ValueError: it is damaged, or of another version.
        """
        return read_record(self / RECORD) if self.finished else None

    def inputs(self):
        """What the search was begun with, `Inputs`; None where that is not on record.

        Raises:
            ValueError: the record of it is damaged.
        """
        if not (self / INPUTS).exists():
            return None
        try:
            return read_json(self / INPUTS, Inputs)
        except ValueError as error:
            try:
                return Inputs(**self.record()["inputs"])
            except (TypeError, ValueError):  # none, or damaged as well
                raise ValueError(
                    f"{error} So it is not known which data and teacher the trials here were "
                    "trained with. Put the file back, or start anew with --overwrite."
                ) from None

    def check_free(self, settings, overwrite=False):
        """Raises unless a search of these settings may begin or go on here.

        Raises:
            FileExistsError: the directory holds something else.
            ValueError: it holds a search with other settings.
        """
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f'"{self.path}" is a file; expected a directory for the search.')
        teacher = settings.teacher_is_given and self.path.resolve() / TEACHER
        if overwrite and settings.teacher == str(teacher):
            raise ValueError(
                f'--overwrite would remove the teacher "{settings.teacher}". Give another --out, '
                "or copy the teacher elsewhere first."
            )
        if self.begun:
            if not overwrite:
                self.check_same(settings)
        # What is hidden is of a search that was killed before it began.
        elif self.path.is_dir() and any(p.name[0] != "." for p in self.path.iterdir()):
            raise FileExistsError(
                f'"{self.path}" holds files that are no search. Give a new or empty directory as '
                "--out."
            )

    def check_same(self, settings):
        """Raises ValueError, saying what differs, unless the search here has these settings."""
        kept = self.inputs()
        own = portable(SearchSettings.from_toml(self / SETTINGS)) if kept is None else kept.settings
        other = portable(settings)
        differences = [
            f"{name}: {own.get(name)!r}, not {other.get(name)!r}"
            for name in {**own, **other}
            if name not in FREE and own.get(name) != other.get(name)
        ]
        if differences:
            raise ValueError(
                f'"{self.path}" holds another search: {"; ".join(differences)}. Continue it with '
                "the same settings, replace it with --overwrite, or give another --out."
            )

    def clear(self):
        """Removes what a search wrote; killed half-way it leaves no mixed one."""
        self.drop_work()
        for name in FOLDERS:
            shutil.rmtree(self / name, ignore_errors=True)
        for name in FILES[::-1]:
            (self / name).unlink(missing_ok=True)
