"""What a record without a gain says: reasons that its figures show, and the command to try next."""

import inspect
import re

import pytest

from tfkd.models.alexnet import modified_alexnet
from tfkd.models.resnet import resnet
from tfkd.runs import DistillSettings
from tfkd.runs.advice import SMALLER_IN_SEARCH, advice
from tfkd.runs.record import Record

# 2500 test images at 90 %: sqrt(2 · 0.9 · 0.1 / 2500) = 0.85 points.
SIZES = {"train": 1000, "validation": 500, "test": 2500}


def record(gains=(-0.02, -0.01, -0.03), **changes):
    """A record in which nothing but the gain is amiss, with changes.

    Args:
        gains: of the distilled student, seed by seed.
        **changes: `taught`, `alone`, `teacher`: changes of `Training`; `figures` of the distilled
            row; others of the record.
    """
    seeds = list(range(len(gains)))
    good = {"seconds": 1.0, "epochs": 20, "epoch": 12, "late_gain": 0.0}
    good |= {"accuracy": 0.90, "cross_entropy": 0.40, "training_cross_entropy": 0.10}
    taught, alone, teacher = (changes.pop(name, {}) for name in ("taught", "alone", "teacher"))
    trainings = {"teacher": {**good, "accuracy": 0.95, **teacher}}
    trainings |= {f"{seed}/alone": {**good, **alone} for seed in seeds}
    trainings |= {f"{seed}/distilled": {**good, **taught} for seed in seeds}
    own = {"accuracy": 0.9, "cross_entropy": 0.4, "calibrated_cross_entropy": 0.4}
    own |= {"temperature": 1.1, **changes.pop("figures", {})}
    name = changes.get("main", "distilled")
    rows = [
        {"name": "alone", "file": "alone"},
        {"name": name, "file": "distilled", "baseline": "alone", "teacher": 0, "data": 0},
    ]
    rows[1] |= changes.pop("row", {})
    settings = {"temperature": 4.0, "student_loss_weight": 0.1, "teacher_epochs": 10, "seeds": 3}
    values = {
        "kind": "distill",
        "tfkd": "0",
        "finished": "",
        "command": "",
        "versions": {},
        "machine": {},
        "settings": {**settings, **changes.pop("settings", {})},
        "data": [
            {
                "name": "d",
                "image_shape": [8, 8, 1],
                "label_names": ["a", "b"],
                "sizes": SIZES,
                "fingerprint": "",
            }
        ],
        "teachers": [{"name": "t", "file": "teacher.keras"}],
        "seeds": seeds,
        "rows": rows,
        "main": name,
        "kept_seed": 0,
        "trainings": trainings,
        "seconds": 1.0,
        "figures": {name: [{**own, "gain": gain} for gain in gains]},
        "summary": {},
        "gains": {name: {"accuracy": list(gains), "mean": 0.0}},
        **changes,
    }
    return Record(**values)


@pytest.mark.parametrize(
    "gains",
    [
        (0.02, 0.01, 0.03),  # mean 2, standard error 1 / sqrt(3) = 0.58
        (0.011, 0.0, 0.0055),  # mean 0.55, standard error 0.32
        (0.01, 0.01),
        (0.009,),  # one seed: above 0.85 points
    ],
)
def test_where_distillation_helped_nothing_is_said(gains):
    assert advice(record(gains)) == ""


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        # Mean -2, sample standard deviation 1, over sqrt(3).
        ((-0.02, -0.01, -0.03), "worse: distilled minus alone is -2.00 ± 0.58 points"),
        # Mean 1, deviations ±3: standard deviation 3, over sqrt(3).
        ((-0.02, 0.01, 0.04), "did not help: distilled minus alone is +1.00 ± 1.73 points"),
        ((0.0, 0.0), "did not help: distilled minus alone is +0.00 ± 0.00 points"),
        ((0.008,), "cannot be told: distilled minus alone is +0.80 points, of one seed"),
        (
            (-0.009,),
            "worse: distilled minus alone is -0.90 points, of one seed, where",
        ),
    ],
)
def test_what_is_not_a_gain_is_called_so(gains, said):
    assert said in advice(record(gains))


