"""KerasTuner's oracles, which here begin with the defaults, race, and go on after kills and damage.

A search that goes on is played again: its oracle is made anew, hands out the same trials in the
same order, and is told what each ended in before. So nothing but `trial_*/trial.json` is read, what
a damaged or missing one held is trained again, and a killed search ends as an undisturbed one does.
`tests/tuning/test_tuners.py` tests what is relied on of KerasTuner.
"""

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from tfkd.files import written
from tfkd.tuning import checkpoints
from tfkd.tuning.race import (
    BEGIN,
    END,
    FACTOR,
    FOLLOWS,
    LEAST,
    SEED,
    Race,
    Training,
    own_values,
    trial_of,
)
from tfkd.tuning.results import Executions, TrialState, read_json, trial_directories

CHECKPOINT = "checkpoint.npz"
UNSEEDED = 10_001


class ReplayedOracle:
    """Mixin of KerasTuner's oracles.

    Args:
        finalists: how many of the best trials are trained from further seeds once all have ended,
            beside the first one.
        seeds: how many seeds each finalist gets, the one that it was tried with included.

    Attributes:
        notes: list of sentences about files that could not be used.
        most: how many trials there may be, what follows on them not counted.
        deadline: `time.monotonic()` after which no trial is begun, the first excepted.
        declare: function of `hp` that asks of it whatever a model's factory asks.
        race: `Race`, which says what follows on the trials.
    """

    numerical = False  # whether proposals are computed, and may differ in their last digits

    def __init__(self, objective=None, seed=None, finalists=0, seeds=1, **settings):
        # KerasTuner takes 0 for no seed, and draws one in each process where there is none.
        super().__init__(objective=objective, seed=seed or UNSEEDED, **settings)
        sign = 1 if getattr(self.objective, "direction", "min") == "max" else -1
        self.race = Race((), finalists, seeds, sign)
        self.notes, self.deadline = [], math.inf
        # KerasTuner makes names as long as the limit: they would change with it.
        self.most, self.max_trials = self.max_trials or math.inf, None
        self.declare = lambda hp: None
        self._records, self._pending = {}, {}  # {number: TrialState}, {name: TrialState}
        self._begun_after, self._ended_as = {}, {}
        self._replaying, self._replayed = False, None  # the second one: the values on record

    def limit(self, trials=math.inf, seconds=math.inf):
        """Hands out no more than so many trials, and none but the first after so many seconds."""
        self.most, self.deadline = trials, time.monotonic() + seconds

    @property
    def over(self):
        """Whether all trials that `limit` allows, and what follows on them, have ended."""
        if not self._enough() or self.ongoing_trials or self._retry_queue:
            return False
        return self._late() or self.race.next(self._trainings()) is None

    def read_trials(self):
        """Takes up the trials of the project's directory, as far as their files are whole."""
        for path in trial_directories(self._project_dir):
            name = path.name.removeprefix("trial_")
            try:
                record = read_json(path / "trial.json", TrialState)
                if not name.isdecimal() or f"{int(name):04d}" != record.trial_id:
                    raise ValueError(
                        f'"{path / "trial.json"}" is of a trial "{record.trial_id}"; expected a '
                        "directory trial_0000, trial_0001, ... with a trial of the same number."
                    )
                if record.status == TrialStatus.COMPLETED:
                    _check_whole(path, record)
                self._records[int(name)] = record
            except ValueError as error:
                self.notes.append(f"{error} That trial is trained again.")
        self._replay()

    @keras_tuner.synchronized
    def create_trial(self, tuner_id):
        if tuner_id not in self.ongoing_trials and not self._retry_queue:
            self._replay()  # beyond a gap that has been filled
        return super().create_trial(tuner_id)

    def populate_space(self, trial_id):
        """A new trial, as the oracle proposes it; after the last one what follows on them."""
        recorded, self._replayed = self._replayed or {}, None
        if SEED in recorded:
            before = self.trials.get(recorded.get(FOLLOWS))
            if before and own_values(before.hyperparameters.values) == own_values(recorded):
                return {"status": TrialStatus.RUNNING, "values": dict(recorded)}
        if self._replaying or not self._enough():
            proposed = super().populate_space(trial_id)
            if proposed["status"] == TrialStatus.RUNNING and self.race.rungs:
                proposed["values"] = {**proposed["values"], BEGIN: 0, END: self.race.rungs[0]}
            if proposed["status"] != TrialStatus.STOPPED:
                return proposed
        following = None if self._late() else self.race.next(self._trainings())
        if following is not None:
            values = own_values(self.trials[following[FOLLOWS]].hyperparameters.values)
            return {"status": TrialStatus.RUNNING, "values": values | following}
        idle = self.ongoing_trials and (self.race.rungs or self.race.finalists)
        return {"status": TrialStatus.IDLE if idle else TrialStatus.STOPPED, "values": None}

    def _trainings(self):
        """What was and is trained, for `Race`."""
        values = {name: trial.hyperparameters.values for name, trial in self.trials.items()}
        follows = {name: own.get(FOLLOWS) for name, own in values.items()}
        return [
            Training(
                name,
                trial_of(name, follows),
                values[name].get(SEED, 0),
                values[name].get(END, 0),
                trial.status,
                trial.score if trial.status == TrialStatus.COMPLETED else None,
            )
            for name, trial in self.trials.items()
        ]

    def save(self):
        """Nothing: what a search needs in order to go on stands in its trials' files."""

    def reload(self):
        """Nothing: see `read_trials`."""

    def remaining_trials(self):
        return None if math.isinf(self.most) else self.most - self._begun()

    def _begun(self):
        """How many trials were begun, what follows on them not counted."""
        return sum(SEED not in trial.hyperparameters.values for trial in self.trials.values())

    def _late(self):
        return bool(self.trials) and time.monotonic() > self.deadline

    def _enough(self):
        return self._begun() >= self.most or self._late()

    def _random_values(self):
        """The defaults first, where published work stands; then KerasTuner's."""
        if self.trials:
            return super()._random_values()
        defaults = keras_tuner.HyperParameters()
        defaults.merge(self.get_space())
        return defaults.values

    def _save_trial(self, trial):
        name = trial.trial_id
        self._begun_after.setdefault(name, len(self.end_order))
        if name in self.end_order:
            self._ended_as.setdefault(name, self.end_order.index(name) + 1)
        if self._replaying:
            return  # the file has it already
        directory = Path(self._get_trial_dir(name))
        content = {
            **trial.get_state(),
            "begun_after": self._begun_after[name],
            "ended_as": self._ended_as.get(name),
            "checkpoint": checkpoints.file_hash(directory / CHECKPOINT),
        }
        with written(directory / "trial.json") as partial:
            partial.write_text(json.dumps(content), encoding="utf-8")

    def _replay(self):
        """Begins and ends the trials on record in the order in which they did, up to a gap."""
        verbose, self.verbose = self.verbose, 0
        while len(self.trials) in self._records:
            record = self._records.pop(len(self.trials))
            self._end_pending(record.begun_after)
            self._replaying, self._replayed = True, record.hyperparameters.values
            try:
                trial = super().create_trial(f"again {record.trial_id}")
            finally:
                self._replaying = False
            if trial.status != TrialStatus.RUNNING:
                self.notes.append(f"Trial {record.trial_id} is no longer part of the search.")
                break
            name = trial.trial_id
            if not self._fits(trial, record):
                self._save_trial(trial)
                note = "has other values than this search gives it, and is trained again."
                self.notes.append(f"Trial {record.trial_id} {note}")
                break  # what came after it may depend on what it ends in
            if record.status in (TrialStatus.COMPLETED, TrialStatus.FAILED):
                self._pending[name] = record
        self._end_pending()
        for tuner_id, trial in list(self.ongoing_trials.items()):
            if tuner_id.startswith("again "):
                del self.ongoing_trials[tuner_id]
                self._retry_queue.insert(0, trial.trial_id)  # it takes the last one first
        self.verbose = verbose
        self.tuner_ids -= {name for name in self.tuner_ids if name.startswith("again ")}

    def _end_pending(self, most=None):
        """Ends replayed trials in their order, until `most` trials have ended."""
        for name in sorted(self._pending, key=lambda n: self._pending[n].ended_as or math.inf):
            if most is not None and len(self.end_order) >= most:
                return
            record = self._pending.pop(name)
            trial = self.trials[name]
            ended = Trial(trial.hyperparameters, name, record.status, record.message)
            self._replaying = True
            try:
                if record.status == TrialStatus.COMPLETED:
                    last = {n: m.observations[-1] for n, m in record.metrics.metrics.items()}
                    for step in {observation.step for observation in last.values()}:
                        values = {n: o.value[-1] for n, o in last.items() if o.step == step}
                        self.update_trial(name, values, step)
                self.end_trial(ended)
            finally:
                self._replaying = False

    def _fits(self, trial, record):
        """Whether a record is of this trial; if so, the trial gets the record's values."""
        hp, recorded = trial.hyperparameters, record.hyperparameters.values
        if recorded.keys() - hp.values.keys():
            self.declare(hp)  # what is only asked for while a model is built
        values = hp.values
        if recorded.keys() != values.keys():
            return False
        if self.numerical:
            near = [_near(values[n], recorded[n]) for n in values]
            if not all(near):
                return False
        elif any(values[name] != recorded[name] for name in values):
            return False
        if record.status == TrialStatus.COMPLETED:
            wanted = getattr(self.objective, "objectives", [self.objective])
            if not all(one.name in record.metrics.metrics for one in wanted):
                return False
        hp.values = dict(recorded)
        return True


