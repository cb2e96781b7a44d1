"""Ideas for default losses, raced in one compiled step: the forerunner of `benchmarks.defaults`.

    python -m benchmarks.candidates --data-dir DIR --teachers DIR --work DIR [--settings ...]

An idea is a function of what is known of the teacher (`Known`) and of the progress of the training
that gives six numbers: the teacher's and the student's temperature, the weights of labels and of
distillation, whether logits are standardised, and the size of distillation's gradient at the logits
as a multiple of the labels' (0: not balanced). So every idea runs in the same compiled step, beside
the student alone, with the same weights, batches and views. What seemed good here became
`tfkd.losses.AnnealedDistillation`, which `benchmarks.defaults` measures through `tfkd compare`.

Validation only: 640 to 5,000 images that no student is trained on (of CIFAR-10 and RSSCN7 the
teachers have seen them). The epoch with the best accuracy among the later half counts.
"""

import argparse
import os
import statistics
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import tfkd
from benchmarks import record
from tfkd import data, evaluation

BATCH, RATE, VIEWS = 64, 0.003, 4
STUDENTS = {
    "tiny": ("modified_alexnet", {"width": 0.125}),
    "small": ("modified_alexnet", {"width": 0.5}),
}


class Setting(NamedTuple):
    """Data, the part that students are trained on, teacher and budget."""

    data: str
    student: str
    images: int
    epochs: int
    augment: str = "shift"
    own_teacher: int = 0  # epochs of a ResNet-8 of its own; 0 for the given one
    image_size: int | None = None


SETTINGS = {
    "digits300": Setting("digits", "tiny", 300, 40, own_teacher=40),
    "digits300 small": Setting("digits", "small", 300, 60, own_teacher=40),
    "pairs100": Setting("pairs", "tiny", 4000, 8, own_teacher=20),
    "pairs100 small": Setting("pairs", "small", 4000, 8, own_teacher=20),
    "fashion1000": Setting("fashion_mnist", "tiny", 1000, 15),
    "fashion1000 weak": Setting("fashion_mnist", "tiny", 1000, 15, own_teacher=20),
    "fashion5000": Setting("fashion_mnist", "tiny", 5000, 6),
    "cifar2000": Setting("cifar10", "tiny", 2000, 15, augment="crop_flip"),
    "rsscn1600": Setting("rsscn7", "tiny", 1600, 12, augment="flip", image_size=64),
}


class Known(NamedTuple):
    """What an idea may use: logits of the teacher on the training images, and the classes."""

    logits: np.ndarray
    classes: int

    def temperature(self, softness):
        """At which the mean entropy of the targets is that share of a uniform guess's."""
        low, high = 0.05, 100.0
        for _ in range(40):
            middle = (low * high) ** 0.5
            p = _softmax(self.logits / middle)
            entropy = -(p * np.log(p + 1e-30)).sum(axis=1).mean()
            low, high = (
                (middle, high) if entropy < softness * np.log(self.classes) else (low, middle)
            )
        return middle


def fixed(temperature, labels):
    """Keras's convention: both logits at one temperature."""
    weight = (1 - labels) * temperature**2
    return lambda known: lambda t: (temperature, temperature, labels, weight, 0, 0)


def falling(temperature, labels):
    """The same, but distillation's weight falls to 0 and the labels' rises to 1."""

    def of(known):
        return lambda t: (
            *(temperature, temperature, labels + (1 - labels) * t),
            *((1 - labels) * temperature**2 * (1 - t), 0, 0),
        )

    return of


def cooling(first, labels):
    """Both temperatures fall to 1."""

    def of(known):
        def at(t):
            temperature = 1 + (first - 1) * (1 - t)
            return (temperature, temperature, labels, (1 - labels) * temperature**2, 0, 0)

        return at

    return of


def balanced(temperature, ratio, standardized=0, falls=False):
    """Distillation's gradient at the logits is `ratio` times as long as that of the labels."""

    def of(known):
        most = 1e3 * temperature**2
        return lambda t: (
            *(temperature, temperature, 1.0, most, standardized),
            ratio * (1 - t if falls else 1) + 1e-6,
        )

    return of


