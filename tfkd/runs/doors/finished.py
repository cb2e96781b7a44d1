"""What is asked of a run that is finished, or of an export of one."""

import os

from tfkd import terminal
from tfkd._extras import needs_extra
from tfkd.runs import exports
from tfkd.runs.directory import RunDirectory
from tfkd.runs.tensorflow_output import import_tensorflow


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
