"""Who goes on in a race, and what its trials came to."""

import pytest

from tfkd.tuning.race import BEGIN, END, FOLLOWS, SEED, Race, Training, joined, trial_of


def begun(*scores, end=0, status="COMPLETED"):
    return [
        Training(f"{number:04d}", f"{number:04d}", 0, end, status, own)
        for number, own in enumerate(scores)
    ]


def raced(race, trainings, score):
    """All that follows, each ending at once in `score(training)`."""
    trainings = list(trainings)
    while (job := race.next(trainings)) is not None:
        follows = {own.name: None if own.name == own.trial else own.trial for own in trainings}
        trial = trial_of(job[FOLLOWS], follows)
        own = Training(
            f"{len(trainings):04d}", trial, job[SEED], job.get(END, 0), "COMPLETED", None
        )
        trainings.append(own._replace(score=score(own)))
    return trainings


def test_the_best_third_goes_on_and_the_first_to_the_end():
    scores = [0.10, 0.50, 0.20, 0.90, 0.40, 0.80, 0.30, 0.60, 0.70]
    race = Race((1, 3, 9), finalists=1, seeds=3, sign=1)
    done = raced(race, begun(*scores, end=1), lambda own: scores[int(own.trial)])
    after = [(own.trial, own.seed, own.end) for own in done[9:]]
    assert after == [
        *(("0003", 0, 3), ("0005", 0, 3), ("0008", 0, 3), ("0000", 0, 3)),
        *(("0003", 0, 9), ("0000", 0, 9)),
        *(("0003", 1, 9), ("0000", 1, 9), ("0003", 2, 9), ("0000", 2, 9)),
    ]
    # The opposite, where little is good: the first trial is the best, its first rung counts.
    low = raced(Race((1, 9), 1, 2, sign=-1), begun(*scores, end=1), lambda own: 0.5)
    assert [own.trial for own in low[9:]] == ["0000", "0002", "0006", "0000"]


def test_it_goes_on_with_the_training_before_and_repeats_from_the_start():
    race = Race((2, 5), finalists=1, seeds=2)
    trainings = begun(0.5, 0.1, 0.2, end=2)
    job = race.next(trainings)
    assert job == {FOLLOWS: "0000", SEED: 0, BEGIN: 2, END: 5}
    trainings.append(Training("0003", "0000", 0, 5, "COMPLETED", 0.7))
    assert race.next(trainings) == {FOLLOWS: "0000", SEED: 1, BEGIN: 0, END: 5}
    assert Race(finalists=1, seeds=2).next(begun(0.5)) == {FOLLOWS: "0000", SEED: 1}


@pytest.mark.parametrize("race", [Race((2, 5), 1, 2), Race((), 1, 2)])
def test_nothing_is_compared_before_all_have_ended(race):
    end = race.rungs[0] if race.rungs else 0
    trainings = begun(0.5, 0.4, end=end)
    running = [*trainings[:1], trainings[1]._replace(status="RUNNING", score=None)]
    assert race.next(running) is None and race.next(trainings) is not None
    assert race.next([]) is None


def test_what_failed_is_out_and_is_not_tried_again():
    trainings = begun(0.5, 0.9, 0.8, end=2)
    trainings[0] = trainings[0]._replace(status="FAILED", score=None)
    trainings.append(Training("0003", "0001", 0, 5, "FAILED", None))
    done = raced(Race((2, 5), 1, 2), trainings, lambda own: 0.5)
    assert [(own.trial, own.seed, own.end) for own in done[4:]] == [("0002", 0, 5), ("0002", 1, 5)]


def test_without_finalists_trials_are_all_there_is():
    assert Race().next(begun(0.5, 0.4)) is None


def row(name, accuracies, follows=None, begin=0, seed=7, status="COMPLETED", best=0):
    metrics = {"val_accuracy": accuracies[best]} if accuracies else {}
    execution = {"seed": seed, "failure": None, "metrics": metrics}
    execution["history"] = {"val_accuracy": accuracies}
    return {
        **{"trial": name, "follows": follows, "begin": begin, "status": status, "seconds": 1.0},
        **{"values": {"temperature": 4.0}, "parameters": 42, "message": None},
        "executions": [execution] if accuracies else [],
    }


def test_what_follows_on_a_trial_is_joined_to_it():
    rows = [
        row("0000", [0.3, 0.6], best=1),
        row("0001", [0.2, 0.1]),
        row("0002", [0.5, 0.4], follows="0000", begin=2),
        row("0003", [0.1, 0.2, 0.3, 0.8], follows="0000", seed=8, best=3),
        row("0004", [], status="RUNNING"),
    ]
    first, second, third = joined(rows, "val_accuracy", 1)
    assert first["seeds"][0]["history"] == {"val_accuracy": [0.3, 0.6, 0.5, 0.4]}
    assert [own["metrics"]["val_accuracy"] for own in first["seeds"]] == [0.6, 0.8]
    assert (first["epochs"], first["seconds"], first["status"]) == (4, 3.0, "COMPLETED")
    assert first["score"] == pytest.approx(0.7)
    assert first["error"]["val_accuracy"] == pytest.approx(0.1)  # 0.1414 of spread / √2
    assert (second["epochs"], second["score"], second["error"]["val_accuracy"]) == (2, 0.2, None)
    assert (third["status"], third["score"], third["seeds"]) == ("RUNNING", None, [])
