"""The engine's doors: settings in, a run directory and a table out.

Nothing here imports TensorFlow before settings, files and directory have been checked.
"""

import os

from tfkd import recipes, terminal
from tfkd._extras import needs_extra
from tfkd.export.errors import ExportCheckError
from tfkd.runs import exports
from tfkd.runs.directory import EXPORT, EXPORT_RECORD, RECORD, RunDirectory
from tfkd.runs.rows import chain_table, compare_table, distill_table, recipe_table
from tfkd.runs.tensorflow_output import import_tensorflow
from tfkd.settings import (
    CacheSettings,
    ChainSettings,
    CompareSettings,
    DistillSettings,
    ExportSettings,
    SearchSettings,
    Settings,
    SettingsError,
    WorkerSettings,
)
from tfkd.settings.base import is_path
from tfkd.settings.training import check_keras_file, check_model

__all__ = [
    "CacheSettings",
    "ChainSettings",
    "CompareSettings",
    "DistillSettings",
    "ExportSettings",
    "RunDirectory",
    "SearchSettings",
    "Settings",
    "SettingsError",
    "WorkerSettings",
    "build_cache",
    "cache_info",
    "chain",
    "compare",
    "distill",
    "evaluate_run",
    "export_run",
    "inspect_data",
    "layers",
    "merge_caches",
    "predict",
    "report_run",
    "run_recipe",
    "serve_runs",
    "verify_cache",
]


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


def evaluate_run(path, data=(), data_dir=None):
    """Measures a finished run's models, or an export of one, on the test split and prints a table.

    Of a run every seed's students count: means and deviations are those of the run itself. An
    export stands beside its run's teacher and student. Nothing is written.

    Args:
        path: the run directory; or a `.tflite` file, a SavedModel's version or its base directory,
            as `tfkd export` writes them.
        data, data_dir: where the run's data lies now, if it has moved; several data sets in the
            run's order.

    Returns:
        {row: list of dicts of figures, one a seed}; of an export {"teacher", "student", name of
        the export: dict of figures}.

    Raises:
        FileNotFoundError: no finished run there, or its data or a model is missing.
        ValueError: the data is no longer that of the run, or a model file is damaged.
    """
    exported = exports.is_export(path) and not RunDirectory(path).begun
    if exported and not os.path.exists(os.path.expanduser(path)):
        raise FileNotFoundError(f'No file "{path}".')
    directory = exports.run_of(path) if exported else RunDirectory(path)
    record = directory.record()
    import_tensorflow()
    from tfkd.runs import report
    from tfkd.runs.finished import load_run_data
    from tfkd.runs.measuring import measure

    with terminal.step("Reading the data"):
        splits = load_run_data(directory, record, data, data_dir)
    if exported:
        record.require_classes("The measurement of an export")
        from tfkd.runs.measuring import evaluate_exported

        return evaluate_exported(path, directory, record, splits[0])
    figures = measure(directory, record, splits)
    report.show(record.model_copy(update={"figures": figures}), directory)
    return figures


def export_run(run, settings, out=None, check=True, row=None, data=(), data_dir=None):
    """Exports a finished run's student, checks and measures every export, and prints the table.

    Args:
        run: the run directory.
        settings: `ExportSettings`.
        out: directory to write to; default `export` in the run. A SavedModel becomes the next
            version below `saved_model/` there, a TFLite file replaces the one of its name.
        check: False leaves the checks out.
        row: the row whose student is exported; by default `student.keras`.
        data, data_dir: where the run's data lies now, if it has moved.

    Returns:
        dict, the content of `export.json`.

    Raises:
        FileNotFoundError: no finished run there, or its data or a model is missing.
        ExportCheckError: an export does not do what the student does; nothing is published.
        ValueError: the student cannot be exported, or the run's data or files changed.
    """
    needs_extra("export", "tfkd export")
    directory = RunDirectory(run)
    record = directory.record()
    record.row(row)
    import_tensorflow()
    from tfkd.runs import exporting, report

    given = {"row": row, "data": data, "data_dir": data_dir}
    exported = exporting.export(directory, record, settings, out, check, **given)
    if out is None:
        report.write_page(directory)
    exporting.show(exported)
    return exported.record


def report_run(run, out=None):
    """Writes the page of a run, finished or not, from what stands in its directory.

    Neither data nor models are read, and nothing is trained: of a run of this version the page
    shows what was kept when it was measured.

    Args:
        run: the run directory.
        out: file to write; default `report.html` in the run.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: no run there. ValueError: its record is damaged, or of another version.
        OSError: the page cannot be written.
    """
    directory = RunDirectory(run)
    if not directory.begun:
        directory.record()  # says that there is none
    from tfkd.runs import page

    return page.write(directory, out)


