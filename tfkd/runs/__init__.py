"""One distillation run: settings in, a run directory and a table out.

Nothing here imports TensorFlow before settings, file and directory have been checked.
"""

import os

from tfkd.runs.directory import RunDirectory
from tfkd.runs.distill_settings import DistillSettings
from tfkd.runs.export_settings import ExportSettings
from tfkd.runs.exports import bases, is_export, run_of
from tfkd.runs.quiet import import_tensorflow
from tfkd.runs.search_settings import SearchSettings
from tfkd.runs.settings import Settings, SettingsError, setting

__all__ = [
    "DistillSettings",
    "ExportSettings",
    "RunDirectory",
    "SearchSettings",
    "Settings",
    "SettingsError",
    "distill",
    "evaluate_run",
    "export_run",
    "serve_runs",
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
        ExportCheckError: the export that `settings.export` asked for failed; the run is finished.
    """
    settings = settings.resolved()
    settings.check_files()
    directory = RunDirectory(out)
    directory.check_free(settings, overwrite=overwrite, resume=resume)
    import_tensorflow()
    from tfkd.runs.distillation import run

    return run(settings, directory, overwrite=overwrite, resume=resume)


def evaluate_run(path):
    """Measures a finished run's models, or an export of one, on the test split and prints a table.

    Of a run every seed's students count: means and deviations are those of the run itself. An
    export stands beside its run's teacher and student. Nothing is written.

    Args:
        path: the run directory; or a `.tflite` file, a SavedModel's version or its base directory,
            as `tfkd export` writes them.

    Returns:
        {"teacher", "student alone", "student distilled": list of dicts of figures, one a seed}; of
        an export {"teacher", "student", name of the export: dict of figures}.

    Raises:
        FileNotFoundError: no finished run there, or its data or a model is missing.
        ValueError: the data is no longer that of the run, or a model file is damaged.
    """
    exported = is_export(path) and not RunDirectory(path).begun
    if exported and not os.path.exists(os.path.expanduser(path)):
        raise FileNotFoundError(f'No file "{path}".')
    directory = run_of(path) if exported else RunDirectory(path)
    record, settings = directory.finished_run()
    import_tensorflow()
    if exported:
        from tfkd.runs.exporting import evaluate_exported

        return evaluate_exported(path, directory, record, settings)
    from tfkd.runs.report import evaluate

    return evaluate(directory, record, settings)


def export_run(run, settings, out=None, check=True):
    """Exports a finished run's student, checks and measures every export, and prints the table.

    Args:
        run: the run directory.
        settings: `ExportSettings`.
        out: directory to write to; default `export` in the run. A SavedModel becomes the next
            version below `saved_model/` there, a TFLite file replaces the one of its name.
        check: False leaves the checks out.

    Returns:
        dict, the content of `export.json`.

    Raises:
        FileNotFoundError: no finished run there, or its data or a model is missing.
        ExportCheckError: an export does not do what the student does; nothing is published.
        ValueError: the student cannot be exported, or the run's data or files changed.
    """
    directory = RunDirectory(run)
    record, run_settings = directory.finished_run()
    import_tensorflow()
    from tfkd.runs import exporting
    from tfkd.runs.preparation import load_run_data

    splits = load_run_data(directory, record, run_settings)
    exported = exporting.export(directory, record, splits, settings, out, check)
    exporting.show(exported)
    return exported.record


def serve_runs(paths, files=None, host="127.0.0.1", rest_port=8501, grpc_port=8500):
    """Serves exported models for development until it is stopped, or writes TF Serving's files.

    Args:
        paths: run directories whose students are exported, or base directories of versions.
        files: directory for a compose file and configurations of TensorFlow Serving; then nothing
            is served.
        host, rest_port, grpc_port: where to listen.

    Returns:
        Path of the compose file, or None.

    Raises:
        FileNotFoundError, ValueError: nothing there that can be served. OSError: a port is taken.
    """
    models = bases(paths)
    import_tensorflow()
    from tfkd.export import serve, write_serving_files

    ports = {"rest_port": rest_port, "grpc_port": grpc_port}
    if files is not None:
        return write_serving_files(files, models, **ports)
    return serve(models, host=host, **ports)
