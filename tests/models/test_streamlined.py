"""The networks of Umirzakova et al. 2024: their plan, counted by hand."""

import pytest

from tfkd import models


def test_the_teachers_plan():
    model = models.build("streamlined_teacher", (32, 32, 3), 10)
    convolutions = 27 * 64 + 64 + 9 * 64 * 128 + 4 * 128 + 9 * 128 * 256 + 256
    convolutions += 9 * 256 * 128 + 128 + 9 * 128 * 64 + 4 * 64
    dense = 3136 * 1200 + 1200 + 1200 * 800 + 800 + 800 * 10 + 10
    assert model.count_params() == convolutions + dense
    assert models.stages(model) == ["stage1_out", "stage2_out", "stage3_out"]


def test_the_students_plan():
    model = models.build("streamlined_student", (32, 32, 3), 10)
    convolutions = 27 * 32 + 4 * 32 + 9 * 32 * 64 + 4 * 64 + 9 * 64 * 128 + 4 * 128
    dense = 4 * 4 * 128 * 256 + 256 + 256 * 10 + 10
    assert model.count_params() == convolutions + dense
    assert models.stages(model) == ["stage1_out", "stage2_out", "stage3_out"]


@pytest.mark.parametrize(
    ("side", "averaged"), [(8, 4), (14, 7), (16, 7), (28, 7), (32, 7), (50, 7), (224, 7)]
)
def test_the_teacher_averages_to_seven_pixels_a_side(side, averaged):
    model = models.build("streamlined_teacher", (side, side, 1), 3, width=0.05)
    assert model.get_layer("flatten").input.shape[1:3] == (averaged, averaged)
