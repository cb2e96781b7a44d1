"""Questions: what a factory asks of the hyperparameters."""

import keras_tuner

from tfkd.tuning.watching import Questions


def hyperparameters(**values):
    hp = keras_tuner.HyperParameters()
    hp.values = values
    return hp


def listened(hp, ask):
    questions = Questions()
    values = hp.values
    with questions.listen(hp):
        ask(hp)
    assert hp.values is values and type(values) is dict
    return questions


def test_what_was_asked_counts_and_nothing_else():
    questions = listened(hyperparameters(width=8, weight=0.1), lambda hp: hp.Int("width", 4, 16))
    assert questions.answers == {"width": 8}
    assert questions.same_answers(hyperparameters(width=8, weight=0.7))
    assert not questions.same_answers(hyperparameters(width=9))
    assert not questions.same_answers(hyperparameters())
    assert not listened(hyperparameters(width=8), lambda hp: None)


def test_every_way_to_ask():
    ways = [
        lambda hp: hp.get("width"),
        lambda hp: hp["width"],
        lambda hp: "width" in hp,
        lambda hp: hp.values["width"],
        lambda hp: hp.values.get("width"),
        lambda hp: "width" in hp.values,
        lambda hp: dict(hp.values.items()),
        lambda hp: list(hp.values),
        lambda hp: hp.copy(),
    ]
    for ask in ways:
        assert "width" in listened(hyperparameters(width=8), ask).answers


def test_repeating_declares_what_asking_declared():
    def ask(hp):
        kind = hp.Choice("kind", ["plain", "dropped"])
        with hp.conditional_scope("kind", ["dropped"]):
            if kind == "dropped":
                hp.Float("rate", 0.1, 0.5)

    asked = hyperparameters(kind="dropped")
    questions = listened(asked, ask)
    again = hyperparameters(kind="dropped", rate=0.1)
    assert questions.same_answers(again)
    for _ in range(2):  # nothing is declared twice
        questions.repeat(again)
    assert [p.get_config() for p in again.space] == [p.get_config() for p in asked.space]
    assert again.active_scopes[0] == asked.active_scopes[0] and not again.inactive_scopes
