"""The settings of `tfkd search`: those of `tfkd distill`, which weights may move, and how."""

import dataclasses
import difflib
import os
import tomllib
from dataclasses import dataclass, replace

from tfkd.runs.distill_settings import DistillSettings
from tfkd.runs.settings import SettingsError, setting
from tfkd.tuning import Choice, Range

TUNERS = ("random", "bayesian", "hyperband", "grid")
# Metrics that mean the same in every trial, and which way is better.
OBJECTIVES = {"val_accuracy": "max", "val_cross_entropy": "min", "val_teacher_agreement": "max"}
PARETO = ("parameters", "latency")
# What may move. Only the ratios of the losses' weights count, so logits_weight stands still unless
# asked for: the other two weights reach every ratio.
MOVABLE = ("student_loss_weight", "temperature", "logits_weight", "hint_weight", "learning_rate")
DEFAULT_SPACE = {
    "student_loss_weight": "0:1",
    "temperature": "1:16:log",
    "hint_weight": "0.01:1:log",
}
# Where a student of modified_alexnet starts: a small one, for it is a small one that is wanted.
DEFAULT_WIDTH = 0.25
# Of the teacher that is trained where none is named: what a search is to show takes minutes.
DEFAULT_DEPTH = 8
# Changing these continues the same search.
FREE = ("trials", "time_budget", "workers", "worker_timeout")


@dataclass(frozen=True)
class SearchSettings(DistillSettings):
    """Everything that decides what `tfkd search` tries and trains; see each field's help.

    What moves starts where the distill settings have it: trial 0 is these settings themselves.
    """

    student_options: dict = setting(
        {},
        f"Of the student's model (repeatable); modified_alexnet has width={DEFAULT_WIDTH} unless "
        "told otherwise.",
        flag="--student-option",
    )
    teacher_options: dict = setting(
        {},
        f"Of the teacher's model (repeatable); resnet has depth={DEFAULT_DEPTH} unless told "
        "otherwise.",
        flag="--teacher-option",
    )
    epochs: int = setting(5, "Epochs of each trial and of the final students.", minimum=1)
    teacher_epochs: int = setting(10, "Epochs of a teacher that is trained.", minimum=1)
    seeds: int = setting(3, "How many times the final students are trained anew.", minimum=1)
    search: dict = setting(
        {},
        "What moves and where, such as temperature=1:16:log or learning_rate=0.001,0.003 "
        f"(repeatable). Unless told: {', '.join(f'{k}={v}' for k, v in DEFAULT_SPACE.items())}.",
    )
    search_student_options: dict = setting(
        {},
        "Options of the student's model that move, such as width=0.125,0.25,0.5 (repeatable).",
        flag="--search-student-option",
    )
    tuner: str = setting("random", f"KerasTuner's: {', '.join(TUNERS)}.")
    trials: int = setting(12, "How many trials, at most.", minimum=1)
    executions: int = setting(1, "How many seeds each trial is trained with.", minimum=1)
    objective: str = setting("val_accuracy", f"What the best has: {', '.join(OBJECTIVES)}.")
    pareto: str | None = setting(
        None, f"A second objective, to be small: {' or '.join(PARETO)} of the student."
    )
    time_budget: float | None = setting(
        None, "Seconds after which no new trial is begun (final students not counted).", above=0
    )
    views: int | None = setting(
        None,
        "Augmented versions of each image that the teacher is asked about; unless told one an "
        "epoch, or fewer to keep within 4 GB.",
        minimum=1,
    )
    cache: str | None = setting(
        None, "Directory of the teacher's stored answers, kept; unless told inside --out, dropped."
    )
    workers: int | None = setting(
        None, "Processes on this machine that share the trials; unless told this one.", minimum=1
    )
    worker_timeout: float = setting(
        600.0, "Seconds that a worker waits for its chief to answer.", above=0
    )

    def check(self):
        self._choose_depth()
        self._choose_width()
        super().check()
        if self.recipe is not None:
            raise SettingsError(
                f'recipe is "{self.recipe}", but a search moves the weights of tfkd distill\'s own '
                "losses. Leave recipe out."
            )
        if self.tuner not in TUNERS:
            raise SettingsError(_unknown("tuner", self.tuner, TUNERS))
        if self.objective not in OBJECTIVES:
            reason = ""
            if "loss" in self.objective:
                reason = "A loss changes its meaning with the weights that are searched. "
            elif self.objective in {name.removeprefix("val_") for name in OBJECTIVES}:
                reason = "Training metrics choose what memorises best. "
            raise SettingsError(_unknown("objective", self.objective, OBJECTIVES, reason))
        if self.pareto is not None and self.pareto not in PARETO:
            raise SettingsError(_unknown("pareto", self.pareto, PARETO))
        if self.pareto and not self.search_student_options:
            raise SettingsError(
                f"pareto is {self.pareto}, but every trial's student has the same. Let its size "
                "move: search_student_options (--search-student-option width=0.125,0.25,0.5)."
            )
        extremes = {name: space.extremes for name, space in self.space.items()}
        for end in (0, 1):  # the settings' own bounds hold for the whole space
            self.of_trial({name: ends[end] for name, ends in extremes.items()})

    def _choose_depth(self):
        if self.teacher == "resnet":
            options = {"depth": DEFAULT_DEPTH, **self.teacher_options}
            object.__setattr__(self, "teacher_options", options)

    def _choose_width(self):
        options = {**self.student_options}
        if self.student == "modified_alexnet" and "width" not in self.search_student_options:
            options.setdefault("width", DEFAULT_WIDTH)
        for name, values in self.student_choices.items():
            options.setdefault(name, values[0])
            if options[name] not in values:
                raise SettingsError(
                    f"student_options has {name}={options[name]!r}, where the search starts, but "
                    f"search_student_options only {', '.join(map(str, values))}. Add it there."
                )
        object.__setattr__(self, "student_options", options)

    @property
    def student_choices(self):
        """{option of the student's model: tuple of values, two or more}."""
        choices = {}
        for name, given in self.search_student_options.items():
            values = tuple(_values(f"search_student_options.{name}", given))
            if any(isinstance(value, float) for value in values):
                values = tuple(float(v) if _is_number(v) else v for v in values)
            choices[name] = values
        return choices

    @property
    def space(self):
        """{name of `MOVABLE`: `tfkd.tuning.Range` or `Choice`}, starting at the setting's value."""
        given = self.search
        for name in given:
            if name not in MOVABLE:
                raise SettingsError(_unknown("search", name, MOVABLE))
        if not given:
            absent = {"hint_weight"} if self.hints == "none" or not self.hint_weight else set()
            given = {name: text for name, text in DEFAULT_SPACE.items() if name not in absent}
        elif "hint_weight" in given and self.hints == "none":
            raise SettingsError('search moves hint_weight, but hints is "none".')
        return {
            name: _space(f"search.{name}", text, getattr(self, name))
            for name, text in given.items()
        }

    @property
    def distillation(self):
        """The `DistillSettings` from which the search starts: those of trial 0."""
        fields = dataclasses.fields(DistillSettings)
        return DistillSettings(**{field.name: getattr(self, field.name) for field in fields})

    def of_trial(self, values):
        """The `DistillSettings` of a trial.

        Args:
            values: {hyperparameter: value}; an option of the student's model is named
                `student_<option>`.
        """
        moved = {name: value for name, value in values.items() if name in MOVABLE}
        options = {
            name: values[student_option(name)]
            for name in self.student_choices
            if student_option(name) in values
        }
        student_options = {**self.student_options, **options}
        return replace(self.distillation, student_options=student_options, **moved)

    def final(self, values, teacher):
        """The `DistillSettings` of the final students: seeds that no trial has seen.

        Args:
            values: a trial's.
            teacher: path of the search's teacher.
        """
        return replace(
            self.of_trial(values),
            teacher=str(teacher),
            teacher_options={},
            seed=self.seed + self.executions,
        )

    def resolved(self):
        cache = self.cache and os.path.abspath(os.path.expanduser(self.cache))
        return replace(super().resolved(), cache=cache)

    def differences(self, other):
        """As `Settings.differences`, without what may change while a search goes on."""
        same = {name: getattr(other, name) for name in FREE}
        return super(SearchSettings, replace(self, **same)).differences(other)

    def default_out(self):
        return f"{super().default_out()}-search"


