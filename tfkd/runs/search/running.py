"""The order of a search: teacher, stored knowledge, trials, final students, report."""

import json
import math
import os

import grpc
from rich.console import Console

from tfkd.files import write_json, write_text
from tfkd.runs import engine
from tfkd.runs.directory import WORK, RunDirectory
from tfkd.runs.rows import distill_table, search_table
from tfkd.runs.search import report, trials, workers
from tfkd.runs.search.directory import BEST, SETTINGS, TEACHER, TRIALS
from tfkd.runs.search.progress import Screen
from tfkd.runs.tasks import Prepared, load_data
from tfkd.tuning import trials as trials_of


def run(settings, directory, overwrite=False):
    """See `tfkd.runs.search`; the settings and the directory were looked at already."""
    name = _tuner_id()
    if name is not None and "chief" not in name:
        return _work(settings, directory)
    prepared = Prepared(distill_table(settings.distillation))
    inputs, splits = prepared.inputs, prepared.data[0]
    with directory.locked():
        # Once more, now that nobody else can write here.
        directory.check_free(settings, overwrite=overwrite)
        record = None if overwrite else directory.record()
        if record is not None and record["trials_asked_for"] >= settings.trials:
            return report.show_finished(directory, record)
        if overwrite:
            directory.clear()
        _begin(directory / WORK / "inputs.json", inputs, record)
        write_text(directory / SETTINGS, settings.to_toml())
        engine.Trainings(directory, prepared).train_teachers()
        Console().rule("trials")
        ground = trials.prepare(settings, directory, splits)
        rows = train_trials(ground, directory, chief=name is not None)
        best = report.best(rows, settings)
        final = _final(settings, directory, best)
        result = report.write(directory, ground, rows, best, final, inputs)
        directory.drop_work()
        return result


def _begin(path, inputs, record):
    """Refuses to go on with other data or another teacher than those that the search began with."""
    kept = record["inputs"] if record is not None else inputs
    if record is None and path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
    changed = [name for name in inputs if kept.get(name) != inputs[name]]
    if changed:
        raise ValueError(
            f"Since the search was begun the {' and the '.join(changed)} changed: what it trained "
            "so far would not fit the rest. Put it back, or start anew with --overwrite."
        )
    write_json(path, inputs)


def train_trials(ground, directory, chief=False):
    """Trains what trials are left.

    Args:
        ground: `tfkd.runs.search.trials.Ground`.
        directory: `SearchDirectory`.
        chief: whether workers on other hosts do it.

    Returns:
        list of all trials' rows, see `tfkd.tuning.trials`.
    """
    settings, project = ground.settings, directory / TRIALS
    with Screen(directory, ground) as screen:
        tuner = trials.tuner(ground, directory, screen)
        processes = settings.workers or 1
        spent = sum(row["seconds"] for row in trials_of(project)) / processes
        oracle = tuner.oracle
        oracle.verbose = 0
        oracle.limit(settings.trials, (settings.time_budget or math.inf) - spent)
        for note in oracle.notes:
            screen.say(note)
        if chief:
            workers.serve(oracle, screen)
        elif settings.workers:
            workers.supervise(oracle, screen, directory, settings.workers)
        elif not oracle.over:
            trials.run(tuner, ground)
    return screen.rows


def _work(settings, directory):
    """Trains trials for a chief elsewhere."""
    workers.end_with_parent()
    workers.find_chief(settings.worker_timeout)
    if not directory.begun:
        raise FileNotFoundError(
            f'No search in "{directory.path}". Chief and workers share one --out directory: a file '
            "system that all hosts see."
        )
    directory.check_same(settings)
    splits = load_data(settings)
    ground = trials.prepare(settings, directory, splits, build=False)
    try:
        trials.run(trials.tuner(ground, directory), ground)
    except grpc.RpcError as error:
        if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
            raise workers.unreachable(settings.worker_timeout) from None
        raise


def _final(settings, directory, best):
    """Trains the final students as one run: alone, of the defaults and of the best trial.

    Returns:
        `tfkd.runs.record.Record`.
    """
    teacher = (directory / TEACHER).resolve()
    searched, defaults = (settings.final(values, teacher) for values in (best["values"], {}))
    target = RunDirectory(directory / BEST)
    if (target / "run.toml").exists() and target.settings() != searched:
        target.clear()  # more trials have found better ones
    table = search_table(searched, defaults)
    return engine.run(table, target, resume=target.begun)


def _tuner_id():
    """KERASTUNER_TUNER_ID of a search over several hosts; None without."""
    given = [name for name in workers.VARIABLES if os.environ.get(name)]
    if given and len(given) < len(workers.VARIABLES):
        missing = [name for name in workers.VARIABLES if name not in given]
        raise ValueError(
            f"{' and '.join(given)} is set, but not {' and '.join(missing)}: for a search over "
            "several hosts set all three, else none."
        )
    return os.environ["KERASTUNER_TUNER_ID"] if given else None