@pytest.mark.parametrize(
    ("changes", "said", "flags"),
    [
        (
            {"taught": {"epoch": 19, "late_gain": 0.031}},
            "Too few epochs: the best of 20 was among the last in every seed, and the last quarter "
            "still brought 3.1 points",
            "--epochs 40",
        ),
        (
            {"alone": {"training_cross_entropy": 0.55}, "settings": {"augment": "shift"}},
            "underfits: alone it ends at a cross-entropy of 0.550 nats on what it is trained on, "
            "as augmented, against 0.400",
            "--epochs 40",
        ),
        (
            {"figures": {"temperature": 0.5, "cross_entropy": 0.7}},
            "too soft: the distilled student is not sure enough, a temperature of 0.50 would lower "
            "its cross-entropy from 0.700 to 0.400",
            "--temperature 2",
        ),
        (
            {
                "figures": {"temperature": 0.5, "cross_entropy": 0.7},
                "settings": {"temperature": None, "softness": 0.8},
            },
            "too soft",
            "--softness 0.5",
        ),
        (
            {
                "figures": {"temperature": 0.5, "cross_entropy": 0.7},
                "settings": {"temperature": 1.0},
            },
            "too soft",
            "--student-loss-weight 0.5",
        ),
        (
            {"teacher": {"accuracy": 0.905}},
            "teacher is hardly better than the student: it is right on 90.5 % of the validation "
            "images, the student alone on 90.0 %",
            "--teacher-epochs 40",
        ),
        ({"teacher": {"accuracy": 0.85}}, "teacher is less accurate than the student", "--teach"),
        ({"gains": (0.001,)}, "One seed shows no spread", "--seeds 5"),
        (
            {"gains": (0.01, -0.012)},
            "too little to tell by: on 2500 test images .* up to 0.8 points",
            "--seeds 5",
        ),
    ],
)
def test_each_reason_comes_with_its_command(changes, said, flags):
    text = advice(record(**changes), "saved_models/run")
    assert re.search(said, text)
    command = "To try next: tfkd distill --config saved_models/run/run.toml"
    assert f"{command} {flags}" in text and text.endswith("--out saved_models/run-next")


def test_a_gain_of_students_that_know_nothing_is_none():
    # Two classes, 500 validation images: chance ends at 0.5 + 2 · 0.0224.
    text = advice(record((0.02, 0.03), taught={"accuracy": 0.54}), "run")
    assert text.startswith("The gain is none yet: distilled minus alone is +2.50 ± 0.50 points")
    assert "no more than chance: it is right on 54.0 % of the validation images" in text
    assert "--epochs 80" in text
    assert advice(record((0.02, 0.03), taught={"accuracy": 0.55}), "run") == ""


def test_without_a_reason_a_search_is_next():
    text = advice(record(), "run")
    assert "no single reason. To try next: tfkd search --config run/run.toml --out run-s" in text


def test_the_search_is_of_the_run_s_own_models():
    run = DistillSettings()
    text = advice(record(settings=run.to_dict()), "run")
    flags = " --teacher-option depth=20 --student-option width=1 "
    assert f"tfkd search --config run/run.toml{flags}--out" in text
    for model, option, default in SMALLER_IN_SEARCH.values():
        function = {"resnet": resnet, "modified_alexnet": modified_alexnet}[model]
        assert inspect.signature(function).parameters[option].default == default
    run = run.replace(teacher_options={"depth": 14}, student="resnet")
    text = advice(record(settings=run.to_dict()), "run")
    assert "tfkd search --config run/run.toml --out" in text


def test_what_no_flag_changes_is_said_and_the_next_reason_s_flag_tried():
    given = {"accuracy": 0.85, "epoch": 0, "epochs": None}
    text = advice(record((0.01, -0.012), teacher=given), "run")
    assert text.index("less accurate than the student alone") < text.index("too little to tell by")
    assert "--teacher-epochs" not in text and "run/run.toml --seeds 5 --out" in text


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        (
            {"kind": "recipe", "main": "xu2022", "row": {"recipe": "xu2022"}},
            "tfkd recipes run xu2022 --config run/run.toml --out run --resume --ablate",
        ),
        ({"kind": "compare"}, "tfkd compare --config run/run.toml --seeds 6 --out run-next"),
        (
            {"settings": {"student": "own.module:net"}},
            "tfkd search --config run/run.toml --trust --out run-search",
        ),
        (
            {"settings": {"callback": ["own:Watch"]}},
            "tfkd search --config run/run.toml --trust --out run-search",
        ),
        (
            {"settings": {"teacher": "t.keras"}},
            "tfkd search --config run/run.toml --out run-search",
        ),
    ],
)
def test_the_command_is_of_the_kind_of_run(changes, command):
    assert f"To try next: {command}" in advice(record(**changes), "run")


def test_flags_that_a_recipe_does_not_have_are_not_told():
    soft = {"temperature": 0.5, "cross_entropy": 0.7}
    changes = {"kind": "recipe", "main": "xu2022", "row": {"recipe": "xu2022"}, "figures": soft}
    text = advice(record(**changes), "run")
    assert "targets are too soft" in text and "--temperature" not in text


def test_records_of_before_say_less():
    """Without what trainings did not keep then, nothing is said of it."""
    unknown = {"epochs": None, "training_cross_entropy": None, "late_gain": None}
    text = advice(record(taught=unknown, alone=unknown, teacher=unknown), "run")
    assert "no single reason" in text


def test_the_student_alone_is_compared_with_nothing():
    assert advice(record(main="distilled", row={"baseline": None})) == ""
