import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfkd.runtime.messages import LoaderError
from tfkd.runtime.worker import Worker, WorkerDied


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
    from tfkd.runtime import loader

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


def test_a_request_that_takes_too_long_ends_in_the_process_too(version):
    with Worker(version) as worker:
        large = {"image": np.zeros((20_000, 12, 12, 3), "float32")}
        with pytest.raises((LoaderError, TimeoutError)):
            worker.run("serving_default", large, timeout=0.01)
        assert worker.responds(20) and not worker.stuck
        found = worker.run("serving_default", {"image": np.zeros((1, 12, 12, 3))})
        assert found["logits"].shape == (1, 3)


def test_a_stopped_process_neither_blocks_sending_nor_closing(version):
    worker = Worker(version)
    os.kill(worker.pid, signal.SIGSTOP)
    start = time.monotonic()
    large = {"image": np.zeros((20_000, 12, 12, 3), "float32")}
    futures = [worker.submit("serving_default", large) for _ in range(5)]
    assert not worker.responds(0.2) and worker.alive
    with pytest.raises(TimeoutError):
        worker.run("serving_default", large, timeout=0.2)
    worker.close()
    assert time.monotonic() - start < 10
    for future in futures:
        with pytest.raises(WorkerDied):
            future.result(1)


def test_results_that_cannot_be_sent_are_a_plain_error(tmp_path):
    class Large(tf.Module):
        """Nine results that share their memory, but not the messages that they are sent in."""

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32, name="megabytes")])
        def __call__(self, megabytes):
            zeros = tf.zeros((megabytes[0], 2**20), tf.uint8)
            return {f"zeros_{number}": zeros for number in range(9)}

    large = Large()
    signatures = large.__call__.get_concrete_function()
    tf.saved_model.save(large, str(tmp_path), signatures=signatures)
    with Worker(tmp_path) as worker:
        with pytest.raises(LoaderError, match="2151677952 bytes; at most 2146435072") as caught:
            worker.run("serving_default", {"megabytes": np.array([228])})
        assert caught.value.code == 3
        found = worker.run("serving_default", {"megabytes": [1]})
        assert {array.shape for array in found.values()} == {(1, 2**20)}


def test_a_signature_that_names_no_tensor_of_the_graph_is_an_error(version, tmp_path):
    path = shutil.copytree(version, tmp_path / "1")
    file = path / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    outputs = model.meta_graphs[0].signature_def["serving_default"].outputs
    for name in ("nothing:0", "serving_default_image:7", "nonsense"):
        outputs["logits"].name = name
        file.write_bytes(model.SerializeToString())
        with Worker(path) as worker:
            with pytest.raises(LoaderError, match=f'"{name}" that its graph does not hold'):
                worker.run("serving_default", {"image": np.zeros((1, 12, 12, 3))})
            assert worker.responds(20)


def test_the_last_words_of_a_process_that_cannot_start(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("print('x' * 10_000_000); raise SystemExit('the last words')")
    with pytest.raises(WorkerDied, match="status 1: x+\\nthe last words"):
        Worker(tmp_path, script=str(script))


def test_loading_has_a_limit(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import time; time.sleep(600)")
    with pytest.raises(WorkerDied, match="did not load the model within 0.5 s"):
        Worker(tmp_path, script=str(script), loading_seconds=0.5)


def test_a_killed_process_fails_its_requests_instead_of_hanging(version):
    worker = Worker(version)
    worker._process.kill()
    worker._process.wait()
    with pytest.raises(WorkerDied):
        worker.run("serving_default", {"image": np.zeros((1, 12, 12, 3))}, timeout=10)
    worker.close()
    assert not worker.alive
