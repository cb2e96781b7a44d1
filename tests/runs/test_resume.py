"""Runs that were stopped: they go on at the epoch where they were, and end in the same figures.

TFKD_KILLS=20 makes the test of random kills do so many.
"""

import json
import random
import shutil
from pathlib import Path

import forked
import pytest
from small_runs import exact, read_record

from tfkd import recipes
from tfkd.runs import distill, run_recipe
from tfkd.runs import training as training_module


class Stopped(Exception):
    """Stands for a kill."""


@pytest.fixture
def stops(monkeypatch):
    """Lets trainings stop after an epoch's checkpoint; counts the epochs that are trained."""
    state = {"after": None, "trained": 0}
    save = training_module.Saver.on_epoch_end

    def stopping(self, epoch, logs=None):
        save(self, epoch, logs)
        state["trained"] += 1
        if state["trained"] == state["after"]:
            raise Stopped

    monkeypatch.setattr(training_module.Saver, "on_epoch_end", stopping)
    monkeypatch.setattr("tfkd.runs.checkpoints.COST", float("inf"))  # after every epoch
    return state


def test_stopped_trainings_go_on_at_their_epochs(finished, small, tmp_path, stops):
    """The teacher's after its first epoch, then the distilled student's after its second."""
    out = tmp_path / "run"
    stops["after"] = 1
    with pytest.raises(Stopped):
        distill(small, out)
    assert len(list((out / ".work").glob("*.npz"))) == 1
    stops |= {"after": 2 + 3 + 2 - 1, "trained": 0}
    with pytest.raises(Stopped):
        distill(small, out, resume=True)
    assert len(list((out / ".work").glob("*.npz"))) == 1
    stops |= {"after": None, "trained": 0}
    record = distill(small, out, resume=True)
    assert stops["trained"] == 1
    assert exact(record) == exact(finished[1])
    assert (out / "history.csv").read_bytes() == (finished[0] / "history.csv").read_bytes()
    assert not (out / ".work").exists()


def test_damaged_files_are_named_and_made_again(finished, small, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    content = (out / "seeds/3/alone.keras").read_bytes()
    (out / "seeds/3/alone.keras").write_bytes(content[: len(content) // 2])
    (out / "seeds/3/distilled.json").write_bytes(b"")
    (out / "run.json").write_text('{"format": 2, "rows": [')
    assert exact(distill(small, out, resume=True)) == exact(finished[1])
    said = capsys.readouterr().out
    assert f'{out / "run.json"}" is damaged' in said
    for row in ("alone", "distilled"):
        assert f'{out / f"seeds/3/{row}.keras"}" or the record beside it is damaged' in said


def test_damaged_files_of_a_finished_run_are_made_again(finished, small, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    whole = {name: (out / name).read_bytes() for name in ("history.csv", "student.keras")}
    (out / "history.csv").write_bytes(whole["history.csv"][:-40])
    (out / "student.keras").write_bytes(b"")
    record = distill(small, out, resume=True)
    said = capsys.readouterr().out
    assert "Damaged or missing, and made again: student.keras, history.csv." in said
    assert exact(record) == exact(finished[1])
    assert {name: (out / name).read_bytes() for name in whole} == whole


def test_a_finished_run_stays_as_it_is(finished, small):
    before = (finished[0] / "run.json").read_bytes()
    assert distill(small, finished[0], resume=True) == json.loads(before)
    assert (finished[0] / "run.json").read_bytes() == before


def test_a_run_is_only_resumed_with_what_it_was_begun_with(small, tmp_path, stops, finished):
    out = tmp_path / "run"
    stops["after"] = 1
    with pytest.raises(Stopped):
        distill(small, out)
    with pytest.raises(FileExistsError, match="not finished"):
        distill(small, out)
    with pytest.raises(ValueError, match="epochs: 3, not 5"):
        distill(small.replace(epochs=5), out, resume=True)
    begun = json.loads((out / "seeds/begun.json").read_text())
    begun["inputs"]["data digits"] = "sha256:0"
    (out / "seeds/begun.json").write_text(json.dumps(begun))
    with pytest.raises(ValueError, match="the data digits changed"):
        distill(small, out, resume=True)


def killed_again_and_again(words, out, seconds, kills, moments):
    """Runs a command, resumed after each kill, until it has been killed so often and then ends.

    Args:
        words: of `tfkd`; --resume is added.
        out: its run directory.
        seconds: that an undisturbed run takes.
        kills: how many.
        moments: random.Random.
    """
    done, said = 0, out.with_suffix(".txt")
    while True:
        begun = (out / "run.toml").exists() or (out / ".work").exists()
        process = forked.command([*words, *(["--resume"] if begun else [])], said=said)
        process.join(moments.uniform(0.0, seconds) if done < kills else 600)
        if not process.is_alive():
            assert process.exitcode == 0, Path(f"{said}.err").read_text()
            return done
        process.kill()
        process.join()
        done += 1


def test_killed_at_random_moments_distill_ends_in_the_same_figures(finished, tmp_path, kills):
    undisturbed, record = finished
    seconds, moments = record["seconds"] + 4, random.Random(kills)
    command = ["distill", "--config", undisturbed / "run.toml", "--trust"]
    done = 0
    while done < kills:
        out = tmp_path / f"killed{done}"
        left = min(kills - done, 4)
        done += killed_again_and_again([*command, "--out", out], out, seconds, left, moments)
        record = read_record(out)
        assert exact(record) == exact(finished[1])
        for name in ("history.csv", "seeds/begun.json"):
            assert (out / name).read_bytes() == (undisturbed / name).read_bytes()
        assert not (out / ".work").exists() and not list(out.rglob(".partial*"))
        pair = [record["trainings"][f"3/{row}"] for row in ("alone", "distilled")]
        assert pair[0]["student_start"] == pair[1]["student_start"]


def test_killed_at_random_moments_a_recipe_ends_in_the_same_figures(finished, tmp_path, kills):
    if kills < 2:
        pytest.skip("Trainings of a recipe are killed with TFKD_KILLS=2 or more.")
    settings = recipes.get("xu2022").settings(
        teacher=str(finished[0] / "teacher.keras"),
        any_teacher=True,
        student="modified_alexnet",
        student_options={"width": 0.05},
        exits=("stage1_out",),
        exit_features=6,
        limit=128,
        epochs=2,
        seeds=1,
    )
    config = tmp_path / "settings.toml"
    config.write_text(settings.to_toml())
    undisturbed = run_recipe("xu2022", settings, tmp_path / "undisturbed")
    command = ["recipes", "run", "xu2022", "--config", config]
    done, moments = 0, random.Random(kills)
    while done < kills // 2:
        out = tmp_path / f"killed{done}"
        words, seconds = [*command, "--out", out], undisturbed["seconds"] + 4
        done += killed_again_and_again(words, out, seconds, min(kills // 2 - done, 3), moments)
        assert exact(read_record(out)) == exact(undisturbed)
        first = tmp_path / "undisturbed/history.csv"
        assert (out / "history.csv").read_bytes() == first.read_bytes()
        assert not (out / ".work").exists() and not list(out.rglob(".partial*"))
