"""The papers that travel with a version, in `assets.extra/`: labels.json, manifest.json,
model_card.md."""

import datetime
import json
from pathlib import Path

import keras
import tensorflow as tf

from tfkd.export import checks

_CARD = """# {name}

An image classifier exported by tfkd: {parameters:,} parameters, {classes} classes, head "{head}".

## How to ask it

{signatures}

Images are raw pixels 0..255; normalisation is inside the model. Encoded images may be JPEG, PNG or
WebP of any size; they are resized bilinearly without antialiasing, as in training. Over REST:

    POST /v1/models/{name}:predict
    {{"signature_name": "serve_bytes", "instances": [{{"image_bytes": {{"b64": "…"}}}}]}}

## Classes

{labels}

## What was checked

{checked}
"""


def write(directory, served, functions, manifest=None, report=None):
    """Write the three papers. The manifest comes last: it holds the checksum of every other
    file."""
    folder = Path(directory) / "assets.extra"
    folder.mkdir(exist_ok=True)
    _write_json(folder / "labels.json", list(served.labels))
    (folder / "model_card.md").write_text(_card(served, functions, report), encoding="utf-8")
    _write_json(
        folder / "manifest.json",
        {
            "name": served.model.name,
            "exported": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "parameters": served.model.count_params(),
            "head": served.head,
            "signatures": {name: _describe(function) for name, function in functions.items()},
            "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
            "checks": report,
            "run": manifest,
            "files": checks.checksums(directory),
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


def _card(served, functions, report):
    lines = []
    for name, function in functions.items():
        described = _describe(function)
        takes, gives = (
            ", ".join(f"`{k}` {v}" for k, v in described[s].items()) for s in ("inputs", "outputs")
        )
        lines.append(f"- `{name}`: {takes} → {gives}")
    checked = "Nothing: the export was asked to leave its checks out."
    if report is not None:
        worst = max(report["largest_difference"].values())
        checked = (
            "Loaded in a fresh process by TensorFlow's C++ loader; every signature compared with "
            "the Keras student at "
            f"batch sizes {report['batch_sizes']}: largest difference {worst:.2g}. "
            f"{report['warmup_records']} warm-up "
            f"records replayed. {report['variables']} variables, all of them the student's."
        )
    return _CARD.format(
        name=served.model.name,
        parameters=served.model.count_params(),
        classes=len(served.labels),
        head=served.head,
        signatures="\n".join(lines),
        labels=", ".join(served.labels),
        checked=checked,
    )
