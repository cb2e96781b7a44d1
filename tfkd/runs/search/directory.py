"""The directory of a search: what lies where, and who may write there."""

import json
import shutil

from tfkd.runs.directory import WORK, RunDirectory
from tfkd.settings import SearchSettings

# KerasTuner's own directory, TensorBoard's logs, and the runs of the final students.
TRIALS, TENSORBOARD, BEST, FRONT = "trials", "tensorboard", "best", "pareto"
RECORD, SETTINGS, RESULTS, PICTURE = "search.json", "search.toml", "results.csv", "search.png"
BEST_SETTINGS, TEACHER = "best.toml", "teacher.keras"
FILES = (RECORD, SETTINGS, RESULTS, PICTURE, BEST_SETTINGS, TEACHER, "teacher.json")
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
        return (self / SETTINGS).exists()

    def record(self):
        """The content of search.json; None where the search is not finished."""
        return json.loads((self / RECORD).read_text(encoding="utf-8")) if self.finished else None

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
        elif self.path.is_dir() and any(p.name != WORK for p in self._entries()):
            raise FileExistsError(
                f'"{self.path}" holds files that are no search. Give a new or empty directory as '
                "--out."
            )

    def check_same(self, settings):
        """Raises ValueError, saying what differs, unless the search here has these settings."""
        differences = SearchSettings.from_toml(self / SETTINGS).differences(settings)
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
