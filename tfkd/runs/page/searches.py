"""What the page of a search says more: its trials, their race, and what their values did."""

from functools import cached_property

import numpy as np

from tfkd.evaluation.tables import ABSENT
from tfkd.runs.page import charts, verdict
from tfkd.runs.page.sections import RunPage
from tfkd.runs.page.tables import Table
from tfkd.runs.rows import DEFAULTS
from tfkd.settings.search import SIGNS

KEPT, FIRST, ENDED, STOPPED = 1, 0, 2, 5  # styles
DRAWN, LISTED = 300, 60  # trials
FEWEST = 8  # trials that an importance is told from
TREES, REPEATS = 100, 10
LEARNED = 0.25  # R² on unseen trials from which a forest is said to know something


class SearchPage(RunPage):
    """A finished search, and what its page says.

    Args:
        directory, record, kept, missing: as for `RunPage`.
        found: its `tfkd.runs.search.record.Found`.
    """

    def __init__(self, directory, record, kept, missing, found):
        super().__init__(directory, record, kept, missing)
        self.found, self.trials = found, found.trials
        self.objective = record.settings.get("objective", "val_accuracy")
        self.sign = SIGNS[self.objective]
        self.words = self.objective.replace("val_", "validation ").replace("_", " ")
        self.entropy = "entropy" in self.words
        self.factor = 1 if self.entropy else 100
        self.measure = f"{self.words} ({'nats' if self.entropy else '%'})"
        self.order = sorted(self.trials, key=self._rank)
        self.drawn = self.order[:DRAWN]
        lengths = [len(own) for own in found.race.values() if own]
        self.epochs = min(lengths, default=0)

    def _rank(self, trial):
        """The trial that is kept first, then the defaults, then those that went far and well."""
        score = -self.sign * trial.score if trial.score is not None else float("inf")
        first = (trial.trial != self.found.kept, trial.trial != self.trials[0].trial)
        return (*first, -trial.epochs, -len(trial.seeds), score)

    @property
    def headline(self):
        if self.found.kept == self.trials[0].trial:
            return f"Of {len(self.trials)} trials the defaults were kept."
        return f"Of {len(self.trials)} trials {self.found.kept} was taken instead of the defaults."

    @property
    def verdict(self):
        return [self.found.said, *self.against_defaults, *super().verdict]

    @property
    def against_defaults(self):
        """A sentence about searched minus default settings on the test split."""
        figures, main = self.record.figures, self.main
        if self.record.main == DEFAULTS or DEFAULTS not in figures:
            return []
        pairs = zip(figures[main], figures[DEFAULTS], strict=True)
        values = [own["accuracy"] - other["accuracy"] for own, other in pairs]
        gain, what = (
            verdict.judged(values, self.images, self.task),
            f"{self.record.main} minus the defaults",
        )
        return [verdict.sentence(gain, what, self.images, self.task)]

    def _style(self, trial):
        if trial.trial == self.found.kept:
            return KEPT
        if trial.trial == self.trials[0].trial:
            return FIRST
        return ENDED if trial.epochs == max(own.epochs for own in self.trials) else STOPPED

    def _legend(self):
        """(trial, name in the legend or "", style) of what is drawn, what matters most on top."""
        kept = f"kept: trial {self.found.kept}"
        if self.found.kept == self.trials[0].trial:
            kept = "kept: the defaults"
        names = {KEPT: kept, FIRST: "the defaults", ENDED: "trained to the end"}
        names[STOPPED] = "stopped early"
        for trial in reversed(self.drawn):
            style = self._style(trial)
            yield trial, names.pop(style, ""), style

    @property
    def values(self):
        """Names of what moves."""
        return list(dict.fromkeys(name for trial in self.trials for name in trial.values))

    @property
    def parallel(self):
        """Parallel coordinates of the trials; None where no trial's race was kept."""
        shown = [own for own in self._legend() if self._early(own[0]) is not None]
        if not shown:
            return None
        columns = {
            name.replace("_", " "): ([trial.values.get(name) for trial, _, _ in shown], 1)
            for name in self.values
        }
        label = f"after {self.epochs} epochs ({'nats' if self.entropy else '%'})"
        columns[label] = ([self._early(trial) for trial, _, _ in shown], self.factor)
        lines = [(name, style) for _, name, style in shown]
        title = f"The values of each trial and its {self.measure} after {self.epochs} epochs"
        return charts.parallel(title, columns, lines)

    def _early(self, trial):
        """The best objective within the epochs that every trial has; None where there is none."""
        values = [v for v in self.found.race.get(trial.trial, [])[: self.epochs] if v is not None]
        return self.sign * max(self.sign * own for own in values) if values else None

    @cached_property
    def race(self):
        """The objective of each trial's first seed, epoch by epoch."""
        curves = [(own, self.found.race.get(own[0].trial, [])) for own in self._legend()]
        values = [v for _, curve in curves for v in curve]
        if not any(v is not None for v in values):
            return None
        x, y = charts.plane(
            {
                "label": "epoch (first seed)",
                "values": [1, max(len(curve) for _, curve in curves)],
                "integer": True,
            },
            {"label": self.measure, "values": values, "factor": self.factor},
        )
        series = []
        for (trial, name, style), curve in curves:
            pairs = [(n, v) for n, v in enumerate(curve, 1) if v is not None]
            ends = [(x.place(n), y.place(v), 3, f"trial {trial.trial}") for n, v in pairs[-1:]]
            line = charts.points(x, y, pairs)
            series.append(charts.Series(name, style, line, dots=tuple(ends)))
        return charts.Chart("The race: each trial as far as it was trained", x, y, series)

    @property
    def importance(self):
        """(table of the importance of what moves, how sure it is in words)."""
        known = [trial for trial in self.trials if self._early(trial) is not None]
        moving = [
            name
            for name in self.values
            if len({str(trial.values.get(name)) for trial in known}) > 1
        ]
        if len(known) < FEWEST or not moving:
            return None, (
                f"{len(known)} trials with a result are too few to tell which value mattered; "
                f"{FEWEST} are the least."
            )
        from scipy.stats import spearmanr

        scores = self.sign * np.array([self._early(trial) for trial in known])
        if len(set(scores)) == 1:
            return None, f"All {len(known)} trials came to the same result: no value mattered."
        columns = {name: _numbers([own.values.get(name) for own in known]) for name in moving}
        drops, spread, explained = _importance(np.stack(list(columns.values()), axis=1), scores)
        lines = []
        for place in np.argsort(-drops, kind="stable"):
            name = moving[place]
            numeric = all(isinstance(own.values.get(name), int | float) for own in known)
            rank = spearmanr(columns[name], scores).statistic if numeric else float("nan")
            lines.append(
                [
                    name.replace("_", " "),
                    f"{drops[place]:.2f} ± {spread[place]:.2f}",
                    f"{rank:+.2f}" if np.isfinite(rank) else ABSENT,
                ]
            )
        headings = ["value", "importance (drop of R²)", "rank correlation with a good result"]
        said = (
            f"Importance: a random forest of {TREES} trees predicts the {self.words} after "
            f"{self.epochs} epochs from the values of {len(known)} trials; the drop of its R² when "
            f"one value is shuffled among the trials is that value's importance (mean ± "
            f"standard deviation of {REPEATS} shuffles). On trials that a tree has not seen the "
            f"forest's R² is {explained:.2f}"
        )
        sure = (
            ", so it has learned something."
            if explained >= LEARNED
            else ", hardly better than the mean of all trials: these figures are mostly chance."
        )
        return Table("What the values did", headings, lines), said + sure

    @property
    def listing(self):
        """The table of the trials, and how many were left out."""
        sized = any(own.parameters != self.trials[0].parameters for own in self.trials)
        headings = ["trial", *(own.replace("_", " ") for own in self.values), "epochs", "seeds"]
        headings += [self.measure, "standard error", *["parameters"] * sized, "state"]
        lines = []
        for trial in self.order[:LISTED]:
            error = trial.error.get(self.objective)
            score = "" if trial.score is None else f"{self.factor * trial.score:.2f}"
            cells = [trial.trial, *(_value(trial.values.get(name)) for name in self.values)]
            cells += [str(trial.epochs), str(len(trial.seeds)), score]
            cells.append(ABSENT if error is None else f"{self.factor * error:.2f}")
            cells += [f"{trial.parameters:,}" if trial.parameters else ABSENT] * sized
            lines.append([*cells, self._state(trial)])
        table = Table("Trials, the kept one and the defaults first", headings, lines)
        return table, max(0, len(self.trials) - LISTED)

    def _state(self, trial):
        if trial.message:
            return f"failed: {trial.message}"
        kept = "kept: the defaults" if trial.trial == self.trials[0].trial else "kept"
        states = {KEPT: kept, FIRST: "the defaults", ENDED: "to the end"}
        return states.get(self._style(trial), f"stopped after {trial.epochs} epochs")


def _numbers(values):
    """Values as numbers: of words the place in their order."""
    if all(isinstance(own, int | float) for own in values):
        return np.array(values, float)
    words = sorted({str(own) for own in values})
    return np.array([words.index(str(own)) for own in values], float)


def _importance(values, scores):
    """(mean drops of R², their deviations, R² out of bag) of a random forest."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    forest = RandomForestRegressor(TREES, random_state=0, oob_score=True).fit(values, scores)
    found = permutation_importance(forest, values, scores, n_repeats=REPEATS, random_state=0)
    return found.importances_mean, found.importances_std, float(forest.oob_score_)


def _value(value):
    return ABSENT if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
