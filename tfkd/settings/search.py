"""The settings of `tfkd search`: those of `tfkd distill`, which weights may move, and how."""

import os
from typing import ClassVar, Literal

from pydantic import field_validator, model_validator

from tfkd.published import TEMPERATURE
from tfkd.settings.base import Above0, Count, SettingsError, near, options, parsed
from tfkd.settings.distill import AUTO, NONE, DistillSettings
from tfkd.spaces import Choice, Range

Tuner = Literal["halving", "random", "bayesian", "hyperband", "grid"]
# Metrics that mean the same in every trial, and which way is better.
OBJECTIVES = {"val_accuracy": "max", "val_cross_entropy": "min", "val_teacher_agreement": "max"}
SIGNS = {name: 1 if better == "max" else -1 for name, better in OBJECTIVES.items()}
# What may move. Only the ratios of the losses' weights count, so logits_weight stands still unless
# asked for: the other two weights reach every ratio.
MOVABLE = (
    *("student_loss_weight", "softness", "temperature", "logits_weight", "hint_weight"),
    "learning_rate",
)
DEFAULT_SPACE = {
    "student_loss_weight": "0:0.5",
    "softness": "0.2:0.95",
    "hint_weight": "0.01:1:log",
}
# Where a student of modified_alexnet starts: a small one, for it is a small one that is wanted.
DEFAULT_WIDTH = 0.25
# Of the teacher that is trained where none is named: what a search is to show takes minutes.
DEFAULT_DEPTH = 8
# Another place of the same files continues the same search.
FILES = ("data", "teacher", "student")


