"""Wall time until the validation accuracy at which the student alone ends, Fashion-MNIST.

Stock `fit` runs all epochs; its last validation accuracy is the aim of the other ways with the same
seed, which stop at the first epoch that reaches it. Time starts before anything is built: tracing,
validation and building the cache count, training the teacher does not. Every finished run is kept
in `results/accuracy/`, so that a benchmark that was stopped goes on; delete the folder to start
anew, or when the settings change.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import keras

from benchmarks import record, timing
from benchmarks.ways import WAYS
from tfkd import data, fingerprints, models

SETTINGS = ("teacher", "student", "width", "epochs", "limit", "hints")


class Finish(keras.callbacks.Callback):
    """Notes when each epoch's validation ended and stops at the accuracy aimed at."""

    def __init__(self, start, aim):
        super().__init__()
        self.start, self.aim, self.history = start, aim, []

    def on_epoch_end(self, epoch, logs=None):
        self.history.append([time.perf_counter() - self.start, float(logs["val_accuracy"])])
        if self.aim is not None and self.history[-1][1] >= self.aim:
            self.model.stop_training = True


def main(options):
    """Runs what is not there yet; writes JSON and table.

    Raises:
        SystemExit: no data directory or no teacher is given, or unknown ways.
    """
    if not options.data_dir or not options.teacher:
        raise SystemExit("accuracy needs --data-dir DIR (of TFDS) and --teacher FILE.keras")
    unknown = set(options.ways or ()) - set(WAYS)
    if unknown:
        raise SystemExit(f"unknown ways {sorted(unknown)}; there are {list(WAYS)}")
    if options.quick:
        options.epochs, options.limit, options.seeds = 2, 1000, 1
    splits = data.load("fashion_mnist", options.data_dir, limit=options.limit)
    teacher = keras.models.load_model(options.teacher)
    settings = {name: getattr(options, name) for name in SETTINGS}
    # By name and weights: a record means the same on every machine.
    settings["teacher"] = {
        "file": Path(options.teacher).name,
        "weights": fingerprints.of_weights(teacher),
    }
    names = list(dict.fromkeys(["stock", *(options.ways or WAYS)]))
    runs = {name: [] for name in names}
    for seed in range(options.seeds):
        for name in names:
            aim = runs["stock"][seed]["history"][-1][1] if name != "stock" else None
            runs[name].append(_finished(name, seed, aim, splits, teacher, settings, options.quick))
    result = {"machine": timing.machine(), "settings": settings, "runs": runs}
    record.write("accuracy", result, options.quick)
    print(_table(runs))
    if not options.quick:
        record.put("accuracy", _table(runs))


def _finished(name, seed, aim, splits, teacher, settings, quick):
    """The run as kept in a file, else made now: {"settings", "aim", "history"}."""
    folder = record.HERE / "results" / f"accuracy{'_quick' if quick else ''}"
    path = folder / f"{name.replace(' ', '_')}-{seed}.json"
    if path.exists():
        run = json.loads(path.read_text())
        if run["settings"] != settings or run["aim"] != aim:
            raise SystemExit(
                f"{path} has other settings ({run['settings']}, {run['aim']}); delete it"
            )
        return run
    history = _run(WAYS[name], seed, aim, splits, teacher, settings)
    run = {"settings": settings, "aim": aim, "history": history}
    print(f"{name}, seed {seed}: aim {aim}, {len(history)} epochs, {history[-1]}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run) + "\n")
    return run


def _run(way, seed, aim, splits, teacher, settings):
    """[[seconds since the start, validation accuracy], ...] of each epoch."""
    keras.utils.set_random_seed(seed)
    student = models.build(
        settings["student"],
        splits.info.image_shape,
        splits.info.num_classes,
        width=settings["width"],
    )
    hints = dict(pair.split("=") for pair in settings["hints"])
    with tempfile.TemporaryDirectory() as directory:
        finish = Finish(time.perf_counter(), aim)
        model, train = way(student, teacher, hints, splits.train, directory, seed)
        model.fit(
            train,
            epochs=settings["epochs"],
            validation_data=data.batches(splits.validation, 500),
            callbacks=[finish],
            verbose=0,
        )
    return finish.history


def _table(runs):
    rows = []
    for name, found in runs.items():
        reached = [
            run["history"][-1][0] / stock["history"][-1][0]
            for run, stock in zip(found, runs["stock"], strict=True)
            if run["aim"] is None or run["history"][-1][1] >= run["aim"]
        ]
        epochs = sorted(len(run["history"]) for run in found)
        ratio = f"{statistics.median(reached):.2f}" if 2 * len(reached) > len(found) else "–"
        seconds = statistics.median(run["history"][-1][0] for run in found)
        best = statistics.median(100 * run["history"][-1][1] for run in found)
        rows.append(
            [
                name,
                f"{len(reached)} of {len(found)}",
                f"{epochs[0]}–{epochs[-1]}",
                f"{seconds:.0f} s",
                f"{best:.2f} %",
                ratio,
            ]
        )
    header = ["", "reached", "epochs", "time", "validation accuracy", "time / stock's"]
    return record.table(header, rows)
