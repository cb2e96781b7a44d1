"""What is relied on of KerasTuner, and what its tuners do here beyond that: kills and damage."""

import contextlib
import errno
import inspect
import json
import random
import shutil
import sys

import keras_tuner
import numpy as np
import pytest

from tfkd import tuning
from tfkd.tuning import tuners
from tfkd.tuning.checkpoints import read_weights, write_weights
from tfkd.tuning.results import Executions

SPACE = {"temperature": [4.0, 1.0, 8.0], "student_width": [0.25, 0.5]}
ORACLES = {
    "random": tuning.RandomSearch.oracle_class,
    "bayesian": tuning.BayesianOptimization.oracle_class,
    "hyperband": tuning.Hyperband.oracle_class,
    "grid": tuning.GridSearch.oracle_class,
}
HALVING = tuning.SuccessiveHalving.oracle_class


def oracle(name, directory, **settings):
    """An oracle that has taken up what trials there are in `directory`."""
    space = keras_tuner.HyperParameters()
    for hyperparameter, values in SPACE.items():
        space.Choice(hyperparameter, values, default=values[0])
    if name == "bayesian":
        settings.setdefault("num_initial_points", 5)
    if name == "hyperband":
        settings |= {"max_epochs": 4, "factor": 2}
    objective = keras_tuner.Objective("val_accuracy", "max")
    kind = HALVING if name == "halving" else ORACLES[name]
    made = kind(objective, hyperparameters=space, seed=1, **settings)
    made._set_project_dir(str(directory), "trials")
    made.verbose = 0
    made.limit(6)
    made.read_trials()
    return made


def score(values):
    longer = 0.01 * values.get("tuner/epochs", 0) + 0.001 * values.get("tuner/seed", 0)
    off = 0.01 * abs(values["temperature"] - 3)
    return round(0.5 + 0.1 * values["student_width"] - off + longer, 6)


def end(made, trial, status="COMPLETED", message=None):
    if status == "COMPLETED":
        figures = {"val_accuracy": score(trial.hyperparameters.values)}
        Executions(made._get_trial_dir(trial.trial_id)).add(
            0, 0, {"val_accuracy": [figures["val_accuracy"]]}, 1.0, 42, epoch=1
        )
        made.update_trial(trial.trial_id, figures, 1)
    trial.status, trial.message = status, message
    made.end_trial(trial)


def finish(made, most=99, worker="tuner0"):
    """(name, values) of up to `most` trials that are handed out and end one after the other."""
    done = []
    for _ in range(most):
        trial = made.create_trial(worker)
        if trial.status != "RUNNING":
            break
        done.append((trial.trial_id, trial.hyperparameters.values))
        end(made, trial)
    return done


def files(directory):
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """{name: (directory, list of trials)} of whole searches."""
    made = {}
    for name in ORACLES:
        directory = tmp_path_factory.mktemp(name)
        whole = oracle(name, directory)
        made[name] = directory, finish(whole)
        assert whole.over
    return made


@pytest.mark.parametrize("name", ORACLES)
def test_the_defaults_come_first_and_nothing_twice(name, undisturbed):
    _, trials = undisturbed[name]
    own = [{n: v for n, v in values.items() if n in SPACE} for _, values in trials]
    assert own[0] == {"temperature": 4.0, "student_width": 0.25}
    assert [trial for trial, _ in trials] == [f"{number:04d}" for number in range(6)]
    if name in ("random", "grid"):
        assert len({tuple(values.values()) for values in own}) == 6


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("ended", [1, 3, 5])
def test_killed_in_a_trial_it_ends_with_the_same_files(name, ended, undisturbed, tmp_path):
    whole, expected = undisturbed[name]
    killed = oracle(name, tmp_path)
    begun = finish(killed, ended)
    lost = killed.create_trial("tuner0")  # under way when it was killed
    assert not killed.over
    again = oracle(name, tmp_path)
    assert not again.over and again.notes == []
    rest = finish(again)
    assert rest[0] == (lost.trial_id, lost.hyperparameters.values)
    assert [*begun, *rest] == expected
    assert files(tmp_path) == files(whole)
    assert oracle(name, tmp_path).over  # nothing is left to hand out


