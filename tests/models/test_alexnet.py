"""Parameter counts of the two AlexNets against the arithmetic of the reconstruction (10 classes).

`kernels` below counts convolution kernels only. The published arithmetic (2.25 M dense, 0.263 M
separable for the 32 px plan) also counts some biases and BatchNorm scales, so it is matched to half
a percent by what this network trains before its head.
"""

import keras
import pytest

from tfkd import models

WIDTHS = [64, 192, 384, 256, 256]


def kernels(conv1_kernel, conv2_kernel, separable):
    """Convolution kernel parameters, written out from the plan."""
    total = conv1_kernel**2 * 3 * WIDTHS[0]
    for kernel, inputs, outputs in zip((conv2_kernel, 3, 3, 3), WIDTHS, WIDTHS[1:], strict=False):
        spatial = kernel**2 * inputs
        total += spatial + inputs * outputs if separable else spatial * outputs
    return total


def counted_kernels(model):
    return sum(
        layer.kernel.shape.num_elements()
        for layer in model.layers
        if "Conv2D" in type(layer).__name__
    )


def trained_before_logits(model):
    head = model.get_layer("logits").trainable_variables
    return sum(
        variable.shape.num_elements()
        for variable in model.trainable_variables
        if not any(variable is other for other in head)
    )


@pytest.mark.parametrize(
    ("name", "side", "kernel_count", "trained"),
    [
        # trained = kernels + 2 BatchNorm parameters a channel: 64+192+384+256+256 channels after
        # the (pointwise) convolutions, and 64+192+384+256 more after the depthwise ones.
        ("alexnet", 32, 2_250_432, 2_250_432 + 2 * 1152),
        ("modified_alexnet", 32, 259_648, 259_648 + 2 * (1152 + 896)),
        ("alexnet", 224, 2_468_544, 2_468_544 + 2 * 1152),
        ("modified_alexnet", 224, 282_176, 282_176 + 2 * (1152 + 896)),
    ],
)
def test_convolutional_part_is_counted_exactly(name, side, kernel_count, trained):
    conv1_kernel, conv2_kernel = (3, 3) if side == 32 else (11, 5)
    assert kernels(conv1_kernel, conv2_kernel, name == "modified_alexnet") == kernel_count
    model = models.build(name, (side, side, 3), 10)
    assert counted_kernels(model) == kernel_count
    assert trained_before_logits(model) == trained


@pytest.mark.parametrize(
    ("name", "convolutions", "total"),
    [("alexnet", 2.25e6, 2.26e6), ("modified_alexnet", 0.263e6, 0.266e6)],
)
def test_32_pixel_plan_has_the_published_size(name, convolutions, total):
    model = models.build(name, (32, 32, 3), 10)
    trained = trained_before_logits(model)
    assert trained == pytest.approx(convolutions, rel=5e-3)
    assert trained + 256 * 10 + 10 == pytest.approx(total, rel=5e-3)


def test_fc_head_has_the_published_size():
    model = models.build("modified_alexnet", (32, 32, 3), 10, head="fc")
    fc = (4 * 4 * 256 + 1) * 1024 + (1024 + 1) * 512 + (512 + 1) * 10
    trained = sum(variable.shape.num_elements() for variable in model.trainable_variables)
    assert trained == 259_648 + 2 * (1152 + 896) + fc
    assert trained == pytest.approx(4.99e6, rel=5e-3)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.5, 0.5]


def test_width_multiplies_every_channel_count():
    model = models.build("modified_alexnet", (32, 32, 3), 10, width=0.5)
    channels = [model.get_layer(tap).output.shape[-1] for tap in models.stages(model)]
    assert channels == [32, 96, 128, 128]
    assert model.get_layer("conv3_pw_relu").output.shape[-1] == 192


@pytest.mark.parametrize(
    ("side", "maps"),
    [
        (8, [4, 4, 4, 4]),
        (28, [14, 7, 7, 4]),
        (32, [16, 8, 8, 4]),
        (64, [16, 8, 8, 4]),
        (96, [24, 12, 12, 6]),
        (224, [28, 14, 14, 7]),
    ],
)
def test_plan_follows_the_image_size(side, maps):
    model = models.build("modified_alexnet", (side, side, 1), 10, width=0.125)
    assert [model.get_layer(tap).output.shape[1] for tap in models.stages(model)] == maps
