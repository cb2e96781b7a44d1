import os

import pytest

from tfkd.runtime.versions import list_versions, new_version, remove_version


def publish(base, **options):
    with new_version(base, **options) as version:
        (version.directory / "saved_model.pb").write_text("content")
    return version.path


def test_numbers_go_up_and_old_versions_stay(tmp_path):
    base = tmp_path / "deep" / "model"
    assert [publish(base).name for _ in range(3)] == ["1", "2", "3"]
    assert publish(base, version=10).name == "10"
    assert publish(base).name == "11"
    assert list(list_versions(base)) == [1, 2, 3, 10, 11]
    assert os.stat(base / "1").st_mode & 0o555 == 0o555  # readable for a server of another user


def test_keep_leaves_the_newest_and_never_removes_the_one_just_made(tmp_path):
    for _ in range(4):
        publish(tmp_path)
    publish(tmp_path, keep=2)
    assert list(list_versions(tmp_path)) == [4, 5]
    publish(tmp_path, version=1, keep=1)
    assert list(list_versions(tmp_path)) == [1, 5]
    assert sorted(os.listdir(tmp_path)) == ["1", "5"]


def test_names_that_are_no_numbers_are_no_versions(tmp_path):
    for name in (".tmp-1", "v2", "3.5", "٣", "-4", str(2**63), "1" * 200):
        (tmp_path / name).mkdir()
    (tmp_path / "00007").mkdir()
    (tmp_path / "8").write_text("a file")
    assert list(list_versions(tmp_path)) == [7]
    assert list_versions(tmp_path / "missing") == {}


def test_an_error_while_writing_leaves_nothing(tmp_path):
    publish(tmp_path)
    with pytest.raises(RuntimeError, match="broken"), new_version(tmp_path) as version:
        (version.directory / "half").write_text("half")
        raise RuntimeError("broken")
    assert os.listdir(tmp_path) == ["1"]


def test_what_a_killed_exporter_left_is_swept_but_not_what_a_living_one_writes(tmp_path):
    (tmp_path / ".tmp-dead").mkdir()
    with new_version(tmp_path) as first:
        (first.directory / "file").write_text("mine")
        second = publish(tmp_path)
        assert (first.directory / "file").exists()
        assert not (tmp_path / ".tmp-dead").exists()
    assert (second.name, first.path.name) == ("1", "2")  # the number was free until the rename


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1"])
@pytest.mark.parametrize("option", ["version", "keep"])
def test_numbers_that_are_none_are_refused(tmp_path, option, value):
    with pytest.raises(ValueError, match=f"{option} must be a whole number"):
        publish(tmp_path, **{option: value})


def test_an_existing_version_is_not_overwritten(tmp_path):
    publish(tmp_path)
    with pytest.raises(FileExistsError, match="Version 1 exists already"):
        publish(tmp_path, version=1)


def test_what_is_no_model_base_is_refused(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(ValueError, match='it holds "file"'):
        publish(tmp_path)
    with pytest.raises(NotADirectoryError):
        publish(tmp_path / "file")
    version = publish(tmp_path / "model")
    with pytest.raises(ValueError, match=f"directory above it: {tmp_path / 'model'}"):
        publish(version)


def test_a_removed_version_is_gone_at_once(tmp_path):
    remove_version(publish(tmp_path))
    assert os.listdir(tmp_path) == []
