"""A race of trials: successive halving over epochs, then the best few over further seeds.

Everybody starts for a few epochs, the best part goes on for more, and so on (Jamieson and Talwalkar
2016; one bracket of Hyperband, Li et al. 2018). The first trial, the defaults, always goes on. What
is left at the end is trained from further seeds, so that chance and merit can be told apart.

What comes next follows from what was trained, and from nothing else: a race that was killed goes on
as if it had not been. KerasTuner knows trainings only. Here a training without `FOLLOWS` begins a
trial, any other one goes on with a trial or repeats it from another seed.
"""

import itertools
import math
import statistics
from dataclasses import dataclass
from typing import NamedTuple

# Among the values of a training, as KerasTuner's Hyperband has them; and the number of its seed.
FOLLOWS, BEGIN, END, SEED = "tuner/trial_id", "tuner/initial_epoch", "tuner/epochs", "tuner/seed"
FACTOR = 3  # the best third goes on
LEAST = 2  # epochs: after one, moving statistics tell more of the start than of the trial
RUNNING, COMPLETED, FAILED = "RUNNING", "COMPLETED", ("FAILED", "INVALID")


class Training(NamedTuple):
    """A training of a race.

    Attributes:
        name: of KerasTuner's trial.
        trial: name of the one that began it.
        seed: its number, from 0.
        end: epochs after which it ends; 0 where that is not said.
        status: of KerasTuner.
        score: the objective, where it is completed.
    """

    name: str
    trial: str
    seed: int
    end: int
    status: str
    score: float | None


@dataclass(frozen=True)
class Race:
    """The rules of a race.

    Args:
        rungs: epochs after which trials are compared, the last one those of a full training; ()
            where trials are trained in full at once.
        finalists: how many of the best are trained from further seeds, beside the first trial.
        seeds: of each finalist, the one before included.
        sign: 1 where a high score is good, -1 where a low one is.
    """

    rungs: tuple = ()
    finalists: int = 0
    seeds: int = 1
    sign: int = 1

    def next(self, trainings):
        """What follows on what was trained; None where that is nothing, or nothing yet.

        Args:
            trainings: list of `Training`, in the order in which they began; every trial has begun.

        Returns:
            dict of `FOLLOWS`, `SEED` and, where epochs are known, `BEGIN` and `END`.
        """
        left = trials = [own.name for own in trainings if own.name == own.trial]
        if not trials:
            return None
        for number, (begin, end) in enumerate(itertools.pairwise(self.rungs), start=1):
            if _waiting(trainings, left, begin):
                return None
            kept = max(self.finalists, math.ceil(len(trials) / FACTOR**number))
            left = self._best(trainings, left, begin, kept, trials[0])
            for trial in left:
                done = {own.end: own.name for own in trainings if own[1:3] == (trial, 0)}
                if end not in done:
                    return {FOLLOWS: done[begin], SEED: 0, BEGIN: begin, END: end}
        full = max(own.end for own in trainings)
        if not self.finalists or _waiting(trainings, left, full):
            return None
        finalists = self._best(trainings, left, full, self.finalists, trials[0])
        begun = {own[1:4] for own in trainings}
        for seed, trial in itertools.product(range(self.seeds), finalists):
            if (trial, seed, full) not in begun:
                return {FOLLOWS: trial, SEED: seed, **({BEGIN: 0, END: full} if full else {})}
        return None

    def _best(self, trainings, trials, end, count, first):
        """The best of some trials after so many epochs, best first; and the first of all."""
        failed = {own.trial for own in trainings if own.status in FAILED and own.seed == 0}
        scores, ends = {}, {}
        for own in trainings:
            if own.trial in trials and own.seed == 0 and own.end <= end and own.score is not None:
                score = self.sign * own.score
                scores[own.trial] = max(score, scores.get(own.trial, score))
                ends[own.trial] = own.end
        scores = {t: own for t, own in scores.items() if ends[t] == end and t not in failed}
        best = sorted(scores, key=lambda name: -scores[name])[:count]  # stable: the earlier first
        return best + [first] * (first not in {*best, *failed})


def _waiting(trainings, trials, end):
    """Whether one of some trials has still to come to so many epochs."""
    return any(
        own.status == RUNNING and own.trial in trials and (own.seed, own.end) == (0, end)
        for own in trainings
    )


def trial_of(name, follows):
    """The trial that a training belongs to, given {training: name of the one before, or None}."""
    while follows.get(name) is not None:
        name = follows[name]
    return name


def own_values(values):
    """Hyperparameters without what KerasTuner and a race keep among them."""
    return {name: value for name, value in values.items() if not name.startswith("tuner/")}


def joined(rows, objective, sign):
    """Trials with everything that goes on with them or repeats them.

    Args:
        rows: of `tfkd.tuning.trials`: a row a training.
        objective: name of the metric.
        sign: 1 where a high one is good, -1 where a low one is.

    Returns:
        list of dicts, a row a trial: `trial`, `status`, `values`, `parameters`, `seconds`,
        `message`; `seeds`, a list of {"seed", "epochs", "metrics" of the best epoch, "history"};
        `epochs` of the longest training; `score` (the mean objective), `mean` and `error` ({metric:
        mean, and its standard error}) over the seeds that were trained so long, error None for one.
    """
    follows, groups = {row["trial"]: row["follows"] for row in rows}, {}
    for row in rows:
        groups.setdefault(trial_of(row["trial"], follows), []).append(row)
    return [_joined(name, own, objective, sign) for name, own in groups.items()]


def _joined(name, rows, objective, sign):
    seeds = {}
    for row in rows:
        for execution in row["executions"]:
            if execution["failure"] is None:
                _add(seeds, row, execution, objective, sign)
    epochs = max((own["epochs"] for own in seeds.values()), default=0)
    longest = [own["metrics"] for own in seeds.values() if own["epochs"] == epochs]
    names = [n for n in (longest[0] if longest else ()) if all(n in own for own in longest)]
    figures = {n: [own[n] for own in longest] for n in names}
    figures = {n: own for n, own in figures.items() if None not in own}
    states = {row["status"] for row in rows}
    failed = [row for row in rows if row["status"] in FAILED]
    mean = {n: statistics.fmean(own) for n, own in figures.items()}
    return {
        "trial": name,
        "status": failed[0]["status"] if failed else RUNNING if RUNNING in states else COMPLETED,
        "score": None if failed else mean.get(objective),
        "values": rows[0]["values"],
        "mean": mean,
        "error": {n: standard_error(own) for n, own in figures.items()},
        "epochs": epochs,
        "seeds": list(seeds.values()),
        "parameters": rows[0]["parameters"],
        "seconds": sum(row["seconds"] for row in rows),
        "message": failed[0]["message"] if failed else None,
    }


def _add(seeds, row, execution, objective, sign):
    """Adds a training to those of its seed."""
    seed, figures, history = execution["seed"], execution["metrics"], execution["history"]
    before = seeds.get(seed) if row["begin"] else None
    if before is not None:
        history = {n: [*before["history"].get(n, []), *own] for n, own in history.items()}
        if sign * before["metrics"][objective] >= sign * figures[objective]:
            figures = before["metrics"]
    epochs = len(next(iter(history.values()), []))
    seeds[seed] = {"seed": seed, "epochs": epochs, "metrics": figures, "history": history}


def standard_error(values):
    """Of a mean of independent values; None for a single one."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
