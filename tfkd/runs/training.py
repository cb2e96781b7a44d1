"""One training: the same budget and the same choice of epoch for teacher and students."""

import math

import keras
import numpy as np
import tensorflow as tf

from tfkd import data, fused, schedules, tasks, terminal
from tfkd.batches import own_inputs
from tfkd.data.pipeline import batches_of
from tfkd.data.shares import Shares
from tfkd.runs import devices, progress_line, tensorboard
from tfkd.runs.checkpoints import Saver, pass_over
from tfkd.runs.models import referred

OUTPUT = "output"  # of a student with several, the one that is judged
SGD_MOMENTUM = 0.9


class Epochs(keras.callbacks.Callback):
    """After each epoch: validates, keeps the best weights, ends the training where it is to end.

    Of epochs that are equally good the earlier one wins.

    Args:
        student: the model whose weights count.
        validate: function () -> {figure: value}.
        score: function of these figures -> tuple, more is better.
        progress: `tfkd.runs.checkpoints.Progress`, which is brought up to date.
        patience: epochs without a better one after which to stop, or None.
    """

    def __init__(self, student, validate, score, progress, patience=None):
        super().__init__()
        self.student, self.validate, self.score = student, validate, score
        self.progress, self.patience = progress, patience

    def on_epoch_end(self, epoch, logs):
        figures = self.validate()
        # Other callbacks see them, too.
        logs |= {f"val_{name}": value for name, value in figures.items()}
        if not all(map(math.isfinite, (logs["loss"], *figures.values()))):
            raise ValueError(
                f"The training of {self.student.name} diverged in epoch {epoch + 1}: its loss is "
                "no longer finite. Lower learning_rate (or the weights of the losses)."
            )
        self.progress.tick()
        self.progress.add(logs, self.score(figures), self.student)
        if self.over:
            self.model.stop_training = True

    @property
    def over(self):
        """Whether early stopping has ended the training."""
        waited = self.progress.epochs - self.progress.best_epoch
        return self.patience is not None and waited >= self.patience


STUDENT, TEACHER, BOTH = "student", "teacher", "both"


def augmentation_of(settings, role=STUDENT, info=None):
    """The augmentation of examples, None for none.

    Args:
        settings: `TrainingSettings`.
        role: who sees them: a student, a teacher in training, or both, with an input each; it
            matters for images of classes.
        info: of the data; needed of other tasks than classification.
    """
    task = tasks.get(settings.learns)
    if not task.classifies:
        return task.augmentation(settings, info)
    own = {
        STUDENT: settings.augmentation,
        TEACHER: settings.teacher_augmentation,
        BOTH: settings.separate_augmentation,
    }
    name, options = own[role]
    return data.augmentation(name, **options)


def examples(dataset, settings, seed, views, stored=None, role=STUDENT, info=None, context=None):
    """Training batches of one seed: every row of the seed sees the same images in the same order.

    The order follows from (seed, epoch). Of an augmented image there are `views` versions, the same
    for all seeds, and epoch e shows version e % views: so what a teacher said of them is stored
    once.

    Args:
        dataset: the unbatched training split.
        settings: `TrainingSettings`.
        seed: of the order.
        views: versions of each image.
        stored: `tfkd.TeacherCache` of these versions, or None.
        role: as for `augmentation_of`. Of stored versions the student sees its own input alone.
        info: of the data; of other tasks than classification, which make batches of their own.
        context: `tf.distribute.InputContext` of one of several workers, which gets its share of
            every batch; or None.

    Returns:
        `tf.data.Dataset` of (images, labels), or with sample weights and knowledge, too.
    """
    task = tasks.get(settings.learns)
    if not task.classifies:
        replayed = {"views": views, "stored": stored} if task.replays else {}
        batches = task.batches(dataset, settings, seed, info, **replayed)
        return batches if context is None else _share_of(batches, context)
    augment = augmentation_of(settings, role)
    own = {"seed": seed} | ({} if context is None else {"input_context": context})
    if stored is not None:
        batches = stored.dataset(dataset, settings.batch_size, augment=augment, **own)
        if role == BOTH:
            batches = batches.map(lambda images, *others: (own_inputs(images)[1], *others))
        return devices.even(batches, int(dataset.cardinality()), settings.batch_size)

    def augmented(indices, epochs, images, labels):
        if augment is not None:
            view = data.view_seed(indices, epochs % views, settings.seed)
            images = augment(images, view)
        return images, labels

    batches = batches_of(dataset, settings.batch_size, augmented, shuffle=True, **own)
    return devices.even(batches, int(dataset.cardinality()), settings.batch_size)


def _share_of(batches, context):
    """A worker's share of whole batches."""
    shared = Shares(None, None, input_context=context).cut(batches)
    return shared.apply(tf.data.experimental.assert_cardinality(len(batches)))


