"""A search of a distillation's weights twice: with keras.distillation, and as tfkd races it.

    python -m benchmarks.search                                          # digits, no network needed
    python -m benchmarks.search --data fashion_mnist --data-dir DIR --teacher teacher.keras

The peer: KerasTuner's RandomSearch trains twelve values of three numbers (weight of the labels,
temperature, learning rate) in full, each with a new `keras.distillation.Distiller` as its
documentation does, with the KL divergence that scales by the temperature's square (its default loss
does not learn: see `default_loss.py`). tfkd: `tfkd.tuning.SuccessiveHalving` on a
`tfkd.TeacherCache`, whose making counts, over the same twelve values and its defaults; same
student, teacher, examples, epochs and first weights. No augmentation, so that both students see the
same images.

Measured, for several seeds of search: the time until a validation accuracy as good as the peer's
best is reached or passed by any training of the race, and the test accuracy of both winners'
students, trained anew from seeds that no search has seen. Each way runs in a process of its own;
imports and the teacher's training do not count.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tfkd.runs.tensorflow_output import import_tensorflow

WAYS = {"keras": "keras.distillation, KerasTuner", "tfkd": "tfkd, a race"}
STUDENT = "modified_alexnet"
TEACHER_EPOCHS = 10
SEEDS = 4  # of the race's finalists
FRESH = 1000  # the first seed of the winners' students


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
    parser.add_argument("--repetitions", type=int, default=3, help="of both searches")
    parser.add_argument("--students", type=int, default=5, help="of each winner, by fresh seeds")
    parser.add_argument("--quick", action="store_true", help="the smallest size, to try it out")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.quick:
        given.limit, given.epochs, given.trials = 256, 2, 3
        given.repetitions, given.students = 1, 2
    return given


def load(given):
    from tfkd import data

    splits = data.load(given.data, given.data_dir, limit=given.limit)
    return splits, data.batches(splits.validation, 256)


def student(given, info):
    from tfkd import models

    return models.build(STUDENT, info.image_shape, info.num_classes, width=given.width)


def space():
    """What moves, from where `tfkd distill` has it."""
    import keras_tuner

    from tfkd.settings import DistillSettings

    numbers, defaults = keras_tuner.HyperParameters(), DistillSettings()
    numbers.Float("student_loss_weight", 0.0, 1.0, default=defaults.student_loss_weight)
    numbers.Float("temperature", 1.0, 16.0, sampling="log", default=defaults.temperature)
    numbers.Float("learning_rate", 0.001, 0.01, sampling="log", default=defaults.learning_rate)
    return numbers


class Clock:
    """A callback that notes when each epoch ended, and with which validation accuracy."""

    def __new__(cls):
        import keras

        class Noting(keras.callbacks.Callback):
            reached, start = [], time.perf_counter()

            def on_epoch_end(self, epoch, logs):
                self.reached.append((time.perf_counter() - self.start, logs["val_accuracy"]))

            def __deepcopy__(self, memo):  # KerasTuner copies callbacks for each trial
                return self

        return Noting()


def search_keras(given):
    """A new Distiller for each trial, trained in full; the teacher runs in every step."""
    import keras
    import keras_tuner

    from tfkd import data

    splits, validation = load(given)
    teacher = keras.models.load_model(given.work / "teacher.keras", compile=False)
    clock = Clock()

    def build(hp):
        keras.utils.set_random_seed(given.seed)
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

    tuner = keras_tuner.RandomSearch(
        build,
        keras_tuner.Objective("val_accuracy", "max"),
        max_trials=given.trials,
        seed=given.seed + 1,
        hyperparameters=space(),
        directory=str(given.work),
        project_name=f"keras{given.seed}",
    )
    train = data.batches(splits.train, given.batch_size, shuffle=True, seed=given.seed)
    tuner.search(
        train,
        validation_data=validation,
        epochs=given.epochs,
        verbose=0,
        shuffle=False,
        callbacks=[clock],
    )
    trials = list(tuner.oracle.trials.values())
    winner = max(trials, key=lambda trial: trial.score)
    return clock, [trial.hyperparameters.values for trial in trials], winner.hyperparameters.values


def hypermodel(given, splits, stored, seed):
    import keras

    from tfkd import losses
    from tfkd.tuning import DistillationHyperModel, Range

    return DistillationHyperModel(
        lambda: student(given, splits.info),
        None,
        [losses.LogitsDistillation(4.0)],
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        student_loss_weight=Range(0.0, 1.0),
        temperature=Range(1.0, 16.0, log=True),
        learning_rate=Range(0.001, 0.01, log=True),
        knowledge_shapes=stored.knowledge_shapes,
        seed=seed,
    )


def fitting(given, splits, stored):
    """What `fit` is given: data as functions of the seed, and how many steps."""
    from tfkd import data

    def train(seed, epoch):
        batches = stored.dataset(splits.train, given.batch_size, seed=seed)
        for _ in range(epoch):  # batches count their iterations
            next(iter(batches))
        return batches.repeat()

    sizes = splits.info.sizes
    return train, {
        "validation_data": lambda seed: data.batches(splits.validation, 256).repeat(),
        "steps_per_epoch": -(-sizes["train"] // given.batch_size),
        "validation_steps": -(-sizes["validation"] // 256),
        "verbose": 0,
        "shuffle": False,
    }


def store(given, splits):
    """The teacher's answers, stored where they are not yet."""
    import keras

    import tfkd

    teacher = keras.models.load_model(given.work / "teacher.keras", compile=False)
    whole = tfkd.Distiller(teacher, student(given, splits.info), tfkd.losses.LogitsDistillation(4))
    path = given.work / f"cache{given.seed}"
    return tfkd.TeacherCache.build(path, whole, splits.train, verbose=0)


