"""An experiment is a table: which rows a command trains, and how each row's student is taught."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import tfkd
from tfkd import defaults, recipes
from tfkd.models import HUB
from tfkd.recipes import base, hints
from tfkd.runs import methods
from tfkd.settings import SettingsError, TrainingSettings
from tfkd.settings.base import is_path
from tfkd.settings.compare import FULL
from tfkd.settings.distill import NONE, plain

ALONE, DISTILLED = "alone", "distilled"
THROUGH, TOGETHER = "through assistants", "generations together"
SEARCHED, DEFAULTS = "searched", "defaults"
SMOOTHED = "label smoothing"


class Row(NamedTuple):
    """One way to get a student.

    Attributes:
        name: in tables and files.
        settings: `TrainingSettings`: data, teacher, student and budget.
        build: function (settings, teacher, student) -> `tfkd.recipes.base.System`; None for the
            student alone.
        recipe: name of the recipe whose network it is, or None.
        baseline: name of the row that its gain is counted from, or None.
        fraction: of the training data.
        taught_by: name of the row before it whose student teaches, of the same seed; None for the
            settings' teacher.
        members: names of rows before it whose students, of the same seed, are this row together:
            nothing is trained.
    """

    name: str
    settings: Any
    build: Callable | None = None
    recipe: str | None = None
    baseline: str | None = None
    fraction: float = FULL
    taught_by: str | None = None
    members: tuple = ()

    def system(self, teacher, student):
        """What is trained of a new student."""
        if self.build is None:
            return base.System(student, [], [], 1.0)
        return self.build(self.settings, teacher, student)

    def deployed(self, network):
        """{name: model} of what one would deploy of a trained network; see `Recipe.deployed`."""
        return deployed(self.recipe, network)


class Table(NamedTuple):
    """What a command trains.

    Attributes:
        kind: "distill", "recipe", "compare", "chain" or "search".
        settings: of the command.
        rows: list of `Row`, of different names.
        main: name of the row whose student the run is about; None where validation chooses it.
        recipe: the `Recipe` that it is about, or None.
        command: the command line.
    """

    kind: str
    settings: Any
    rows: list
    main: str | None
    recipe: Any = None
    command: str = ""


def deployed(recipe, network):
    """{name: model} of what one would deploy of a network, of a recipe's name or of None."""
    return {"": network} if recipe is None else recipes.get(recipe).deployed(network)


def distillation_terms(settings, teacher, student):
    """The losses of `tfkd distill` and their weights, list of (loss, weight).

    Raises:
        SettingsError: there are none.
    """
    terms = []
    if settings.logits_weight:
        loss = tfkd.losses.AnnealedDistillation(settings.softness)
        if settings.temperature is not None:
            loss = tfkd.losses.LogitsDistillation(settings.temperature)
        terms.append((loss, settings.logits_weight))
    wanted = settings.hints if settings.hint_weight else NONE
    pairs = hints.pairs(wanted, teacher, student)
    terms += [(loss, settings.hint_weight) for loss in hints.losses(pairs)]
    if not terms:
        raise SettingsError(
            'Nothing is distilled: logits_weight is 0 and hints="auto" found no stages to pair. '
            'Name the layers: hints = ["teacher_layer:student_layer"].'
        )
    return terms


def distilled(settings, teacher, student):
    """The `System` of `tfkd distill`: labels have their weight, distillation the rest of 1."""
    if settings.loss:
        return methods.system(settings, teacher, student)
    terms = distillation_terms(settings, teacher, student)
    share = 1.0 - settings.student_loss_weight
    losses, weights = [loss for loss, _ in terms], [share * weight for _, weight in terms]
    return base.System(student, losses, weights, settings.student_loss_weight)


def recipe_row(settings, name, baseline):
    """The row of `DistillSettings` that name a recipe; or of those that name none."""
    if settings.recipe is None:
        return Row(name, settings, distilled, baseline=baseline)
    recipe = _recipe(settings.recipe)
    shared = list(TrainingSettings.model_fields)
    twice = [option for option in settings.recipe_options if option in shared]
    if twice:
        raise SettingsError(
            f"recipe_options hold {' and '.join(twice)}, which the run itself has: set "
            f"{' and '.join(twice)} there."
        )
    values = {option: getattr(settings, option) for option in shared} | settings.recipe_options
    try:
        own = recipe.settings(**values)
    except SettingsError as error:
        raise SettingsError(f"recipe_options of {recipe.name}: {error}") from None
    return Row(name, own, recipe.build, recipe.name, baseline)