def layers(model, input_shape=None, classes=None, options=None):
    """The layers of a model that can be tapped, with their shapes; prints a table.

    Args:
        model: a `.keras` file; or, built for images of `input_shape` and so many `classes`, the
            name of a model, as `tfkd.models.build` takes it, or "package.module:function".
        input_shape: (height, width, channels).
        classes: number of classes.
        options: dict, of the model that is built.

    Returns:
        list of (path, kind, shape, parameters, reason): the shape with the batch, or None and the
        reason why the layer cannot be tapped.

    Raises:
        SettingsError: an unknown model, or one to build without shape and classes.
        FileNotFoundError: no such file. ValueError: a model that cannot be loaded.
    """
    check_model("model", model, options or {})
    if is_path(model):
        check_keras_file(model)
        if input_shape or classes:
            raise SettingsError(
                f'"{model}" has an input shape and classes of its own: leave --input-shape and '
                "--classes out."
            )
    elif not (input_shape and classes):
        raise SettingsError(
            f'"{model}" is built for images: say for which, such as --input-shape 32,32,3 '
            "--classes 10."
        )
    import_tensorflow()
    from tfkd.runs.layer_table import show

    return show(model, input_shape, classes, options or {})


def predict(model, paths, row=None, top=1, csv=None, skip_damaged=False):
    """Labels of image files, with probabilities, by a model of a run or an export; prints a table.

    Args:
        model: a run directory, or an export of a run.
        paths: image files, or folders of them.
        row: of a run, the row whose student answers; by default `student.keras`.
        top: how many labels for each image.
        csv: file to write instead of a table.
        skip_damaged: leave files out that cannot be read, with a warning, instead of stopping.

    Returns:
        list of dicts {"file", "label", "probability"}, the likeliest label of a file first.

    Raises:
        FileNotFoundError: no such run, export or image. ValueError: an image that cannot be read.
    """
    from tfkd.runs import predicting

    question = predicting.look(model, paths, row)
    import_tensorflow()
    return predicting.answer(question, top, csv, skip_damaged)


def inspect_data(name, settings, sheet=None):
    """Looks at a data set before training and prints what is there and what is wrong with it.

    Args:
        name: as for `tfkd.data.load`.
        settings: `tfkd.settings.DataSettings`.
        sheet: PNG file to draw some images of each class on, as training sees them; or None.

    Returns:
        `tfkd.data.Inspection`.

    Raises:
        As `tfkd.data.inspect`.
    """
    settings.check_files()
    import_tensorflow()
    from tfkd.runs import inspecting

    return inspecting.look(name, settings, sheet)


def serve_runs(paths, files=None, host="127.0.0.1", rest_port=8501, grpc_port=8500, trust=False):
    """Serves exported models for development until it is stopped, or writes TF Serving's files.

    Args:
        paths: run directories whose students are exported, or base directories of versions.
        files: directory for a compose file and configurations of TensorFlow Serving; then nothing
            is served.
        host, rest_port, grpc_port: where to listen.
        trust: serve models too whose graphs read or write files or run Python.

    Returns:
        Path of the compose file, or None.

    Raises:
        FileNotFoundError, ValueError: nothing there that can be served. OSError: a port is taken.
    """
    needs_extra("serve", "tfkd serve")
    models = exports.bases(paths)
    import_tensorflow()
    from tfkd.export import serve, write_serving_files

    ports = {"rest_port": rest_port, "grpc_port": grpc_port}
    if files is not None:
        return write_serving_files(files, models, **ports)
    return serve(models, host=host, trust=trust, **ports)


def build_cache(settings, folder):
    """Asks a trained teacher once and stores its answers, where runs with `cache=folder` find them.

    Several processes may do so at the same time, see `tfkd.TeacherCache.build`.

    Args:
        settings: `CacheSettings`.
        folder: of the stores, a path or a URL; the store gets a name there that says what it is.

    Returns:
        str, path or URL of the store, a `tfkd.TeacherCache` where it is complete.

    Raises:
        As `tfkd.TeacherCache.build`; FileNotFoundError: data or a teacher file that is not there.
    """
    settings = settings.resolved()
    settings.check_files()
    import_tensorflow()
    from tfkd.runs import stores

    return stores.build(settings, folder)


def cache_info(path):
    """Prints what a store of a teacher's answers holds, or every store of a folder.

    Args:
        path: path or URL.

    Returns:
        {path: what `tfkd.TeacherCache.info` says}.

    Raises:
        ValueError: no store there.
    """
    import_tensorflow()
    from tfkd.runs import stores

    return stores.look(path)


def verify_cache(path, data=None, settings=None):
    """Reads every record of a store, or of every store of a folder, and prints what is wrong.

    Args:
        path: path or URL.
        data: as for `tfkd.data.load`; then every example is compared with its records, too.
        settings: `tfkd.settings.DataSettings` of the data.

    Returns:
        {path: what `tfkd.TeacherCache.verify` says}.

    Raises:
        ValueError: no store there, or data of another shape or length.
    """
    if data is not None:
        settings.check_files()
    import_tensorflow()
    from tfkd.runs import stores

    return stores.verify(path, data, settings)


def merge_caches(path, parts):
    """Puts stores together that were built by shares in different folders.

    Args:
        path: of the whole: a store where the parts are stores, a folder of stores where they are.
        parts: list of paths or URLs.

    Returns:
        List of str, the stores that are complete now.

    Raises:
        ValueError: as `tfkd.TeacherCache.merge`.
    """
    import_tensorflow()
    from tfkd.runs import stores

    return stores.merge(path, list(parts))
