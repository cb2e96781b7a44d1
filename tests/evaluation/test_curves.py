import numpy as np
import pytest

from tfkd.evaluation import curves, plot_curves

HISTORIES = {
    "teacher": [{"val_accuracy": [0.5, 0.9, 1.0], "loss": [2.0, 1.0, 0.5]}],
    "distilled": [
        {"val_accuracy": [0.4, 0.8], "loss": [9.0, 8.0], "student_loss": [2.0, 1.5]},
        {"val_accuracy": [0.6], "loss": [9.0], "student_loss": [np.nan]},
    ],
}


def test_writes_one_whole_png_of_two_panels(tmp_path):
    plot_curves(HISTORIES, tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    content = (tmp_path / "curves.png").read_bytes()
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    assert content.startswith(b"\x89PNG") and content.rstrip(b"\0").endswith(b"IEND\xaeB`\x82")
    # Two panels side by side: 10.4 x 4.2 inches at 150 dots.
    assert (width, height) == (1560, 630)


def test_mean_leaves_out_ended_seeds_and_values_not_finite():
    accuracy = curves._curves(HISTORIES, ("val_accuracy",))["distilled"]
    np.testing.assert_allclose(accuracy.mean(axis=0), [0.5, 0.8])
    np.testing.assert_allclose(accuracy.min(axis=0), [0.4, 0.8])
    losses = curves._curves(HISTORIES, curves.LABEL_LOSSES)
    np.testing.assert_allclose(losses["teacher"].mean(axis=0), [2.0, 1.0, 0.5])
    # The distiller's loss on the labels, not its total of 9.
    np.testing.assert_allclose(losses["distilled"].mean(axis=0), [2.0, 1.5])


def test_a_metric_that_nobody_has_is_named_and_the_old_picture_stays(tmp_path):
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match='"val_top5".*They hold: loss, student_loss, val_accuracy'):
        plot_curves(HISTORIES, path, metric="val_top5")
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
