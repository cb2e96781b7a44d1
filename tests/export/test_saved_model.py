import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfkd.export import checks, loading
from tfkd.export.errors import ExportCheckError
from tfkd.export.saved_model import encode_png, export_saved_model
from tfkd.runtime import warmup
from tfkd.runtime.worker import Worker


def test_all_signatures_equal_keras_at_several_batch_sizes(version, student, images, labels):
    with Worker(version) as worker:
        assert set(worker.signatures) - {"__saved_model_init_op"} == {
            "serving_default",
            "serve_bytes",
            "features",
        }
        for size in (1, 7, 64):
            batch = np.resize(images, (size, 12, 12, 3))
            logits = student(batch.astype("float32"), training=False).numpy()
            found = worker.run("serving_default", {"image": batch.astype("float32")})
            np.testing.assert_allclose(found["logits"], logits, atol=1e-5)
            np.testing.assert_allclose(found["probabilities"].sum(-1), 1, atol=1e-6)
            classes = logits.argmax(-1)
            np.testing.assert_array_equal(found["class_id"], classes)
            assert [name.decode() for name in found["label"]] == [labels[c] for c in classes]
            files = np.array([encode_png(image) for image in batch], object)
            decoded = worker.run("serve_bytes", {"image_bytes": files})
            np.testing.assert_allclose(decoded["logits"], logits, atol=1e-5)
            stage = keras.Model(student.input, student.get_layer("stage1_out").output)
            features = worker.run("features", {"image": batch.astype("float32")})
            np.testing.assert_allclose(
                features["stage1_out"], stage(batch.astype("float32")), atol=1e-5
            )
    assert len(set(student(images.astype("float32")).numpy().argmax(-1))) > 1  # a real comparison


def test_the_version_holds_its_documents(version, student, labels):
    extra = version / "assets.extra"
    assert json.loads((extra / "labels.json").read_text()) == list(labels)
    manifest = json.loads((extra / "manifest.json").read_text())
    assert manifest["parameters"] == student.count_params()
    assert manifest["head"] == "logits" and "assumed" in manifest["head_assumed"]
    assert manifest["checks"]["batch_sizes"] == [1, 7, 64]
    assert max(manifest["checks"]["largest_difference"].values()) <= 1e-5
    assert set(manifest["files"]) == set(loading.checksums(version))
    card = (extra / "model_card.md").read_text()
    assert "it was assumed that they do" in card
    assert "cat, dog, fish" in card and "`serve_bytes`: `image_bytes` string[-1]" in card
    sizes = [(name, len(next(iter(feeds.values())))) for name, feeds in warmup.read(version)]
    signatures = ["serving_default", "serve_bytes", "features"]
    assert sizes == [(name, size) for size in (1, 8) for name in signatures]


def test_every_weight_is_stored_once_and_only_what_inference_reads(version, student, tmp_path):
    names = dict(tf.train.list_variables(str(version / "variables" / "variables")))
    names.pop("_CHECKPOINTABLE_OBJECT_GRAPH")
    read = [v for v in student.variables if "seed" not in v.path]
    assert sorted(names.values()) == sorted(list(v.shape) for v in read)
    assert len(read) < len(student.variables)  # the dropout's seed stayed behind
    student.export(tmp_path / "keras", verbose=False)
    theirs = dict(tf.train.list_variables(str(tmp_path / "keras" / "variables" / "variables")))
    assert len(theirs) - 1 >= 2 * len(names)  # what Keras itself would have stored


def test_independent_labels_are_served_as_such(build_student, images, tmp_path):
    path = export_saved_model(
        build_student(), tmp_path, labels=["a", "b", "c"], head="independent_logits"
    )
    truth = 1 / (1 + np.exp(-build_student()(images.astype("float32")).numpy().astype("float64")))
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    found = served(image=tf.constant(images, tf.float32))
    assert set(found) == {"logits", "probabilities", "labels"}
    np.testing.assert_allclose(found["probabilities"], truth, atol=1e-6)
    assert 0.1 < (truth > 0.5).mean() < 0.9  # a real comparison
    for names, row in zip(found["labels"].numpy(), truth, strict=True):
        assert [n.decode() for n in names] == [
            name if p > 0.5 else "" for name, p in zip("abc", row, strict=True)
        ]
    manifest = json.loads((path / "assets.extra" / "manifest.json").read_text())
    assert (manifest["head"], manifest["head_assumed"]) == ("independent_logits", "")
    card = (path / "assets.extra" / "model_card.md").read_text()
    assert "3 labels, each independent of the others" in card and "independent_logits" in card


def test_a_single_number_is_no_probability(build_student, images, tmp_path):
    path = export_saved_model(build_student(1), tmp_path, labels=["age"], check=False)
    found = tf.saved_model.load(str(path)).signatures["serving_default"](
        image=tf.constant(images, tf.float32)
    )
    assert set(found) == {"values"}
    expected = build_student(1)(images.astype("float32"))
    np.testing.assert_allclose(found["values"], expected, atol=1e-4)
    card = (path / "assets.extra" / "model_card.md").read_text()
    assert "no classes and no probabilities" in card and "served as a number" in card


def test_a_mixed_precision_student_is_exported_in_float32(build_student, images, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    student = build_student()
    keras.config.set_dtype_policy("float32")
    with Worker(export_saved_model(student, tmp_path, check=False)) as worker:
        found = worker.run("serving_default", {"image": images.astype("float32")})
    exact = build_student()(images.astype("float32")).numpy()
    np.testing.assert_allclose(found["logits"], exact, atol=1e-4)


def test_real_examples_are_used_for_the_check(student, images, tmp_path):
    export_saved_model(student, tmp_path, examples=images)
    with pytest.raises(ValueError, match="the student takes"):
        export_saved_model(student, tmp_path, examples=images[:, 1:])
    assert os.listdir(tmp_path) == ["1"]


def test_a_failed_check_leaves_nothing_and_says_what_differed(student, tmp_path, monkeypatch):
    honest = checks.reference

    def shifted(signature, served, feeds):
        expected = honest(signature, served, feeds)
        return {name: value + 0.01 for name, value in expected.items()}

    monkeypatch.setattr(checks, "reference", shifted)
    base = tmp_path / "model"
    with pytest.raises(ExportCheckError, match='"logits" of signature "serving_default" at batch'):
        export_saved_model(student, base)
    assert os.listdir(base) == []


def test_warmup_batch_sizes_must_be_sizes(student, tmp_path):
    with pytest.raises(ValueError, match="warmup_batch_sizes"):
        export_saved_model(student, tmp_path, warmup_batch_sizes=(0,))
