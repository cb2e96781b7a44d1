"""The order of a search: teacher, stored knowledge, trials, final students, report."""

import contextlib
import math
import os
import shutil

import grpc
from rich.console import Console

from tfkd import fingerprints
from tfkd.files import FULL, NO_ROOM, write_text
from tfkd.runs import engine, models
from tfkd.runs.directory import SETTINGS as RUN_SETTINGS
from tfkd.runs.directory import RunDirectory
from tfkd.runs.rows import distill_table, search_table
from tfkd.runs.search import report, trials, workers
from tfkd.runs.search.directory import BEST, INPUTS, SETTINGS, TEACHER, TRIALS
from tfkd.runs.search.progress import Progress
from tfkd.runs.search.record import inputs_of, portable
from tfkd.runs.tasks import Prepared, load_data
from tfkd.runs.temporary import temporary_files_in
from tfkd.tuning import trials as trials_of


def run(settings, directory, overwrite=False):
    """See `tfkd.runs.search.search`; the settings and the directory were looked at already."""
    name = _tuner_id()
    if name is not None and "chief" not in name:
        return _work(settings, directory)
    with temporary_files_in(directory.path):
        prepared = Prepared(distill_table(settings.distillation))
        with directory.locked(), _full_disk_named(directory):
            # Once more, now that nobody else can write here.
            directory.check_free(settings, overwrite=overwrite)
            if overwrite:
                directory.clear()
            record = _finished(directory)
            if record is not None and record["trials_asked_for"] >= settings.trials:
                return report.show_finished(directory, record)
            return _search(settings, directory, prepared, chief=name is not None)


def _search(settings, directory, prepared, chief):
    splits = prepared.data[0]
    begun = inputs_of(settings, splits.info, prepared.teachers[0].fingerprint)
    inputs = _begin(directory, settings, begun)
    engine.Trainings(directory, prepared).train_teachers()
    inputs = _check_teacher(directory, inputs)
    Console().rule("trials")
    setup = trials.prepare(settings, directory, splits)
    rows = train_trials(setup, directory, chief)
    best = report.best(rows, settings)
    final = _final(settings, directory, best)
    result = report.write(directory, setup, rows, best, final, inputs)
    directory.drop_work()
    return result


def _finished(directory):
    """The record of a finished search; None where there is none, or none that can be used."""
    try:
        return directory.record()
    except ValueError as error:
        say(f"{error} It is written anew from the trials and the final students.")
        return None


def _begin(directory, settings, inputs):
    """Keeps with what the search begins; returns these `Inputs`.

    Raises:
        ValueError: data or teacher are others than those that it was begun with.
    """
    kept = directory.inputs()
    if kept is not None:
        _check_unchanged(kept, inputs)
        inputs = kept
    _keep(directory, inputs)
    write_text(directory / SETTINGS, settings.to_toml())
    return inputs


def _check_teacher(directory, inputs):
    """Returns the `Inputs` with the fingerprint of the teacher's weights.

    Raises:
        ValueError: it is not the teacher with which the search was begun.
    """
    weights = fingerprints.of_weights(models.load_model(directory / TEACHER))
    teacher = inputs.teacher.model_copy(update={"weights": weights})
    found = inputs.model_copy(update={"teacher": teacher})
    _check_unchanged(inputs, found)
    _keep(directory, found)
    return found


def _check_unchanged(kept, found):
    changed = kept.changed(found)
    if changed:
        raise ValueError(
            f"Since the search was begun the {' and the '.join(changed)} changed: what it trained "
            "so far would not fit the rest. Put it back, or start anew with --overwrite."
        )


def _keep(directory, inputs):
    write_text(directory / INPUTS, inputs.model_dump_json(indent=2) + "\n")


def say(text):
    Console().print(text, highlight=False, soft_wrap=True, markup=False)


@contextlib.contextmanager
def _full_disk_named(directory):
    """Turns whatever a full disk makes libraries raise into one sentence on what to do.

    Raises:
        OSError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) in FULL
        if not full and shutil.disk_usage(directory.path).free >= NO_ROOM:
            raise
        raise OSError(
            f'The disk of "{directory.path}" is full. Free some space and go on with the same '
            f"command, or tfkd search --config {directory / SETTINGS} --out {directory.path}: what "
            "has ended is kept."
        ) from error


def train_trials(setup, directory, chief=False):
    """Trains what trials are left.

    Args:
        setup: `tfkd.runs.search.trials.TrialSetup`.
        directory: `SearchDirectory`.
        chief: whether workers on other hosts do it.

    Returns:
        list of all trials' rows, see `tfkd.tuning.trials`.
    """
    settings, project = setup.settings, directory / TRIALS
    with Progress(directory, setup) as progress:
        tuner = trials.tuner(setup, directory, progress)
        processes = settings.workers or 1
        spent = sum(row["seconds"] for row in trials_of(project)) / processes
        oracle = tuner.oracle
        oracle.verbose = 0
        oracle.limit(settings.trials, (settings.time_budget or math.inf) - spent)
        told = _tell(oracle, progress)
        if chief:
            workers.serve(oracle, progress)
        elif settings.workers:
            workers.supervise(oracle, progress, directory, settings.workers)
        elif not oracle.over:
            trials.run(tuner, setup)
        _tell(oracle, progress, told)
    return [row for row in progress.rows if row["trial"] in oracle.trials]


def _tell(oracle, progress, told=0):
    """Says what could not be used of what was there before; returns how much is said."""
    for note in oracle.notes[told:]:
        progress.say(note)
    return len(oracle.notes)


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
    try:
        with temporary_files_in(directory.path), _full_disk_named(directory):
            splits = load_data(settings)
            setup = trials.prepare(settings, directory, splits, build=False)
            trials.run(trials.tuner(setup, directory), setup)
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
    if _other(target, searched):
        target.clear()
    return engine.run(search_table(searched, defaults), target, resume=target.begun)


def _other(target, settings):
    """Whether a run is of other settings: more trials have found better ones.

    Where the search only moved, the run is told its teacher's new place.
    """
    if not (target / RUN_SETTINGS).exists():
        return False
    try:
        kept = target.settings()
    except ValueError as error:
        say(f"{error} The final students are trained again.")
        return True
    if kept != settings and portable(kept) == portable(settings):
        write_text(target / RUN_SETTINGS, settings.to_toml())
    return portable(kept) != portable(settings)


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
