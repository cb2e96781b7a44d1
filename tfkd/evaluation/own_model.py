"""What a user's own model is worth on data of his own, figure by figure and class by class."""

import dataclasses
import io

import numpy as np
import tensorflow as tf
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.special import softmax

from tfkd.evaluation.costs import cost
from tfkd.evaluation.operations import multiply_adds
from tfkd.evaluation.predictions import predict
from tfkd.evaluation.scores import checked, quality
from tfkd.evaluation.tables import table
from tfkd.taps import Taps, input_signature

BATCH = 256
SHOWN = 20  # classes in the text, those with the lowest accuracy first
WIDTH = 80


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """What a classifier is worth on a labelled dataset.

    Attributes:
        model: its name.
        figures: dict, as `quality` and `cost` give them: `accuracy`, `cross_entropy`,
            `calibration_error`, and where costs were measured `parameters`, `multiply_adds`,
            `file_bytes`, `latency_ms`, `latency_p95_ms`.
        classes: a dict for each class: `name`; `examples` that have it; `predicted`, how many are
            said to have it; `accuracy`, the share of its examples that are recognised (recall);
            `precision`, the share of those said to have it that do; None where there are none.
        confusion: integer array, shape (classes, classes): how many examples of the class of the
            row are said to have that of the column.
        probabilities: float64 array, shape (examples, classes).
        labels: integer array, shape (examples,).
    """

    model: str
    figures: dict
    classes: list
    confusion: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray

    def to_dict(self):
        """Plain values, for JSON; without the probabilities and labels of single examples."""
        return {
            "model": self.model,
            "examples": len(self.labels),
            **self.figures,
            "classes": self.classes,
            "confusion": self.confusion.tolist(),
        }

    def __rich_console__(self, console, options):
        yield table({self.model: self.figures}, title=f"{len(self.labels):,} examples")
        yield _table_of_classes(self.classes, self.confusion)

    def __repr__(self):
        plain = {"color_system": None, "force_terminal": False, "markup": False, "emoji": False}
        text = io.StringIO()
        Console(file=text, width=WIDTH, **plain).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def report(model, dataset, class_names=None, *, head=None, costs=True, image_shape=None):
    """Measure a classifier on a labelled dataset: accuracy, calibration, classes, costs.

    ```python
    print(tfkd.evaluation.report(student, test))
    tfkd.evaluation.report(student, (images, labels), costs=False).figures["accuracy"]
    ```

    Args:
        model: a built `keras.Model` with one output of shape (batch, classes): logits or softmax
            probabilities; or (batch, 1), a one-logit or sigmoid binary head.
        dataset: batched `tf.data.Dataset` of (inputs, labels, anything more), or a pair of arrays;
            integer labels.
        class_names: a name for each class, in the order of the labels; their numbers by default.
        head: what the output holds, "logits" or "probabilities", where it cannot be found out.
        costs: whether parameters, multiply-adds, file size and latency are measured, which takes
            some seconds, and a model of one image.
        image_shape: (height, width, channels), where the model's input leaves it open.

    Returns:
        `Report`: prints as a table; `to_dict()` gives plain values.

    Raises:
        ValueError: an output that is of no classifier or of which nobody knows what it holds,
            labels out of range, names that are not as many as classes, or an empty dataset.
    """
    if isinstance(dataset, list | tuple):
        dataset = tf.data.Dataset.from_tensor_slices(tuple(dataset)).batch(BATCH)
    logits, labels = predict(_Logits(model, head), dataset)
    figures = quality(logits, labels)
    logits, labels = checked(logits, labels)
    count = logits.shape[1]
    names = list(map(str, range(count) if class_names is None else class_names))
    if len(names) != count:
        raise ValueError(
            f"class_names holds {len(names)} names, but the model tells {count} apart."
        )
    confusion = np.zeros((count, count), int)
    np.add.at(confusion, (labels, logits.argmax(axis=1)), 1)
    if costs:
        figures |= cost(model, image_shape)
        figures["multiply_adds"] = multiply_adds(model, image_shape)
    classes = [_of_class(name, number, confusion) for number, name in enumerate(names)]
    return Report(model.name, figures, classes, confusion, softmax(logits, axis=1), labels)


class _Logits:
    """A model as a function that returns logits, also where it ends in a softmax or sigmoid."""

    def __init__(self, model, given):
        self.name, signature = model.name, input_signature(model)
        if signature is None:
            raise ValueError(f'The inputs of "{model.name}" are not known. Call it on a batch.')
        self._reader = Taps(model, heads=given)
        self._reader.trace(signature)
        heads = self._reader.output_heads_under(getattr(model, "loss", None))
        shapes = {name: self._reader.shapes[name] for name in heads}
        (self._output, found), *others = heads.items()
        if others or len(shapes[self._output]) != 2:
            raise ValueError(
                f'Model "{model.name}" has outputs of the shapes {shapes}; expected one of shape '
                "(batch, classes). Make a keras.Model with the one to be measured."
            )
        independent = found.labels == "independent" and shapes[self._output][-1] != 1
        if found.kind not in ("logits", "probabilities") or independent:
            raise ValueError(
                f'The output of "{model.name}" holds {found.kind or "numbers of unknown meaning"} '
                f"({found.labels or 'labels unknown'}); expected logits or probabilities of one "
                'class of many. Where that is what they are, say so: head="logits" or '
                '"probabilities".'
            )

    def __call__(self, inputs, training=False):
        return self._reader(inputs, training)[1][self._output]


def _of_class(name, number, confusion):
    examples, predicted = int(confusion[number].sum()), int(confusion[:, number].sum())
    right = int(confusion[number, number])
    return {
        "name": name,
        "examples": examples,
        "predicted": predicted,
        "accuracy": right / examples if examples else None,
        "precision": right / predicted if predicted else None,
    }


def _table_of_classes(classes, confusion):
    """The classes, worst first: what they are taken for most."""
    result = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    result.add_column("class")
    for heading in ("examples", "accuracy (%)", "precision (%)"):
        result.add_column(heading, justify="right")
    result.add_column("most often taken for")
    known = [number for number, own in enumerate(classes) if own["examples"]]
    worst = sorted(known, key=lambda number: classes[number]["accuracy"])
    for number in worst[:SHOWN]:
        own, wrong = classes[number], confusion[number].copy()
        wrong[number] = 0
        other = int(wrong.argmax())
        taken = f"{classes[other]['name']} ({wrong[other]:,})" if wrong[other] else ""
        shares = (_percent(own["accuracy"]), _percent(own["precision"]))
        result.add_row(own["name"], f"{own['examples']:,}", *shares, taken)
    if len(known) > SHOWN:
        result.caption = f"the worst {SHOWN} of {len(known)} classes"
    return result


def _percent(share):
    return "" if share is None else f"{100 * share:.1f}"