def standardized(temperature, labels, weight):
    """Logits of mean 0 and deviation 1 (Sun et al. 2024)."""
    return lambda known: lambda t: (temperature, temperature, labels, weight, 1, 0)


def matched(first, last, labels):
    """The teacher alone is softened (Zheng and Yang 2024), from one temperature to another."""
    return lambda known: lambda t: (last + (first - last) * (1 - t), 1, labels, 1 - labels, 0, 0)


def annealed(first, last, student, labels=0.1):
    """The teacher's temperature by the entropy of the targets, which falls; the student's fixed."""

    def of(known):
        a, b = (np.log(known.temperature(softness)) for softness in (first, last))
        weight = (1 - labels) * student**2
        return lambda t: (float(np.exp(a + (b - a) * t)), student, labels, weight, 0, 0)

    return of


ALONE = "alone"
IDEAS = {
    ALONE: lambda known: lambda t: (1, 1, 1, 0, 0, 0),
    **{f"T={t} labels={w}": fixed(t, w) for t in (1, 2, 4) for w in (0.1, 0.5)},
    "T=4 labels=0.1 falling weight": falling(4, 0.1),
    "T=4 to 1 labels=0.1": cooling(4, 0.1),
    **{f"T={t} balanced x{r}": balanced(t, r) for t, r in ((2, 1), (4, 1), (4, 3), (8, 1))},
    **{f"T=4 balanced x{r} falling": balanced(4, r, falls=True) for r in (1, 3)},
    "standardised T=2 weight=9": standardized(2, 0.1, 9),
    **{f"standardised T=2 balanced x{r}": balanced(2, r, 1) for r in (1, 3)},
    "matched T=2": matched(2, 2, 0.1),
    "matched T=4 to 1": matched(4, 1, 0.1),
    "softness 0.3 S=1": annealed(0.3, 0.3, 1),
    "softness 0.3 S=1.3": annealed(0.3, 0.3, 1.3),
    "softness 0.6 to 0.05 S=1": annealed(0.6, 0.05, 1),
    "softness 0.6 to 0.05 S=1.3": annealed(0.6, 0.05, 1.3),
    "softness 0.8 to 0.05 S=1": annealed(0.8, 0.05, 1),
    "softness 0.8 to 0.05 S=1.15": annealed(0.8, 0.05, 1.15),
    "softness 0.8 to 0.05 S=1.3": annealed(0.8, 0.05, 1.3),
    "softness 0.8 to 0.1 S=1": annealed(0.8, 0.1, 1),
    "softness 0.8 to 0.1 S=1.3": annealed(0.8, 0.1, 1.3),
    "softness 0.8 to 0.1 S=1.3 labels=0.3": annealed(0.8, 0.1, 1.3, 0.3),
}


def _softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def images_of(setting, data_dir):
    """(images, labels) of training and of validation."""
    if setting.data in ("digits", "pairs"):
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.RandomState(0).permutation(len(digits.target))
        x = np.round(digits.images * 15.9375).astype("uint8")[order][..., None]
        y = digits.target[order]
        if setting.data == "digits":
            return (x[: setting.images], y[: setting.images]), (x[1000:], y[1000:])
        random, parts = np.random.RandomState(1), []
        for low, high, count in ((0, 1000, setting.images), (1000, 1797, 3000)):
            i, j = random.randint(low, high, count), random.randint(low, high, count)
            parts.append((np.concatenate([x[i], x[j]], axis=2), 10 * y[i] + y[j]))
        return parts
    import tensorflow_datasets as tfds

    name = {"data_dir": data_dir, "download": False, "as_supervised": True}
    x, y = tfds.load(setting.data, split="train", batch_size=-1, **name)
    x, y = x.numpy(), y.numpy()
    if setting.data == "rsscn7":
        order = np.random.RandomState(0).permutation(len(x))
        x, y = x[order], y[order]
        held = slice(setting.images, None)
    else:
        held = slice(-5000, None) if setting.data == "fashion_mnist" else slice(46000, 49000)
    return (x[: setting.images], y[: setting.images]), (x[held], y[held])


