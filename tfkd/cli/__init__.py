"""The command line: thin commands over the public API."""

import os
import sys

from cyclopts import App, CycloptsError, Parameter

import tfkd
from tfkd import terminal
from tfkd._extras import MissingExtraError
from tfkd.cli import cache, data, finished, methods, training
from tfkd.export.errors import ExportCheckError
from tfkd.files import DiskFullError
from tfkd.settings import SettingsError

USAGE, FAILED, INTERRUPTED = 2, 1, 130  # exit codes
RESUMABLE = ("distill", "compare", "chain", "recipes")  # commands that know --resume

app = App(
    name="tfkd",
    help="Makes a small Keras model out of a big one.",
    version=f"tfkd {tfkd.__version__}",
    help_flags=["--help", "-h"],
    version_flags=["--version"],
    help_format="markdown",
    default_parameter=Parameter(show_default=False, negative=""),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for _command in (
    training.distill,
    training.compare,
    training.chain,
    training.search,
    training.recipes_app,
    methods.losses,
    methods.layers,
    data.data,
    cache.cache_app,
):
    app.command(_command)
for _command in (
    finished.evaluate,
    finished.report,
    finished.predict,
    finished.export,
    finished.serve,
):
    app.command(_command)


def main(arguments=None):
    """Entry point of the `tfkd` script."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _prepare_streams()
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _fail(str(error).strip(), USAGE)
    except SettingsError as error:
        _fail(error, USAGE)
    except DiskFullError as error:
        again = _again(arguments, resumable=arguments[0] in RESUMABLE)
        _fail(f"{error} {again}", FAILED)
    except (ValueError, OSError, ExportCheckError, MissingExtraError) as error:
        _fail(error, FAILED)
    except KeyboardInterrupt:
        resumable = arguments[:1] != [] and arguments[0] in RESUMABLE
        kept = "What was trained is kept. " if resumable or arguments[:1] == ["search"] else ""
        _fail(f"\nInterrupted. {kept}{_again(arguments, resumable)}", INTERRUPTED)


def _again(arguments, resumable):
    """How to go on after a stop."""
    flag = " --resume" if resumable and "--resume" not in arguments else ""
    words = [word for word in arguments if word != "--overwrite"]
    return f"To go on: tfkd {' '.join(words)}{flag}"


def _fail(message, code):
    prefix = "" if code == INTERRUPTED else "Error: "
    style = None if code == INTERRUPTED else "red"
    terminal.say(f"{prefix}{message}", style, sys.stderr)
    raise SystemExit(code)


def _prepare_streams():
    """A closed stream leads nowhere; one that cannot write a character writes a question mark."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # It takes the free descriptor, which else the next file would get, and its chatter.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