class SearchSettings(DistillSettings):
    """Everything that decides what `tfkd search` tries and trains.

    What moves starts where the distill settings have it: trial 0 is these settings themselves.
    """

    free: ClassVar = (
        *DistillSettings.free,
        *("trials", "time_budget", "workers", "worker_timeout", "data_dir", "cache"),
    )

    task: Literal["classification"] = "classification"
    """What is learnt of an image: its class."""
    student_options: options("--student-option")
    """Of the student's model (repeatable); modified_alexnet has width=0.25 unless told."""
    teacher_options: options("--teacher-option")
    """Of the teacher's model (repeatable); resnet has depth=8 unless told otherwise."""
    epochs: Count = 5
    """Epochs of each trial and of the final students."""
    teacher_epochs: Count = 10
    """Epochs of a teacher that is trained."""
    seeds: Count = 3
    """How many times the final students are trained anew."""
    search: options("--search")
    """What moves and where, such as softness=0.5:0.9 or learning_rate=0.001,0.003 (repeatable).
    Unless told: student_loss_weight=0:0.5, softness=0.2:0.95, and with hints hint_weight."""
    search_student_options: options("--search-student-option")
    """Options of the student's model that move, such as width=0.125,0.25,0.5 (repeatable)."""
    tuner: Tuner | None = None
    """halving (random trials, of which ever fewer go on to more epochs), or KerasTuner's random,
    bayesian, hyperband or grid; unless told halving, with --pareto random."""
    trials: Count = 12
    """How many trials, at most."""
    executions: Count = 4
    """How many seeds the best trials and the defaults are trained with; the first one chooses who
    is among the best, the others compare them."""
    objective: str = "val_accuracy"
    """What the best has: val_accuracy, val_cross_entropy or val_teacher_agreement."""
    pareto: Literal["parameters", "latency"] | None = None
    """A second objective, to be small: parameters or latency of the student."""
    time_budget: Above0 | None = None
    """Seconds after which no new trial is begun (final students not counted)."""
    workers: Count | None = None
    """Processes on this machine that share the trials; unless told this one."""
    worker_timeout: Above0 = 600.0
    """Seconds that a worker waits for its chief to answer."""

    @field_validator("objective", mode="before")
    @classmethod
    def _objective_is_fair(cls, name):
        if name in OBJECTIVES:
            return name
        reason = ""
        if "loss" in str(name):
            reason = "A loss changes its meaning with the weights that are searched. "
        elif name in {own.removeprefix("val_") for own in OBJECTIVES}:
            reason = "Training metrics choose what memorises best. "
        raise SettingsError(f'objective: no "{name}". {reason}{near(name, OBJECTIVES)}')

    @model_validator(mode="before")
    @classmethod
    def _what_moves_is_there(cls, values):
        """What moves and is not given: hints, and the published temperature to start from."""
        moves = values.get("search")
        starts = {"temperature": ("temperature", TEMPERATURE), "hint_weight": ("hints", AUTO)}
        for name, (setting, start) in starts.items():
            if isinstance(moves, dict) and name in moves and values.get(setting) is None:
                values = {**values, setting: start}
        return values

    @model_validator(mode="before")
    @classmethod
    def _small_models(cls, values):
        """The starting options of teacher and student, where none are given."""
        values, tables = dict(values), ("teacher_options", "student_options")
        if not all(isinstance(values.get(name, {}), dict) for name in tables):
            return values
        if values.get("teacher", "resnet") == "resnet":
            values["teacher_options"] = {
                "depth": DEFAULT_DEPTH,
                **values.get("teacher_options", {}),
            }
        options, moving = (
            {**values.get("student_options", {})},
            values.get("search_student_options"),
        )
        moving = moving if isinstance(moving, dict) else {}
        alexnet = values.get("student", "modified_alexnet") == "modified_alexnet"
        if alexnet and "width" not in moving:
            options.setdefault("width", DEFAULT_WIDTH)
        for name, choices in _choices(moving).items():
            options.setdefault(name, choices[0])
            if options[name] not in choices:
                raise SettingsError(
                    f"student_options has {name}={options[name]!r}, where the search starts, but "
                    f"search_student_options only {', '.join(map(str, choices))}. Add it there."
                )
        return {**values, "student_options": options}

    def check(self):
        super().check()
        if self.several_teachers:
            raise SettingsError(
                f"A search takes one teacher, but teacher names {len(self.teacher)}: train with "
                "several by tfkd distill."
            )
        if self.precision != "float32" or self.strategy != "none":
            raise SettingsError(
                "A search trains in float32, on one device. Leave precision and strategy out; give "
                "them to tfkd distill with the best settings that are found."
            )
        if self.recipe is not None:
            raise SettingsError(
                f'recipe is "{self.recipe}", but a search moves the weights of tfkd distill\'s own '
                "losses. Leave recipe out."
            )
        if self.loss:
            raise SettingsError(
                f"loss is {', '.join(self.loss)}, but a search moves the weights of tfkd distill's "
                "own losses. Leave loss out; in a program tfkd.tuning.DistillationHyperModel "
                "searches the weight of any loss."
            )
        if self.pareto and not self.search_student_options:
            raise SettingsError(
                f"pareto is {self.pareto}, but every trial's student has the same. Let its size "
                "move: search_student_options (--search-student-option width=0.125,0.25,0.5)."
            )
        extremes = {name: space.extremes for name, space in self.space.items()}
        for end in (0, 1):  # the settings' own bounds hold for the whole space
            self.of_trial({name: ends[end] for name, ends in extremes.items()})

    @property
    def student_choices(self):
        """{option of the student's model: tuple of values, two or more}."""
        return _choices(self.search_student_options)

    @property
    def space(self):
        """{name of `MOVABLE`: `tfkd.tuning.Range` or `Choice`}, starting at the setting's value."""
        given = self.search
        for name in given:
            if name not in MOVABLE:
                raise SettingsError(f'search: no "{name}". {near(name, MOVABLE)}')
        if not given:
            given = dict(DEFAULT_SPACE)
            if self.hints == NONE or not self.hint_weight:
                del given["hint_weight"]
            if self.temperature is not None:
                given = {"temperature": "1:16:log", **given}
                del given["softness"]
        elif "hint_weight" in given and self.hints == NONE:
            raise SettingsError('search moves hint_weight, but hints is "none".')
        elif "softness" in given and self.temperature is not None:
            raise SettingsError("search moves softness, but a fixed temperature has none.")
        return {
            name: _space(f"search.{name}", text, getattr(self, name))
            for name, text in given.items()
        }

    @property
    def distillation(self):
        """The `DistillSettings` from which the search starts: those of trial 0."""
        return DistillSettings(
            **{name: getattr(self, name) for name in DistillSettings.model_fields}
        )

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
        return self.distillation.replace(student_options=student_options, **moved)

    @property
    def trial_seed(self):
        """The trials' first seed: no final student has it."""
        return self.seed + self.seeds

    @property
    def method(self):
        """The tuner, chosen if need be: a front needs trials that are trained in full."""
        return self.tuner or ("random" if self.pareto else "halving")

    def again(self, values, teacher):
        """The `DistillSettings` that train a trial's final students again.

        Args:
            values: the trial's.
            teacher: path of the search's teacher.
        """
        own = self.of_trial(values)
        return own.replace(teacher=str(teacher), teacher_options={}, any_teacher=True)

    def differences(self, other):
        """As `Settings.differences`, wherever the files lie."""
        return super(SearchSettings, self._portable()).differences(other._portable())

    def _portable(self):
        return self.replace(**{name: os.path.basename(getattr(self, name)) for name in FILES})

    def default_out(self):
        return f"{super().default_out()}-search"


def student_option(name):
    """The hyperparameter of an option of the student's model."""
    return f"student_{name}"


def _choices(given):
    """{option: tuple of values, two or more} of `search_student_options`."""
    choices = {}
    for name, own in given.items():
        values = tuple(_values(f"search_student_options.{name}", own))
        if any(isinstance(value, float) for value in values):
            values = tuple(float(v) if _is_number(v) else v for v in values)
        choices[name] = values
    return choices


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
        values = [parsed(text.strip()) for text in given.split(",")]
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
