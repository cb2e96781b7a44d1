"""Which rows a command trains, and what each row's student learns from."""

import keras
import pytest

from tfkd import models, recipes
from tfkd.runs.rows import (
    check_names,
    compare_table,
    distill_table,
    distillation_terms,
    distilled,
    file_name,
    recipe_table,
    search_table,
    searched_rows,
)
from tfkd.settings import CompareSettings, DistillSettings, SearchSettings, SettingsError


@pytest.fixture(scope="module")
def pair():
    teacher = models.build("resnet", (8, 8, 1), 10, depth=8, width=0.25)
    return teacher, models.build("modified_alexnet", (8, 8, 1), 10, width=0.05)


def terms(pair, **settings):
    made = distillation_terms(DistillSettings(**settings), *pair)
    return {loss.name: (loss.teacher_layer_name, loss.student_layer_name, w) for loss, w in made}


def test_hints_pair_stage_ends_from_the_deepest(pair):
    logits = (None, None, 1.0)
    assert terms(pair, hints="auto") == {
        "annealed_distillation": logits,
        "hint1": ("stage1_out", "stage2_out", 0.1),
        "hint2": ("stage2_out", "stage3_out", 0.1),
        "hint3": ("stage3_out", "stage4_out", 0.1),
    }
    for none in ({}, {"hints": "none"}, {"hints": "auto", "hint_weight": 0}):
        assert terms(pair, **none) == {"annealed_distillation": logits}
    assert terms(pair, temperature=2) == {"logits_distillation": logits}
    named = terms(pair, hints=("stage1_block1_add:conv1_relu",), logits_weight=0)
    assert named == {"hint1": ("stage1_block1_add", "conv1_relu", 0.1)}


def test_distillation_has_the_rest_of_what_labels_have(pair):
    settings = DistillSettings(
        student_loss_weight=0.25, logits_weight=0.5, hints="auto", hint_weight=3
    )
    system = distilled(settings, *pair)
    assert system.label_weights == 0.25
    assert system.weights == pytest.approx([0.375, 2.25, 2.25, 2.25])
    assert system.asks_teacher and system.source is None


def test_nothing_to_pair_and_no_logits(pair):
    dense = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    with pytest.raises(SettingsError, match="found no stages"):
        distillation_terms(DistillSettings(logits_weight=0, hints="auto"), dense, pair[1])


def names(table):
    return [(row.name, row.baseline, row.recipe, row.fraction) for row in table.rows]


def test_the_rows_of_each_command():
    table = distill_table(DistillSettings(recipe="xu2022", recipe_options={"temperature": 5}))
    assert names(table) == [("alone", None, None, 1.0), ("distilled", "alone", "xu2022", 1.0)]
    assert table.main == "distilled" and table.rows[1].settings.temperature == 5
    recipe = recipes.get("umirzakova2024")
    settings = recipe.settings(sweep_temperatures=(2.0,), sweep_weights=(0.7,))
    table = recipe_table(recipe, settings, ablate=True)
    assert [row.name for row in table.rows] == [
        *("alone", "distilled", "umirzakova2024", "umirzakova2024: T = 2", "label smoothing")
    ]
    assert table.command == (
        "tfkd recipes run umirzakova2024 --sweep-temperatures 2.0 --sweep-weights 0.7 --ablate"
    )


def test_a_command_holds_names_as_they_are_and_files_by_theirs():
    given = {"teacher": "/home/somebody/teacher.keras", "data_dir": "/data"}
    settings = DistillSettings(data="cifar10_1/v4", **given)
    assert distill_table(settings).command == (
        "tfkd distill --data-dir DIR --data cifar10_1/v4 --teacher teacher.keras"
    )


@pytest.mark.parametrize(
    ("table", "row", "baseline", "place"),
    [
        (distill_table(DistillSettings(teacher_free=True)), "label smoothing", "alone", 1),
        (search_table(SearchSettings(teacher_free=True)), "label smoothing", "alone", 1),
        (
            compare_table(CompareSettings(teacher_free=True, fraction=(0.5, 1.0))),
            *("100 %, label smoothing", "100 %, alone", 4),
        ),
    ],
    ids=["distill", "search", "compare"],
)
def test_what_needs_no_teacher_is_a_row_on_request(table, row, baseline, place):
    own = table.rows[place]
    assert (own.name, own.baseline) == (row, baseline)
    assert own.settings.label_smoothing == 0.1 and own.build is None
    smoothed = [own.name for own in table.rows if own.settings.label_smoothing]
    assert smoothed == [own.name for own in table.rows if "label smoothing" in own.name]
    assert "--teacher-free" in table.command


def test_smoothed_labels_are_a_row_once():
    with pytest.raises(SettingsError, match="label_smoothing .0.2. smooths those of all"):
        distill_table(DistillSettings(teacher_free=True, label_smoothing=0.2))
    recipe = recipes.get("ye2024")
    rows = recipe_table(recipe, recipe.settings(label_smoothing=0.2), ablate=True).rows
    assert "label smoothing" not in [row.name for row in rows]


