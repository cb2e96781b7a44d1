"""What is said of workers, by flags or by TF_CONFIG, is checked before anything starts."""

import json

import pytest

from tfkd.settings import SettingsError, WorkerSettings
from tfkd.settings.workers import Cluster


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)


def config(kind, index, **jobs):
    return json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})


def test_one_process_unless_told():
    assert WorkerSettings().together() is None
    assert WorkerSettings(workers=1).together() is None
    assert WorkerSettings(cluster=("a:1",), index=0).together() is None


def test_workers_of_this_machine_and_of_several_hosts():
    assert WorkerSettings(workers=3).together() == Cluster(3)
    given = WorkerSettings(cluster="a:1, b:2", index=1)
    assert given.together() == Cluster(2, ("a:1", "b:2"), 1)
    assert not given.together().chief_is_here
    assert Cluster(3).chief_is_here and Cluster(2, ("a:1", "b:2"), 0).chief_is_here
    assert Cluster(3).name(2) == "worker 2"
    assert given.together().name(0) == "worker 0 (the chief, a:1)"


@pytest.mark.parametrize(
    ("text", "index"),
    [
        (config("worker", 1, worker=["a:1", "b:2", "c:3"]), 1),
        (config("chief", 0, chief=["a:1"], worker=["b:2", "c:3"]), 0),
        (config("worker", 1, chief=["a:1"], worker=["b:2", "c:3"]), 2),
    ],
    ids=["workers", "chief", "behind a chief"],
)
def test_tf_config_says_the_same(monkeypatch, text, index):
    monkeypatch.setenv("TF_CONFIG", text)
    assert WorkerSettings().together() == Cluster(3, ("a:1", "b:2", "c:3"), index)
    # What is given on the command line wins.
    given = WorkerSettings(cluster=("d:4", "e:5"), index=0)
    assert given.together() == Cluster(2, ("d:4", "e:5"), 0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"workers": 2, "cluster": ("a:1", "b:2"), "index": 0}, "give one"),
        ({"cluster": ("a:1", "b:2")}, "not which of them this is. Give --index"),
        ({"index": 1}, "cluster is not given"),
        ({"cluster": ("a:1", "b:2"), "index": 2}, "2 processes, 0 to 1, but this is said to be 2"),
        ({"cluster": ("a:1", "b"), "index": 0}, 'cluster holds "b"; expected HOST:PORT'),
        ({"cluster": ("a:1", "b:70000"), "index": 0}, 'cluster holds "b:70000"'),
        ({"cluster": ("a:1", "a:1"), "index": 0}, "names a process twice: a:1, a:1"),
        ({"checkpoint_minutes": 0.0}, "checkpoint_minutes is 0.0; it should be greater than 0"),
    ],
)
def test_mistakes_are_named(values, said):
    with pytest.raises(SettingsError, match=said):
        WorkerSettings(**values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "TF_CONFIG cannot be read"),
        ("[]", "TF_CONFIG cannot be read"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG cannot be read"),
        (config("ps", 0, worker=["a:1", "b:2"], ps=["c:3"]), 'is a "ps"'),
        (config("worker", 5, worker=["a:1", "b:2"]), "this is said to be 5"),
        (config("worker", 0, worker=["a", "b:2"]), 'TF_CONFIG holds "a"'),
    ],
)
def test_a_tf_config_that_cannot_be_followed_is_named(monkeypatch, text, said):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(SettingsError, match=said):
        WorkerSettings().together()


def test_workers_beside_tf_config_are_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config("worker", 0, worker=["a:1", "b:2"]))
    with pytest.raises(SettingsError, match="Leave --workers out, or unset TF_CONFIG"):
        WorkerSettings(workers=2).together()
