"""The commands that train: distill, compare, chain, search, recipes."""

import os
from typing import Annotated

from cyclopts import App, Parameter
from rich import box
from rich.table import Table

from tfkd import recipes, runs, terminal
from tfkd.cli.flags import flags_of, given_of
from tfkd.runs.search import search as run_search
from tfkd.settings import (
    ChainSettings,
    CompareSettings,
    DistillSettings,
    SearchSettings,
    WorkerSettings,
)

Config = Annotated[
    str | None, Parameter(help="Settings from a TOML file (a run.toml, say); flags win over it.")
]
Out = Annotated[str | None, Parameter(help="Run directory to write. [default: saved_models/…]")]
Overwrite = Annotated[bool, Parameter(help="Replace the run in --out.")]
Resume = Annotated[
    bool, Parameter(help="Continue the interrupted run in --out, with its settings.")
]
Trust = Annotated[
    bool, Parameter(help="Call functions (package.module:function) that a TOML file names.")
]


def _settings_and_out(kind, flags, config, out, resume, trust):
    """What a run is to do and where: settings of file and flags; continued, those it began with."""
    given = given_of(flags, kind)
    if resume and not config and out and os.path.exists(os.path.join(out, "run.toml")):
        config = os.path.join(out, "run.toml")
    if config:
        settings = kind.from_toml(config, trust=trust, **given)
    else:
        settings = kind(**given)
        out = out or settings.default_out()
        begun = os.path.join(out, "run.toml")
        if resume and os.path.exists(begun):
            settings = kind.from_toml(begun, trust=trust, **given)
    return settings, out or settings.default_out()


def distill(
    *,
    flags: flags_of(DistillSettings) = None,
    worker_flags: flags_of(WorkerSettings) = None,
    config: Config = None,
    out: Out = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    trust: Trust = False,
):
    """Train a teacher, then a student alone and distilled, and compare them.

    The run directory holds the models, `report.html` (everything on one page), `run.toml` (its
    settings; `--config` reruns them to the same figures), `run.json` (every figure), `history.csv`
    and `curves.png`.

    For example:

        tfkd distill --data digits --teacher resnet --student modified_alexnet
            --student-option width=0.125 --seeds 3 --out saved_models/digits

    With your own teacher and a folder of images, one folder a class:

        tfkd distill --data ./photos --image-size 96 --teacher teacher.keras --student MobileNetV2

    By two processes of this machine; a run that was stopped goes on with any number of them:

        tfkd distill --data digits --workers 2
    """
    settings, out = _settings_and_out(DistillSettings, flags, config, out, resume, trust)
    workers = WorkerSettings(**given_of(worker_flags, WorkerSettings))
    runs.distill(settings, out, overwrite=overwrite, resume=resume, workers=workers)


def compare(
    *,
    flags: flags_of(CompareSettings) = None,
    config: Config = None,
    out: Out = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    trust: Trust = False,
):
    """Train several students, on several data sets, in several ways; one table of all.

    Every student is trained on every fraction of every data set: alone, and distilled by every
    setting and recipe. Each gain is over the same student alone.

    For example:

        tfkd compare --student "modified_alexnet width=0.25" --student "resnet depth=8 width=0.25"
            --setting "hints=none" --recipe xu2022 --fraction 0.1 --fraction 1 --seeds 3
    """
    settings, out = _settings_and_out(CompareSettings, flags, config, out, resume, trust)
    runs.compare(settings, out, overwrite=overwrite, resume=resume)


def chain(
    *,
    flags: flags_of(ChainSettings) = None,
    config: Config = None,
    out: Out = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    trust: Trust = False,
):
    """Train a student through assistants, or generation after generation.

    Each link of the chain teaches the next one, with the losses of `tfkd distill`; the table holds
    every link, the student alone and, of assistants, the student taught by the teacher itself.

    For example:

        tfkd chain --data digits --teacher resnet --assistant "resnet depth=8 width=0.5"
            --student modified_alexnet --student-option width=0.125

        tfkd chain --data digits --teacher resnet --student resnet --generations 3
    """
    settings, out = _settings_and_out(ChainSettings, flags, config, out, resume, trust)
    runs.chain(settings, out, overwrite=overwrite, resume=resume)


