"""Two processes train as one does."""

import json
import socket

import forked
import keras
import numpy as np
import pytest
import variants


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Where two workers on this machine have trained."""
    directory = tmp_path_factory.mktemp("workers")
    variants.build_cache(directory)
    bound = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    cluster = {"worker": [f"127.0.0.1:{own.getsockname()[1]}" for own in bound]}
    for own in bound:
        own.close()
    workers = []
    for index in range(2):
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        said = directory / f"{index}.log"
        workers.append(
            forked.started(variants.work, str(directory), index, said=said, TF_CONFIG=config)
        )
    for worker in workers:
        worker.join(600)
    for worker in workers:
        worker.kill()  # where it has not ended
        worker.join()
    codes = [worker.exitcode for worker in workers]
    assert codes == [0, 0], (directory / "0.log.err").read_text()[-3000:]
    return directory


@pytest.fixture(scope="module")
def found(directory):
    """What each worker says, and the weights it has."""
    said = [json.loads((directory / f"worker {index}.json").read_text()) for index in range(2)]
    arrays = [dict(np.load(directory / f"worker {index}.npz")) for index in range(2)]
    assert all(own["over workers"] for own in said)
    return said, arrays


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_two_workers_equal_one_process(directory, found, name):
    said, arrays = found
    made, history = variants.train(name, None, directory)
    for i, weight in enumerate(variants.weights(made)):
        np.testing.assert_allclose(arrays[0][f"{name} {i}"], weight, atol=1e-5)
        np.testing.assert_array_equal(arrays[0][f"{name} {i}"], arrays[1][f"{name} {i}"])
    assert said[0][name] == said[1][name]
    assert set(said[0][name]) == set(history)
    for metric, values in history.items():
        assert said[0][name][metric] == pytest.approx(values, rel=1e-5), metric
    if name == "everything":
        for own in arrays:
            predicted = made.predict(variants.IMAGES, verbose=0)
            np.testing.assert_allclose(own["predicted"], predicted, atol=1e-5)


def test_the_chief_alone_keeps_files(directory, found):
    _, arrays = found
    student = keras.models.load_model(directory / "student.keras", compile=False)
    kept = keras.models.load_model(directory / "kept" / "2.keras", compile=False).student
    for i, weight in enumerate(student.get_weights()):
        np.testing.assert_array_equal(weight, arrays[0][f"everything {i}"])
        np.testing.assert_array_equal(weight, kept.get_weights()[i])
    assert len((directory / "log.csv").read_text().splitlines()) == 1 + variants.EPOCHS
    assert (directory / "distiller.weights.h5").is_file()
    assert [own.name for own in sorted((directory / "kept").iterdir())] == ["1.keras", "2.keras"]


def test_workers_go_on_from_the_chiefs_backup(directory, found):
    said, arrays = found
    for own, worker in zip(said, arrays, strict=True):
        assert own["resumed"] == []
        for name in [name for name in worker if name.startswith("everything")]:
            resumed = worker[name.replace("everything", "resumed")]
            np.testing.assert_array_equal(resumed, worker[name])
    assert not (directory / "backup").exists()


MESSAGES = {
    "one_left": "fewer examples than there are replicas (2)",
    "cut_twice": "This dataset is not to be cut any more",
    "shuffled_arrays": "fit would shuffle these arrays in each worker by itself",
    "other_settings": "Not as in the first of them: the settings and the random seed of worker 1",
    "outside": "The student's optimizer must be made within the strategy",
    "several_steps": "steps_per_execution=2 fails on 2 replicas",
    "xla": "jit_compile=True fails on 2 replicas",
    "clipped": "The student's optimizer has global_clipnorm=1, which on 2 replicas would change",
    "accumulating": "gradient_accumulation_steps of the student's optimizer fails on 2 replicas",
    "averaging": "ema_overwrite_frequency of the student's optimizer fails on 2 replicas",
}


@pytest.mark.parametrize("name", variants.REFUSED)
def test_what_workers_cannot_do_is_refused_by_all(found, name):
    said, _ = found
    assert MESSAGES[name] in said[0][name]
    assert said[0][name] == said[1][name]