def search_tfkd(given):
    """One compiled Distiller for a race of all trials; the teacher runs once."""
    from tfkd import tuning
    from tfkd.runs.search.report import decide
    from tfkd.tuning.race import joined

    splits, _ = load(given)
    clock = Clock()
    stored = store(given, splits)
    tuner = tuning.SuccessiveHalving(
        hypermodel(given, splits, stored, given.seed),
        tuning.objective("val_accuracy"),
        max_epochs=given.epochs,
        finalists=2,
        seeds=SEEDS,
        max_trials=given.trials + 1,  # and the defaults
        seed=given.seed + 1,
        hyperparameters=space(),
        directory=str(given.work),
        project_name=f"tfkd{given.seed}",
    )
    train, settings = fitting(given, splits, stored)
    tuner.search(train, callbacks=[clock], **settings)
    rows = joined(tuning.trials(tuner.project_dir), "val_accuracy", 1)
    kept = decide(rows, "val_accuracy", 1 / splits.info.sizes["validation"])["kept"]
    winner = next(row["values"] for row in rows if row["trial"] == kept)
    return clock, [row["values"] for row in rows], winner


def students_of(given, winners):
    """{way: test accuracies} of the winners' students, all trained as tfkd does."""
    import keras_tuner
    import numpy as np

    from tfkd import data

    splits, _ = load(given)
    stored = store(given, splits)
    train, settings = fitting(given, splits, stored)
    test, found = data.batches(splits.test, 256), {way: [] for way in winners}
    labels = np.concatenate([labels for _, labels in test.as_numpy_iterator()])
    for seed in range(FRESH, FRESH + given.students):
        model = hypermodel(given, splits, stored, seed)
        for way, values in winners.items():
            hp = keras_tuner.HyperParameters()
            hp.values = dict(values)
            distiller = model.build(hp)
            model.fit(hp, distiller, train, epochs=given.epochs, **settings)
            answers = distiller.student.predict(test, verbose=0).argmax(axis=1)
            found[way].append(float(np.mean(answers == labels)))
    return found


def run_one(given):
    """One way in this process; writes its figures to `<way>.json`."""
    clock, values, winner = {"keras": search_keras, "tfkd": search_tfkd}[given.way](given)
    figures = {
        "seconds": time.perf_counter() - clock.start,
        "reached": clock.reached,
        "values": values,
        "winner": winner,
        "best": max(accuracy for _, accuracy in clock.reached),
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
        keras.utils.set_random_seed(given.seed)
        teacher = models.build("resnet", info.image_shape, info.num_classes, depth=20)
    teacher.compile(
        keras.optimizers.Adam(0.003),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    if not given.teacher:
        train = data.batches(splits.train, given.batch_size, shuffle=True, seed=given.seed)
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


def repetition(given, seed):
    """Both searches of one seed, and what their winners are worth."""
    found = {}
    for way in WAYS:
        command = [sys.executable, "-m", "benchmarks.search", *sys.argv[1:]]
        command += ["--way", way, "--work", str(given.work), "--seed", str(seed)]
        subprocess.run(command, check=True)
        found[way] = json.loads((given.work / f"{way}.json").read_text())
    peer, own = found["keras"], found["tfkd"]
    tried = [values for values in own["values"] if values in peer["values"]]
    assert len(tried) == given.trials, "the two searches tried different values"
    times = [seconds for seconds, accuracy in own["reached"] if accuracy >= peer["best"]]
    reached = times[0] if times else None
    found["seconds_to_the_peer_s_best"] = reached
    found["times_as_fast"] = peer["seconds"] / reached if reached else None
    given.seed = seed
    found["test"] = students_of(given, {way: found[way]["winner"] for way in WAYS})
    for way, name in WAYS.items():
        test, figures = found["test"][way], found[way]
        print(
            f"seed {seed}, {name:32} {figures['seconds']:7.1f} s, best validation accuracy "
            f"{figures['best']:.4f}; its winner on test {statistics.fmean(test):.4f} ± "
            f"{statistics.stdev(test):.4f}",
            flush=True,
        )
    said = "never"
    if reached:
        said = f"after {reached:.1f} s, {found['times_as_fast']:.1f} times as fast"
    print(f"seed {seed}: the race is as good as the peer's best {said}", flush=True)
    return found


def main():
    given = arguments()
    import_tensorflow()
    if given.way:
        return run_one(given)
    from benchmarks import record

    with tempfile.TemporaryDirectory() as work:
        given.work = Path(work)
        setting = make_teacher(given)
        cost = setting["multiply_adds"]
        ratio = cost["teacher"] / cost["student"]
        print(f"{setting['data']}: the teacher costs {ratio:.0f} times the student", flush=True)
        found = [repetition(given, seed) for seed in range(given.repetitions)]
    ratios = [own["times_as_fast"] for own in found if own["times_as_fast"]]
    pairs = [zip(own["test"]["tfkd"], own["test"]["keras"], strict=True) for own in found]
    gains = [mine - peer for own in pairs for mine, peer in own]
    if ratios:
        print(
            f"reached in {len(ratios)} of {len(found)} repetitions, "
            f"{statistics.median(ratios):.1f} times as fast in the median"
        )
    print(
        f"winners' test accuracy, tfkd minus the peer: {100 * statistics.fmean(gains):+.2f} ± "
        f"{100 * statistics.stdev(gains):.2f} points"
    )
    content = {"setting": setting, "repetitions": found}
    record.write(f"search_{given.data}", content, given.quick)


if __name__ == "__main__":
    main()
