"""The losses that a command names: weights, what does not fit together, and the list of them."""

import pytest

from tfkd import cli, losses, published, tuning
from tfkd.settings import DistillSettings, SearchSettings, SettingsError, methods


def test_each_method_is_a_public_loss():
    assert {method.loss for method in published.METHODS.values()} <= set(losses.__all__)


def test_weights_are_the_published_ones_or_those_given():
    settings = DistillSettings(loss=["dkd,review:0.6", "at"])
    assert methods.parse(settings.loss) == {"dkd": 1.0, "review": 0.6, "at": 1000.0}
    assert DistillSettings().loss == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": ["dk"]}, r'no "dk"\. Did you mean "dkd"'),
        ({"loss": ["dkd:"]}, r'holds "dkd:"; expected NAME or NAME:WEIGHT'),
        ({"loss": ["dkd:0"]}, "a weight greater than 0"),
        ({"loss": ["dkd:inf"]}, "a weight greater than 0"),
        ({"loss": ["dkd", "dkd:2"]}, "names dkd twice"),
        ({"loss": ["simkd"]}, "simkd is for programs.*with_teacher_head"),
        ({"loss": ["dkd"], "recipe": "xu2022"}, 'loss and recipe "xu2022" both say'),
        ({"loss": ["dkd"], "hint_weight": 3.0}, "hint_weight would change nothing"),
        ({"loss": ["dkd"], "temperature": 3.0}, "temperature is that of kd"),
        ({"loss": ["kd"], "softness": 0.5}, "softness that of annealed"),
    ],
)
def test_what_cannot_be_meant(given, message):
    with pytest.raises(SettingsError, match=message):
        DistillSettings(**given)


def test_a_search_moves_no_named_losses():
    with pytest.raises(SettingsError, match="Leave loss out"):
        SearchSettings(loss=["dkd"])
    assert DistillSettings(loss=["kd"], temperature=3.0).temperature == 3.0


def test_the_list_names_every_method(capsys):
    cli.main(["losses"])
    said = capsys.readouterr().out
    for name, method in published.METHODS.items():
        (own,) = [part for part in said.split("\n") if part.startswith(f"{name}:")]
        after = said.split(own)[1]
        paper, reads = after.splitlines()[1:3]
        assert paper.strip() == method.paper
        assert f"Weight {method.weight:g}." in reads


def test_a_range_around_the_published_weight():
    space = tuning.weight_range("SimilarityPreserving")
    assert (space.low, space.default, space.high, space.log) == (300, 3000, 30000, True)
    assert tuning.weight_range(losses.LogitsDistillation()).default == 1.0
    assert tuning.weight_range(losses.LogitsDistillation(standardize=True)).default == 9.0
    assert tuning.weight_range(losses.CosineDistillation()).default == 1.0
