"""A run directory is taken by one run, replaced only on request, and never half written."""

import os
import subprocess

import keras
import pytest

from tfkd import files
from tfkd.files import write_text, written
from tfkd.runs import DistillSettings, RunDirectory

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
        directory.record()
    write_text(tmp_path / "new" / "run.toml", SETTINGS.to_toml())
    with pytest.raises(FileNotFoundError, match="not finished"):
        directory.record()


def test_overwriting_the_own_teacher_is_refused(tmp_path):
    write_text(tmp_path / "run.toml", SETTINGS.to_toml())
    settings = DistillSettings(teacher=str(tmp_path / "teacher.keras"))
    with pytest.raises(ValueError, match="would remove .*teacher.keras"):
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


@pytest.mark.parametrize("settings", [SETTINGS, DistillSettings(student="./student.keras")])
def test_a_model_elsewhere_may_be_used_when_a_run_is_replaced(tmp_path, settings):
    write_text(tmp_path / "run.toml", settings.to_toml())
    RunDirectory(tmp_path).check_free(settings, overwrite=True)


def test_the_lock_leaves_nothing_behind(tmp_path):
    out = tmp_path / "run"
    with RunDirectory(out).locked():
        assert (out / ".lock").exists()
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError(122, "Disk quota exceeded"),
        RuntimeError("Can't decrement id ref count (unable to close file)"),  # HDF5's way to say it
        ValueError("zip archive is incomplete"),
    ],
)
def test_a_full_disk_is_named_whatever_a_library_makes_of_it(tmp_path, monkeypatch, error):
    path = tmp_path / "student.keras"
    path.write_text("old")
    monkeypatch.setattr(files, "free_bytes", lambda path: 4096)
    with pytest.raises(files.DiskFullError, match=f'disk of "{tmp_path}" is full: "student.keras"'):
        with written(path) as partial:
            partial.write_text("half of the n")
            raise error
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["student.keras"]


def test_an_error_on_a_disk_with_room_stays_what_it_is(tmp_path):
    with pytest.raises(ValueError, match="no such thing"):
        with written(tmp_path / "x"):
            raise ValueError("no such thing")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_really_full(tmp_path):
    """Keras writes a model onto a file system without room for it."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        model = keras.Sequential([keras.Input((512,)), keras.layers.Dense(512)])
        with pytest.raises(files.DiskFullError, match="Free some space"):
            with written(small / "model.keras") as partial:
                model.save(partial)
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_folder_of_data_is_the_same_by_its_name_and_by_its_path(tmp_path, monkeypatch):
    """run.toml has the path; who resumes gives the name again, in the same folder."""
    (tmp_path / "photos").mkdir()
    out = RunDirectory(tmp_path / "run")
    kept = DistillSettings(data=str(tmp_path / "photos"))
    write_text(out / "run.toml", kept.to_toml())
    monkeypatch.chdir(tmp_path)
    out.check_free(DistillSettings(data="photos"), resume=True)
    with pytest.raises(ValueError, match="other settings: data"):
        out.check_free(DistillSettings(data="fotos"), resume=True)
    (tmp_path / "elsewhere/photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="other settings: data"):
        out.check_free(DistillSettings(data="photos"), resume=True)
