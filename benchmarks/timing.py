"""Timing in turns: every way runs once in each round, forwards in one and backwards in the next.

The machine's speed drifts with what else it does; ratios are therefore taken within a round.
"""

import os
import platform
import statistics
import time
from importlib import metadata

import keras

# So many ways run between two runs of the base.
_BASE_EVERY = 5


class StepClock(keras.callbacks.Callback):
    """Notes when each training step ends."""

    def on_train_begin(self, logs=None):
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append(time.perf_counter())

    def seconds_per_step(self):
        """The mean over all steps but the first, which starts the input pipeline."""
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def fitting(model, batches):
    """A function of the number of steps to seconds a step of `model.fit(batches)`."""

    def run(steps):
        clock = StepClock()
        model.fit(batches, epochs=1, steps_per_epoch=steps, verbose=0, callbacks=[clock])
        return clock.seconds_per_step()

    return run


def race(runs, rounds, base, seconds=1.8, most_steps=15, progress=print):
    """Seconds a step of every way, in turns.

    The base, which all others are divided by, runs again after every few of them: its figure of a
    round is the median.

    Args:
        runs: {name: function of a number of steps to seconds a step}.
        rounds: how often each is timed, after one untimed run.
        base: name of the way that the others are compared with.
        seconds: about how long one run is to take; never less than 3 steps nor more than
            `most_steps`.

    Returns:
        {name: [seconds a step in round 0, 1, ...]}.
    """
    steps = {}
    for name, run in runs.items():
        run(2)
        steps[name] = int(min(max(seconds / run(3), 3), most_steps))
        progress(f"ready: {name}")
    others = [name for name in runs if name != base]
    taken = {name: [] for name in runs}
    for number in range(rounds):
        based = []
        for place, name in enumerate(others if number % 2 else reversed(others)):
            if place % _BASE_EVERY == 0:
                based.append(runs[base](steps[base]))
            taken[name].append(runs[name](steps[name]))
        taken[base].append(statistics.median(based))
        progress(f"round {number + 1} of {rounds}")
    return taken


def ratios(taken, base):
    """{name: {"seconds", "ratio", "spread": [least, greatest]}}, the ratio to `base` by rounds."""
    result = {}
    for name, seconds in taken.items():
        paired = [a / b for a, b in zip(seconds, taken[base], strict=True)]
        result[name] = {
            "seconds": statistics.median(seconds),
            "ratio": statistics.median(paired),
            "spread": [min(paired), max(paired)],
            "rounds": seconds,
        }
    return result


def machine():
    """Processor, cores and versions, for the record."""
    with open("/proc/cpuinfo") as file:
        models = {line.split(":")[1].strip() for line in file if line.startswith("model name")}
    packages = {}
    for package in ("tensorflow", "keras", "numpy", "torch"):
        try:
            packages[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": ", ".join(sorted(models)) or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **packages,
    }
