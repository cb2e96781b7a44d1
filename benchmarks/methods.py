"""Which method to use: every one of `tfkd losses` beside the student alone and the default.

    python -m benchmarks.methods --data-dir DIR --teachers DIR [--settings ...] [names ...]
    python -m benchmarks.methods --tables                # table and picture once more

Three settings: few grey images, more grey images, colour. Each method has four trials of its
weight, powers of ten from a hundredth to ten times the published one, each one training with a seed
of its own; the best on the validation half of the images that no student is trained on is trained
with further seeds. The default has no trials: it stands as `tfkd distill` takes it. All see the
same first weights, batches and views as the student alone, the teacher's answers stored.

Two budgets: equal epochs, and equal time, in which a method has as many epochs as fit into the
processor time that "kd" takes for its own; so the student alone has a few more, a dear method
fewer. The epoch with the best validation accuracy among the later half counts, and its accuracy on
the other half of those images, of which nothing was chosen, is what the table says.

One Distiller a method is compiled once in each setting; between trainings its variables are set
back. Finished trainings are found again in `results/methods.json`.
"""

import argparse
import gc
import os
import statistics
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import tfkd
from benchmarks import candidates, record
from tfkd import data, evaluation
from tfkd.defaults import STUDENT_LOSS_WEIGHT
from tfkd.published import METHODS
from tfkd.recipes.base import System
from tfkd.runs import methods
from tfkd.settings import DistillSettings
from tfkd.tuning.reuse import AdjustableOptimizer, ReusableDistiller

BATCH, RATE, VIEWS = candidates.BATCH, candidates.RATE, candidates.VIEWS
SETTINGS = {
    "digits, 300 images": candidates.Setting("digits", "tiny", 300, 40, own_teacher=40),
    "Fashion-MNIST, 1,000": candidates.Setting("fashion_mnist", "tiny", 1000, 12),
    "CIFAR-10, 2,000": candidates.Setting("cifar10", "tiny", 2000, 8, augment="crop_flip"),
}
# Beside what `--loss` takes, those that change the student; cohorts and branches are no losses.
TRAINED = [n for n, own in METHODS.items() if own.how == "--loss"] + ["crd", "cat", "ofa", "simkd"]
ALONE, DEFAULT, BASE = "alone", "the default", "kd"
TIMES = (0.01, 0.1, 1.0, 10.0)  # the published weight
TRIAL_SEED, SEEDS = 100, (0, 1, 2)
EPOCHS, SECONDS = "equal epochs", "equal time"
# Of the picture: where names are written apart, how far apart, and from which cost on at the point.
LEFT, GAP, CROWDED = 0.6, 0.28, 1.2
PICTURE = Path(__file__).parent / "pictures" / "methods.png"


class Prepared(NamedTuple):
    """The images of a setting, and its teacher."""

    views: np.ndarray
    labels: np.ndarray
    validation: tuple
    test: tuple
    teacher: keras.Model
    classes: int


def prepare(setting, given):
    """`Prepared`; the images that no student is trained on are halved."""
    (x, y), (held, held_labels) = candidates.images_of(setting, given.data_dir)
    augment = data.augmentation(setting.augment)
    seeds = [data.view_seed(np.arange(len(x)), view, 0) for view in range(VIEWS)]
    views = np.stack([augment(x, seed).numpy() for seed in seeds])
    classes = int(held_labels.max()) + 1
    teacher = candidates.teacher_of(setting, given, views, y, classes)
    half = len(held) // 2
    halves = [(held[part], held_labels[part]) for part in (slice(half), slice(half, None))]
    return Prepared(views, y.astype("int32"), *halves, teacher, classes)


