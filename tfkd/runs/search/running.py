"""The order of a search: teacher, stored knowledge, trials, final students."""

import math

import grpc

from tfkd import terminal
from tfkd.files import full_disk_named, write_text
from tfkd.runs import engine
from tfkd.runs import report as run_report
from tfkd.runs.directory import EXPORT, EXPORT_RECORD, SETTINGS, TRIALS
from tfkd.runs.lessons import Prepared, with_folders
from tfkd.runs.rows import search_table, searched_rows
from tfkd.runs.search import record as search_record
from tfkd.runs.search import report, trials, workers
from tfkd.runs.search.progress import Progress
from tfkd.runs.temporary import temporary_files_in
from tfkd.tuning import trials as trials_of


def run(settings, directory, overwrite=False, jobs=None):
    """See `tfkd.runs.search.search`; the settings and the directory were looked at already.

    Args:
        settings, directory, overwrite: as there.
        jobs: `tfkd.runs.parallel.Jobs` that train the final students, or None.

    Returns:
        (`Record`, `tfkd.runs.search.record.Found`); None in a worker.
    """
    name, table = workers.tuner_id(), search_table(with_folders(settings))
    with full_disk_named(directory / TRIALS):
        if name is not None and "chief" not in name:
            return _work(table, directory)
        resume = directory.begun and not overwrite
        with engine.opened(table, directory, overwrite, resume, jobs) as trainings:
            return _search(trainings, directory, chief=name is not None)


def _search(trainings, directory, chief):
    settings = trainings.settings
    found = search_record.read(directory, trainings.say)
    if found is not None and found.trials_asked_for >= settings.trials:
        _add_rows(trainings, found)
        record = trainings.finished_before()
        if record is not None:
            directory.drop_work()
            report.show(found, settings)
            run_report.show(record, directory, "The search was finished before.")
            return record, found
    (lesson,) = trainings.prepared.lessons
    lesson.check(trials.trial_row(settings))
    trainings.begin()
    write_text(directory / SETTINGS, settings.to_toml())  # perhaps of more trials than before
    trainings.train_teachers()
    trainings.say(f"Trials: {settings.trials}, {settings.objective} decides", style="bold")
    setup = trials.prepare(settings, trainings)
    rows = train_trials(setup, directory, chief)
    found = report.write(directory, setup, rows)
    report.show(found, settings)
    _add_rows(trainings, found)
    (directory / EXPORT / EXPORT_RECORD).unlink(missing_ok=True)  # perhaps of another student
    record = trainings.finish()
    trainings.say(f"tfkd distill --config {directory / 'best.toml'} trains {record.main} again.")
    return record, found


def _add_rows(trainings, found):
    """Adds what is trained by a trial's settings, unless that are the defaults."""
    if found.kept == found.trials[0].trial:
        return
    values = next(row.values for row in found.trials if row.trial == found.kept)
    rows = searched_rows(trainings.settings, found.kept, values)
    for row in rows:
        trainings.add(row)
    trainings.table = trainings.table._replace(main=rows[-1].name)


def train_trials(setup, directory, chief=False):
    """Trains what trials are left.

    Args:
        setup: `tfkd.runs.search.trials.TrialSetup`.
        directory: `RunDirectory`.
        chief: whether workers on other hosts do it.

    Returns:
        list of all trials' rows, see `tfkd.tuning.race.joined`.
    """
    settings = setup.settings
    with Progress(directory, settings).shown() as progress:
        tuner = trials.tuner(setup, directory, progress)
        spent = sum(row["seconds"] for row in trials_of(directory / TRIALS))
        spent /= settings.workers or 1
        oracle, told = tuner.oracle, 0
        oracle.verbose = 0
        oracle.limit(settings.trials, (settings.time_budget or math.inf) - spent)
        for note in oracle.notes:
            terminal.say(note)
        told = len(oracle.notes)
        if chief:
            workers.serve(oracle, progress)
        elif settings.workers:
            workers.supervise(oracle, progress, directory, settings.workers)
        elif not oracle.over:
            trials.run(tuner, setup)
        for note in oracle.notes[told:]:
            terminal.say(note)
    return [row for row in progress.rows if row["trial"] in oracle.trials]


def _work(table, directory):
    """Trains trials for a chief elsewhere."""
    settings = table.settings
    workers.end_with_parent()
    workers.find_chief(settings.worker_timeout)
    if not directory.begun:
        raise FileNotFoundError(
            f'No search in "{directory.path}". Chief and workers share one --out directory: a file '
            "system that all hosts see."
        )
    directory.check_free(settings, resume=True)
    try:
        with temporary_files_in(directory.path):
            trainings = engine.Trainings(directory, Prepared(table))
            trainings.prepared.lessons[0].check(trials.trial_row(settings))
            trainings.follow()
            setup = trials.prepare(settings, trainings)
            trials.run(trials.tuner(setup, directory), setup)
    except grpc.RpcError as error:
        if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
            raise workers.unreachable(settings.worker_timeout) from None
        raise
