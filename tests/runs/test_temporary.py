"""Temporary files beside what they are for."""

import os
import socket
import subprocess
import sys
import tempfile

import pytest

from tfkd.runs.temporary import temporary_files_in


def test_libraries_write_there_and_nothing_is_left(tmp_path):
    before = tempfile.gettempdir()
    with temporary_files_in(tmp_path / "run"):
        with tempfile.NamedTemporaryFile(delete=False) as file:
            assert tmp_path / "run" in type(tmp_path)(file.name).parents
    assert tempfile.gettempdir() == before and list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("mine")
    with pytest.raises(ZeroDivisionError), temporary_files_in(tmp_path / "kept"):
        _ = 1 / 0
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["file"]


def test_folders_of_dead_processes_go_those_of_live_ones_and_of_other_hosts_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    stay = {f".temporary-{host}-{os.getppid()}", ".temporary-elsewhere-1", ".temporary-x"}
    for name in {*stay, f".temporary-{host}-{dead.pid}"}:
        (tmp_path / name).mkdir()
    with temporary_files_in(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == stay
