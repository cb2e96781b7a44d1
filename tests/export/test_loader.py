import subprocess
import sys

import numpy as np
import pytest

from tfkd.export.loader import LoaderError
from tfkd.export.worker import Worker, WorkerDied


@pytest.fixture(scope="module")
def worker(version):
    with Worker(version) as worker:
        yield worker


def test_the_loader_imports_neither_keras_nor_tensorflow_nor_tfkd(version):
    script = (
        "import runpy, sys; loader = runpy.run_path(sys.argv[1]);"
        "model = loader['SavedModel'](sys.argv[2]);"
        "assert 'serving_default' in model.signatures();"
        "loaded = {name.split('.')[0] for name in sys.modules};"
        "assert not loaded & {'keras', 'tfkd', 'h5py'}, loaded;"
        "assert 'tensorflow.python' not in sys.modules"
    )
    from tfkd.export import loader

    command = [sys.executable, "-I", "-c", script, loader.__file__, str(version)]
    subprocess.run(command, check=True, timeout=60)


def test_signatures_have_free_batch_and_predict_method(worker):
    assert worker.signatures["serving_default"] == {
        "method_name": "tensorflow/serving/predict",
        "inputs": {"image": (1, (-1, 12, 12, 3))},
        "outputs": {
            "logits": (1, (-1, 3)),
            "probabilities": (1, (-1, 3)),
            "class_id": (3, (-1,)),
            "label": (7, (-1,)),
        },
    }
    assert worker.compiled_functions == []


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_any_batch_size_equals_keras(worker, student, images, batch_size):
    batch = np.resize(images, (batch_size, 12, 12, 3)).astype("float32")
    found = worker.run("serving_default", {"image": batch})
    expected = student(batch, training=False).numpy()
    np.testing.assert_allclose(found["logits"], expected, atol=1e-5)
    assert found["label"].shape == (batch_size,)


def test_strings_of_any_length_and_zero_bytes_pass_through(worker):
    # 22 characters are stored inside the TF_TString, longer ones outside.
    for text in (b"", b"\0" * 5, b"x" * 22, b"y" * 23, b"z" * 100_000):
        with pytest.raises(LoaderError, match="no JPEG, PNG or WebP") as caught:
            worker.run("serve_bytes", {"image_bytes": np.array([text], object)})
        assert caught.value.code == 3


@pytest.mark.parametrize(
    "signature, feeds, code, message",
    [
        ("nothing", {"image": np.zeros((1, 12, 12, 3))}, 9, 'signature key "nothing" not found'),
        ("serving_default", {"picture": np.zeros((1, 12, 12, 3))}, 3, r"takes \['image'\]"),
        ("serving_default", {}, 3, r"takes \['image'\]"),
        ("serving_default", {"image": np.zeros((1, 11, 12, 3))}, 3, "not compatible with expected"),
        ("serving_default", {"image": np.zeros(())}, 3, "not compatible with expected"),
        ("serving_default", {"image": [["text"]]}, 3, "could not convert"),
    ],
)
def test_a_wrong_request_is_refused_and_the_worker_lives(worker, signature, feeds, code, message):
    with pytest.raises(LoaderError, match=message) as caught:
        worker.run(signature, feeds)
    assert caught.value.code == code
    assert worker.run("serving_default", {"image": np.zeros((1, 12, 12, 3))})["logits"].shape == (
        1,
        3,
    )


def test_requests_from_many_threads_get_their_own_answers(worker, images):
    batches = [images[i : i + 1].astype("float32") for i in range(30)]
    futures = [worker.submit("serving_default", {"image": batch}) for batch in batches]
    together = worker.run("serving_default", {"image": images.astype("float32")})["logits"]
    apart = np.concatenate([future.result(30)["logits"] for future in futures])
    np.testing.assert_allclose(apart, together, atol=1e-5)


def test_a_directory_without_a_model_is_refused(tmp_path):
    with pytest.raises(LoaderError, match="Could not find SavedModel"):
        Worker(tmp_path)


def test_a_killed_process_fails_its_requests_instead_of_hanging(version):
    worker = Worker(version)
    worker._process.kill()
    worker._process.wait()
    with pytest.raises(WorkerDied):
        worker.run("serving_default", {"image": np.zeros((1, 12, 12, 3))}, timeout=10)
    worker.close()
    assert not worker.alive