def system(name, teacher, student, examples):
    """(the `System` of a method at its published weight, its teacher)."""
    if name == ALONE:  # a loss that counts nothing, so that the same code trains it
        return System(student, [tfkd.losses.LogitsDistillation()], [0.0], 1.0), teacher
    if name == DEFAULT:
        loss = tfkd.losses.AnnealedDistillation(name="default")
        weights = [1.0 - STUDENT_LOSS_WEIGHT], STUDENT_LOSS_WEIGHT
        return System(student, [loss], *weights), teacher
    weight = METHODS[name].weight
    if METHODS[name].how == "--loss":
        return methods.system(DistillSettings(loss=[name]), teacher, student), teacher
    if name == "crd":
        layers = (tfkd.models.features_layer(model) for model in (teacher, student))
        loss = tfkd.losses.ContrastiveDistillation(examples, 256, True, 0.07, 0.5, 128, *layers)
        return System(student, [loss], [weight], 1.0), teacher
    if name == "cat":
        teacher, student = (tfkd.models.with_class_maps(model) for model in (teacher, student))
        loss = tfkd.losses.ClassAttentionTransfer(resolution=2)
        return System(student, [loss], [weight], 1.0), teacher
    if name == "ofa":
        student = tfkd.models.with_stage_heads(student)
        exits = tfkd.models.exit_names(student)
        kind = tfkd.losses.EnhancedTargetDistillation
        losses = [kind(1.5, student_layer_name=e, name=f"ofa_{e}") for e in exits]
        return System(student, losses, [weight] * len(losses), 1.0), teacher
    student = tfkd.models.with_teacher_head(student, teacher)
    last = tfkd.models.pooled_layer(teacher)
    loss = tfkd.losses.FeatureDistillation("mse", last, "teacher_map", name="simkd")
    return System(student, [loss], [weight], 0.0), teacher


