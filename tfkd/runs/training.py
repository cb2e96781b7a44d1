"""One training: the same budget and the same choice of epoch for teacher and students."""

import math
import time
from typing import NamedTuple

import keras

from tfkd import compiling, data, fused
from tfkd.data.pipeline import for_fit
from tfkd.taps import OUTPUT

EVALUATION_BATCH = 256


class Outcome(NamedTuple):
    """What a training ended in.

    Attributes:
        history: {metric: one value an epoch}, as Keras's `History.history`.
        epoch: the epoch that was kept, from 1.
        accuracy: its validation accuracy, 0 to 1.
        cross_entropy: its validation cross-entropy, nats.
        seconds: wall time.
    """

    history: dict
    epoch: int
    accuracy: float
    cross_entropy: float
    seconds: float


class BestEpoch(keras.callbacks.Callback):
    """Remembers the weights of the epoch with the best validation accuracy.

    Small validation splits tie often: of equal accuracies the lower cross-entropy wins, then the
    earlier epoch.

    Args:
        trained: the model whose weights count (a distiller's student).
        output: of several outputs, the one whose validation figures count.
    """

    def __init__(self, trained, output=None):
        super().__init__()
        self.trained = trained
        self.prefix = f"val_{output}_" if output else "val_"
        self.score = (-math.inf, -math.inf)
        self.epoch = self.weights = None

    def on_epoch_end(self, epoch, logs):
        accuracy, cross_entropy = (
            logs[self.prefix + metric] for metric in ("accuracy", "cross_entropy")
        )
        values = (logs["loss"], cross_entropy)
        if not all(map(math.isfinite, values)):
            raise ValueError(
                f"The training of {self.trained.name} diverged in epoch {epoch + 1}: its loss is "
                "no longer finite. Lower learning_rate (or the weights of the losses)."
            )
        score = (accuracy, -cross_entropy)
        if score > self.score:
            self.score, self.epoch = score, epoch + 1
            self.weights = self.trained.get_weights()


def train(model, trained, splits, settings, epochs, seed, label_weights=1.0, stored=None):
    """Trains a model and chooses its best epoch on the validation split.

    Args:
        model: what is fitted: a model, or a `tfkd.Distiller`.
        trained: the model whose weights are wanted: `model` itself, or the distiller's student.
        splits: `tfkd.data.Splits`; test is not touched.
        settings: `TrainingSettings`.
        epochs: number of epochs.
        seed: of order, augmentation and dropout.
        label_weights: weight of the loss on the labels; of a model with several outputs {output:
            weight}, and the output named "output" chooses the epoch.
        stored: `tfkd.TeacherCache` of this seed with a view for every epoch: the same batches, with
            what the teacher says of them.

    Returns:
        (`Outcome`, weights of the chosen epoch as a list of arrays).

    Raises:
        ValueError: the loss is no longer finite.
    """
    keras.utils.set_random_seed(seed)
    if stored is not None:
        batches = stored.dataset(splits.train, settings.batch_size, seed=seed)
    else:
        augment = data.augmentation(settings.augment)
        batches = data.batches(
            splits.train, settings.batch_size, shuffle=True, augment=augment, seed=seed
        )
    steps = epochs * int(batches.cardinality())
    rate = keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps)
    several = isinstance(label_weights, dict)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metrics = [
        keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
        keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy", from_logits=True),
    ]
    model.compile(
        keras.optimizers.Adam(rate),
        dict.fromkeys(label_weights, loss) if several else loss,
        loss_weights=label_weights,
        metrics={OUTPUT: metrics} if several else metrics,
    )
    validation = data.batches(splits.validation, EVALUATION_BATCH)
    if several and model is trained:  # a distiller gives every output the labels by itself
        batches, validation = (_for_each(label_weights, part) for part in (batches, validation))
    best = BestEpoch(trained, OUTPUT if several else None)
    # A distiller's student runs on the fused kernels; teacher and student alone get the same.
    if fused.faster():
        fused.install(trained)
    start = time.perf_counter()
    with fused.active():
        if model is trained:  # a distiller does so by itself
            compiling.make_variables(model, compiling.batch_of(batches), training=True)
        history = model.fit(
            **for_fit(batches, validation),
            epochs=epochs,
            callbacks=[best],
            shuffle=False,  # the batches are shuffled already, and Keras would warn of that
        ).history
    seconds = time.perf_counter() - start
    history = {metric: [float(value) for value in values] for metric, values in history.items()}
    accuracy, negative = best.score
    return Outcome(history, best.epoch, accuracy, -negative, round(seconds, 3)), best.weights


def _for_each(outputs, batches):
    """The same batches with the labels for each of the named outputs."""
    return batches.map(lambda images, labels: (images, dict.fromkeys(outputs, labels)))