class RandomSearchOracle(ReplayedOracle, keras_tuner.oracles.RandomSearchOracle):
    pass


class BayesianOptimizationOracle(ReplayedOracle, keras_tuner.oracles.BayesianOptimizationOracle):
    numerical = True


class HyperbandOracle(ReplayedOracle, keras_tuner.oracles.HyperbandOracle):
    pass


class GridSearchOracle(ReplayedOracle, keras_tuner.oracles.GridSearchOracle):
    @keras_tuner.synchronized
    def end_trial(self, trial):
        super().end_trial(trial)
        if SEED in trial.hyperparameters.values:
            self._populate_next.pop()  # no place of the grid


class SuccessiveHalvingOracle(ReplayedOracle, keras_tuner.oracles.RandomSearchOracle):
    def __init__(self, objective=None, max_epochs=1, finalists=1, **settings):
        super().__init__(objective, finalists=finalists, **settings)
        shares = (round(max_epochs / FACTOR**number) for number in (2, 1))
        rungs = (*(epochs for epochs in shares if epochs >= LEAST), max_epochs)
        self.race = replace(self.race, rungs=rungs)

    def _compute_values_hash(self, values):
        return super()._compute_values_hash(own_values(values))  # tried is tried


def _check_whole(path, record):
    """Raises ValueError unless a completed trial's other files are what they were at its end."""
    if not Executions(path).read():
        raise ValueError(f'"{Executions(path).path}" is missing.')
    if checkpoints.file_hash(path / CHECKPOINT) != record.checkpoint:
        raise ValueError(f'"{path / CHECKPOINT}" is missing or damaged.')


def _near(value, other):
    if isinstance(value, float) and isinstance(other, float):
        return math.isclose(value, other, rel_tol=0.01, abs_tol=1e-6)
    return value == other
