import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from tfkd.export import measure
from tfkd.export.errors import ExportCheckError
from tfkd.export.measure import Report, Row, draw, report
from tfkd.export.tflite import export_tflite
from tfkd.runtime.exported_models import Exported, open_exported


@pytest.fixture(scope="module")
def logits(student, images):
    return student(images.astype("float32"), training=False).numpy()


@pytest.fixture(scope="module")
def dataset(images, logits):
    """Labels that the student gets right on 24 of 30 images."""
    classes = logits.argmax(-1)
    classes[:6] = (classes[:6] + 1) % 3
    return tf.data.Dataset.from_tensor_slices((images, classes.astype("int64"))).batch(8)


@pytest.fixture(scope="module")
def lite(student, labels, tmp_path_factory):
    path = tmp_path_factory.mktemp("lite") / "student.tflite"
    return export_tflite(student, path, labels=labels)


def test_every_export_reads_back_as_images_to_logits(version, lite, dataset, logits, labels):
    for path in (version, version.parent, lite):
        with open_exported(path) as exported:
            found, classes = exported.predict(dataset)
            assert tuple(exported.labels) == labels
            assert len(exported.seconds(np.zeros((1, 12, 12, 3), "uint8"), 3)) == 3
        np.testing.assert_allclose(found, logits, atol=1e-5)
        assert classes.shape == (30,)
    assert exported.bytes == lite.stat().st_size


def test_what_is_no_export_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing at"):
        open_exported(tmp_path / "missing")
    with pytest.raises(ValueError, match="neither a .tflite file nor a SavedModel"):
        open_exported(tmp_path)


def test_the_report_counts_right_and_puts_the_teacher_first(
    student, build_student, version, lite, dataset, tmp_path
):
    teacher = build_student(name="teacher")
    exports = {"SavedModel": version, "TFLite float32": lite}
    found = report(student, exports, dataset, teacher=teacher, plot=tmp_path / "plot.png")
    names = [row.name for row in found.rows]
    assert names == ["Keras teacher", "TFLite teacher", "Keras student", *exports]
    for row in found.rows:
        assert row.accuracy == pytest.approx(24 / 30)
        assert row.agreement == 1.0
        assert 0 < row.latency_ms <= row.latency_p95_ms
        assert row.ratio == pytest.approx(row.latency_ms / found.rows[0].latency_ms)
    assert found.rows[-1].bytes == lite.stat().st_size
    assert Image.open(tmp_path / "plot.png").size == (1500, 630)
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]


@pytest.fixture
def quick(monkeypatch, lite):
    """Spares the Keras models their processes: the student's TFLite file stands in for each."""
    monkeypatch.setattr(measure, "_keras", lambda model, beside: open_exported(lite))


def test_a_teacher_that_tflite_cannot_hold_loses_its_row_alone(student, dataset, tmp_path, quick):
    odd = keras.ops.erfinv(keras.ops.tanh(student.output / 100))
    teacher = keras.Model(student.input, odd, name="odd")
    found = report(student, {}, dataset, teacher=teacher, plot=tmp_path / "plot.png")
    assert [row.name for row in found.rows] == ["Keras teacher", "Keras student"]
    assert None not in [row.ratio for row in found.rows]
    (note,) = found.notes
    assert note.startswith('No row "TFLite teacher": Model "odd" has operations with no built-in')
    assert "Erfinv" in note and note in found.markdown()
    assert found.table().caption.plain == note


def test_without_a_teacher_there_is_no_ratio(student, lite, dataset, quick):
    found = report(student, {"TFLite float32": lite}, dataset)
    assert [row.ratio for row in found.rows] == [None, None]
    assert found.as_dicts()[1]["bytes"] == lite.stat().st_size
    assert found.head == "logits"


def test_an_export_that_lost_accuracy_is_named_and_beyond_the_limit_refused(
    student, build_student, lite, dataset, quick, tmp_path
):
    other = build_student()
    kernel, bias = other.get_layer("logits").get_weights()
    other.get_layer("logits").set_weights([kernel, bias + [0.0, 60.0, 0.0]])
    worse = export_tflite(other, tmp_path / "worse.tflite", check=False)
    with pytest.raises(ExportCheckError, match="accuracy of worse is .* Keras student 80.00%"):
        report(student, {"same": lite, "worse": worse}, dataset)
    found = report(student, {"same": lite, "worse": worse}, dataset, largest_drop=None)
    (note,) = found.notes
    assert note.startswith("The accuracy of worse is") and note in found.markdown()
    assert [row.accuracy for row in found.rows[:2]] == [0.8, 0.8]


