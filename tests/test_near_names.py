"""Near names: what a typing error meant."""

import pytest

from tfkd.near_names import meant

KNOWN = ("alexnet", "MobileNetV2", "resnet")


@pytest.mark.parametrize(
    "name, told",
    [
        ("alexnt", 'Did you mean "alexnet"? '),
        ("mobilenetv2", 'Did you mean "MobileNetV2"? '),
        ("quite different", ""),
        (3, ""),
    ],
)
def test_a_name_nearly_right_is_understood(name, told):
    assert meant(name, KNOWN) == told


def test_as_many_as_are_asked_for_are_named_the_nearest_first():
    assert meant("resnet1", ("resnet", "resnet11"), most=1) == 'Did you mean "resnet11"? '
    assert meant("resnet1", ("resnet", "resnet11")) == 'Did you mean "resnet11" or "resnet"? '
