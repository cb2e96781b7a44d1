"""The same search of a distillation's weights twice: with keras.distillation, and with tfkd.

    python -m benchmarks.search                                          # digits, no network needed
    python -m benchmarks.search --data fashion_mnist --data-dir DIR --teacher teacher.keras

KerasTuner's RandomSearch tries the same values of three numbers (weight of the labels, temperature,
learning rate) on the same student, teacher, examples, epochs and first weights. One way builds a
`keras.distillation.Distiller` for every trial, as its documentation does, with the KL divergence
that scales by the temperature's square (its default loss does not learn: see `default_loss.py`);
the other is `tfkd.tuning.DistillationHyperModel` on a `tfkd.TeacherCache`, whose making counts.
Each runs in a process of its own; imports and the teacher's training do not count. No augmentation,
so that both students see the same images.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tfkd.runs.tensorflow_output import import_tensorflow

WAYS = {"keras": "keras.distillation, KerasTuner", "tfkd": "tfkd"}
STUDENT = "modified_alexnet"
TEACHER_EPOCHS = 10
SEED = 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--teacher", help="a .keras file; else a ResNet-20 is trained")
    parser.add_argument("--limit", type=int, default=4000, help="training examples")
    parser.add_argument("--width", type=float, default=0.25, help="of the student")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--quick", action="store_true", help="the smallest size, to try it out")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.quick:
        given.limit, given.epochs, given.trials = 256, 1, 3
    return given


def load(given):
    from tfkd import data

    splits = data.load(given.data, given.data_dir, limit=given.limit)
    return splits, data.batches(splits.validation, 256)


def student(given, info):
    from tfkd import models

    return models.build(STUDENT, info.image_shape, info.num_classes, width=given.width)


def space():
    import keras_tuner

    numbers = keras_tuner.HyperParameters()
    numbers.Float("student_loss_weight", 0.0, 1.0)
    numbers.Float("temperature", 1.0, 16.0, sampling="log")
    numbers.Float("learning_rate", 0.001, 0.01, sampling="log")
    return numbers


def tuner_of(hypermodel, given):
    import keras_tuner

    return keras_tuner.RandomSearch(
        hypermodel,
        keras_tuner.Objective("val_accuracy", "max"),
        max_trials=given.trials,
        seed=SEED + 1,
        hyperparameters=space(),
        directory=str(given.work),
        project_name=given.way,
    )


def search_keras(given):
    """A new Distiller for each trial; the teacher runs in every step."""
    import keras

    from tfkd import data

    splits, validation = load(given)
    teacher = keras.models.load_model(given.work / "teacher.keras", compile=False)
    start = time.perf_counter()

    def build(hp):
        keras.utils.set_random_seed(SEED)
        distiller = keras.distillation.Distiller(
            teacher,
            student(given, splits.info),
            keras.distillation.LogitsDistillation(
                hp.get("temperature"), loss=keras.losses.KLDivergence()
            ),
            student_loss_weight=hp.get("student_loss_weight"),
        )
        distiller.compile(
            optimizer=keras.optimizers.Adam(hp.get("learning_rate")),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        # KerasTuner saves checkpoints, for which the model must be built.
        distiller.build((None, *splits.info.image_shape))
        return distiller

    tuner = tuner_of(build, given)
    train = data.batches(splits.train, given.batch_size, shuffle=True, seed=SEED)
    tuner.search(train, validation_data=validation, epochs=given.epochs, verbose=0, shuffle=False)
    return time.perf_counter() - start


def search_tfkd(given):
    """One compiled Distiller for all trials; the teacher runs once."""
    import keras

    import tfkd
    from tfkd.tuning import DistillationHyperModel, Range

    splits, validation = load(given)
    teacher = keras.models.load_model(given.work / "teacher.keras", compile=False)
    start = time.perf_counter()
    loss = tfkd.losses.LogitsDistillation(4.0)
    whole = tfkd.Distiller(teacher, student(given, splits.info), loss)
    cache = tfkd.TeacherCache.build(given.work / "cache", whole, splits.train, verbose=0)
    hypermodel = DistillationHyperModel(
        lambda: student(given, splits.info),
        None,
        [loss],
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        student_loss_weight=Range(0.0, 1.0),
        temperature=Range(1.0, 16.0, log=True),
        learning_rate=Range(0.001, 0.01, log=True),
        knowledge_shapes=cache.knowledge_shapes,
        seed=SEED,
    )
    tuner = tuner_of(hypermodel, given)

    def train(seed):
        return cache.dataset(splits.train, given.batch_size, seed=seed)

    tuner.search(train, validation_data=validation, epochs=given.epochs, verbose=0, shuffle=False)
    return time.perf_counter() - start


def run_one(given):
    """One way in this process; writes its figures to `<way>.json`."""
    seconds = {"keras": search_keras, "tfkd": search_tfkd}[given.way](given)
    trials = []
    for path in sorted((given.work / given.way).glob("trial_*/trial.json")):
        trial = json.loads(path.read_text())
        values = trial["hyperparameters"]["values"]
        trials.append({"status": trial["status"], "score": trial["score"], "values": values})
    checkpoint = next((given.work / given.way).glob("trial_*/checkpoint.weights.h5"))
    figures = {
        "seconds": round(seconds, 2),
        "best": max(trial["score"] for trial in trials),
        "trials": trials,
        "checkpoint_bytes": checkpoint.stat().st_size,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    (given.work / f"{given.way}.json").write_text(json.dumps(figures))


def make_teacher(given):
    """Trains or loads the teacher; returns what is known of the setting."""
    import keras

    from tfkd import data, evaluation, models

    splits, validation = load(given)
    info = splits.info
    if given.teacher:
        teacher = keras.models.load_model(given.teacher, compile=False)
    else:
        keras.utils.set_random_seed(SEED)
        teacher = models.build("resnet", info.image_shape, info.num_classes, depth=20)
    teacher.compile(
        keras.optimizers.Adam(0.003),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    if not given.teacher:
        train = data.batches(splits.train, given.batch_size, shuffle=True, seed=SEED)
        teacher.fit(train, epochs=1 if given.quick else TEACHER_EPOCHS, verbose=0, shuffle=False)
    accuracy = teacher.evaluate(validation, verbose=0, return_dict=True)["accuracy"]
    teacher.save(given.work / "teacher.keras")
    small = student(given, info)
    return {
        "data": given.data,
        "training_examples": info.sizes["train"],
        "validation_examples": info.sizes["validation"],
        "epochs": given.epochs,
        "trials": given.trials,
        "batch_size": given.batch_size,
        "teacher_accuracy": accuracy,
        "parameters": {"teacher": teacher.count_params(), "student": small.count_params()},
        "multiply_adds": {
            "teacher": evaluation.multiply_adds(teacher),
            "student": evaluation.multiply_adds(small),
        },
    }


def main():
    given = arguments()
    import_tensorflow()
    if given.way:
        return run_one(given)
    from benchmarks import record

    with tempfile.TemporaryDirectory() as work:
        given.work = Path(work)
        setting, found = make_teacher(given), {}
        cost = setting["multiply_adds"]
        ratio = cost["teacher"] / cost["student"]
        print(f"{setting['data']}: the teacher costs {ratio:.0f} times the student", flush=True)
        for way, name in WAYS.items():
            command = [sys.executable, "-m", "benchmarks.search", *sys.argv[1:]]
            subprocess.run([*command, "--way", way, "--work", work], check=True)
            found[way] = json.loads((given.work / f"{way}.json").read_text())
            own = found[way]
            each = own["seconds"] / given.trials
            print(
                f"{name:32} {own['seconds']:8.1f} s ({each:.1f} s a trial), best validation "
                f"accuracy {own['best']:.4f}, peak {own['peak_megabytes']} MB, a checkpoint "
                f"{own['checkpoint_bytes'] / 1000:.0f} kB",
                flush=True,
            )
    tried = [[trial["values"] for trial in own["trials"]] for own in found.values()]
    assert tried[0] == tried[1], "the two searches tried different values"
    faster = found["keras"]["seconds"] / found["tfkd"]["seconds"]
    print(f"tfkd is {faster:.1f} times as fast, on the same {given.trials} trials")
    content = {"setting": setting, **found, "times_as_fast": round(faster, 2)}
    record.write(f"search_{given.data}", content, given.quick)


if __name__ == "__main__":
    main()