def _unknown(name, value, known, reason=""):
    near = difflib.get_close_matches(value, known, n=1)
    hint = f'Did you mean "{near[0]}"? ' if near else ""
    return f'{name}: no "{value}". {reason}{hint}There are: {", ".join(known)}.'


def student_option(name):
    """The hyperparameter of an option of the student's model."""
    return f"student_{name}"


EXPECTED = "expected LOW:HIGH, LOW:HIGH:log, or values with commas"


def _space(name, given, start):
    """A `Range` or `Choice` from LOW:HIGH, LOW:HIGH:log, or values with commas (or a list)."""
    try:
        if isinstance(given, str) and ":" in given:
            low, high, *log = given.split(":")
            if log not in ([], ["log"]):
                raise SettingsError(f"{name} is {given!r}; {EXPECTED}.")
            return Range(_number(low), _number(high), start, log=bool(log))
        return Choice(tuple(map(_number, _values(name, given))), start)
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(
            f"{name} is {given!r}: {error} It starts at the setting itself, {name[7:]}={start}."
        ) from None


def _values(name, given):
    values = given if isinstance(given, list | tuple) else [given]
    if isinstance(given, str):
        values = [_value(text.strip()) for text in given.split(",")]
    if len(values) < 2:
        raise SettingsError(f"{name} is {given!r}: with one value nothing moves; {EXPECTED}.")
    return values


def _number(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is no number.") from None


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(text):
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