RACES = {
    "halving": {"max_epochs": 9, "finalists": 2, "seeds": 2},
    "random": {"finalists": 2, "seeds": 2},
    "grid": {"finalists": 2, "seeds": 2},
    "hyperband": {"finalists": 1, "seeds": 2},
}


@pytest.mark.parametrize("name", RACES)
def test_a_race_killed_in_any_training_ends_with_the_same_files(name, tmp_path):
    whole = oracle(name, tmp_path / "whole", **RACES[name])
    expected = finish(whole)
    assert whole.over and len(expected) > 6 + 2
    for ended in range(1, len(expected), 2):
        directory = tmp_path / str(ended)
        killed = oracle(name, directory, **RACES[name])
        begun = finish(killed, ended)
        lost = killed.create_trial("tuner0")
        again = oracle(name, directory, **RACES[name])
        assert not again.over and again.notes == []
        rest = finish(again)
        assert rest[0] == (lost.trial_id, lost.hyperparameters.values)
        assert [*begun, *rest] == expected
        assert files(directory) == files(tmp_path / "whole")


@pytest.mark.parametrize("name", RACES)
def test_a_race_takes_up_more_trials_and_keeps_what_it_has(name, tmp_path):
    first = oracle(name, tmp_path, **RACES[name])
    first.limit(4)
    done = finish(first)
    assert first.over
    before = files(tmp_path)
    again = oracle(name, tmp_path, **RACES[name])
    again.limit(6)
    assert not again.over and again.notes == []
    more = finish(again)
    assert again.over and [number for number, _ in more][0] == f"{len(done):04d}"
    assert before.items() <= files(tmp_path).items()
    begun = {name for name, values in done + more if "tuner/seed" not in values}
    assert len(begun) == 6


def test_a_damaged_training_of_a_race_is_trained_again(tmp_path):
    whole = oracle("halving", tmp_path / "whole", **RACES["halving"])
    number = len(finish(whole))
    for name in ("0002", "0006", f"{number - 1:04d}"):
        directory = tmp_path / name
        shutil.copytree(tmp_path / "whole", directory)
        truncated(directory / "trials" / f"trial_{name}" / "trial.json")
        again = oracle("halving", directory, **RACES["halving"])
        assert len(again.notes) == 1 and [own for own, _ in finish(again)] == [name]
        assert files(directory) == files(tmp_path / "whole")


def test_two_workers_of_a_race_wait_for_each_other_and_hand_out_the_same(tmp_path):
    alone = dict(finish(oracle("halving", tmp_path / "alone", **RACES["halving"])))
    made = oracle("halving", tmp_path / "two", **RACES["halving"])
    handed, busy = {}, {}
    for _ in range(99):
        for worker in ("tuner0", "tuner1"):
            trial = made.create_trial(worker)
            if trial.status == "RUNNING":
                busy[worker] = trial
                handed[trial.trial_id] = trial.hyperparameters.values
            else:
                assert trial.status == ("IDLE" if busy else "STOPPED")
        for worker in list(busy)[::-1]:
            end(made, busy.pop(worker))
    assert made.over and handed == alone


@pytest.mark.parametrize("name", ["random", "bayesian", "hyperband"])  # a grid's second one waits
def test_two_workers_killed_and_continued_keep_what_ended(name, tmp_path):
    """The order in which trials began and ended decides what is handed out; it is on record."""
    made = oracle(name, tmp_path)
    first, second = (made.create_trial(f"tuner{number}") for number in range(2))
    end(made, second)
    third = made.create_trial("tuner1")
    end(made, first)
    fourth = made.create_trial("tuner0")  # both are under way when it is killed
    assert third.status == fourth.status == "RUNNING"
    again = oracle(name, tmp_path)
    assert again.notes == []
    assert again.end_order == ["0001", "0000"] and list(again.trials) == made.start_order
    waiting = [again.create_trial(f"tuner{number}") for number in range(2)]
    assert [trial.trial_id for trial in waiting] == [third.trial_id, fourth.trial_id]
    assert waiting[1].hyperparameters.values == fourth.hyperparameters.values
    assert again.tuner_ids == {"tuner0", "tuner1"}


