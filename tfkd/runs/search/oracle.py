"""What a search asks of KerasTuner's oracles beyond what they do: limits, and safety from kills."""

import functools
import json
import math
import time

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.src import utils as tuner_utilities

from tfkd.files import written


def write_safely():
    """Makes KerasTuner, in this process, write its states whole or not at all."""
    tuner_utilities.save_json = _save_json


def keep_within(oracle, settings, seconds_spent):
    """Ends an oracle's handing out of trials by number and by time, and mends what it reloaded.

    Args:
        oracle: KerasTuner's oracle, in the process that hands out the trials.
        settings: `SearchSettings`.
        seconds_spent: of the time budget, before.

    Returns:
        function () -> bool: whether the search is known to be over.
    """
    _mend(oracle)
    oracle.verbose = 0
    deadline = time.monotonic() + (settings.time_budget or math.inf) - seconds_spent
    create = oracle.create_trial

    def enough():
        late = time.monotonic() > deadline
        return len(oracle.trials) >= settings.trials or (late and len(oracle.trials) > 0)

    def over():
        return enough() and not oracle.ongoing_trials and not oracle._retry_queue

    def create_trial(tuner_id):
        if tuner_id in oracle.ongoing_trials or oracle._retry_queue or not enough():
            return create(tuner_id)
        oracle.tuner_ids.discard(tuner_id)
        return Trial(oracle.get_space(), status=TrialStatus.STOPPED)

    oracle.create_trial = create_trial
    return over


def _save_json(path, content):
    """KerasTuner's, but whole or not at all: a kill while it writes must not end the search."""
    text = json.dumps(content)
    with written(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return text


def _mend(oracle):
    """What KerasTuner forgets of a search that was killed, or takes for unfinished.

    It writes down that a trial has ended before it takes it off the list of those under way, and
    that a trial is handed out before it puts it there.
    """
    running = []
    for name, trial in sorted(oracle.trials.items()):
        if name not in oracle.start_order:
            oracle.start_order.append(name)
        if trial.status == TrialStatus.RUNNING:
            running.append(name)
        elif name not in oracle.end_order:
            oracle.end_order.append(name)
    oracle._retry_queue = running[::-1]  # it takes the last one first
    if isinstance(oracle, keras_tuner.oracles.GridSearchOracle):
        _mend_grid(oracle)


def _mend_grid(oracle):
    """The order of the grid's combinations, which its state does not hold."""

    def compared(a, b):
        return oracle._compare(*(oracle.trials[name].hyperparameters.values for name in (a, b)))

    before = None
    for name in sorted(oracle.start_order, key=functools.cmp_to_key(compared)):
        oracle._ordered_ids.insert(name, before)
        before = name
    oracle._populate_next = list(oracle.start_order)
