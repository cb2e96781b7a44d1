"""One distillation run: settings in, a run directory and a table out.

Nothing here imports TensorFlow before settings, file and directory have been checked.
"""

from tfkd.runs.directory import RunDirectory
from tfkd.runs.distill_settings import DistillSettings
from tfkd.runs.quiet import import_tensorflow
from tfkd.runs.settings import Settings, SettingsError, setting

__all__ = [
    "DistillSettings",
    "RunDirectory",
    "Settings",
    "SettingsError",
    "distill",
    "evaluate_run",
    "setting",
]


def distill(settings, out, overwrite=False, resume=False):
    """Trains a teacher (or loads it), then for each seed the student alone and distilled.

    The two students of a seed start from the same weights and see the same batches; of every
    training the epoch with the best validation accuracy is kept; the test split is read once, at
    the end, for the table. What each training ended in is kept until the run is complete, so that
    a run stopped at any moment can be resumed and ends in the same figures.

    Args:
        settings: `DistillSettings`.
        out: the run directory, new or empty.
        overwrite: replace a run that is there.
        resume: continue an unfinished run that is there, with the same settings.

    Returns:
        dict, the content of `run.json`.

    Raises:
        ValueError: settings, files, data or models that do not fit together; a training that
            diverged. Until training starts nothing is written.
        FileExistsError: `out` holds a run, or files of something else.
        FileNotFoundError: data or a teacher file that is not there, or no run to resume.
    """
    settings = settings.resolved()
    settings.check_files()
    directory = RunDirectory(out)
    directory.check_free(settings, overwrite=overwrite, resume=resume)
    import_tensorflow()
    from tfkd.runs.distillation import run

    return run(settings, directory, overwrite=overwrite, resume=resume)


def evaluate_run(run):
    """Measures the models of a finished run on the test split again and prints the table.

    Every seed's students count: means and deviations are those of the run itself. Nothing is
    written.

    Args:
        run: the run directory.

    Returns:
        {"teacher", "student alone", "student distilled": list of dicts of figures, one a seed}.

    Raises:
        FileNotFoundError: no finished run there, or its data or a model is missing.
        ValueError: the data is no longer that of the run, or a model file is damaged.
    """
    directory = RunDirectory(run)
    record, settings = directory.finished_run()
    import_tensorflow()
    from tfkd.runs.report import evaluate

    return evaluate(directory, record, settings)