def truncated(path):
    path.write_bytes(path.read_bytes()[:-20])


def emptied(path):
    path.write_bytes(b"")


def removed(path):
    path.unlink()


def a_directory(path):
    path.unlink()
    path.mkdir()


def binary(path):
    path.write_bytes(bytes(range(256)))


def another_kind(path):
    path.write_text("[1, 2]")


def changed(**values):
    def change(path):
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    change.__name__ = f"changed {' '.join(values)}"
    return change


DAMAGE = [truncated, emptied, a_directory, binary, another_kind]
STATES = [
    changed(trial_id="../0002"),
    changed(trial_id="0001"),
    changed(status="DONE"),
    changed(score="high"),
    changed(hyperparameters={"space": [], "values": {"temperature": [1]}}),
    changed(hyperparameters={"space": [], "values": {"temperature": 3.0, "student_width": 0.5}}),
    changed(metrics={"metrics": {}}),
]


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *[("trial.json", damage) for damage in [*DAMAGE, *STATES]],
        *[("executions.json", damage) for damage in [*DAMAGE, removed]],
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.parametrize("name", ["random", "hyperband"])
def test_a_damaged_trial_is_named_and_trained_again(name, file, damage, undisturbed, tmp_path):
    whole, expected = undisturbed[name]
    directory = tmp_path / "copy"
    shutil.copytree(whole, directory)
    path = directory / "trials" / "trial_0002" / file
    damage(path)
    again = oracle(name, directory)
    (note,) = again.notes
    assert (str(path) in note or "Trial 0002" in note) and "trained again" in note
    if path.is_dir():
        path.rmdir()
    assert finish(again) == [expected[2]]
    assert again.over
    assert files(directory) == files(whole)


def test_a_foreign_directory_is_named_and_left_alone(undisturbed, tmp_path):
    directory = tmp_path / "copy"
    shutil.copytree(undisturbed["grid"][0], directory)
    for name in ("trial_7", "trial_..", "trial_x"):
        shutil.copytree(directory / "trials/trial_0005", directory / "trials" / name)
    again = oracle("grid", directory)
    assert len(again.notes) == 3 and all("trial_0000, trial_0001" in note for note in again.notes)
    assert again.over and len(again.trials) == 6


