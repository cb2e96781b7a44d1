"""Processes that begin with TensorFlow and tfkd imported, each five seconds sooner.

They are forked from one process that has imported both and done nothing else: TensorFlow's devices
are still to be chosen, and no other test has left anything.
"""

import gc
import multiprocessing.util
import os
import runpy
import sys
import tempfile
from pathlib import Path

import pytest

from tfkd.cli import main

multiprocessing.util.get_temp_dir()  # made now, and not in a folder that a test has set
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["keras", "tfkd.cli", "tfkd.runs", "tfkd.export.saved_model", "tfkd.export.checks"]
)


def started(function, *arguments, said=os.devnull, **environment):
    """A process that calls a function.

    Args:
        function: importable by its name.
        *arguments: of the function; they are pickled.
        said: path of the file for what it prints; what it writes to stderr goes to `<said>.err`.
        **environment: variables to set.

    Returns:
        `multiprocessing.Process`.
    """
    process = _CONTEXT.Process(target=_call, args=(function, arguments, str(said), environment))
    process.start()
    return process


def command(words, **options):
    """As `started`, a process that runs `tfkd` with these words."""
    return started(_tfkd, [str(word) for word in words], **options)


def tests(folder, *options):
    """What pytest prints about a folder of tests, all of which pass."""
    said = Path(folder) / "said.txt"
    return _ended(started(_pytest, str(folder), options, said=said), said)


def output_of(script, folder, *arguments, patience=600):
    """What a Python script prints that ends well within `patience` seconds."""
    path, said = Path(folder) / "script.py", Path(folder) / "said.txt"
    path.write_text(script)
    words = [str(word) for word in arguments]
    return _ended(started(_script, str(path), words, said=said), said, patience)


def _ended(process, said, patience=600):
    process.join(patience)
    process.kill()  # where it has not ended
    process.join()
    texts = said.read_text(), Path(f"{said}.err").read_text()
    assert process.exitcode == 0, "\n".join(texts)[-4000:]
    return texts[0]


def _call(function, arguments, said, environment):
    os.environ.update(environment)
    tempfile.tempdir = None  # as the environment has it
    for stream, path in ((1, said), (2, said if said == os.devnull else f"{said}.err")):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
        os.close(file)
    gc.freeze()
    gc.set_threshold(100_000, 20, 10)
    function(*arguments)


def _tfkd(words):
    sys.argv = ["tfkd", *words]
    main()


def _pytest(folder, options):
    os.chdir(folder)
    sys.exit(pytest.main([*options, "--rootdir", folder, folder]))


def _script(path, words):
    sys.argv = [path, *words]
    runpy.run_path(path, run_name="__main__")