class Trainee:
    """One method in one setting: compiled once, trained again and again.

    Args:
        name: of the method.
        setting: `candidates.Setting`.
        prepared: `Prepared`.
    """

    def __init__(self, name, setting, prepared):
        self.own, self.epochs = prepared, setting.epochs
        self._name, self._setting = name, setting
        self._steps = -(-len(prepared.labels) // BATCH)
        self._reusable = ReusableDistiller(self._make(setting.epochs), 0)
        self.published = list(self.model.distillation_loss_weights)
        self._knowledge = [self._answers(view) for view in prepared.views]
        self._spec = None

    @property
    def model(self):
        return self._reusable.distiller

    def _make(self, epochs):
        def make():
            model, options = candidates.STUDENTS[self._setting.student]
            shape = self.own.views.shape[2:]
            student = tfkd.models.build(model, shape, self.own.classes, **options)
            made, teacher = system(self._name, self.own.teacher, student, len(self.own.labels))
            distiller = made.distiller(teacher)
            # A rate that a variable holds: a training of other length does not trace anew.
            adjustable = AdjustableOptimizer(keras.optimizers.Adam, RATE, RATE / 2)
            distiller.compile(adjustable.optimizer, made.loss, loss_weights=made.loss_weights)
            distiller.optimizer.build(distiller.trainable_variables)
            return distiller, adjustable

        return make

    def _answers(self, images):
        """{name: array} of what the losses read of the teacher."""
        batches = [images[begin : begin + 250] for begin in range(0, len(images), 250)]
        answers = [self.model.knowledge(tf.cast(part, tf.float32)) for part in batches]
        return {name: np.concatenate([a[name] for a in answers]) for name in answers[0]}

    def _batches(self, epochs, seed):
        """(images, labels, weights, knowledge) of every step."""
        order, size = np.random.RandomState(seed), len(self.own.labels)
        for epoch in range(epochs):
            mixed, view = order.permutation(size), epoch % VIEWS
            for begin in range(0, size, BATCH):
                rows = mixed[begin : begin + BATCH]
                known = {name: v[rows] for name, v in self._knowledge[view].items()}
                if known:
                    known["index"] = rows.astype("int64")
                images = self.own.views[view][rows].astype("float32")
                yield images, self.own.labels[rows], np.ones(len(rows), "float32"), known

    def train(self, times, seed, epochs):
        """Figures of one training on the validation half and on the other, and its seconds.

        Args:
            times: the published weights are multiplied by it.
            seed: of the first weights and of the order.
            epochs: number of epochs.
        """
        self._reusable.reset(seed, RATE, self._make(epochs))
        self.model.distillation_loss_weights = [times * weight for weight in self.published]
        keras.utils.set_random_seed(seed)
        if self._spec is None:
            first = next(self._batches(1, 0))
            self._spec = tf.nest.map_structure(
                lambda v: tf.TensorSpec((None, *v.shape[1:]), v.dtype), first
            )
        batches = tf.data.Dataset.from_generator(
            lambda: self._batches(epochs, seed), output_signature=self._spec
        )
        batches = batches.apply(tf.data.experimental.assert_cardinality(self._steps * epochs))
        best, clock = Best(self, epochs), time.process_time()
        self.model.fit(
            batches.prefetch(2),
            epochs=epochs,
            steps_per_epoch=self._steps,
            verbose=0,
            callbacks=[Cosine(self._steps * epochs), best],
        )
        seconds = time.process_time() - clock - best.seconds
        return {**best.figures, "seconds": seconds, "epochs": epochs}

    def judged(self, images, labels):
        logits = self.model.student.predict(images, batch_size=500, verbose=0)
        logits = logits["output"] if isinstance(logits, dict) else logits
        figures = evaluation.quality(logits, labels)
        return {name: float(figures[name]) for name in ("accuracy", "cross_entropy")}


class Cosine(keras.callbacks.Callback):
    """The learning rate falls to 0 along a cosine within so many steps."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.done = steps, 0

    def on_train_batch_begin(self, batch, logs=None):
        rate = RATE * 0.5 * (1 + np.cos(np.pi * self.done / self.steps))
        self.model.optimizer.learning_rate = rate
        self.done += 1


class Best(keras.callbacks.Callback):
    """Figures of the epoch that is best on the validation half, among the later epochs."""

    def __init__(self, trainee, epochs):
        super().__init__()
        self.trainee, self.epochs = trainee, epochs
        self.figures, self.seconds = None, 0.0

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 <= self.epochs // 2 and epoch + 1 < self.epochs:
            return
        clock = time.process_time()
        own = self.trainee.judged(*self.trainee.own.validation)
        key = own["accuracy"], -own["cross_entropy"]
        if self.figures is None or key > self._key:
            self._key = key
            test = self.trainee.judged(*self.trainee.own.test)
            self.figures = {"validation": own, "test": test}
        self.seconds += time.process_time() - clock


def race(setting_name, given, found):
    """Every method in one setting; adds each finished training to `found`."""
    setting = SETTINGS[setting_name]
    prepared = prepare(setting, given)
    for name in given.names:
        if _complete(found, setting_name, name):
            continue
        started = time.time()
        trainee = Trainee(name, setting, prepared)
        train = _once(trainee, setting_name, name, found)
        train(1.0, TRIAL_SEED, 1, "untimed")  # tracing is no part of a step
        times = 1.0
        if name not in (ALONE, DEFAULT):
            trials = {t: train(t, TRIAL_SEED, setting.epochs, "trial") for t in TIMES}
            times = max(TIMES, key=lambda t: _key(trials[t]))
        for seed in SEEDS:
            train(times, seed, setting.epochs, EPOCHS)
        own, base = (seconds(found, setting_name, method) for method in (name, BASE))
        for seed in SEEDS:
            train(times, seed, max(1, round(setting.epochs * base / own)), SECONDS)
        print(f"{setting_name}: {name}, x{times:g}, {time.time() - started:.0f} s", flush=True)
        record.write("methods", found)
        del trainee, train
        keras.backend.clear_session()
        gc.collect()


def _once(trainee, setting, name, found):
    def train(times, seed, epochs, budget):
        same = [
            one
            for one in _of(found, setting, name)
            if (one["times"], one["seed"], one["epochs"]) == (times, seed, epochs)
        ]
        figures = same[0] if same else trainee.train(times, seed, epochs)
        own = {"setting": setting, "method": name, "times": times, "seed": seed, "budget": budget}
        found.append({**figures, **own})
        return found[-1]

    return train


def _of(found, setting, name):
    return [one for one in found if (one["setting"], one["method"]) == (setting, name)]


def _complete(found, setting, name):
    done = [one for one in _of(found, setting, name) if one["budget"] == SECONDS]
    return len(done) == len(SEEDS)


def _key(one):
    return one["validation"]["accuracy"], -one["validation"]["cross_entropy"]


def gains(found, setting, name, budget):
    """Paired differences to the student alone: points of accuracy, nats of cross-entropy."""

    def of(method):
        own = [one for one in _of(found, setting, method) if one["budget"] == budget]
        return {one["seed"]: one["test"] for one in own}

    alone, own = of(ALONE), of(name)
    points = [100 * (own[s]["accuracy"] - alone[s]["accuracy"]) for s in SEEDS if s in own]
    nats = [own[s]["cross_entropy"] - alone[s]["cross_entropy"] for s in SEEDS if s in own]
    return points, nats


def seconds(found, setting, name):
    """Processor time of an epoch, the median over the trainings of the same length."""
    own = [one for one in _of(found, setting, name) if one["budget"] in ("trial", EPOCHS)]
    return statistics.median(one["seconds"] / one["epochs"] for one in own)


def cost(found, setting, name):
    """Processor time of a training as a multiple of the student alone's."""
    return seconds(found, setting, name) / seconds(found, setting, ALONE)


def table(found):
    """Methods, the best mean gain first."""
    settings = [name for name in SETTINGS if _complete(found, name, ALONE)]
    names = [n for n in dict.fromkeys(o["method"] for o in found) if n != ALONE]
    names = [n for n in names if all(_complete(found, s, n) for s in settings)]
    lines = []
    for name in names:
        cells, means, taken = [], {EPOCHS: [], SECONDS: []}, []
        for setting in settings:
            for budget in (EPOCHS, SECONDS):
                points, nats = gains(found, setting, name, budget)
                means[budget].append(statistics.fmean(points))
                if budget == EPOCHS:
                    spread = statistics.stdev(points)
                    mean_nats = statistics.fmean(nats)
                    cells.append(
                        f"{statistics.fmean(points):+.1f} ± {spread:.1f}, {mean_nats:+.2f}"
                    )
            chosen = next(o for o in _of(found, setting, name) if o["budget"] == EPOCHS)
            taken.append("–" if name == DEFAULT else f"{chosen['times']:g}")
        mean = {budget: statistics.fmean(values) for budget, values in means.items()}
        dear = statistics.fmean(cost(found, setting, name) for setting in settings)
        shown = f"`{name}`" if name in METHODS else name
        lines.append(
            (
                -mean[EPOCHS],
                [
                    *(shown, f"{mean[EPOCHS]:+.2f}", f"{mean[SECONDS]:+.2f}"),
                    *(f"{min(means[EPOCHS]):+.1f}", *cells, " ".join(taken), f"{dear:.2f}"),
                ],
            )
        )
    header = ["method", EPOCHS, SECONDS, "worst", *settings, "times published", "cost"]
    return record.table(header, [line for _, line in sorted(lines)])


def picture(found, path):
    """Mean gain against the cost of a training, as PNG."""
    from matplotlib.figure import Figure

    settings = [name for name in SETTINGS if _complete(found, name, ALONE)]
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    names = [n for n in dict.fromkeys(o["method"] for o in found) if n != ALONE]
    points = []
    for name in names:
        if not all(_complete(found, setting, name) for setting in settings):
            continue
        x = statistics.fmean(cost(found, setting, name) for setting in settings)
        y = statistics.fmean(
            statistics.fmean(gains(found, setting, name, EPOCHS)[0]) for setting in settings
        )
        points.append((y, x, name))
    last = float("inf")
    for y, x, name in sorted(points, reverse=True):
        colour = "C3" if name == DEFAULT else "C0"
        axes.plot(x, y, "o", color=colour)
        crowded = x < CROWDED  # these names stand in a column of their own
        last = min(y, last - GAP) if crowded else last
        place = (LEFT, last) if crowded else (x * 1.03, y)
        lines = {"arrowstyle": "-", "color": "lightgrey"} if crowded else None
        axes.annotate(name, (x, y), place, fontsize=8, va="center", color=colour, arrowprops=lines)
    axes.set_xscale("log")
    axes.set_xlim(LEFT * 0.98, 10)
    ticks = (1, 1.5, 2, 3, 5, 8)
    axes.set_xticks(ticks, map(str, ticks))
    axes.set_xticks((), minor=True)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xlabel("processor time of a training, times that of the student alone")
    axes.set_ylabel("mean gain over the student alone (points)")
    axes.set_title(f"Methods on {len(settings)} settings, equal epochs")
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help="methods; all unless told")
    parser.add_argument("--data-dir")
    parser.add_argument("--teachers", type=Path)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--tables", action="store_true", help="from the results of before")
    given = parser.parse_args()
    others = given.names or [name for name in TRAINED if name not in (BASE, "annealed")]
    given.names = list(dict.fromkeys([BASE, ALONE, DEFAULT, *others]))
    found = record.read("methods") or []
    if not given.tables:
        for name in given.settings:
            race(name, given, found)
    picture(found, PICTURE)
    docs = Path(__file__).parents[1] / "docs" / "methods.md"
    record.put("methods", table(found), docs)
    print(table(found))


if __name__ == "__main__":
    main()