def test_nothing_is_imported_or_made_because_a_file_says_so(undisturbed, tmp_path, monkeypatch):
    """The space comes from the program; that of a file is not even looked at."""
    directory = tmp_path / "copy"
    shutil.copytree(undisturbed["random"][0], directory)
    (tmp_path / "foreign_module.py").write_text("class Choice:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = directory / "trials/trial_0001/trial.json"
    content = json.loads(path.read_text())
    names = {"module": "foreign_module", "class_name": "Choice", "registered_name": "Choice"}
    content["hyperparameters"]["space"] = [{**names, "config": {"name": "temperature"}}]
    path.write_text(json.dumps(content))
    again = oracle("random", directory)
    assert again.over and again.notes == [] and "foreign_module" not in sys.modules
    assert {p.name for p in again.get_trial("0001").hyperparameters.space} == set(SPACE)


def test_failures_are_kept(undisturbed, tmp_path):
    made = oracle("random", tmp_path)
    end(made, made.create_trial("tuner0"), "FAILED", "Traceback\nFailedTrialError: it diverged")
    again = oracle("random", tmp_path)
    trial = again.get_trial("0000")
    assert (trial.status, trial.score) == ("FAILED", None) and "diverged" in trial.message
    assert finish(again, 1)[0] == undisturbed["random"][1][1]


def test_no_trial_is_begun_after_the_time_but_those_begun_are_finished(tmp_path):
    made = oracle("random", tmp_path)
    made.limit(6, seconds=-1)
    trial = made.create_trial("tuner0")
    assert trial.status == "RUNNING"  # the first one always is: there must be a result
    assert made.create_trial("tuner1").status == "STOPPED"
    assert not made.over and made.create_trial("tuner0").trial_id == trial.trial_id
    end(made, trial)
    assert made.over and made.create_trial("tuner0").status == "STOPPED"
    made.limit(6)
    assert not made.over and made.remaining_trials() == 5


# What is relied on of KerasTuner: one test for each thing.


def test_kerastuner_names_trials_by_their_number_in_four_digits(undisturbed):
    for directory, trials in undisturbed.values():
        assert [name for name, _ in trials] == sorted(name for name, _ in trials)
        assert {path.name for path in (directory / "trials").iterdir()} == {
            f"trial_{number:04d}" for number in range(6)
        }


def test_kerastuner_reads_and_writes_no_other_state(undisturbed):
    for directory, _ in undisturbed.values():
        assert {path.name for path in (directory / "trials").rglob("*.json")} == {
            "trial.json",
            "executions.json",
        }


def test_kerastuner_takes_the_last_of_the_retry_queue(tmp_path):
    made = oracle("random", tmp_path)
    names = [made.create_trial(f"tuner{number}").trial_id for number in range(2)]
    made.ongoing_trials.clear()
    made._retry_queue = list(names)
    assert made.create_trial("tuner5").trial_id == names[-1]


def test_kerastuner_draws_with_random_values_what_follows_from_seed_and_number(tmp_path):
    made = [oracle("random", tmp_path / str(number)) for number in range(2)]
    drawn = [finish(one, 3) for one in made]
    assert drawn[0] == drawn[1] and "_random_values" in vars(keras_tuner.Oracle)


@pytest.mark.parametrize("seed", [None, 0])
def test_without_a_seed_the_search_is_the_same_in_every_process(seed):
    random.seed(1)
    first = ORACLES["random"](keras_tuner.Objective("val_accuracy", "max"), seed=seed).seed
    random.seed(2)
    assert first == ORACLES["random"](keras_tuner.Objective("val_accuracy", "max"), seed=seed).seed


def test_kerastuners_oracles_take_what_its_tuners_take():
    for kind, own in (
        (keras_tuner.RandomSearch, tuning.RandomSearch),
        (keras_tuner.BayesianOptimization, tuning.BayesianOptimization),
        (keras_tuner.Hyperband, tuning.Hyperband),
        (keras_tuner.GridSearch, tuning.GridSearch),
    ):
        theirs = set(inspect.signature(kind).parameters) - {"hypermodel", "kwargs"}
        ours = set(inspect.signature(own.oracle_class.__mro__[2]).parameters)
        assert theirs <= ours


def test_a_worker_waits_for_its_chief_as_long_as_it_is_told(tmp_path):
    asked = []

    class Stub:
        def GetSpace(self, request, wait_for_ready, timeout):
            asked.append((request, wait_for_ready, timeout))

    waiting = tuners._Waiting(Stub(), type("Tuner", (), {"worker_timeout": 2.5}))
    waiting.GetSpace("space", wait_for_ready=True, timeout=3600)
    assert asked == [("space", True, 2.5)]


def test_a_chief_answers_workers_and_knows_when_none_is_left(tmp_path, monkeypatch):
    from keras_tuner.src.distribute.oracle_client import OracleClient

    made = oracle("random", tmp_path)
    made.limit(1)
    server, port, all_left = tuners.serve(made, "127.0.0.1", 0)
    variables = {"TUNER_ID": "tuner0", "ORACLE_IP": "127.0.0.1", "ORACLE_PORT": str(port)}
    for name, value in variables.items():
        monkeypatch.setenv(f"KERASTUNER_{name}", value)
    try:
        client = OracleClient(made)
        trial = client.create_trial("tuner0")
        assert trial.hyperparameters.values == {"temperature": 4.0, "student_width": 0.25}
        client.update_trial(trial.trial_id, {"val_accuracy": 0.5}, 1)
        trial.status = "COMPLETED"
        client.end_trial(trial)
        assert not all_left()
        assert client.create_trial("tuner0").status == "STOPPED"
        assert all_left()
    finally:
        server.stop(0).wait()


# The tuners themselves, on tiny models.


def test_a_tuner_continues_its_own_directory(hypermodel, tuner, search, traces):
    found = search(tuner(hypermodel(), max_trials=2), epochs=1)
    before = tuning.trials(found.project_dir)
    again = tuner(hypermodel(), max_trials=3)
    best = again.get_best_models()[0]  # before it searches on
    assert again.remaining_trials == 1
    assert again.oracle.notes == []
    trained = len(traces)
    rows = tuning.trials(search(again, epochs=1).project_dir)
    assert rows[:2] == before and len(rows) == 3 and len(traces) == trained + 1
    for one, other in zip(
        best.student.get_weights(), found.get_best_models()[0].student.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_damaged_checkpoints_are_trained_again_to_the_same_bytes(
    hypermodel, tuner, search, tmp_path
):
    search(tuner(hypermodel(), max_trials=5), epochs=1)
    paths = [tmp_path / f"search/trial_{number:04d}/checkpoint.npz" for number in range(5)]
    before = [path.read_bytes() for path in paths]
    for path, damage in zip(paths[:4], (truncated, emptied, removed, binary), strict=True):
        damage(path)
    again = tuner(hypermodel(), max_trials=5)
    assert len(again.oracle.notes) == 4
    for path, note in zip(paths[:4], sorted(again.oracle.notes), strict=True):
        assert str(path) in note
    search(again, epochs=1)
    assert [path.read_bytes() for path in paths] == before
    assert len(tuning.trials(again.project_dir)) == 5


def test_a_checkpoint_of_another_model_or_with_code_in_it_is_refused(
    hypermodel, dense_model, tmp_path
):
    space = keras_tuner.HyperParameters()
    model = hypermodel().build(space)
    path = tmp_path / "checkpoint.npz"
    write_weights(hypermodel(lambda: dense_model(width=8)).build(space), path)
    with pytest.raises(ValueError, match="checkpoint.npz"):
        read_weights(model, path)
    with open(path, "wb") as file:
        np.savez(file, **{str(n): np.array([print], object) for n in range(99)})
    with pytest.raises(ValueError, match="checkpoint.npz.*[Pp]ickle"):
        read_weights(model, path)


def test_a_full_disk_ends_the_search_and_blames_no_trial(
    hypermodel, tuner, search, tmp_path, monkeypatch
):
    whole = files(search(tuner(hypermodel(), max_trials=2), epochs=1) and tmp_path / "search")
    tried = hypermodel()
    shutil.rmtree(tmp_path / "search")

    @contextlib.contextmanager
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))
        yield

    for module in ("checkpoints", "results", "oracles"):
        with monkeypatch.context() as patched, pytest.raises(Exception) as raised:
            patched.setattr(f"tfkd.tuning.{module}.written", full)
            search(tuner(tried, max_trials=2), epochs=1)
        error = raised.value
        error = error.__cause__ if isinstance(error, keras_tuner.errors.FatalError) else error
        assert isinstance(error, OSError) and error.errno == errno.ENOSPC
        assert not any("partial" in name for name in files(tmp_path))
        assert all(row["status"] == "RUNNING" for row in tuning.trials(tmp_path / "search"))
    search(tuner(tried, max_trials=2), epochs=1)
    again = files(tmp_path / "search")
    assert again.keys() == whole.keys()
    assert all(again[name] == whole[name] for name in whole if "executions" not in name)
