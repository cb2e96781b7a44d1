"""The command that looks at data before anything is trained."""

from typing import Annotated

from cyclopts import Parameter

from tfkd import runs
from tfkd.cli.flags import flags_of, given_of
from tfkd.settings import DataSettings

NOT_USABLE = 1  # exit code


def data(
    name: Annotated[
        str,
        Parameter(
            help="A folder of images, one folder a class; a TFDS name; digits or rod_pump_cards."
        ),
    ],
    /,
    *,
    flags: flags_of(DataSettings) = None,
    sheet: Annotated[
        str | None,
        Parameter(
            help="Write a contact sheet: a PNG with some images of each class as training "
            "sees them, resized."
        ),
    ] = None,
):
    """Look at every image of a data set before training, and print what is there and what is wrong.

    Images of each class and split, sizes, what is converted or not read; all damaged files, empty
    and tiny classes, and pictures that are there more than once (by their pixels), within and
    across the splits. The exit code is 0 where training can begin, and 1 where it would stop: at
    damaged files or empty classes (unless --skip-damaged), or splits that cannot be cut.

    For example:

        tfkd data ./photos --image-size 96 --resize crop --sheet photos.png
    """
    if not runs.inspect_data(name, DataSettings(**given_of(flags, DataSettings)), sheet).usable:
        raise SystemExit(NOT_USABLE)
