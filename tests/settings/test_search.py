"""Settings of a search: what moves, where it starts, and what is refused."""

import pytest

from tfkd.settings import DistillSettings, SearchSettings, SettingsError
from tfkd.spaces import Choice, Range


def test_toml_gives_the_same_settings_back(tmp_path):
    path = tmp_path / "search.toml"
    for settings in (
        SearchSettings(),
        SearchSettings(
            search={"temperature": "1:8", "learning_rate": [0.001, 0.003]},
            search_student_options={"width": "0.125,0.25", "head": "gap,fc"},
            pareto="latency",
            time_budget=60,
        ),
    ):
        path.write_text(settings.to_toml())
        assert SearchSettings.from_toml(path) == settings


def test_the_search_starts_at_the_settings_of_distill():
    settings = SearchSettings(temperature=3, student_options={"width": 0.5}, hints="auto")
    start = DistillSettings(hints="auto")
    assert settings.space == {
        "student_loss_weight": Range(0.0, 0.5, start.student_loss_weight),
        "temperature": Range(1.0, 16.0, 3.0, log=True),
        "hint_weight": Range(0.01, 1.0, start.hint_weight, log=True),
    }
    start = {name: space.default for name, space in settings.space.items()}
    distillation = DistillSettings(
        temperature=3,
        hints="auto",
        teacher_options={"depth": 8},
        student_options={"width": 0.5},
        epochs=5,
        teacher_epochs=10,
    )
    assert settings.of_trial(start) == settings.distillation == distillation
    space = {"student_loss_weight": Range(0.0, 0.5, 0.3), "softness": Range(0.2, 0.95, 0.8)}
    assert SearchSettings().space == space
    assert SearchSettings(search={"temperature": "1:8"}).distillation.temperature == 4.0


def test_what_a_trial_and_the_final_students_are_trained_with():
    settings = SearchSettings(
        search={"learning_rate": "0.001,0.003"},
        search_student_options={"width": "0.25,0.5", "head": "gap,fc"},
        seeds=2,
        seed=5,
    )
    assert settings.space == {"learning_rate": Choice((0.001, 0.003), 0.003)}
    assert settings.student_choices == {"width": (0.25, 0.5), "head": ("gap", "fc")}
    assert settings.student_options == {"width": 0.25, "head": "gap"}
    values = {"learning_rate": 0.001, "student_width": 0.5}
    own = settings.of_trial(values)
    assert own.learning_rate == 0.001
    assert own.student_options == {"width": 0.5, "head": "gap"}
    again = settings.again(values, "/x/teacher.keras")
    assert (again.teacher, again.student_options) == ("/x/teacher.keras", own.student_options)
    assert again.all_seeds == settings.all_seeds == [5, 6]
    assert settings.trial_seed == 7


def test_a_front_needs_trials_that_are_trained_in_full():
    moving = {"search_student_options": {"width": "0.25,0.5"}}
    assert SearchSettings().method == "halving"
    assert SearchSettings(**moving, pareto="parameters").method == "random"
    assert SearchSettings(**moving, pareto="parameters", tuner="grid").method == "grid"


def test_a_student_of_another_architecture_gets_no_width():
    assert SearchSettings().student_options == {"width": 0.25}
    assert SearchSettings(student_options={"width": 1.0}).student_options == {"width": 1.0}
    assert SearchSettings(student="MobileNetV2").student_options == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objective": "val_loss"}, "changes its meaning with the weights.* There are: val_acc"),
        ({"objective": "accuracy"}, 'Did you mean "val_accuracy"'),
        ({"objective": "val_acuracy"}, 'Did you mean "val_accuracy"'),
        ({"tuner": "bayes"}, 'Did you mean "bayesian"'),
        ({"trials": 0}, "trials is 0"),
        ({"search": {"temprature": "1:8"}}, 'Did you mean "temperature"'),
        ({"search": {"temperature": "8:1"}}, "low must be less than high"),
        ({"search": {"temperature": "-1:8"}}, "temperature is -1.0; it should be greater than 0"),
        (
            {"search": {"student_loss_weight": "0:2"}},
            "student_loss_weight is 2.0; it should be less than",
        ),
        ({"search": {"hint_weight": "0:1:log"}}, "low must be greater than 0"),
        ({"search": {"temperature": "5:8"}}, "It starts at the setting itself, temperature=4.0"),
        ({"search": {"temperature": "1:8:lin"}}, "expected LOW:HIGH, LOW:HIGH:log"),
        ({"search": {"temperature": "1:a"}}, "'a' is no number"),
        ({"search": {"temperature": 4}}, "with one value nothing moves"),
        ({"search": {"hint_weight": "0.1:1"}, "hints": "none"}, 'but hints is "none"'),
        ({"pareto": "parameters"}, "every trial's student has the same"),
        ({"pareto": "size", "search_student_options": {"width": "1,2"}}, "pareto is 'size'"),
        (
            {"student_options": {"width": 1.0}, "search_student_options": {"width": "0.1,0.2"}},
            "student_options has width=1.0, where the search starts",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(values, message):
    with pytest.raises(SettingsError, match=message):
        SearchSettings(**values)


def test_how_long_and_by_how_many_does_not_make_another_search():
    settings = SearchSettings()
    assert settings.differences(SearchSettings(trials=99, workers=2, time_budget=5)) == []
    assert settings.differences(SearchSettings(epochs=3)) == ["epochs: 5, not 3"]
    here, there = (SearchSettings(data=f"/{own}/photos", data_dir=own) for own in "ab")
    assert here.differences(there) == []
    assert settings.differences(there) == ["data: 'digits', not 'photos'"]
