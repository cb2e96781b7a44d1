"""The documents of a version, in `assets.extra/`: labels.json, model_card.md, manifest.json."""

import dataclasses
import datetime
import json
from pathlib import Path

import keras
import tensorflow as tf

from tfkd.data.resizing import MEANINGS
from tfkd.export import loading

PIXELS = "raw pixels, 0..255"
UNCHECKED = "Nothing: the export was asked to leave its checks out."

_CARD = """# {name}

Exported by tfkd: {parameters:,} parameters.

## How to ask it

{signatures}

{inputs}

## What it answers

{answers}

{labels}

## What was checked

{checked}
"""

_IMAGES = """Images are {values}. Over REST:

    POST /v1/models/{name}:predict
    {{"instances": [{{"image": [[[…]]]}}]}}"""

_ENCODED = """Images are raw pixels 0..255; normalisation is inside the model. Encoded images may be
JPEG, PNG or WebP of any size; those of another size are {resized}, as in training
(resize="{resize}"). Over REST:

    POST /v1/models/{name}:predict
    {{"signature_name": "serve_bytes", "instances": [{{"image_bytes": {{"b64": "…"}}}}]}}"""

_TASKS = {
    "classes": "One of {count} classes that exclude each other: a softmax over the logits.",
    "binary": "One of two classes: a sigmoid of one logit; the probabilities are of both.",
    "labels": "{count} labels, each independent of the others: a sigmoid for each logit. `labels` "
    'holds the name of each label whose probability is above 0.5, else "".',
    "code": "A hash code: `codes` holds +1 for each number above 0, else -1; `packed` the same "
    "bits, eight a byte, the first one the highest, zeros behind the last; `values` the numbers.",
    "numbers": "Numbers, as the student gives them: no classes and no probabilities.",
}


@dataclasses.dataclass(frozen=True)
class Card:
    """What the documents of a version say of its model.

    Attributes:
        inputs: what to send, in words.
        answers: what comes back, in words.
        checked: what the check found, in words; by default that there was none.
        labels: names of the classes, labels or numbers, in the order of the outputs.
        facts: {name: value} that stand in the manifest beside what every model has.
    """

    inputs: str
    answers: str
    checked: str = UNCHECKED
    labels: tuple = ()
    facts: dict = dataclasses.field(default_factory=dict)


def write(directory, model, functions, card, manifest=None, report=None):
    """Writes the three documents.

    The manifest comes last: it holds the checksum of every other file. What is given of the run as
    "calibration", a sentence, stands in the card.

    Args:
        directory: of the version.
        model: the `keras.Model`.
        functions: {signature: concrete function}.
        card: `Card`.
        manifest: dict of facts about the run.
        report: dict of what the check found; None where there was none.
    """
    folder = Path(directory) / "assets.extra"
    folder.mkdir(exist_ok=True)
    _write_json(folder / "labels.json", list(card.labels))
    said = _CARD.format(
        name=model.name,
        parameters=model.count_params(),
        signatures=_signatures(functions),
        inputs=card.inputs,
        answers="\n\n".join(filter(None, [card.answers, (manifest or {}).get("calibration")])),
        labels=f"Names: {', '.join(card.labels) or 'none were given'}.",
        checked=card.checked,
    )
    (folder / "model_card.md").write_text(said, encoding="utf-8")
    _write_json(
        folder / "manifest.json",
        {
            "name": model.name,
            "exported": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "parameters": model.count_params(),
            **card.facts,
            "signatures": {name: _describe(function) for name, function in functions.items()},
            "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
            "checks": report,
            "run": manifest,
            "files": loading.checksums(directory),
        },
    )


def of_student(served, functions, report):
    """The `Card` of a `tfkd.export.student.Served`."""
    head = f'{_TASKS[served.task].format(count=len(served.labels))} Head: "{served.head.name}".'
    return Card(
        inputs=_inputs(served, functions),
        answers="\n\n".join(filter(None, [head, served.assumed])),
        checked=UNCHECKED if report is None else _checked(report),
        labels=served.labels,
        facts={
            "head": served.head.name,
            "head_assumed": served.assumed,
            "resize": served.resize,
        },
    )


def _write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _describe(function):
    def tensors(items):
        return {
            name: f"{t.dtype.name}{[-1 if d is None else d for d in t.shape]}"
            for name, t in items.items()
        }

    return {
        "inputs": tensors(function.structured_input_signature[1]),
        "outputs": tensors(function.structured_outputs),
    }


def _signatures(functions):
    lines = []
    for name, function in functions.items():
        described = _describe(function)
        takes, gives = (
            ", ".join(f"`{k}` {v}" for k, v in described[s].items()) for s in ("inputs", "outputs")
        )
        lines.append(f"- `{name}`: {takes} → {gives}")
    return "\n".join(lines)


def _inputs(served, functions):
    if "serve_bytes" in functions:
        return _ENCODED.format(
            name=served.model.name, resized=MEANINGS[served.resize], resize=served.resize
        )
    if served.image_shape is None:
        return "The inputs are those of the Keras model, as in training."
    values = PIXELS if served.takes_pixels else "scaled before they are sent"
    return images(served.model.name, values)


def images(name, values):
    """How images are sent to a model, in words; `values` says what their values are."""
    return _IMAGES.format(name=name, values=values)


def _checked(report):
    worst = max(report["largest_difference"].values())
    said = (
        "Loaded in a fresh process by TensorFlow's C++ loader; every signature compared with the "
        f"Keras student at batch sizes {report['batch_sizes']}: largest difference {worst:.2g}. "
        f"{report['warmup_records']} warm-up records replayed. {report['variables']} variables, "
        "all of them the student's."
    )
    if "accuracy" in report:
        said += (
            f" On {report['labelled']} labelled examples the accuracy is {report['accuracy']:.2%}, "
            f"that of the Keras student {report['keras_accuracy']:.2%}."
        )
    return said