def search(
    *,
    flags: flags_of(SearchSettings) = None,
    config: Config = None,
    out: Out = None,
    overwrite: Annotated[bool, Parameter(help="Replace the search in --out.")] = False,
    trust: Trust = False,
):
    """Search the weights of the losses, then train the student with the best of them.

    The teacher is asked once for all trials. Trials race on the validation split: the best third
    goes on for more epochs, the best two and the defaults (trial 0) for more seeds, and the
    defaults are kept unless the best is better beyond chance. The student alone, the defaults and
    what was found are then trained from seeds that no trial has seen, and the test split is read
    once. The same command continues a search that was stopped. The directory is a run as `tfkd
    distill` leaves it, and holds `results.csv`, `search.png`, `best.toml` (for `tfkd distill
    --config`), `search.json` and `tensorboard/` as well.

    For example:

        tfkd search --data digits --trials 12

    Two weights of your choice, on two processes:

        tfkd search --data digits --search temperature=1:16:log --search hint_weight=0.01,0.1,1
            --tuner bayesian --trials 20 --workers 2

    Accuracy against size:

        tfkd search --data digits --search-student-option width=0.125,0.25,0.5 --pareto parameters
    """
    settings, out = _settings_and_out(SearchSettings, flags, config, out, False, trust)
    run_search(settings, out, overwrite=overwrite)


recipes_app = App(name="recipes", help="The papers that tfkd implements, each ready to run.")
_run_recipe = App(name="run", help="Run a recipe: see NAME --help.")
recipes_app.command(_run_recipe)


@recipes_app.default
def _list_recipes():
    """List the recipes: paper, task, and what of each is a reconstruction.

    For example:

        tfkd recipes

        tfkd recipes run xu2022 --data digits --seeds 3 --ablate
    """
    table = Table("recipe", "paper", "task", "reconstruction", box=box.SIMPLE_HEAD)
    for name in recipes.names():
        recipe = recipes.get(name)
        table.add_row(name, recipe.paper, recipe.task, recipe.reconstruction)
    terminal.console().print(table)


def _recipe_command(recipe):
    """The command `tfkd recipes run NAME` of one recipe: its settings are the flags."""

    def run(
        *,
        flags: flags_of(recipe.settings) = None,
        config: Config = None,
        out: Out = None,
        ablate: Annotated[bool, Parameter(help="Run the paper's own comparison as well.")] = False,
        overwrite: Overwrite = False,
        resume: Annotated[
            bool,
            Parameter(help="Continue the run in --out, with its settings; --ablate adds to it."),
        ] = False,
        trust: Trust = False,
    ):
        settings, where = _settings_and_out(recipe.settings, flags, config, out, resume, trust)
        runs.run_recipe(recipe.name, settings, where, ablate, overwrite=overwrite, resume=resume)

    trained = (
        "the student alone, distilled by the defaults and by the recipe, under one budget, and"
    )
    if recipe.compares:
        trained = "every student on every data set, alone and distilled, under one budget, and"
    run.__doc__ = f"""{recipe.paper}: {recipe.task}.

    Reconstruction: {recipe.reconstruction}

    Trains {trained}
    compares them. The run directory holds the trained models, `run.toml`, `run.json` (every
    figure), `report.html`, `table.md`, `figures.csv`, `history.csv` and `curves.png`.

    For example:

        tfkd recipes run {recipe.name} --seeds 3 --ablate
    """
    return run


for _name in recipes.names():
    _run_recipe.command(_recipe_command(recipes.get(_name)), name=_name)
