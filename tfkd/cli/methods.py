"""The commands that list what there is: losses, and the layers of a model."""

from typing import Annotated

from cyclopts import Parameter, validators

from tfkd import runs, terminal
from tfkd.published import METHODS
from tfkd.settings import SettingsError
from tfkd.settings.base import parse_options


def losses():
    """List the losses: method, paper, what it compares, its weight beside the labels in full.

    tfkd distill takes them as --loss NAME or NAME:WEIGHT; those that change the models too are for
    programs (docs/methods.md).

    For example:

        tfkd losses

        tfkd distill --loss dkd --loss review:0.6 --data digits
    """
    for name, method in METHODS.items():
        terminal.say(f"{name}: tfkd.losses.{method.loss}", style="bold")
        taken = "" if method.how == "--loss" else f" For programs: {method.how}."
        terminal.say(
            f"    {method.paper}\n    Reads {method.reads}. Weight {method.weight:g}.{taken}"
        )


def layers(
    model: Annotated[
        str,
        Parameter(help="A .keras file, a model's name, hub:PRESET, or package.module:function."),
    ],
    /,
    *,
    input_shape: Annotated[
        str | None, Parameter(help="Of a model that is built: HEIGHT,WIDTH,CHANNELS.")
    ] = None,
    classes: Annotated[
        int | None,
        Parameter(help="Of a model that is built.", validator=validators.Number(gte=1)),
    ] = None,
    option: Annotated[
        list[str] | None, Parameter(help="Of a model that is built, NAME=VALUE (repeatable).")
    ] = None,
):
    """List the layers of a model that a loss can compare, by path, with their shapes.

    For example:

        tfkd layers teacher.keras

        tfkd layers resnet --input-shape 32,32,3 --classes 10 --option depth=8
    """
    shape = None if input_shape is None else _sizes(input_shape)
    runs.layers(model, shape, classes, parse_options(option or (), "--option"))


def _sizes(text):
    sizes = text.split(",")
    if len(sizes) != 3 or not all(size.strip().isdecimal() for size in sizes):
        raise SettingsError(
            f'--input-shape is "{text}"; expected HEIGHT,WIDTH,CHANNELS, such as 32,32,3.'
        )
    return tuple(map(int, sizes))
