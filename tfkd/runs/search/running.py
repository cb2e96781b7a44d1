"""The order of a search: teacher, stored knowledge, trials, final students, report."""

import json
import math
import os

import grpc

from tfkd.runs import distillation, preparation
from tfkd.runs.directory import WORK, RunDirectory, copy, write_text
from tfkd.runs.search import report, trials, workers
from tfkd.runs.search.directory import BEST, DEFAULTS, SETTINGS, TEACHER, TRIALS
from tfkd.runs.search.progress import Screen
from tfkd.tuning import trials as trials_of


def run(settings, directory, overwrite=False):
    """See `tfkd.runs.search`; the settings and the directory were looked at already."""
    name = _tuner_id()
    if name is not None and "chief" not in name:
        return _work(settings, directory)
    prepared = preparation.prepare(settings.distillation)
    inputs = distillation.inputs_of(settings, prepared.splits.info)
    with directory.locked():
        # Once more, now that nobody else can write here.
        directory.check_free(settings, overwrite=overwrite)
        record = None if overwrite else directory.record()
        if record is not None and record["trials_asked_for"] >= settings.trials:
            return report.show_finished(directory, record)
        if overwrite:
            directory.clear()
        work = distillation.Work(directory / WORK, settings.distillation, prepared)
        _begin(work, inputs, record)
        write_text(directory / SETTINGS, settings.to_toml())
        if not (directory / TEACHER).exists():
            work.part(distillation.TEACHER, work.train_teacher)
            copy(work.model_path(distillation.TEACHER), directory / TEACHER)
        work.console.rule("trials")
        ground = trials.prepare(settings, directory, prepared.splits)
        rows = train_trials(ground, directory, chief=name is not None)
        best = report.best(rows, settings)
        runs = _final(settings, directory, work, rows, best)
        result = report.write(directory, ground, rows, best, runs, inputs)
        directory.drop_work()
        return result


def _begin(work, inputs, record):
    """Refuses to go on with other data or another teacher than those that the search began with."""
    if record is not None:  # goes on after its end, with more trials: its work is gone
        work.path.mkdir(parents=True, exist_ok=True)
        kept = json.dumps(record["inputs"])
        write_text(work.path / "inputs.json", kept)
    work.begin(inputs)


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
    splits = preparation.load_data(settings)
    ground = trials.prepare(settings, directory, splits, build=False)
    try:
        trials.run(trials.tuner(ground, directory), ground)
    except grpc.RpcError as error:
        if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
            raise workers.unreachable(settings.worker_timeout) from None
        raise


def _final(settings, directory, work, rows, best):
    """Trains the final students, as `tfkd distill` does: of the best trial and of the defaults.

    Returns:
        {BEST: `DistillSettings`, DEFAULTS: the same}; the latter only where it differs.
    """
    teacher = (directory / TEACHER).resolve()
    first = settings.final({}, teacher)
    runs = {BEST: settings.final(best["values"], teacher)}
    if runs[BEST] != first:
        runs[DEFAULTS] = first
    for name, own in runs.items():
        work.console.rule(f"final students: {name}")
        target = RunDirectory(directory / name)
        if _other(target, own):
            target.clear()
        if not target.finished:
            _lend_alone(work, own, target)
        distillation.run(own, target, resume=target.begun)
    return runs


def _other(target, settings):
    """Whether a run is of other settings: more trials have found better ones."""
    path = target / "run.toml"
    return path.exists() and type(settings).from_toml(path) != settings


def _lend_alone(work, settings, target):
    """The student alone is the same whatever the losses' weights: it is trained once for both."""
    shared = distillation.Work(work.path / "alone" / _key(settings), settings, work.prepared)
    for seed in settings.all_seeds:
        part = distillation.part_name(seed, "alone")
        shared.part(part, shared.train_student, seed, "alone", title=f"student alone, seed {seed}")
        for suffix in (".keras", ".json"):
            copy(shared.path / f"{part}{suffix}", target / WORK / f"{part}{suffix}")


def _key(settings):
    """A directory's name for what decides how a student alone is trained."""
    options = sorted(settings.student_options.items())
    return "-".join([f"{settings.learning_rate:g}", *(f"{k}_{v}" for k, v in options)])


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