def test_a_recipe_that_compares_says_its_rows_by_its_settings():
    recipe = recipes.get("belinga2024")
    settings = recipe.settings(data="digits", fraction=(0.1, 1.0))
    table = recipe_table(recipe, settings)
    rows = [
        ("10 %, alone", None, None, 0.1),
        ("10 %, distilled", "10 %, alone", None, 0.1),
        ("100 %, alone", None, None, 1.0),
        ("100 %, distilled", "100 %, alone", None, 1.0),
    ]
    assert names(table) == rows and (table.kind, table.main) == ("compare", None)
    more = [(f"{p} %, temperature=4", f"{p} %, alone", None, p / 100) for p in (10, 100)]
    assert names(recipe_table(recipe, settings, ablate=True)) == rows + more
    recipe = recipes.get("wulandari2024")
    table = recipe_table(recipe, recipe.settings(), ablate=True)
    of_the_paper = [row for row in table.rows if row.settings.teacher == "DenseNet169"]
    assert [row.settings.student for row in of_the_paper[::2]] == [
        *("DenseNet121", "MobileNet", "ResNet50", "InceptionV3", "Xception")
    ]
    assert table.command == "tfkd recipes run wulandari2024 --ablate"
    with pytest.raises(SettingsError, match="no way to train one student.*tfkd recipes run"):
        distill_table(DistillSettings(recipe="wulandari2024"))


def test_a_search_adds_what_it_found_with_a_student_alone_of_the_same_size():
    settings = SearchSettings(search_student_options={"width": "0.25,0.5"})
    table = search_table(settings)
    assert names(table) == [("alone", None, None, 1.0), ("defaults", "alone", None, 1.0)]
    (own,) = searched_rows(settings, "0003", {"temperature": 2.0})
    assert (own.name, own.baseline, own.settings.temperature) == (
        *("searched (trial 0003)", "alone"),
        2.0,
    )
    alone, own = searched_rows(settings, "0004", {"student_width": 0.5})
    assert own.baseline == alone.name == "alone (student of trial 0004)"
    assert own.settings.student_options == alone.settings.student_options == {"width": 0.5}


def test_a_comparison_is_students_times_data_times_fractions_times_ways():
    table = compare_table(
        CompareSettings(
            data=("digits", "/x/photos"),
            fraction=(0.1, 1.0),
            student=("resnet", "modified_alexnet width=0.25"),
            setting=("hints=none",),
            recipe=("ye2024",),
        )
    )
    assert len(table.rows) == 2 * 2 * 2 * 3 and table.main is None
    assert names(table)[:3] == [
        ("digits, 10 %, resnet, alone", None, None, 0.1),
        ("digits, 10 %, resnet, hints=none", "digits, 10 %, resnet, alone", None, 0.1),
        ("digits, 10 %, resnet, ye2024", "digits, 10 %, resnet, alone", "ye2024", 0.1),
    ]
    assert names(table)[-1][0] == "photos, 100 %, modified_alexnet width=0.25, ye2024"
    assert names(compare_table(CompareSettings())) == [
        ("alone", None, None, 1.0),
        ("distilled", "alone", None, 1.0),
    ]
    same = compare_table(CompareSettings(data=("/a/photos", "/b/photos")))
    assert [row.name for row in same.rows][::2] == ["/a/photos, alone", "/b/photos, alone"]


def test_rows_whose_files_would_be_the_same_are_refused():
    rows = distill_table(DistillSettings()).rows
    twins = [rows[0]._replace(name="T = 2"), rows[1]._replace(name="T: 2")]
    with pytest.raises(SettingsError, match='"T: 2" and "T = 2"'):
        check_names(twins)
    twins = CompareSettings(setting=("hints=a:b hint_weight=1", "hints=a:b/hint_weight=1"))
    with pytest.raises(SettingsError, match="their files would be the same"):
        check_names(compare_table(twins).rows)
    check_names(compare_table(CompareSettings(setting=("temperature=2", "temperature=3"))).rows)
    assert file_name("xu2022: T = 2") == "xu2022-T-2"


def test_the_command_says_what_differs_and_names_no_folder():
    settings = DistillSettings(
        data="/home/me/photos",
        data_dir="/home/me/tfds",
        teacher="/home/me/t.keras",
        student_options={"width": 0.5},
        hints=("a:b", "c:d"),
        any_teacher=True,
        cache="/home/me/cache",
    )
    command = distill_table(settings).command
    assert command.startswith("tfkd distill ") and "home" not in command
    for words in (
        *("--data photos", "--data-dir DIR", "--teacher t.keras", "--student-option width=0.5"),
        *("--hints a:b --hints c:d", "--any-teacher"),
    ):
        assert words in command
    recipe = recipes.get("ye2024")
    table = recipe_table(recipe, recipe.settings(asymmetric=False))
    assert table.command == "tfkd recipes run ye2024 --symmetric"