def teacher_of(setting, given, views, labels, classes):
    if not setting.own_teacher:
        return keras.models.load_model(
            given.teachers / f"{setting.data}_teacher.keras", compile=False
        )
    keras.utils.set_random_seed(0)
    model = tfkd.models.build("resnet", views.shape[2:], classes, depth=8)
    steps = -(-len(labels) // BATCH) * setting.own_teacher
    rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    for epoch in range(setting.own_teacher):
        model.fit(views[epoch % len(views)], labels, batch_size=BATCH, verbose=0)
    return model


class Prepared(NamedTuple):
    """Views of the images, what the teacher says of them, and the validation split."""

    views: np.ndarray
    answers: np.ndarray
    labels: np.ndarray
    held: np.ndarray
    held_labels: np.ndarray


def prepare(name, given):
    """The arrays of a setting, from `given.work` where they are there."""
    path, setting = given.work / f"{name.replace(' ', '_')}.npz", SETTINGS[name]
    if path.exists():
        return Prepared(*np.load(path).values())
    (x, y), (held, held_labels) = images_of(setting, given.data_dir)
    augment = data.augmentation(setting.augment)
    seeds = [data.view_seed(np.arange(len(x)), view, 0) for view in range(VIEWS)]
    views = np.stack([augment(x, seed).numpy() for seed in seeds])
    model = teacher_of(setting, given, views, y, int(held_labels.max()) + 1)
    answers = np.stack([model.predict(view, batch_size=256, verbose=0) for view in views])
    if setting.image_size:
        views, held = (_smaller(part, setting.image_size) for part in (views, held))
    prepared = Prepared(views, answers, y.astype("int32"), held, held_labels.astype("int32"))
    given.work.mkdir(parents=True, exist_ok=True)
    np.savez(path, **prepared._asdict())
    return prepared


def _smaller(images, size):
    flat = images.reshape(-1, *images.shape[-3:])
    small = tf.image.resize(flat, (size, size), antialias=True)
    small = tf.cast(tf.round(small), tf.uint8).numpy()
    return small.reshape(*images.shape[:-3], size, size, images.shape[-1])


class Step:
    """One compiled step for every idea; `numbers` are what an idea gives."""

    def __init__(self, student, optimizer):
        self.student, self.optimizer = student, optimizer
        self.sizes = [tf.Variable(0.0, trainable=False) for _ in range(2)]

    @tf.function
    def __call__(self, x, y, answers, numbers):
        taught_t, own_t, labels, weight, standard, balance = tf.unstack(numbers)
        with tf.GradientTape() as tape:
            logits = self.student(x, training=True)
            student = tf.where(standard > 0, _standard(logits), logits)
            teacher = tf.where(standard > 0, _standard(answers), answers)
            targets = tf.nn.softmax(teacher / taught_t)
            known = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
            taught = tf.nn.softmax_cross_entropy_with_logits(targets, student / own_t)
            one_hot = tf.one_hot(y, tf.shape(logits)[1])
            pulls = (
                tf.norm(tf.nn.softmax(logits) - one_hot, axis=1),
                tf.norm(tf.nn.softmax(student / own_t) - targets, axis=1) / own_t,
            )
            for size, pull in zip(self.sizes, pulls, strict=True):
                size.assign(0.9 * size + 0.1 * tf.stop_gradient(tf.reduce_mean(pull)))
            even = tf.minimum(balance * self.sizes[0] / (self.sizes[1] + 1e-8), weight)
            weight = tf.where(balance > 0, even, weight)
            total = tf.reduce_mean(labels * known + weight * taught)
        variables = self.student.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(total, variables), variables, strict=True))


def _standard(logits):
    centred = logits - tf.reduce_mean(logits, axis=-1, keepdims=True)
    return centred / (tf.math.reduce_std(logits, axis=-1, keepdims=True) + 1e-6)


