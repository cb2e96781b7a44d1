"""Settings in, a run directory and a table out."""

from tfkd import recipes
from tfkd._extras import needs_extra
from tfkd.export.errors import ExportCheckError
from tfkd.runs.directory import EXPORT, EXPORT_RECORD, RECORD, RunDirectory
from tfkd.runs.rows import chain_table, compare_table, distill_table, recipe_table
from tfkd.runs.tensorflow_output import import_tensorflow
from tfkd.settings import ExportSettings, SettingsError, WorkerSettings


def distill(settings, out, overwrite=False, resume=False, workers=None):
    """Trains a teacher (or loads it), then for each seed the student alone and distilled.

    The two students of a seed start from the same weights and see the same batches; of every
    training the epoch with the best validation accuracy is kept; the test split is read once, at
    the end, for the table. Finished trainings and checkpoints of unfinished ones stay until the run
    is complete, so that a run stopped at any moment can be resumed and ends in the same figures.

    Args:
        settings: `DistillSettings`.
        out: the run directory, new or empty.
        overwrite: replace a run that is there.
        resume: continue an unfinished run that is there, with the same settings.
        workers: `WorkerSettings`: several processes, on this machine or on several hosts, that
            share every batch; or None. A run begun by some may be resumed by others.

    Returns:
        dict, the content of `run.json`; None on a host of a cluster that is not the chief's.

    Raises:
        ValueError: settings, files, data or models that do not fit together, or workers that are
            not about to do the same; a training that diverged. Until training starts nothing is
            written.
        TimeoutError: a worker of the cluster does not come.
        ChildProcessError: workers keep dying.
        FileExistsError: `out` holds a run, or files of something else.
        FileNotFoundError: data or a teacher file that is not there, or no run to resume.
        ExportCheckError: the export that `settings.export` asked for failed; the run is finished.
    """
    settings = settings.resolved()
    if settings.exports:
        needs_extra("export", "tfkd distill --export")
    record, directory = _run(distill_table(settings), out, overwrite, resume, workers)
    return None if record is None else exported(record, directory, settings).content()


def run_recipe(name, settings, out, ablate=False, overwrite=False, resume=False):
    """Trains the student alone, distilled by the defaults and by a recipe; compares them.

    As `distill`, with these rows.

    Args:
        name: one of `tfkd.recipes.names()`.
        settings: of the recipe's `settings` class.
        out: the run directory, new or empty.
        ablate: whether to train the paper's own comparison as well; a finished run resumed with it
            trains what is missing.
        overwrite, resume: as for `distill`.

    Returns:
        dict, the content of `run.json`.

    Raises:
        TypeError: settings of something else. Otherwise as `distill`.
    """
    recipe = recipes.get(name)
    if not isinstance(settings, recipe.settings):
        raise TypeError(
            f"settings are {type(settings).__name__}; expected "
            f'tfkd.recipes.get("{name}").settings(...), a {recipe.settings.__name__}.'
        )
    table = recipe_table(recipe, settings.resolved(), ablate)
    return _run(table, out, overwrite, resume)[0].content()


def compare(settings, out, overwrite=False, resume=False):
    """Trains every student on every data set in every way, and prints one table with the gains.

    As `distill`, with many rows: the gain of each is over the same student alone.

    Args:
        settings: `CompareSettings`.
        out, overwrite, resume: as for `distill`.

    Returns:
        dict, the content of `run.json`.

    Raises:
        As `distill`; SettingsError where two rows would have one name.
    """
    return _run(compare_table(settings.resolved()), out, overwrite, resume)[0].content()


def chain(settings, out, overwrite=False, resume=False):
    """Trains a chain of teachers for each seed: over assistants, or one generation by the last.

    As `distill`. Over assistants (Mirzadeh et al. 2020, arXiv:1902.03393) the rows are the student
    alone, distilled by the teacher, each assistant, and the student taught by the last of them.
    Generations (Furlanello et al. 2018, "Born-Again Neural Networks", arXiv:1805.04770, where the
    teacher is of the student's architecture) end with a row of all of them together, the mean of
    their probabilities. A row's student teaches those of the same seed.

    Args:
        settings: `ChainSettings`.
        out, overwrite, resume: as for `distill`.

    Returns:
        dict, the content of `run.json`.

    Raises:
        As `distill`.
    """
    settings = settings.resolved()
    if settings.exports:
        needs_extra("export", "tfkd chain --export")
    record, directory = _run(chain_table(settings), out, overwrite, resume)
    return exported(record, directory, settings).content()


def _run(table, out, overwrite, resume, workers=None):
    """(`Record`, `RunDirectory`) of a table's run; several workers train that of `tfkd distill`."""
    workers = workers or WorkerSettings()
    cluster = workers.together() if table.kind == "distill" else None
    if cluster is not None and (table.settings.jobs or table.settings.scheduler):
        raise SettingsError(
            "jobs (or a scheduler) train several students at once, workers one student together: "
            "give one of them."
        )
    if cluster is not None and table.settings.strategy != "none":
        raise SettingsError(
            f"--strategy {table.settings.strategy} shares every batch out over the devices of one "
            "process, workers over several processes: give one of them."
        )
    table.settings.check_files()
    if table.settings.tensorboard:
        needs_extra("tune", "--tensorboard")
    directory = RunDirectory(out)
    if cluster is None or cluster.chief_is_here:
        directory.check_free(table.settings, overwrite=overwrite, resume=resume)
    if cluster is not None:
        from tfkd.runs.supervisor import run as supervise

        given = (table.settings, directory, cluster, workers)
        return supervise(*given, overwrite, resume), directory
    from tfkd.runs import parallel

    jobs = parallel.jobs_of(table.settings)
    import_tensorflow()
    from tfkd.runs.engine import run
    from tfkd.runs.team import Alone

    team = Alone(workers.checkpoint_minutes)
    return run(table, directory, overwrite, resume, jobs, team), directory


def exported(record, directory, settings):
    """Exports a finished run's student where the settings ask for it and it was not done before.

    Args:
        record: `Record` of the run.
        directory: `RunDirectory`.
        settings: `DistillSettings`.

    Returns:
        `Record`, which says whether it failed.

    Raises:
        ExportCheckError: it failed.
    """
    if not settings.exports or (directory / EXPORT / EXPORT_RECORD).exists():
        return record
    from tfkd.runs import exporting, report

    try:
        options = ExportSettings.of(settings.exports, settings.calibrate)
        made = exporting.export(directory, record, options)
    except (ExportCheckError, ValueError) as error:
        record = record.model_copy(update={"export_failed": str(error)})
        record.write(directory / RECORD)
        raise ExportCheckError(
            f"The run in {directory.path} is finished, but its export failed: {error} "
            f"tfkd export {directory.path} tries again."
        ) from error
    if record.export_failed:  # of an earlier attempt
        record = record.model_copy(update={"export_failed": None})
        record.write(directory / RECORD)
    report.write_page(directory)
    exporting.show(made, steps=True)
    return record
