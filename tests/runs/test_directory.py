"""A run directory is taken by one run, replaced only on request, and never half written."""

import pytest

from tfkd.files import written
from tfkd.runs import DistillSettings, RunDirectory
from tfkd.runs.directory import write_text

SETTINGS = DistillSettings()


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="no run"):
            RunDirectory(tmp_path).check_free(SETTINGS, overwrite=overwrite)


def test_a_run_that_is_there_needs_overwrite_or_resume(tmp_path):
    directory = RunDirectory(tmp_path)
    write_text(tmp_path / "run.toml", SETTINGS.to_toml())
    with pytest.raises(FileExistsError, match="not finished.*--overwrite.*--resume"):
        directory.check_free(SETTINGS)
    directory.check_free(SETTINGS, overwrite=True)
    directory.check_free(SETTINGS, resume=True)
    with pytest.raises(ValueError, match="epochs: 30, not 3"):
        directory.check_free(DistillSettings(epochs=3), resume=True)
    with pytest.raises(ValueError, match="exclude each other"):
        directory.check_free(SETTINGS, overwrite=True, resume=True)


def test_nothing_to_resume_or_evaluate(tmp_path):
    directory = RunDirectory(tmp_path / "new")
    with pytest.raises(FileNotFoundError, match="No run to resume"):
        directory.check_free(SETTINGS, resume=True)
    with pytest.raises(FileNotFoundError, match="holds no run"):
        directory.finished_run()
    write_text(tmp_path / "new" / "run.toml", SETTINGS.to_toml())
    with pytest.raises(FileNotFoundError, match="not finished"):
        directory.finished_run()


def test_overwriting_the_own_teacher_is_refused(tmp_path):
    write_text(tmp_path / "run.toml", SETTINGS.to_toml())
    settings = DistillSettings(teacher=str(tmp_path / "teacher.keras"))
    with pytest.raises(ValueError, match="would remove the teacher"):
        RunDirectory(tmp_path).check_free(settings, overwrite=True)


def test_two_processes_do_not_write_into_one_run(tmp_path):
    with RunDirectory(tmp_path).locked():
        with pytest.raises(FileExistsError, match="Another tfkd process"):
            with RunDirectory(tmp_path).locked():
                pass
    with RunDirectory(tmp_path).locked():
        pass


def test_clearing_takes_what_a_run_wrote_and_nothing_else(tmp_path):
    for name in ("run.json", "seeds/0/alone.keras", ".work/teacher.json", "saved_model/1/model.pb"):
        write_text(tmp_path / name, "")
    RunDirectory(tmp_path).clear()
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ["saved_model/1/model.pb"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "run.json"
    write_text(path, "old")
    with pytest.raises(RuntimeError):
        with written(path) as partial:
            partial.write_text("half of the n")
            raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]