def race(name, given, found):
    """Trains every idea that has not been trained in a setting, and adds what it ended in."""
    setting, own = SETTINGS[name], prepare(name, given)
    known = Known(own.answers.reshape(-1, own.answers.shape[-1])[:20000], own.answers.shape[-1])
    model, options = STUDENTS[setting.student]

    def built():
        return tfkd.models.build(model, own.views.shape[2:], known.classes, **options)

    student, steps = built(), -(-len(own.labels) // BATCH) * setting.epochs
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, steps))
    optimizer.build(student.trainable_variables)
    step, fresh = Step(student, optimizer), [v.numpy() for v in optimizer.variables]
    done = {(one["setting"], one["idea"], one["seed"]) for one in found}
    for seed in range(given.seeds):
        for idea in given.ideas:
            if (name, idea, seed) in done:
                continue
            keras.utils.set_random_seed(seed)
            student.set_weights(built().get_weights())
            for variable, value in zip(optimizer.variables, fresh, strict=True):
                variable.assign(value)
            for size in step.sizes:
                size.assign(0.0)
            best = _trained(step, IDEAS[idea](known), own, setting.epochs, seed)
            found.append({"setting": name, "idea": idea, "seed": seed, **best})
            print(
                name, idea, seed, {key: round(value, 4) for key, value in best.items()}, flush=True
            )
            record.write("candidates", found)


def _trained(step, numbers, own, epochs, seed):
    order, done, best = np.random.RandomState(seed), 0, None
    size = len(own.labels)
    total = -(-size // BATCH) * epochs
    for epoch in range(epochs):
        mixed, view = order.permutation(size), epoch % len(own.views)
        for begin in range(0, size, BATCH):
            rows = mixed[begin : begin + BATCH]
            x = tf.constant(own.views[view][rows], tf.float32)
            now = tf.constant(numbers(done / total), tf.float32)
            step(x, own.labels[rows], own.answers[view][rows], now)
            done += 1
        if epoch + 1 > epochs // 2 or epoch + 1 == epochs:
            logits = step.student.predict(own.held, batch_size=500, verbose=0)
            figures = evaluation.quality(logits, own.held_labels)
            key = figures["accuracy"], -figures["cross_entropy"]
            if best is None or key > (best["accuracy"], -best["cross_entropy"]):
                names = ("accuracy", "cross_entropy", "calibration_error")
                best = {figure: float(figures[figure]) for figure in names}
    return best


def table(found):
    """Ideas, the best first: worst and mean gain over settings, cross-entropy, calibration."""
    alone = {(one["setting"], one["seed"]): one for one in found if one["idea"] == ALONE}
    rows = []
    for idea in dict.fromkeys(one["idea"] for one in found):
        gains = {}
        for one in found:
            reference = alone.get((one["setting"], one["seed"]))
            if idea == one["idea"] != ALONE and reference:
                gains.setdefault(one["setting"], []).append((one, reference))
        if not gains:
            continue

        def mean(pairs, figure):
            return statistics.fmean(a[figure] - b[figure] for a, b in pairs)

        points = [100 * mean(pairs, "accuracy") for pairs in gains.values()]
        nats = [mean(pairs, "cross_entropy") for pairs in gains.values()]
        ratio = statistics.fmean(
            statistics.fmean(a["calibration_error"] for a, _ in pairs)
            / statistics.fmean(b["calibration_error"] for _, b in pairs)
            for pairs in gains.values()
        )
        no_worse = sum(value <= 0 for value in nats)
        rows.append((len(gains), min(points), statistics.fmean(points), no_worse, ratio, idea))
    rows.sort(reverse=True)
    header = ["idea", "settings", "worst gain", "mean gain", "cross-entropy no worse"]
    lines = [
        [idea, count, f"{worst:+.2f}", f"{mean:+.2f}", f"{no_worse} of {count}", f"{ratio:.2f}"]
        for count, worst, mean, no_worse, ratio, idea in rows
    ]
    return record.table([*header, "calibration error ×"], lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--teachers", type=Path)
    parser.add_argument("--work", type=Path, default=Path("saved_models/candidates"))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--ideas", nargs="+", choices=IDEAS, default=list(IDEAS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tables", action="store_true", help="from the results of before")
    given = parser.parse_args()
    found = record.read("candidates") or []
    if not given.tables:
        for name in given.settings:
            race(name, given, found)
    record.put("candidates", table(found))
    print(table(found))


if __name__ == "__main__":
    main()
