"""What each export costs and what it is worth: one table, one picture."""

import contextlib
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tfkd.evaluation import quality
from tfkd.evaluation.tables import parts
from tfkd.export import accuracy
from tfkd.export.errors import ExportCheckError
from tfkd.export.student import examine
from tfkd.export.tflite import export_tflite
from tfkd.files import written
from tfkd.runtime.exported_models import open_exported, open_keras
from tfkd.runtime.loader import LoaderError
from tfkd.taps import heads_of

BATCH = 32
WARM_UP_RUNS = 5
TURNS = 12
RUNS_A_TURN = 10
TEACHER, LITE_TEACHER, STUDENT = "Keras teacher", "TFLite teacher", "Keras student"
LARGEST_DROP = 0.05  # of the accuracy, from the Keras student to an export
SMALLEST_SPAN = 2.0  # points of accuracy on the plot's axis, lest a hundredth look like a fall


@dataclasses.dataclass(frozen=True)
class Row:
    """One model in one format. Times in milliseconds, on one thread; shares from 0 to 1.

    Attributes:
        name: model and format.
        bytes: size on disk.
        accuracy: top-1 on the dataset.
        agreement: share of examples on which it names the same class as the Keras student.
        latency_ms, latency_p95_ms: one image, median and 95th percentile.
        batch_ms: median of a batch of 32.
        ratio: latency_ms over that of the first teacher row, or None without a teacher.
    """

    name: str
    bytes: int
    accuracy: float
    agreement: float
    latency_ms: float
    latency_p95_ms: float
    batch_ms: float
    ratio: float | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """Rows, teacher first; `table()` for the terminal, `markdown()` for a README.

    Columns: size on disk, top-1 on the dataset, agreement with the Keras student's classes, latency
    of one image (median, 95th percentile) and of a batch of 32, each on one thread, and the
    median over the Keras teacher's. `notes` (lines of text) stand below both. `head` is the name
    of the student's head.
    """

    rows: tuple
    notes: tuple = ()
    head: str | None = None

    def table(self):
        """The rows as a `rich.table.Table`."""
        headings, _ = self._cells()
        result = self._table(range(1, len(headings)))
        result.caption = Text("\n".join(self.notes)) if self.notes else None
        return result

    def tables(self, width):
        """The same for a console of so many columns: what does not fit stands in tables below."""
        headings, lines = self._cells()
        headings = [max(heading.split(" "), key=len) for heading in headings]
        names, *widths = (max(map(len, own)) for own in zip(headings, *lines, strict=True))
        found = parts(names, widths, width)
        if len(found) == 1:
            return self.table()
        return Group(*map(self._table, found), Text("\n".join(self.notes)))

    def _table(self, columns):
        headings, lines = self._cells()
        result = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        result.add_column(headings[0].replace(" ", "\n"))
        for column in columns:
            result.add_column(headings[column].replace(" ", "\n"), justify="right", no_wrap=True)
        for line in lines:
            result.add_row(line[0], *(line[column] for column in columns))
        return result

    def markdown(self):
        """The rows as a Markdown table."""
        headings, lines = self._cells()
        rule = ["---"] + ["---:"] * (len(headings) - 1)
        table = "".join(f"| {' | '.join(line)} |\n" for line in (headings, rule, *lines))
        return table + "".join(f"\n{note}\n" for note in self.notes)

    def as_dicts(self):
        """The rows as plain dicts, for a JSON file."""
        return [dataclasses.asdict(row) for row in self.rows]

    def _cells(self):
        headings = ["format", "size (kB)", "top-1 (%)", "agree (%)", "p50 (ms)", "p95 (ms)"]
        headings += [f"×{BATCH} (ms)", "/teacher"]
        lines = []
        for row in self.rows:
            figures = [f"{row.bytes / 1e3:,.1f}", f"{row.accuracy:.2%}"[:-1]]
            figures += [f"{row.agreement:.2%}"[:-1]]
            figures += [f"{row.latency_ms:.3f}", f"{row.latency_p95_ms:.3f}"]
            figures += [f"{row.batch_ms:.2f}", "–" if row.ratio is None else f"{row.ratio:.2f}"]
            lines.append([row.name, *figures])
        return headings, lines


