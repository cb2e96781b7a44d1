"""The picture of gains."""

import pytest
from PIL import Image

from tfkd import evaluation


def test_a_picture_of_every_line_or_none_at_all(tmp_path):
    path = tmp_path / "gains.png"
    lines = {"digits": [(100, 0.02, 0.01), (10, 0.05, None)], "photos": [(50, -0.01, 0.0)]}
    evaluation.plot_gains(lines, path)
    with Image.open(path) as image:
        assert image.format == "PNG" and len(image.convert("RGB").getcolors(100_000)) > 10
    with pytest.raises(ValueError, match="no gains to draw"):
        evaluation.plot_gains({"digits": []}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
