"""The residual network's size and shape."""

import pytest

from tfkd import models


def trained_parameters(depth, width=1, classes=10):
    """He et al.'s network with projection shortcuts, counted from its description."""
    per_stage, total, inputs = (depth - 2) // 6, 0, 16 * width
    total += 9 * 3 * inputs + 2 * inputs
    for filters in (16 * width, 32 * width, 64 * width):
        for block in range(per_stage):
            total += 9 * (inputs + filters) * filters + 4 * filters
            if block == 0 and inputs != filters:
                total += inputs * filters + 2 * filters
            inputs = filters
    return total + (inputs + 1) * classes


@pytest.mark.parametrize(("depth", "width"), [(8, 1), (20, 1), (20, 2), (32, 1)])
def test_trained_parameters(depth, width):
    model = models.build("resnet", (32, 32, 3), 10, depth=depth, width=width)
    trained = sum(variable.shape.num_elements() for variable in model.trainable_variables)
    assert trained == trained_parameters(depth, width)
    layers_with_weights = [
        layer.name
        for layer in model.layers
        if (layer.name.endswith("_conv") and "shortcut" not in layer.name) or layer.name == "logits"
    ]
    assert len(layers_with_weights) == depth


def test_resnet20_has_the_well_known_size():
    # 269,722 with parameter-free shortcuts (the paper's 0.27 M); the two projections add
    # 512 + 2048 and their BatchNorm 192.
    model = models.build("resnet", (32, 32, 3), 10)
    trained = sum(variable.shape.num_elements() for variable in model.trainable_variables)
    assert trained == 269_722 + 512 + 2048 + 192


@pytest.mark.parametrize(
    ("side", "maps"), [(8, [8, 4, 4]), (32, [32, 16, 8]), (128, [64, 32, 16]), (224, [56, 28, 14])]
)
def test_stages_halve_the_map_where_it_is_large_enough(side, maps):
    model = models.build("resnet", (side, side, 3), 10, depth=8)
    shapes = [model.get_layer(tap).output.shape[1:] for tap in models.stages(model)]
    assert shapes == [
        (size, size, filters) for size, filters in zip(maps, (16, 32, 64), strict=True)
    ]
