"""The command line: thin commands over the public API."""

import contextlib
import dataclasses
import inspect
import os
import tomllib
import types
import typing
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

import tfkd
from tfkd import recipes
from tfkd.export.errors import ExportCheckError
from tfkd.runs import (
    DistillSettings,
    ExportSettings,
    SearchSettings,
    SettingsError,
    distill,
    evaluate_run,
    export_run,
    serve_runs,
)
from tfkd.runs.search import search

USAGE, FAILED, INTERRUPTED = 2, 1, 130  # exit codes

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Makes a small Keras model out of a big one.",
)


def main():
    """Entry point of the `tfkd` script."""
    app(prog_name="tfkd")


def _version(asked: bool):
    if asked:
        print(f"tfkd {tfkd.__version__}")
        raise typer.Exit()


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
):
    pass


def settings_flags(settings_class):
    """Decorator: gives a command a flag for each field of a `Settings` class.

    The command gets what was given as `given`, a dict without the flags that were left out.
    """

    def decorate(command):
        fields = {field.name: field for field in dataclasses.fields(settings_class)}
        kinds = typing.get_type_hints(settings_class)

        def with_flags(**values):
            flags = {name: values.pop(name) for name in fields}
            given = {name: value for name, value in flags.items() if value not in (None, [])}
            for name, value in given.items():
                if kinds[name] is dict:
                    given[name] = dict(map(_name_and_value, value))
            return command(given=given, **values)

        own = [p for p in inspect.signature(command).parameters.values() if p.name != "given"]
        parameters = [_flag(field, kinds[name]) for name, field in fields.items()]
        with_flags.__signature__ = inspect.Signature(
            [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *parameters]
        )
        with_flags.__annotations__ = {p.name: p.annotation for p in [*own, *parameters]}
        with_flags.__name__, with_flags.__doc__ = command.__name__, command.__doc__
        return with_flags

    return decorate