def train(
    model,
    student,
    batches,
    splits,
    settings,
    epochs,
    seed,
    checkpoint,
    team,
    logs=None,
    **labels,
):
    """Trains a model and chooses its best epoch on the validation split.

    Args:
        model: what is fitted: a model, or a `tfkd.Distiller`.
        student: the model whose weights are wanted: `model` itself, or the distiller's student.
        batches: function (context=) that returns `examples`; new, so that the first iteration is
            epoch 0.
        splits: the data, whose validation split chooses the epoch.
        settings: `TrainingSettings`.
        epochs: number of epochs.
        seed: of dropout and the like.
        checkpoint: `Checkpoint` to go on from and to write.
        team: who trains: `tfkd.runs.team.Alone`, or a `Team` of workers, of which the chief
            validates and writes.
        logs: directory for TensorBoard's logs, or None.
        **labels: `weights`, the weight of the loss on the labels (of a model with several outputs
            {output: weight}, and the output named "output" chooses the epoch); `classes`, a weight
            for each class, or None.

    Returns:
        `Progress` of the finished training.

    Raises:
        ValueError: the loss is no longer finite.
    """
    weights, several = labels["weights"], isinstance(labels["weights"], dict)
    task, info = tasks.get(settings.learns), splits.info
    validate = task.judge(student, splits.validation, info, OUTPUT if several else None)
    keras.utils.set_random_seed(seed)
    batches = batches(context=team.context)
    steps = len(batches)
    loss = task.loss(info, settings, validate)
    fitted = team.fitted(model)
    with team.scope():
        fitted.compile(
            optimizer(settings, epochs * steps),
            dict.fromkeys(weights, loss) if several else loss,
            loss_weights=weights,
        )
        fitted.optimizer.build(fitted.trainable_variables)
    # A distiller's student runs on the fused kernels; teacher and student alone get the same.
    if fused.faster():
        fused.install(student)
    progress = checkpoint.restore(fitted)
    team.agree(f"The checkpoint of {student.name}", [progress.epochs, progress.steps])
    epoch_ends = Epochs(
        *(student, lambda: team.chief_does(validate), task.score, progress),
        settings.early_stopping,
    )
    if epoch_ends.over or progress.epochs >= epochs:
        return progress
    for _ in range(progress.epochs):  # batches count their iterations
        next(iter(batches))
    if labels["classes"] is not None:
        batches = weighted(batches, labels["classes"])
    if several and model is student:  # a distiller gives every output the labels by itself
        batches = _for_each_output(batches, weights)
    devices.prepare(model, batches)
    examples = batches.repeat()
    if progress.steps:
        examples = batches.skip(progress.steps).concatenate(examples)
        pass_over(fitted, progress.steps)
    if progress.epochs or progress.steps:
        where = f"epoch {progress.epochs + 1}, batch {progress.steps + 1} of {steps}"
        terminal.say(f"Going on from the last checkpoint: {where}.")
    scalars = [tensorboard.Scalars(logs)] if logs is not None and team.chief else []
    own = callbacks_of(settings)
    if model is student:  # a distiller does it by itself
        own.append(schedules.Anneal())
    saver = Saver(checkpoint, progress, team)
    with fused.active(), progress_line.training(task=task) as shown:
        fitted.fit(
            team.distributed(examples),
            steps_per_epoch=steps,
            initial_epoch=progress.epochs,
            epochs=epochs,
            callbacks=[epoch_ends, shown, *scalars, *own, saver],
            shuffle=False,  # the batches are shuffled already, and Keras would warn of that
            verbose=0,
        )
    return progress


def callbacks_of(settings):
    """The user's own callbacks, list of `keras.callbacks.Callback`."""
    own = [referred("callback", text) for text in settings.callback]
    return [c if isinstance(c, keras.callbacks.Callback) else c() for c in own]


def optimizer(settings, steps):
    """A new optimizer whose learning rate falls to 0 within so many steps."""
    rate = keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps)
    config = {"learning_rate": rate, "weight_decay": settings.weight_decay or None}
    if settings.optimizer == "sgd":
        config["momentum"] = SGD_MOMENTUM
    kind = type(keras.optimizers.get(settings.optimizer))
    return kind(**config)


def balanced_weights(labels, classes):
    """A weight for each class, so that all count the same: examples / (classes · own examples)."""
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (classes * np.maximum(counts, 1))).astype("float32")


def weighted(batches, classes):
    """The same batches, each example weighed by its class."""
    table = tf.constant(classes)

    def with_weights(images, labels, sample_weight=None, *knowledge):
        weights = tf.gather(table, labels)
        weights = weights if sample_weight is None else weights * sample_weight
        return (images, labels, weights, *knowledge)

    return batches.map(with_weights)


def _for_each_output(batches, outputs):
    """The same batches with labels (and sample weights) for each of the named outputs."""

    def repeated(images, *values):
        return (images, *(dict.fromkeys(outputs, value) for value in values))

    return batches.map(repeated)
