"""Settings: kinds, bounds, TOML and back."""

import dataclasses

import pytest

from tfkd.runs import DistillSettings, SettingsError


def test_toml_gives_the_same_settings_back(tmp_path):
    settings = DistillSettings(
        teacher_options={"depth": 14},
        student_options={"width": 0.25, "head": "gap"},
        hints=("stage1_out:stage1_out", "a/b:c"),
        limit=100,
    )
    path = tmp_path / "run.toml"
    path.write_text(settings.to_toml())
    assert DistillSettings.from_toml(path) == settings
    path.write_text(DistillSettings().to_toml())
    assert DistillSettings.from_toml(path) == DistillSettings()


def test_flags_win_over_toml_key_by_key(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('epochs = 5\nlearning_rate = 1\n[student_options]\nwidth = 1.0\nhead = "fc"\n')
    settings = DistillSettings.from_toml(path, epochs=7, student_options={"width": 0.5})
    assert settings.epochs == 7
    assert settings.student_options == {"width": 0.5, "head": "fc"}
    assert settings.learning_rate == 1.0 and isinstance(settings.learning_rate, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, 'No setting "epoch" .* Did you mean epochs'),
        ({"epochs": 0}, "epochs is 0; expected a number of at least 1"),
        ({"epochs": 2.5}, "epochs is 2.5; expected a whole number"),
        ({"epochs": True}, "epochs is True; expected a whole number"),
        ({"batch_size": "64"}, "batch_size is '64'; expected a whole number"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; expected a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"temperature": -1}, "temperature is -1.0; expected a number above 0"),
        ({"student_loss_weight": 1.5}, "of at least 0 and of at most 1"),
        ({"logits_weight": -0.1}, "logits_weight is -0.1; expected a number of at least 0"),
        ({"hint_weight": float("inf")}, "hint_weight is inf"),
        ({"augment": "shfit"}, 'Did you mean "shift"'),
        ({"student": "resnt"}, "student: Unknown model 'resnt'. Did you mean 'resnet'"),
        ({"teacher": "resnt"}, "teacher: Unknown model .* .keras file"),
        ({"hints": "deepest"}, "teacher_layer:student_layer"),
        ({"hints": []}, "empty list"),
        ({"logits_weight": 0, "hints": "none"}, "Nothing is distilled"),
        ({"teacher": "t.keras", "teacher_options": {"depth": 8}}, "Leave them out"),
        ({"student_options": [1]}, "expected a table"),
        ({"data": ""}, "data is empty"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(values, message):
    with pytest.raises(SettingsError, match=message):
        DistillSettings.from_dict(values)


def test_broken_or_missing_toml(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("epochs = = 3")
    with pytest.raises(SettingsError, match="settings.toml is not valid TOML.*line 1"):
        DistillSettings.from_toml(path)
    with pytest.raises(FileNotFoundError, match="No settings file"):
        DistillSettings.from_toml(tmp_path / "other.toml")


def test_every_setting_says_what_it_is_for():
    for field in dataclasses.fields(DistillSettings):
        assert field.metadata["help"].endswith(".") or "(repeatable)" in field.metadata["help"]


def test_augmentations_are_those_of_the_data_room():
    from tfkd import data
    from tfkd.runs.training_settings import AUGMENTATIONS

    assert list(AUGMENTATIONS) == data.augmentation_names()


def test_paths_become_absolute_and_names_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = DistillSettings(data="./photos", data_dir="d", teacher="t.keras").resolved()
    assert settings.data == str(tmp_path / "photos")
    assert settings.data_dir == str(tmp_path / "d")
    assert settings.teacher == str(tmp_path / "t.keras")
    assert DistillSettings().resolved() == DistillSettings()
