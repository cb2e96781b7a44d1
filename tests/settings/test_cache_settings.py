"""What may be said of `tfkd cache build`."""

import pytest

from tfkd.settings import CacheSettings, SettingsError, TrainingSettings

GIVEN = {"teacher": "./teacher.keras"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": ""}, "teacher is missing. Give the trained teacher, --teacher"),
        ({"teacher": "resnet"}, 'teacher is "resnet", a model to train'),
        ({"teacher_options": {"depth": 8}}, "teacher_options .* are for a teacher that is built"),
        ({"augment": "none", "views": 2}, "not augmented have one view"),
        ({"temperature": 2.0}, "temperature is for the largest logits alone: give top_k"),
        ({"shards": 513}, "shards is 513"),
        ({"share": "2/2"}, 'share is "2/2"; expected i/n with i from 0 to n - 1'),
        ({"share": "1 of 2"}, 'share is "1 of 2"'),
    ],
)
def test_what_cannot_be_right(changes, message):
    with pytest.raises(SettingsError, match=message):
        CacheSettings(**GIVEN | changes)


def test_the_run_that_looks_for_it():
    """It reads the same data and sees the same views, whatever its losses are."""
    own = CacheSettings(**GIVEN, share="1/3", views=30, augment="crop_flip", limit=50, seed=4)
    assert own.part == (1, 3) and CacheSettings(**GIVEN).part is None
    run = own.training()
    assert run == TrainingSettings(
        **GIVEN, views=30, epochs=30, augment="crop_flip", limit=50, seed=4
    )
    with pytest.raises(FileNotFoundError, match='No teacher file "/no/teacher.keras"'):
        CacheSettings(teacher="/no/teacher.keras").check_files()
