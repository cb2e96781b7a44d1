"""The commands that take what was trained: evaluate, report, predict, export, serve."""

import webbrowser
from typing import Annotated

from cyclopts import Parameter, validators

from tfkd import runs
from tfkd.cli.flags import flags_of, given_of
from tfkd.settings import ExportSettings

Data = Annotated[
    list[str] | None,
    Parameter(help="Where the run's data lies now, if it has moved (repeatable, in its order)."),
]
DataDir = Annotated[str | None, Parameter(help="Where TFDS data lies now.")]
RowName = Annotated[
    str | None, Parameter(name="--row", help="Take the student of this row of the run.")
]


def evaluate(
    path: Annotated[
        str,
        Parameter(
            help="Run directory; or an export of a run: a .tflite file, a SavedModel's version or "
            "the directory of its versions."
        ),
    ],
    /,
    *,
    data: Data = None,
    data_dir: DataDir = None,
):
    """Measure a run's saved models, or an export, on the test split and print the table.

    For example:

        tfkd evaluate saved_models/digits

        tfkd evaluate saved_models/digits/export/student_int8.tflite
    """
    runs.evaluate_run(path, data or (), data_dir)


Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]


def predict(
    model: Annotated[str, Parameter(help="Run directory, or an export of a run.")],
    images: Annotated[list[str], Parameter(help="Files of images (or texts), or folders of them.")],
    /,
    *,
    row: RowName = None,
    top: Annotated[
        int, Parameter(help="How many labels a file.", validator=validators.Number(gte=1))
    ] = 1,
    csv: Annotated[str | None, Parameter(help="Write this file instead of a table.")] = None,
    skip_damaged: Annotated[
        bool, Parameter(help="Leave out files that cannot be read, instead of stopping.")
    ] = False,
):
    """Say what images show, or texts are: labels with probabilities, by a run's student or export.

    For example:

        tfkd predict saved_models/photos holiday/ --top 3 --csv labels.csv
    """
    runs.predict(model, images, row, top, csv, skip_damaged)


def export(
    run: Annotated[str, Parameter(help="Run directory, of any command that trains.")],
    /,
    *,
    flags: flags_of(ExportSettings) = None,
    out: Annotated[
        str | None, Parameter(help="Directory to write to. [default: RUN/export]")
    ] = None,
    no_check: Annotated[bool, Parameter(help="Leave the checks out.")] = False,
    row: RowName = None,
    data: Data = None,
    data_dir: DataDir = None,
):
    """Export a run's student as SavedModel and TFLite, check each and print what it is worth.

    Lists are written with commas, or the flag is repeated. The SavedModel becomes the next version
    in `saved_model/`, for TF Serving; the TFLite files are `student_QUANTIZATION.tflite`. Beside
    them: `export.json` (every figure) and `export.png`. A failed check leaves nothing.

    For example:

        tfkd export saved_models/digits --format saved_model,tflite --quantization float32,int8
    """
    settings = ExportSettings(**given_of(flags, ExportSettings))
    moved = {"data": data or (), "data_dir": data_dir}
    runs.export_run(run, settings, out, check=not no_check, row=row, **moved)


def report(
    run: Annotated[str, Parameter(help="Run directory, finished or not.")],
    /,
    *,
    out: Annotated[str | None, Parameter(help="File to write. [default: RUN/report.html]")] = None,
    open: Annotated[bool, Parameter(help="Show the page in the browser.")] = False,
):
    """Write a run's page, report.html, and print where it is.

    A run writes it at its end; this writes it again, from what stands in its directory: no data is
    read, no model is run. Of a run that is not finished it shows what is there.

    For example:

        tfkd report saved_models/digits --open
    """
    path = runs.report_run(run, out)
    print(path)
    if open:
        webbrowser.open(path.resolve().as_uri())


Port = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65535))]


def serve(
    models: Annotated[
        list[str],
        Parameter(help="Runs that were exported, or directories of SavedModel versions."),
    ],
    /,
    *,
    port: Annotated[Port, Parameter(help="REST port. [default: 8501]")] = 8501,
    grpc_port: Annotated[Port, Parameter(help="gRPC port. [default: 8500]")] = 8500,
    host: Annotated[
        str, Parameter(help="Address to listen on. [default: 127.0.0.1]")
    ] = "127.0.0.1",
    files: Annotated[
        str | None,
        Parameter(
            help="Serve nothing: write TF Serving's compose file and configurations into this "
            "directory and print the compose file's path."
        ),
    ] = None,
    trust: Annotated[
        bool,
        Parameter(
            help="Serve models too whose graphs read or write files or run Python: models are "
            "programs, so only those whose origin you know."
        ),
    ] = False,
):
    """Serve exported SavedModels on this machine: a development stand-in for TF Serving.

    It answers TF Serving's REST and gRPC calls with the same C++ loader and follows new versions,
    but does no batching and knows no TLS and no access control. For production run TF Serving: see
    `--files` and `scripts/serve`.

    For example:

        tfkd serve saved_models/digits
    """
    listening = {"host": host, "rest_port": port, "grpc_port": grpc_port}
    compose = runs.serve_runs(models, files, trust=trust, **listening)
    if compose:
        print(compose)
