import numpy as np
import pytest

from tfkd.runtime import warmup


def test_records_are_read_back_as_written(tmp_path):
    requests = [
        ("serving_default", {"image": np.arange(6, dtype="float32").reshape(1, 2, 3)}),
        ("serve_bytes", {"image_bytes": np.array([b"\0\1", b""], object)}),
    ]
    warmup.write(tmp_path, "student", requests)
    for (signature, feeds), (name, arrays) in zip(warmup.read(tmp_path), requests, strict=True):
        assert signature == name
        for key, array in arrays.items():
            np.testing.assert_array_equal(feeds[key], array)
            assert feeds[key].dtype == array.dtype


def test_every_record_is_replayed_and_a_failure_passes_through(tmp_path):
    warmup.write(tmp_path, "student", [("a", {"x": np.zeros(1)}), ("b", {"x": np.ones(1)})])
    seen = []
    assert warmup.replay(lambda name, feeds: seen.append(name), tmp_path) == 2
    assert seen == ["a", "b"]
    with pytest.raises(ZeroDivisionError):
        warmup.replay(lambda name, feeds: 1 / 0, tmp_path)


def test_no_file_is_no_requests_and_a_foreign_file_is_an_error(tmp_path):
    assert warmup.read(tmp_path) == []
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no TFRecord at all")
    with pytest.raises(ValueError, match="no file of warm-up records"):
        warmup.read(tmp_path)
