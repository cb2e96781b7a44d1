"""The report on a data set, as a terminal shows it."""

import io
from collections import Counter

import numpy as np
from rich.console import Console

from tfkd.data import Inspection
from tfkd.runs import inspecting


def printed(found, **options):
    text = io.StringIO()
    inspecting.show(found, console=Console(file=text, width=80), **options)
    return text.getvalue()


def inspection(classes, **changes):
    counts = {role: np.arange(classes) + 1 for role in ("train", "validation", "test")}
    names = tuple(f"class [bold]{index}" for index in range(classes))
    plain = {
        "name": "./photos",
        "class_names": names,
        "counts": counts,
        "cut": ("validation",),
        "sizes": ((8, 8), (9, 8), (30, 20)),
        "repeats": (("a/1.png", "b/2.png"),),
        "samples": {},
        "refused": (),
        "findings": ("Something to look at.",),
    }
    return Inspection(**(plain | changes))


def test_everything_is_named_in_lines_of_80_columns():
    found = inspection(
        3,
        suffixes=Counter({".png": 4}),
        left_out={".heic": (2, "a/IMG 1.heic")},
        converted={"CMYK: RGB": (1, "a/ink.jpg")},
        damaged={"a/" + 99 * "long ": "the file is empty", "b.png": "it is cut off"},
        empty=("nothing [yet]",),
        refused=("Damaged files (2): replace them.",),
    )
    text = printed(found)
    assert max(map(len, text.splitlines())) <= 80
    for said in (
        "./photos: 18 images, 3 classes",
        "class [bold]2",
        "validation (cut)",
        "8x8 smallest, 9x8 median, 30x20 largest",
        "4 .png",
        "2 .heic (such as a/IMG 1.heic)",
        "1 CMYK: RGB (such as a/ink.jpg)",
        "Damaged files (2, not readable):",
        "b.png: it is cut off",
        "nothing [yet]",
        "a/1.png = b/2.png",
        "Note: Something to look at.",
        "To do: Damaged files (2): replace them.",
    ):
        assert said in text
    assert "Training can begin" not in text
    assert "Damaged files (2, left out):" in printed(found, skip_damaged=True)


def test_of_many_classes_the_smallest_are_shown():
    damaged = {f"a/{number}.png": "the file is empty" for number in range(50)}
    text = printed(inspection(1000, damaged=damaged))
    assert all(f"  {name}: the file is empty\n" in text for name in damaged)
    assert "1000 classes" in text and "… 984 more, larger …" in text
    assert "class [bold]14 " in text and "class [bold]15 " not in text
    assert "class [bold]999 " in text and "Training can begin" in text
    assert len(text.splitlines()) < 40 + len(damaged)