def _recipe(name):
    try:
        recipe = recipes.get(name)
    except ValueError as error:
        raise SettingsError(f"recipe: {error}") from None
    if recipe.settings.learns != "classification":
        raise SettingsError(
            f'recipe: "{name}" learns {recipe.settings.learns}, and no classes. It is run by '
            f"itself: tfkd recipes run {name}."
        )
    if recipe.compares:
        raise SettingsError(
            f'recipe: "{name}" is a comparison, and no way to train one student. It is run by '
            f"itself: tfkd recipes run {name}."
        )
    return recipe


def teacher_free_rows(settings, wanted, where=()):
    """Whether it needs a teacher at all: the student alone with smoothed labels, a list of one row.

    Args:
        settings: of the student alone, over which its gain is counted.
        wanted: whether there is to be one.
        where: what is in front of the names of both rows.

    Raises:
        SettingsError: all labels are smoothed already.
    """
    if not wanted:
        return []
    if settings.label_smoothing:
        raise SettingsError(
            "teacher_free adds a student with smoothed labels, but label_smoothing "
            f"({settings.label_smoothing:g}) smooths those of all students. Give one of them."
        )
    alone, smoothed = (", ".join([*where, name]) for name in (ALONE, SMOOTHED))
    own = settings.replace(label_smoothing=defaults.LABEL_SMOOTHING)
    return [Row(smoothed, own, baseline=alone)]


def distill_table(settings):
    """The rows of `tfkd distill`: the student alone, and distilled; perhaps smoothed labels."""
    rows = [Row(ALONE, settings), *teacher_free_rows(settings, settings.teacher_free)]
    rows.append(recipe_row(settings, DISTILLED, ALONE))
    return Table("distill", settings, rows, DISTILLED, command=_command("distill", settings))


def recipe_table(recipe, settings, ablate=False):
    """The rows of a recipe: the student alone, distilled by the defaults, the recipe, ablations
    and smoothed labels; of a comparison those of its settings, and what its ablations add."""
    command = _command(f"recipes run {recipe.name}", settings) + " --ablate" * ablate
    if recipe.compares:
        every = [settings, *(recipe.ablations(settings).values() if ablate else ())]
        rows = {row.name: row for own in every for row in compared_rows(own)}
        return Table("compare", settings, list(rows.values()), None, recipe, command)
    rows = [
        Row(ALONE, settings),
        Row(DISTILLED, settings, recipe.plain, baseline=ALONE),
        Row(recipe.name, settings, recipe.build, recipe.name, ALONE),
    ]
    if ablate:
        rows += [
            Row(f"{recipe.name}: {name}", variant, recipe.build, recipe.name, ALONE)
            for name, variant in recipe.ablations(settings).items()
            if variant != settings
        ]
    smoothed = settings.learns == "classification" and not settings.label_smoothing
    rows += teacher_free_rows(settings, ablate and smoothed)
    return Table("recipe", settings, rows, recipe.name, recipe, command)


def search_table(settings):
    """The rows of `tfkd search` before it has found anything: those of `tfkd distill`."""
    own = settings.distillation
    rows = [Row(ALONE, own), *teacher_free_rows(own, own.teacher_free)]
    rows.append(Row(DEFAULTS, own, distilled, baseline=ALONE))
    return Table("search", settings, rows, DEFAULTS, command=_command("search", settings))


def searched_rows(settings, trial, values):
    """The rows that a trial adds, the last one distilled by its settings.

    Args:
        settings: `SearchSettings`.
        trial: its name.
        values: its hyperparameters.
    """
    own, name = settings.of_trial(values), f"{SEARCHED} (trial {trial})"
    if own.student_options == settings.student_options:
        return [Row(name, own, distilled, baseline=ALONE)]
    alone = f"{ALONE} (student of trial {trial})"
    return [Row(alone, own), Row(name, own, distilled, baseline=alone)]


def compare_table(settings):
    """The rows of `tfkd compare`."""
    rows = compared_rows(settings)
    return Table("compare", settings, rows, None, command=_command("compare", settings))


