"""The page of a search of many trials, made from records alone."""

import json

import numpy as np
import pytest
from page_reader import Page

from tfkd.runs import RunDirectory, page
from tfkd.runs.page.searches import DRAWN, LISTED

METRIC = "val_accuracy"
RACED = 100  # trials with a curve; a forest of all would take its time


def trial(number, random, epochs=4):
    """A trial whose accuracy grows with its softness, and with nothing else."""
    softness, weight = random.uniform(0.2, 0.9), random.uniform(0, 0.5)
    score = float(0.5 + 0.4 * softness)
    name = f"{number:04}"
    return {
        "trial": name,
        "status": "COMPLETED",
        "score": score,
        "values": {"softness": softness, "student_loss_weight": weight, "hint_weight": 0.1},
        "mean": {METRIC: score},
        "error": {METRIC: None},
        "epochs": epochs if number % 3 == 0 else 2,
        "seeds": [{"seed": 1, "epochs": epochs, "metrics": {METRIC: score}}],
        "parameters": 1000,
        "seconds": 1.0,
        "message": "<i>diverged</i>" if number == 5 else None,
    }


@pytest.fixture
def search(finished, tmp_path):
    """(directory, search.json's content) of a search of 2,000 trials."""
    random, record = np.random.default_rng(0), json.loads(json.dumps(finished[1]))
    trials = [trial(number, random) for number in range(2000)]
    found = {
        "format": 2,
        "tfkd": "0.1.0",
        "trials": trials,
        "trials_asked_for": 2000,
        "best": "0003",
        "kept": "0003",
        "differences": [0.1],
        "said": "Trial 0003 is taken.",
        "pareto": [],
        "seconds_of_trials": 2000.0,
        "race": {own["trial"]: [own["score"]] * own["epochs"] for own in trials[:RACED]},
    }
    record["kind"] = "search"
    record["rows"][1]["name"] = "defaults"
    record["main"] = "defaults"
    for part in ("figures", "gains", "summary"):
        record[part] = {n.replace("distilled", "defaults"): v for n, v in record[part].items()}
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "search.json").write_text(json.dumps(found))
    return RunDirectory(tmp_path), found


def test_of_thousands_of_trials_the_best_are_shown_and_the_rest_is_counted(search):
    directory, found = search
    shown = Page(page.render(directory)).check()
    lines = shown.table("Trials, the kept one")[1:]
    assert len(lines) == LISTED and f"{2000 - LISTED} further trials" in shown.text
    assert [line[0] for line in lines[:2]] == ["0003", "0000"]
    assert [line[-1] for line in lines[:3]] == ["kept", "the defaults", "to the end"]
    best = max((own for own in found["trials"] if own["epochs"] == 4), key=lambda own: own["score"])
    assert best["trial"] in [line[0] for line in lines[:3]]
    assert f"2000 trials, of which {DRAWN} are drawn" in shown.text
    assert f"from the values of {RACED} trials" in shown.text


def test_the_value_that_decided_is_the_important_one(search):
    directory, found = search
    found["trials"], found["race"] = found["trials"][:30], dict(list(found["race"].items())[:30])
    (directory / "search.json").write_text(json.dumps(found))
    shown = Page(page.render(directory)).check()
    lines = shown.table("What the values did")[1:]
    # hint_weight stood still, so it has no line.
    assert [line[0] for line in lines] == ["softness", "student loss weight"]
    first, second = (float(line[1].split(" ")[0]) for line in lines)
    assert first > 1 and abs(second) < 0.1
    assert lines[0][2] == "+1.00"
    assert (
        "so it has learned something" in shown.text and "from the values of 30 trials" in shown.text
    )
    assert "failed: <i>diverged</i>" in shown.text and not shown.all("i")


def test_where_all_trials_are_alike_no_value_is_important(search):
    directory, found = search
    found["trials"] = found["trials"][:9]
    found["race"] = {own["trial"]: [0.5, 0.5] for own in found["trials"]}
    (directory / "search.json").write_text(json.dumps(found))
    shown = Page(page.render(directory)).check()
    assert "All 9 trials came to the same result" in shown.text


def test_a_search_whose_race_was_not_kept_says_so(search):
    directory, found = search
    del found["race"]
    (directory / "search.json").write_text(json.dumps(found))
    shown = Page(page.render(directory)).check()
    assert "The race of the trials was not kept" in shown.text
    assert "0 trials with a result are too few" in shown.text