def test_labels_in_another_order_are_no_accuracy_of_zero(student, lite, dataset, logits, quick):
    first, second = np.argsort(np.bincount(logits.argmax(-1), minlength=3))[1:]
    order = np.arange(3)
    order[[first, second]] = second, first
    right = tf.data.Dataset.zip(
        dataset.map(lambda image, _: image).unbatch(),
        tf.data.Dataset.from_tensor_slices(order[logits.argmax(-1)]),
    )
    with pytest.raises(ValueError, match="in another order"):
        report(student, {"TFLite float32": lite}, right.batch(8))


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_a_binary_student_is_measured_by_its_log_odds(
    build_student, images, tmp_path, monkeypatch, activation
):
    student = build_student(1, activation)
    truth = build_student(1)(images.astype("float32")).numpy()[:, 0] > 0
    assert 0 < truth.mean() < 1
    head = "independent_logits" if activation is None else None
    path = export_tflite(student, tmp_path / "s.tflite", head=head, check=False)

    class Keras(Exported):
        labels = ("no", "yes")

        def logits(self, images):
            return student(images.astype("float32")).numpy()

        def seconds(self, images, repeats):
            return [1.0] * repeats

    monkeypatch.setattr(measure, "_keras", lambda model, beside: Keras())
    dataset = tf.data.Dataset.from_tensor_slices((images, truth.astype("int64"))).batch(8)
    found = report(student, {"TFLite": path}, dataset, head=head)
    assert [(row.accuracy, row.agreement) for row in found.rows] == [(1.0, 1.0)] * 2


@pytest.mark.parametrize("units, head", [(1, None), (3, "independent_logits"), (3, "numbers")])
def test_what_is_no_classifier_is_refused(build_student, dataset, units, head):
    with pytest.raises(ValueError, match="a report is of classes"):
        report(build_student(units), {}, dataset, head=head)


def test_the_table_by_hand():
    rows = (
        Row("Keras student", 1_234_567, 0.9219, 1.0, 1.5, 2.0, 20.0),
        Row("TFLite int8", 308_700, 0.9218, 0.9943, 0.15, 0.25, 5.0, 0.1),
    )
    assert Report(rows).markdown().splitlines() == [
        "| format | size (kB) | top-1 (%) | agree (%) "
        "| p50 (ms) | p95 (ms) | ×32 (ms) | /teacher |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| Keras student | 1,234.6 | 92.19 | 100.00 | 1.500 | 2.000 | 20.00 | – |",
        "| TFLite int8 | 308.7 | 92.18 | 99.43 | 0.150 | 0.250 | 5.00 | 0.10 |",
    ]
    assert Report(rows).table().row_count == 2
    for width in (80, 40):
        text = io.StringIO()
        Console(width=width, file=text).print(Report(rows, ("A note.",)).tables(width))
        assert all(len(line) <= width for line in text.getvalue().splitlines())
        assert "…" not in text.getvalue() and text.getvalue().count("308.7") == 1
        assert text.getvalue().count("TFLite int8") == (1 if width == 80 else 3)
        assert text.getvalue().count("A note.") == 1


def test_an_accuracy_axis_spans_two_points_at_least(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    limits = []
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda figure, path, **_: (limits.append(figure.axes[0].get_ylim()), path.touch()),
    )
    draw(
        Report((Row("a", 10, 0.9, 1, 1, 1, 1), Row("b", 20, 0.9001, 1, 1, 1, 1))),
        tmp_path / "p.png",
    )
    low, high = limits[0]
    assert high - low == pytest.approx(2.0)


def test_a_class_that_another_process_does_not_know_is_named(images, dataset):
    class Unregistered(keras.Model):
        def __init__(self):
            super().__init__(name="secret")
            self.flatten, self.head = keras.layers.Flatten(), keras.layers.Dense(3)

        def call(self, image):
            return self.head(self.flatten(image))

    student = Unregistered()
    student(images.astype("float32"))
    with pytest.raises(ValueError, match='"secret" cannot be loaded in a fresh process'):
        report(student, {}, dataset)