def compared_rows(settings):
    """Every student on every data set and fraction, in every way: list of `Row`."""
    rows = []
    names = {text: plain(text) for text in settings.data}
    if len(set(names.values())) < len(names):  # folders of one name
        names = {text: text for text in settings.data}
    for data in settings.data:
        for fraction in settings.fraction:
            for student in settings.student:
                where = [names[data]] * (len(settings.data) > 1)
                where += [f"{100 * fraction:g} %"] * (len(settings.fraction) > 1)
                where += [student] * (len(settings.student) > 1)
                alone = ", ".join([*where, ALONE])
                own = settings.row(data, student)
                rows.append(Row(alone, own, fraction=fraction))
                free = teacher_free_rows(own, settings.teacher_free, where)
                rows += [row._replace(fraction=fraction) for row in free]
                for losses in settings.distillations():
                    row = recipe_row(
                        settings.row(data, student, losses), ", ".join([*where, losses[0]]), alone
                    )
                    rows.append(row._replace(fraction=fraction))
    return rows


def chain_table(settings):
    """The rows of `tfkd chain`: the student alone, and at the end of generations or assistants."""
    alone, last = Row(ALONE, settings), None
    rows = [alone]
    if settings.generations is None:
        rows.append(Row(DISTILLED, settings, distilled, baseline=ALONE))
        for text in settings.assistant:
            own = settings.of_assistant(text)
            rows.append(Row(f"assistant {text}", own, distilled, taught_by=last))
            last = rows[-1].name
        rows.append(Row(THROUGH, settings, distilled, baseline=ALONE, taught_by=last))
        return Table("chain", settings, rows, THROUGH, command=_command("chain", settings))
    for number in range(1, settings.generations + 1):
        name = f"generation {number}"
        rows.append(Row(name, settings, distilled, baseline=ALONE, taught_by=last))
        last = name
    generations = tuple(row.name for row in rows[1:])
    rows.append(Row(TOGETHER, settings, baseline=ALONE, members=generations))
    return Table("chain", settings, rows, last, command=_command("chain", settings))


def check_names(rows):
    """Raises SettingsError where two rows would have one name, in tables or among files."""
    seen = {}
    for row in rows:
        other = seen.setdefault(file_name(row.name), row.name)
        if other is not row.name:
            raise SettingsError(
                f'Two rows would be called "{row.name}" and "{other}": their files would be the '
                "same. Leave one out, or name it otherwise."
            )


def file_name(name):
    """A row's name, fit for a file."""
    words = "".join(char if char.isalnum() or char == "." else " " for char in name)
    return "-".join(words.split())


def part_name(seed, row):
    """The name of one training of a student."""
    return f"{seed}/{file_name(row)}"


def _command(command, settings):
    """The command line of a run, with what differs from the defaults; files by their names."""
    words = ["tfkd", command]
    for name, value in settings.given().items():
        if name in ("cache", "cache_gb", "jobs", "scheduler"):
            continue
        field = type(settings).model_fields[name]
        flag = next((f"{m.name[0]}" for m in field.metadata if getattr(m, "name", None)), None)
        flag = flag or f"--{name.replace('_', '-')}"
        if name == "data_dir":
            words.append(f"{flag} DIR")
        elif value is True:
            words.append(flag)
        elif value is False:
            words.append(_negative(field, name))
        elif isinstance(value, dict):
            words += [f"{flag} {option}={given}" for option, given in value.items()]
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"{flag} {_short(given)}" for given in values]
    return " ".join(words)


def _negative(field, name):
    own = [m.negative[0] for m in field.metadata if getattr(m, "negative", None)]
    return own[0] if own else f"--no-{name.replace('_', '-')}"


def short_words(text):
    """A text "NAME OPTION=VALUE", a path by its last part; a name may hold "/", as TFDS's do."""
    name, *options = text.split(" ")
    hub, name = (HUB, name.removeprefix(HUB)) if name.startswith(HUB) else ("", name)
    return " ".join([hub + (os.path.basename(name) if is_path(name) else name), *options])


def _short(value):
    """A value as words of a command, a path by its last part."""
    text = short_words(str(value))
    return f'"{text}"' if " " in text else text
