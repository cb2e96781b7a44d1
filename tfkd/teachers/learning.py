"""A teacher that goes on learning while it teaches."""

import os

import keras
import numpy as np
import tensorflow as tf

from tfkd import _keras, replicas, taps
from tfkd.coefficient import Coefficient
from tfkd.heads import GivenHead
from tfkd.losses.logits import LogitsDistillation, form_of
from tfkd.matching import of_output
from tfkd.teachers.live import LiveTeacher

_METRICS = ("teacher_loss", "teacher_label_loss", "teacher_feedback", "teacher_drift")


class _AnchorWeight(Coefficient):
    def __set__(self, owner, value):
        if value and owner.anchor is None:
            raise ValueError(
                "This teacher was made with anchor_weight=0, so that no copy of its beginning is "
                "kept. Make it with a weight above 0; it may be set to 0 later."
            )
        super().__set__(owner, value)


@keras.saving.register_keras_serializable(package="tfkd")
class Learning(LiveTeacher):
    """A teacher that learns on from labels and from its student, held near to where it began.

    After Tu et al. 2022, "A General Dynamic Knowledge Distillation Method for Visual Analytics"
    (doi 10.1109/tip.2022.3212905), whose formulas are not public; the sum is a reconstruction:

        label_weight · CE(y, t) + feedback_weight · T² KL(s || t) + anchor_weight · T² KL(t0 || t)

    plus the teacher's regularisers, where t are its logits, s the student's in the same step and t0
    those of the teacher as it was given. No gradient goes into s or t0, nor from the student's loss
    into the teacher. The teacher's step is taken after it has taught: with a learning rate of 0 the
    student learns what it would of the fixed teacher, to the last bit.

    ```python
    teacher = tfkd.teachers.Learning(model, keras.optimizers.Adam(1e-4))
    distiller = tfkd.Distiller(teacher, student, tfkd.losses.LogitsDistillation(4.0))
    ```

    Its step is of the pass that has taught: dropout is off, and BatchNormalization uses, and keeps,
    the statistics that the model was trained with, as in fine-tuning; its scale and offset learn.
    So what is taught does not hang on which other images are in a batch, and the teacher runs once
    (its copy at the beginning once more). For models that begin untrained that is wrong: they teach
    each other with `tfkd.models.cohort`.

    `fit` reports the sum as "teacher_loss", and its parts without their weights:
    "teacher_label_loss", "teacher_feedback" and, with an anchor, "teacher_drift". A saved Distiller
    holds the teacher, its beginning and the state of its optimizer. No cache stores its answers.

    Args:
        model: a trained `keras.Model` of one output, which is trained in place. Layers that are not
            trainable stay as they are.
        optimizer: a new `keras.optimizers.Optimizer` of its own, with a learning rate well below
            the student's, or a schedule.
        label_weight, feedback_weight, anchor_weight: weights >= 0. Assign to change them, or with
            `tfkd.schedules.Schedule("teacher.feedback_weight", ...)`, without a retrace. Made with
            an `anchor_weight` of 0 it keeps no copy of its beginning.
        temperature: T > 0; may be changed as well.
        loss: the `keras.losses.Loss` of labels and logits; by default the crossentropy of integer
            or one-hot labels, or of independent ones where the teacher ends in a sigmoid.
        student_output: the student's output that the teacher learns from.
        head, fused_kernels: as in `LiveTeacher`.

    Attributes:
        learning_rate: of the optimizer, where it has no schedule of its own; may be assigned to.
        anchor: the copy of the beginning, or None.

    Raises:
        ValueError: no built Keras model of one output, nothing in it to train, no optimizer or one
            that has trained before, a negative weight, or a model that cannot be copied.
    """

    storable = False
    label_weight, feedback_weight = Coefficient(), Coefficient()
    anchor_weight = _AnchorWeight()
    _ANCHOR, _OPTIMIZER = "teacher_anchor.weights.h5", "teacher_optimizer.npz"

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        label_weight: float = 1.0,
        feedback_weight: float = 0.1,
        anchor_weight: float = 1.0,
        temperature: float = 4.0,
        loss: keras.losses.Loss | None = None,
        student_output: str = taps.OUTPUT,
        head: GivenHead = None,
        fused_kernels: bool | None = None,
    ):
        _check(model, optimizer, loss)
        super().__init__(model, head, fused_kernels)
        self.anchor = _copy(model) if anchor_weight else None
        self.label_weight, self.feedback_weight = label_weight, feedback_weight
        self.anchor_weight, self.loss = anchor_weight, loss
        self.student_output, self._given_kernels = student_output, fused_kernels
        self._divergence = LogitsDistillation(temperature, name="learning_teacher")
        self._trained = list(model.trainable_variables)
        scales = model.compute_dtype == "float16" and not hasattr(optimizer, "inner_optimizer")
        self.optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if scales else optimizer
        self.optimizer.build(self._trained)
        names = _METRICS if self.anchor is not None else _METRICS[:-1]
        self.metrics = [keras.metrics.Mean(name=name) for name in names]

    @property
    def temperature(self):
        return self._divergence.temperature

    @temperature.setter
    def temperature(self, temperature):
        self._divergence.temperature = temperature

    @property
    def given(self):
        return self

    @property
    def learning_rate(self):
        return float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))

    @learning_rate.setter
    def learning_rate(self, rate):
        self.optimizer.learning_rate = rate

    @property
    def variables(self):
        return [*self.model.variables, *self.optimizer.variables]

    def models(self):
        return [self.model] if self.anchor is None else [self.model, self.anchor]

    def tap(self, names):
        self._read(names)  # not frozen
        if self.anchor is not None:
            self._anchor_taps = taps.Taps(self.anchor, (), "anchor", self._head, self._fused)

    def trace(self, signature):
        if self.anchor is not None:
            self._anchor_taps.trace(signature)
        shapes = super().trace(signature)
        head = self._taps.output_heads_under(self.loss)[taps.OUTPUT].as_logits()
        if head.kind is None:
            raise ValueError(
                "What the output of the teacher that learns means cannot be told from its graph. "
                'Say so: Learning(..., head="logits"), or another name of tfkd.heads.Head.get.'
            )
        self._divergence.activation = form_of(
            self._divergence, (head, head), shapes[taps.OUTPUT][-1]
        )
        return shapes

    def answer_to(self, x, batch, names, training):
        if training and names <= set(batch.knowledge or {}):
            why = "no loss or metric reads it: give a loss that it teaches by"
            if names:
                why = "the data brings answers from before it has learnt: give data without them"
            raise ValueError(f"A teacher that learns is asked in every train step, but {why}.")
        return super().answer_to(x, batch, names, training)

    def learn(self, x, labels, sample_weight):
        with tf.GradientTape() as tape:
            tensors = self.call(x)
        began = None
        if self.anchor is not None:
            began = self._anchor_taps(x, training=False)[1][taps.OUTPUT]

        def step(student):
            with tape:
                loss = self._loss(tensors[taps.OUTPUT], began, student, labels, sample_weight)
                share = replicas.share(tf.shape(tensors[taps.OUTPUT])[0])
                scaled = self.optimizer.scale_loss(loss if share is None else loss * share)
            gradients = tape.gradient(scaled, self._trained)
            self.optimizer.apply_gradients(zip(gradients, self._trained, strict=True))

        return tensors, step

    def _loss(self, own, began, student, labels, sample_weight):
        """The teacher's loss on one batch, a scalar; updates the metrics."""
        if self.student_output not in student:
            raise ValueError(
                f'The teacher learns from "{self.student_output}" of the student, which gives '
                f"{list(student)}. Name one of its outputs as student_output."
            )
        weight = of_output(sample_weight, self.student_output, student)
        labels = of_output(labels, self.student_output, student)
        own, parts = tf.cast(own, tf.float32), []
        if labels is not None:
            value = self._label_loss(labels, own)(labels, own, sample_weight=weight)
            parts.append((Learning.label_weight, value))
        elif self.label_weight:
            raise ValueError(
                f"The teacher learns from labels (label_weight is {self.label_weight:g}), but the "
                "data has none. Give (inputs, labels), or label_weight=0."
            )
        feedback = self._divergence(student[self.student_output], own, weight)
        parts.append((Learning.feedback_weight, feedback))
        if began is not None:
            drift = self._divergence(tf.stop_gradient(began), own, weight)
            parts.append((Learning.anchor_weight, drift))
        weighted = [coefficient.tensor(self) * value for coefficient, value in parts]
        total = tf.add_n([*weighted, *_keras.penalties_of(self.model)])
        metrics = self.metrics if labels is not None else [self.metrics[0], *self.metrics[2:]]
        for metric, value in zip(metrics, [total, *(v for _, v in parts)], strict=True):
            _keras.track(metric, value, tf.shape(own)[0])
        return total

    def _label_loss(self, labels, logits):
        if self.loss is not None:
            return self.loss
        if self._divergence.activation == "sigmoid":
            return keras.losses.BinaryCrossentropy(from_logits=True)
        if labels.shape[1:] == logits.shape[1:]:  # one-hot, or smoothed
            return keras.losses.CategoricalCrossentropy(from_logits=True)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    # Saving.

    def serialized(self):
        return keras.saving.serialize_keras_object(self)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        names = ("label_weight", "feedback_weight", "anchor_weight", "temperature")
        return {
            "model": self._model(),
            "optimizer": serialize(self.optimizer),
            "loss": serialize(self.loss),
            "head": serialize(self._head),
            "fused_kernels": self._given_kernels,
            "student_output": self.student_output,
            "anchored": self.anchor is not None,
            **{name: getattr(self, name) for name in names},
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for name in ("model", "optimizer", "loss", "head"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        weight, anchored = config.pop("anchor_weight"), config.pop("anchored")
        own = cls(**config, anchor_weight=1.0 if anchored else 0.0)  # any keeps a copy
        own.anchor_weight = weight
        return own

    def save(self, directory):
        super().save(directory)
        if self.anchor is not None:
            self.anchor.save_weights(os.path.join(directory, self._ANCHOR))
        values = [keras.ops.convert_to_numpy(own) for own in self.optimizer.variables]
        np.savez(os.path.join(directory, self._OPTIMIZER), *values)

    def load(self, directory):
        super().load(directory)
        if self.anchor is not None:
            self.anchor.load_weights(os.path.join(directory, self._ANCHOR))
        with np.load(os.path.join(directory, self._OPTIMIZER), allow_pickle=False) as stored:
            for own, name in zip(self.optimizer.variables, stored.files, strict=True):
                own.assign(stored[name])


def _check(model, optimizer, loss):
    """Raises ValueError for what cannot learn."""
    if not isinstance(model, keras.Model) or not model.built:
        kind = f"the unbuilt {model.name}" if isinstance(model, keras.Model) else repr(model)
        raise ValueError(
            f"A teacher that learns is a built keras.Model, which begins trained; got {kind}."
        )
    names = taps.output_names(model)
    if names not in (None, (taps.OUTPUT,)):
        raise ValueError(
            f'A teacher that learns has one output, but "{model.name}" has {list(names)}. Give '
            "the part that ends in one of them: tfkd.models.single_exit(model, name)."
        )
    if not model.trainable_variables:
        raise ValueError(
            f'Nothing of the teacher "{model.name}" is trainable, so it would not learn: a '
            "Distiller that it taught before has frozen it in place, say. Set layer.trainable = "
            "True of the layers that are to learn, or give Distiller the model itself."
        )
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            "A teacher that learns needs an optimizer of its own, with a learning rate well below "
            f"the student's, such as keras.optimizers.Adam(1e-4); got {optimizer!r}."
        )
    if optimizer.built:
        raise ValueError(
            "The optimizer of a teacher that learns must be a new one: this one holds the state of "
            "weights that it has trained, or is the student's. Give "
            f"{type(optimizer).__name__}.from_config(optimizer.get_config())."
        )
    if loss is not None and _keras.settings_of(loss).get("from_logits") is False:
        raise ValueError(
            f"{loss!r} is told of probabilities, but the teacher's loss is given logits, also of a "
            "model that ends in a softmax. Make it with from_logits=True."
        )


def _copy(model):
    """A frozen model of the same weights, for the anchor."""
    try:
        twin = keras.models.clone_model(model)
        twin.set_weights(model.get_weights())
    except Exception as error:  # of a subclassed model, its own
        raise ValueError(
            f'The teacher "{model.name}" cannot be copied, to hold it near to where it began '
            f"({str(error).splitlines()[0]}). Give a functional model, or anchor_weight=0."
        ) from error
    twin.trainable = False
    return twin