def _flag(field, kind):
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    several = dict in kinds or tuple in kinds
    default = field.default
    if default is dataclasses.MISSING:  # a table
        default = " ".join(f"{name}={value}" for name, value in field.default_factory().items())
    if isinstance(default, tuple):
        default = " ".join(map(str, default))
    option = typer.Option(
        field.metadata["flag"] or "--" + field.name.replace("_", "-"),
        help=field.metadata["help"],
        show_default=str(default) if default not in (None, "") else False,
        metavar="NAME=VALUE" if dict in kinds else "TEXT" if several else None,
    )
    annotation = Annotated[list[str] | None if several else kinds[0] | None, option]
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _name_and_value(text):
    """Splits NAME=VALUE; numbers, true and false are read as TOML reads them, the rest is text."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise typer.BadParameter(f'expected NAME=VALUE, such as width=0.25; got "{text}".')
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


@contextlib.contextmanager
def _reported(interrupted="Interrupted."):
    """Turns what a user can mend into one message and an exit code."""
    try:
        yield
    except (ValueError, OSError, ExportCheckError) as error:
        Console(stderr=True).print(
            f"Error: {error}", style="red", markup=False, highlight=False, soft_wrap=True
        )
        raise typer.Exit(USAGE if isinstance(error, SettingsError) else FAILED) from None
    except KeyboardInterrupt:
        Console(stderr=True).print(
            f"\n{interrupted}", markup=False, highlight=False, soft_wrap=True
        )
        raise typer.Exit(INTERRUPTED) from None


Config = Annotated[
    str | None,
    typer.Option(help="Settings from a TOML file (a run.toml, say); flags win over it."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")]


def _settings_and_out(kind, given, config, out, resume, default_out):
    """What a run is to do and where: settings of file and flags; continued, those it began with."""
    settings = kind.from_toml(config, **given) if config else kind(**given)
    out = out or default_out(settings)
    begun = os.path.join(out, "run.toml")
    if resume and not config and os.path.exists(begun):
        settings = kind.from_toml(begun, **given)
    return settings, out


@app.command("distill")
@settings_flags(DistillSettings)
def _distill(
    given,
    config: Config = None,
    out: Annotated[
        str | None,
        typer.Option(help="Run directory to write.", show_default="saved_models/DATA-STUDENT"),
    ] = None,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the interrupted run in --out, with its settings."),
    ] = False,
):
    """Train a teacher, then a student alone and distilled, and compare them.

    The run directory holds the models, `run.toml` (its settings; `--config` reruns them to the same
    figures), `run.json` (every figure), `history.csv` and `curves.png`.

    Example:

        tfkd distill --data digits --teacher resnet --student modified_alexnet \\
            --student-option width=0.125 --seeds 3 --out saved_models/digits

    With your own teacher and a folder of images, one folder a class:

        tfkd distill --data ./photos --image-size 96 --teacher teacher.keras --student MobileNetV2
    """
    with _reported(
        "Interrupted. Finished trainings are kept: the same command with --resume continues."
    ):
        settings, out = _settings_and_out(
            DistillSettings, given, config, out, resume, DistillSettings.default_out
        )
        distill(settings, out, overwrite=overwrite, resume=resume)


@app.command("search")
@settings_flags(SearchSettings)
def _search(
    given,
    config: Annotated[
        str | None,
        typer.Option(help="Settings from a TOML file (a search.toml, say); flags win over it."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Directory to write.", show_default="saved_models/DATA-STUDENT-search"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the search in --out.")
    ] = False,
):
    """Search the weights of the losses, then train the student with the best of them.

    The teacher is asked once for all trials. Trials are compared on the validation split; the best
    one and the settings that the search started from (trial 0) are then trained anew as `tfkd
    distill` does, and the test split is read once. The same command continues a search that was
    stopped. The directory holds `results.csv`, `search.png`, `best.toml` (for `tfkd distill
    --config`), `search.json`, `tensorboard/` and the runs of the final students, `best/` and
    `defaults/`.

    Example:

        tfkd search --data digits --trials 12

    Two weights of your choice, on two processes:

        tfkd search --data digits --search temperature=1:16:log --search hint_weight=0.01,0.1,1 \\
            --tuner bayesian --trials 20 --workers 2

    Accuracy against size:

        tfkd search --data digits --search-student-option width=0.125,0.25,0.5 --pareto parameters
    """
    with _reported("Interrupted. Finished trials are kept: the same command continues."):
        settings = SearchSettings.from_toml(config, **given) if config else SearchSettings(**given)
        search(settings, out or settings.default_out(), overwrite=overwrite)


_recipes = typer.Typer(help="The papers that tfkd implements, each ready to run.")
_run_recipe = typer.Typer(no_args_is_help=True, help="Run a recipe: see NAME --help.")
app.add_typer(_recipes, name="recipes")
_recipes.add_typer(_run_recipe, name="run")


@_recipes.callback(invoke_without_command=True)
def _list_recipes(context: typer.Context):
    """List the recipes: paper, task, and what of each is a reconstruction.

    Example:

        tfkd recipes

        tfkd recipes run xu2022 --data digits --seeds 3 --ablate
    """
    if context.invoked_subcommand is None:
        table = Table("recipe", "paper", "task", "reconstruction", box=box.SIMPLE_HEAD)
        for name in recipes.names():
            recipe = recipes.get(name)
            table.add_row(name, recipe.paper, recipe.task, recipe.reconstruction)
        Console().print(table)


def _recipe_command(recipe):
    """The command `tfkd recipes run NAME` of one recipe: its settings are the flags."""

    def run(
        given,
        config: Config = None,
        out: Annotated[
            str | None,
            typer.Option(help="Run directory to write.", show_default="saved_models/NAME-DATA"),
        ] = None,
        ablate: Annotated[
            bool, typer.Option("--ablate", help="Run the paper's own comparison as well.")
        ] = False,
        overwrite: Overwrite = False,
        resume: Annotated[
            bool,
            typer.Option(
                "--resume",
                help="Continue the run in --out, with its settings; --ablate adds to it.",
            ),
        ] = False,
    ):
        again = "Interrupted. Finished trainings are kept: the same command with --resume goes on."
        with _reported(again):
            settings, where = _settings_and_out(
                recipe.settings,
                given,
                config,
                out,
                resume,
                lambda settings: recipes.default_out(recipe.name, settings),
            )
            recipes.run(recipe.name, settings, where, ablate, overwrite=overwrite, resume=resume)

    run.__name__ = recipe.name
    run.__doc__ = f"""{recipe.paper}: {recipe.task}.

    Reconstruction: {recipe.reconstruction}

    Trains the student alone, by plain logit distillation and by the recipe, under one budget, and
    compares them. The run directory holds the trained models, `run.toml`, `run.json` (every
    figure), `table.md`, `figures.csv`, `history.csv` and `curves.png`.

    Example:

        tfkd recipes run {recipe.name} --data digits --seeds 3 --ablate
    """
    return run


for _name in recipes.names():
    _recipe = recipes.get(_name)
    _command = settings_flags(_recipe.settings)(_recipe_command(_recipe))
    _run_recipe.command(_name)(_command)


@app.command("evaluate")
def _evaluate(
    path: Annotated[
        str,
        typer.Argument(
            help="Run directory; or an export of a run: a .tflite file, a SavedModel's version or "
            "the directory of its versions."
        ),
    ],
):
    """Measure a run's saved models, or an export, on the test split and print the table.

    Example:

        tfkd evaluate saved_models/digits

        tfkd evaluate saved_models/digits/export/student_int8.tflite
    """
    with _reported():
        evaluate_run(path)


@app.command("export")
@settings_flags(ExportSettings)
def _export(
    given,
    run: Annotated[str, typer.Argument(help="Run directory, as tfkd distill writes it.")],
    out: Annotated[
        str | None, typer.Option(help="Directory to write to.", show_default="RUN/export")
    ] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="Leave the checks out.")] = False,
):
    """Export a run's student as SavedModel and TFLite, check each and print what it is worth.

    Lists are written with commas, or the flag is repeated. The SavedModel becomes the next version
    in `saved_model/`, for TF Serving; the TFLite files are `student_QUANTIZATION.tflite`. Beside
    them: `export.json` (every figure) and `export.png`. A failed check leaves nothing.

    Example:

        tfkd export saved_models/digits --format saved_model,tflite --quantization float32,int8
    """
    with _reported():
        export_run(run, ExportSettings(**given), out, check=not no_check)


@app.command("serve")
def _serve(
    runs: Annotated[
        list[str],
        typer.Argument(help="Runs that were exported, or directories of SavedModel versions."),
    ],
    port: Annotated[int, typer.Option(help="REST port.", min=0, max=65535)] = 8501,
    grpc_port: Annotated[int, typer.Option(help="gRPC port.", min=0, max=65535)] = 8500,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    files: Annotated[
        str | None,
        typer.Option(
            help="Serve nothing: write TF Serving's compose file and configurations into this "
            "directory and print the compose file's path.",
            show_default=False,
        ),
    ] = None,
):
    """Serve exported SavedModels on this machine: a development stand-in for TF Serving.

    It answers TF Serving's REST and gRPC calls with the same C++ loader and follows new versions,
    but does no batching and knows no TLS and no access control. For production run TF Serving: see
    `--files` and `scripts/serve`.

    Example:

        tfkd serve saved_models/digits
    """
    with _reported():
        compose = serve_runs(runs, files, host=host, rest_port=port, grpc_port=grpc_port)
        if compose:
            print(compose)
