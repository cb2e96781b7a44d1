import asyncio
import os
import shutil
import signal
import threading
import time

import numpy as np
import pytest

from tfkd.runtime import loaded_version
from tfkd.runtime.messages import LoaderError
from tfkd.runtime.versions import new_version, remove_version
from tfkd.serving import hosted_models
from tfkd.serving.hosted_models import Model, ServingError

BLACK = {"image": np.zeros((1, 12, 12, 3), "float32")}


@pytest.fixture
def base(version, tmp_path):
    base = tmp_path / "student"
    publish(version, base)
    return base


@pytest.fixture
def host():
    """Makes models that are read only when the test says so, and closes them."""
    models = []

    def start(base, **options):
        models.append(Model("student", base, poll_seconds=3600, **options))
        return models[-1]

    yield start
    for model in models:
        model.close()


def publish(source, base, broken=None):
    with new_version(base) as new:
        shutil.copytree(source, new.directory, dirs_exist_ok=True)
        if broken:
            (new.directory / broken).write_bytes(b"broken")


def test_the_newest_version_answers_and_the_old_one_is_closed(base, version, host):
    model = host(base)
    with model.using() as one:
        assert one.number == 1
        publish(version, base)
        model.refresh()
        assert model.states() == {2: ("AVAILABLE", "")}
        assert one.run("serving_default", BLACK)["logits"].shape == (1, 3)  # still there
        process = one._worker.pid
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    with model.using() as two:
        assert two.number == 2


@pytest.mark.parametrize("broken", ["saved_model.pb", "assets.extra/tf_serving_warmup_requests"])
def test_a_broken_version_is_reported_and_the_old_one_goes_on(base, version, host, broken):
    model = host(base)
    publish(version, base, broken)
    model.refresh()
    states = model.states()
    assert states[1] == ("AVAILABLE", "")
    assert states[2][0] == "END" and states[2][1]
    with model.using() as chosen:
        assert chosen.number == 1
    remove_version(base / "2")
    model.refresh()
    assert model.states() == {1: ("AVAILABLE", "")}


def test_removing_the_newest_version_rolls_back(base, version, host):
    publish(version, base)
    model = host(base)
    assert list(model.states()) == [2]
    remove_version(base / "2")
    model.refresh()
    assert list(model.states()) == [1]
    remove_version(base / "1")
    model.refresh()
    assert list(model.states()) == [1]  # rather an old answer than none


def test_labels_keep_their_versions_loaded(base, version, host):
    for _ in range(2):
        publish(version, base)
    model = host(base, labels={"stable": 1, "canary": 3, "gone": 9})
    assert list(model.states()) == [3, 1]
    with model.using(label="stable") as chosen:
        assert chosen.number == 1
    for question, code in (({"label": "other"}, 3), ({"label": "gone"}, 5), ({"version": 2}, 5)):
        with pytest.raises(ServingError) as caught, model.using(**question):
            pass
        assert caught.value.code == code  # as TensorFlow Serving's server_core.cc


def test_a_process_that_dies_is_replaced_and_the_request_answered(base, host):
    model = host(base)
    with model.using() as chosen:
        first = chosen._worker.pid
        os.kill(first, 9)
        assert chosen.run("serving_default", BLACK)["logits"].shape == (1, 3)
        assert chosen._worker.pid != first


def test_a_stopped_process_is_found_and_replaced(base, host, monkeypatch):
    monkeypatch.setattr(hosted_models, "WATCH_SECONDS", 0.1)
    monkeypatch.setattr(loaded_version, "STOPPED_AFTER", 1.0)
    model = host(base, timeout=60)
    with model.using() as chosen:
        first = chosen._worker.pid
        os.kill(first, signal.SIGSTOP)
        # Larger than what a socket holds: sending it would wait for ever too.
        images = {"image": np.zeros((3000, 12, 12, 3), "float32")}
        assert chosen.run("serving_default", images)["logits"].shape == (3000, 3)
        assert chosen._worker.pid != first
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_a_request_to_a_stopped_process_is_given_up_in_time(base, host):
    model = host(base, timeout=1.0)
    with model.using() as chosen:
        os.kill(chosen._worker.pid, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(LoaderError) as caught:
            chosen.run("serving_default", {"image": np.zeros((9000, 12, 12, 3), "float32")})
        assert caught.value.code == 4 and time.monotonic() - start < 10


def test_a_stopped_process_does_not_keep_the_server_from_closing(base, host):
    model = host(base, timeout=600)
    failures = []

    def ask():
        with model.using() as chosen:
            os.kill(chosen._worker.pid, signal.SIGSTOP)
            try:
                chosen.run("serving_default", BLACK)
            except LoaderError as error:
                failures.append(error.code)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    start = time.monotonic()
    model.close()
    thread.join(20)
    assert time.monotonic() - start < 15
    assert failures == [14]


def test_only_so_many_requests_wait(base, host):
    model = host(base, concurrency=1)
    free = threading.Event()

    async def ask():
        waiting = [asyncio.create_task(model.in_thread(free.wait)) for _ in range(8)]
        await asyncio.sleep(0)
        with pytest.raises(ServingError, match="8 requests for student wait already") as caught:
            await model.in_thread(free.wait)
        assert caught.value.code == 14
        free.set()
        assert await asyncio.gather(*waiting) == [True] * 8
        assert await model.in_thread(free.is_set)

    asyncio.run(ask())


def test_a_model_that_does_more_than_compute_needs_trust(base, host):
    (base / "1" / "saved_model.cpb").write_bytes(b"")
    model = host(base)
    ((state, reason),) = model.states().values()
    assert state == "END" and "not examined before loading" in reason
    (base / "1" / "saved_model.cpb").unlink()
    (base / "1" / "variables" / "link").symlink_to("/etc/hostname")
    model = host(base)
    assert "--trust" in model.states()[1][1]
    assert host(base, trust=True).states() == {1: ("AVAILABLE", "")}


def test_wrong_requests_and_slow_answers(base, host):
    model = host(base)
    with model.using() as chosen:
        with pytest.raises(LoaderError) as caught:
            chosen.run("serving_default", {"image": np.zeros((1, 5, 5, 3), "float32")})
        assert caught.value.code == 3
    slow = host(base, timeout=1e-6)
    with slow.using() as chosen, pytest.raises(LoaderError, match="No answer within") as caught:
        chosen.run("serving_default", {"image": np.zeros((3000, 12, 12, 3), "float32")})
    assert caught.value.code == 4


def test_the_poller_finds_versions_by_itself_and_no_request_is_lost(base, version):
    model = Model("student", base, poll_seconds=0.05)
    stop, numbers = threading.Event(), []

    def ask():
        while not stop.wait(0.005):  # without a pause new versions would hardly be loaded
            with model.using() as chosen:
                chosen.run("serving_default", BLACK)
                numbers.append(chosen.number)

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    for number in (2, 3):
        publish(version, base)
        deadline = time.monotonic() + 60
        while numbers[-1:] != [number] and time.monotonic() < deadline:
            time.sleep(0.05)
    stop.set()
    for client in clients:
        client.join()
    model.close()
    assert set(numbers) == {1, 2, 3}