def report(
    student,
    exports,
    dataset,
    *,
    teacher=None,
    plot=None,
    head=None,
    largest_drop=LARGEST_DROP,
    told=None,
    opened_by=open_exported,
):
    """Measure a student, its exports and its teacher on the same images, in turns, on one thread.

    Args:
        student: the Keras student, a classifier.
        exports: {name: path} of exports, as `open_exported` takes them.
        dataset: batched `tf.data.Dataset` of (images, labels), the test split.
        teacher: the Keras teacher, or None. Its TFLite float32 form is measured too; if it has
            none, a note says why.
        plot: path of a PNG to draw accuracy against size and latency into, or None. What is
            written meanwhile lies beside it.
        head: what the student's numbers mean, as for `export_saved_model`.
        largest_drop: share by which an export may be less accurate than the Keras student; None for
            any. A loss of a point or more stands in the notes.
        told: function of a text, told what is done next, or None.
        opened_by: function that opens an export, given its path.

    Returns:
        `Report`. A Keras model that another process cannot load (unregistered classes) is an error.

    Raises:
        ValueError: what cannot be opened or measured; labels that stand in another order than the
            student's classes.
        ExportCheckError: an export is less accurate than `largest_drop` allows.
    """
    told = told or (lambda text: None)
    served = _examined(student, head)
    as_logits = {STUDENT: lambda own: np.asarray(served.head.logits(own))}
    beside = None if plot is None else Path(plot).parent
    with contextlib.ExitStack() as stack:
        opened, notes = {}, []
        if teacher is not None:
            told("teacher as TFLite")
            as_logits[TEACHER] = _logits_behind(teacher)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".tmp-", dir=beside))
            opened[TEACHER] = stack.enter_context(_keras(teacher, beside))
            try:
                lite = export_tflite(teacher, Path(folder) / "teacher.tflite", check=False)
                opened[LITE_TEACHER] = stack.enter_context(open_exported(lite))
            except (ExportCheckError, TypeError, ValueError) as error:
                reason = next(iter(str(error).splitlines()), "")  # a converter's can be pages
                notes.append(f'No row "{LITE_TEACHER}": {reason}')
        opened[STUDENT] = stack.enter_context(_keras(student, beside))
        for name, path in exports.items():
            opened[name] = stack.enter_context(opened_by(path))
        predictions = {}
        for name, model in opened.items():
            told(name)
            predictions[name] = model.predict(dataset)
        for name, function in as_logits.items():
            predictions[name] = (function(predictions[name][0]), predictions[name][1])
        notes += _notes_on_accuracy(predictions, exports, opened, largest_drop)
        images = next(iter(dataset.as_numpy_iterator()))[0]
        single = _latencies(opened, images[:1], told)
        batch = _latencies(opened, np.resize(images, (BATCH, *images.shape[1:])), told)
    reference = predictions[STUDENT][0]
    rows = []
    for name, model in opened.items():
        logits, labels = predictions[name]
        figures = quality(logits, labels, reference)
        middle = float(np.median(single[name]))
        rows.append(
            Row(
                name,
                model.bytes,
                figures["accuracy"],
                figures["agreement"],
                middle,
                float(np.percentile(single[name], 95)),
                float(np.median(batch[name])),
                middle / float(np.median(single[TEACHER])) if teacher is not None else None,
            )
        )
    result = Report(tuple(rows), tuple(notes), served.head.name)
    if plot is not None:
        draw(result, plot)
    return result


def draw(result, path):
    """Draw accuracy against size and against latency as a PNG, written beside and renamed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for number, row in enumerate(result.rows):
        marker = "s" if row.name in (TEACHER, LITE_TEACHER) else "o"
        for axes, value in ((left, row.bytes / 1e3), (right, row.latency_ms)):
            axes.plot(
                *(value, 100 * row.accuracy, marker),
                color=f"C{number}",
                label=row.name,
                alpha=0.8,
            )
    left.set_ylabel("top-1 accuracy (%)")
    left.set_xlabel("size (kB)")
    right.set_xlabel("latency of one example on one thread (ms)")
    low, high = left.get_ylim()
    if high - low < SMALLEST_SPAN:
        middle = (low + high) / 2
        left.set_ylim(middle - SMALLEST_SPAN / 2, middle + SMALLEST_SPAN / 2)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.margins(x=0.1)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False)
    with written(path) as partial:
        figure.savefig(partial, dpi=150, format="png")


def _examined(student, head):
    """The `Served` of a student that is a classifier."""
    served = examine(student, head=head)
    if served.task not in ("classes", "binary") or len(served.shape) != 2:
        raise ValueError(
            f'Student "{student.name}" returns the shape {served.shape} of head '
            f'"{served.head.name}", but a report is of classes, one an example. Measure exports of '
            "other students with tfkd.export.open_exported."
        )
    return served


def _logits_behind(teacher):
    """A function from a teacher's outputs to logits; as they are where its head is not known."""
    (found, *others) = heads_of(teacher).values()
    if others or found.kind != "probabilities":
        return np.asarray
    return lambda own: np.asarray(found.logits(own))


def _notes_on_accuracy(predictions, exports, opened, largest_drop):
    """What an export loses against the Keras student, in words; beyond the limit it is an error."""
    right = {}
    for name, (logits, labels) in predictions.items():
        answers = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(-1)
        right[name] = answers == labels
        if name == STUDENT:
            count = max(2, logits.shape[1])
            names = next((model.labels for model in opened.values() if model.labels), None)
            names = names or [str(number) for number in range(count)]
            accuracy.require_order(answers.astype(int), labels, names)
    said = [
        accuracy.require_small_drop(name, right[STUDENT], right[name], largest_drop)
        for name in exports
    ]
    return [line for line in said if line]


def _keras(model, beside):
    try:
        return open_keras(model, directory=beside)
    except LoaderError as error:
        raise ValueError(
            f'Model "{model.name}" cannot be loaded in a fresh process, where its speed is '
            f"measured: {error}. Register its classes with "
            "keras.saving.register_keras_serializable."
        ) from error


def _latencies(models, images, told):
    """{name: milliseconds of every run}. In turns, because a machine's speed drifts."""
    times = {name: [] for name in models}
    for model in models.values():
        model.seconds(images, WARM_UP_RUNS)
    for turn in range(1, TURNS + 1):
        told(f"time of {len(images)} images, turn {turn} of {TURNS}")
        for name, model in models.items():
            # The first run of a turn finds the caches full of another model's weights.
            times[name] += [1e3 * seconds for seconds in model.seconds(images, RUNS_A_TURN + 1)[1:]]
    return times
