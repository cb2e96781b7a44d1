"""The train step of distillation: one student pass, one dict of knowledge, one weighted sum."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from tfkd import _keras, losses, named_losses, validation
from tfkd import fused as kernels
from tfkd.coefficient import Coefficient, CoefficientList
from tfkd.fitting import FittedModel
from tfkd.heads import GivenHead
from tfkd.losses.annealed import unless_told
from tfkd.matching import Matching
from tfkd.taps import Taps, output_names
from tfkd.teachers import Source, source_of


@keras.saving.register_keras_serializable(package="tfkd")
class Distiller(FittedModel):
    """Trains a student on labels and on what a teacher knows.

    ```python
    distiller = tfkd.Distiller(teacher, student)  # or with losses of your choice
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("adam", loss, metrics=["accuracy"])
    distiller.fit(dataset, epochs=10, validation_data=validation)
    distiller.student.save("student.keras")
    ```

    The total is `student_loss_weight * student_loss + (1 - student_loss_weight) * sum_i
    distillation_loss_weights[i] * loss_i`, plus regularisers. It takes Keras's losses as well.

    `fit` takes what `keras.Model.fit` takes, and datasets of `(x, y, sample_weight, knowledge)`:
    "output" and tapped layers of the teacher, which is not run then, and "index", the examples'
    numbers. Without labels: `student_loss_weight=0`. Labels given once are those of every output.

    Args:
        teacher: a trained `keras.Model`, or a `keras.layers.TFSMLayer` over a SavedModel: run in
            inference mode, frozen in place, never saved with weights or exported. Or a source of
            `tfkd.teachers`, or a function from inputs to arrays, which only `TeacherCache.build`
            calls. None where the data brings stored knowledge, or the student teaches itself.
        student: the `keras.Model` to train. Both get the same input; what they need they own.
        distillation_losses: a loss or a list of losses, see `tfkd.losses`; unless told
            `AnnealedDistillation()` for each output.
        distillation_loss_weights: a weight >= 0 for each loss, 1.0 by default.
        student_loss_weight: of the loss on the labels, 0 to 1; 0.5, or 0.3 without given losses.
        name: name of the model.
        fused: whether BatchNormalization runs on TensorFlow's kernel; by default where faster.
        independent_weights: whether the total is `student_loss_weight * student_loss + sum_i
            distillation_loss_weights[i] * loss_i`, as papers write it, any weight >= 0.
        separate_inputs: whether the data's `x` is {"teacher": ..., "student": ...}.
        teacher_head, student_head: what an output means where that cannot be found out, a name of
            `tfkd.heads.Head.get`, or {output name: one of them}.

    Attributes:
        student, teacher, distillation_losses: as given; the losses as a list.
        student_loss_weight, distillation_loss_weights, progress (the share of the training that is
            done): numbers; assign to change them at any time, without a retrace.

    Raises ValueError: models, losses, names, shapes or weights that do not fit together.
    """

    student_loss_weight = Coefficient(maximum=lambda own: None if own.independent_weights else 1.0)
    distillation_loss_weights = CoefficientList()

    def __init__(
        self,
        teacher: keras.Layer | Source | Callable | None,
        student: keras.Model,
        distillation_losses: keras.distillation.DistillationLoss | Sequence | None = None,
        distillation_loss_weights: Sequence[float] | float | None = None,
        student_loss_weight: float | None = None,
        name: str = "distiller",
        fused: bool | None = None,
        independent_weights: bool = False,
        separate_inputs: bool = False,
        teacher_head: GivenHead = None,
        student_head: GivenHead = None,
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.set_progress(1.0)
        distillation_losses, student_loss_weight = unless_told(
            distillation_losses, student_loss_weight, output_names(student)
        )
        given = [losses.get(loss) for loss in validation.losses(distillation_losses)]
        self.independent_weights, self.separate_inputs = independent_weights, separate_inputs
        self.distillation_loss_weights = validation.weights(
            distillation_loss_weights, len(given), student_loss_weight
        )
        self.student_loss_weight = student_loss_weight
        self.teacher_head, self.student_head = teacher_head, student_head
        self.fused = kernels.faster() if fused is None else bool(fused)
        self.source = source_of(teacher, teacher_head, self.fused)
        validation.models(self.source, student)
        self.student = student
        self.matching = Matching(given, {"teacher": self.source.models(), "student": [student]})
        self.adapters = self.matching.parts
        names = self.matching.names("student")
        self.taps = Taps(student, names, "student", student_head, self.fused)
        self.source.tap(self.matching.names("teacher"))
        self.student_loss_tracker = keras.metrics.Mean(name="student_loss")
        self.distillation_loss_tracker = keras.metrics.Mean(name="distillation_loss")
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")
        self.loss_trackers = [keras.metrics.Mean(name=name) for name in self.matching.metric_names]
        self.source_metrics, self.teacher_metrics = list(self.source.metrics), []
        if student.built and self.source.ready:
            self.connect()

    @property
    def teacher(self):
        return self.source.given

    def __dir__(self):
        # Keras saves what it finds in `dir`: the teacher is no part of the weights.
        return [name for name in super().__dir__() if name != "teacher"]

    @property
    def distillation_losses(self):
        return list(self.matching.losses)

    # Building: names become tensors, shapes become adapters.

    def connect(self, stored_shapes=None, inputs=(None, None)):
        """Traces both models where their input is known and wires the losses to them; once.

        Args:
            stored_shapes: {name: shape} of stored knowledge, where there is no teacher to ask.
            inputs: signatures of the teacher's and the student's data, where models do not tell.
        """
        own = (self.source.signature(), self.taps.signature)
        taught, learnt = validation.input_signatures(*own, inputs, self.separate_inputs)
        if self.matching.connected or learnt is None:
            return
        self.taps.trace(learnt)
        shapes = self.source.trace(taught) if stored_shapes is None else stored_shapes
        if shapes is not None or not self.matching.reads_teacher:
            before = list(self.student.variables)
            self.matching.connect(shapes or {}, self.taps.shapes)
            validation.parts(self.adapters, self.student, before, self.source)
            self.built = True

    def get_build_config(self):
        config = dict(super().get_build_config() or {})
        if not self.source.live:
            config["knowledge_shapes"] = self.matching.knowledge_shapes
        return config

    def build_from_config(self, config):
        config = dict(config)
        stored = config.pop("knowledge_shapes", None)
        if config.get("input_shape") is not None:
            self.build(config["input_shape"])
        if stored is not None:
            self.connect(stored)

    def compile(
        self,
        optimizer="adam",
        loss=None,
        loss_weights=None,
        metrics=None,
        teacher_metrics=None,
        **kwargs,
    ):
        """As `keras.Model.compile`; `loss` is the student's loss on the labels.

        Crossentropies and metrics given by name are read as ones of logits where the student ends
        in logits. `loss` may be left out where `student_loss_weight` is 0. For
        `keras.distillation`'s sake, metrics are understood in the third place as well.
        `teacher_metrics` compare student and teacher: `[tfkd.metrics.TeacherAgreement()]`.
        """
        if metrics is None and named_losses.are_metrics(loss_weights):
            loss_weights, metrics = None, loss_weights
        named_losses.check(loss, metrics, self.taps.output_heads)
        super().compile(optimizer, loss, loss_weights=loss_weights, metrics=metrics, **kwargs)
        self.teacher_metrics = list(teacher_metrics or ())

    def get_compile_config(self):
        metrics = keras.saving.serialize_keras_object(self.teacher_metrics)
        return {**super().get_compile_config(), "teacher_metrics": metrics}

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    # One batch.

    def call(self, inputs, training=None, **kwargs):
        return self.student(inputs, training=training, **kwargs)

    def train_step(self, data):
        batch, knowledge, step = self.opened(data, training=True)
        with tf.GradientTape() as tape:
            loss, y_pred, tensors = self._forward(batch, knowledge, training=True)
            scaled = self.optimizer.scale_loss(self.of_all_rows(loss, batch))
        weights = self.trainable_weights
        gradients = tape.gradient(scaled, weights)
        # Bad data stops in the loss: then no variable, not even an adapter's, has moved.
        with tf.control_dependencies([loss]):
            if weights:
                self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
            if step is not None:
                step({name: tf.stop_gradient(tensor) for name, tensor in tensors.items()})
        return self.reported(batch, y_pred, knowledge, tensors, loss, training=True)

    def test_step(self, data):
        batch, knowledge, _ = self.opened(data, training=False)
        loss, y_pred, tensors = self._forward(batch, knowledge, training=False)
        return self.reported(batch, y_pred, knowledge, tensors, loss, training=False)

    def _forward(self, batch, knowledge, training):
        """(total loss, what the student returned, {name: tensor} of its one pass)."""
        y_pred, tensors = self.taps(batch.x, training)
        x, y, sample_weight = batch[:3]
        loss = self.compute_loss(x, y, y_pred, sample_weight, training, knowledge, tensors)
        return loss, y_pred, tensors

    def compute_loss(
        self,
        x=None,
        y=None,
        y_pred=None,
        sample_weight=None,
        training=True,
        knowledge=None,
        tensors=None,
    ):
        """The total loss of one batch, a scalar.

        Args:
            x: the student's input (and the teacher's, unless `knowledge` is given).
            y: labels, or None.
            y_pred: what the student returned for `x`.
            sample_weight: optional weights of the examples.
            training: whether the student runs in training mode.
            knowledge: {name: tensor} of the teacher; by default the teacher is run on `x`.
            tensors: {name: tensor} of the student's pass; by default the student is run on `x`.
        """
        if tensors is None:
            y_pred, tensors = self.taps(x, training)
        if knowledge is None and self.source.live:
            knowledge = self.source(x, y)
        batch = tf.shape(keras.tree.flatten(y_pred)[0])[0]
        share = Distiller.student_loss_weight.tensor(self)
        total = tf.add_n([tf.zeros(()), *self.scaled_penalties()])
        student_loss = named_losses.value(self, y, y_pred, sample_weight)
        if student_loss is not None:
            total += share * student_loss
            _keras.track(self.student_loss_tracker, student_loss, batch)
        if knowledge is not None:
            known = {"teacher": self.source.heads, "student": self.taps.heads_under(self.loss)}
            given = (sample_weight, y, known, training, self.progress_tensor())
            values = self.matching(knowledge, tensors, *given)
            for tracker, value in zip(self.loss_trackers, values, strict=True):
                _keras.track(tracker, value, batch)
            weights = self.distillation_loss_weights.tensors()
            weighted = tf.add_n([w * value for w, value in zip(weights, values, strict=True)])
            _keras.track(self.distillation_loss_tracker, weighted, batch)
            total += weighted if self.independent_weights else (1.0 - share) * weighted
        _keras.track(self.total_loss_tracker, total, batch)
        return total

    def knowledge(self, x, labels=None) -> dict[str, tf.Tensor]:
        """What the losses read of the teacher on inputs `x`, {name: tensor}."""
        tensors = self.source(x, labels)
        return {name: tensors[name] for name in sorted(self.matching.read_of_teacher)}

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        names = ("student_loss_weight", "fused", "independent_weights", "separate_inputs")
        return {
            **super().get_config(),
            "teacher": self.source.serialized(),
            "student": serialize(self.student),
            "distillation_losses": [serialize(loss) for loss in self.matching.losses],
            "distillation_loss_weights": list(self.distillation_loss_weights),
            **{name: getattr(self, name) for name in (*names, "teacher_head", "student_head")},
        }

    @classmethod
    def from_config(cls, config):
        restore = keras.saving.deserialize_keras_object
        config = dict(config)
        for name in ("teacher", "student", "teacher_head", "student_head"):
            config[name] = restore(config.get(name))
        config["distillation_losses"] = [restore(loss) for loss in config["distillation_losses"]]
        return cls(**config)

    def save_assets(self, directory):
        self.source.save(directory)  # part of a whole saved Distiller, but of no weights file

    def load_assets(self, directory):
        self.source.load(directory)

    def export(self, *args, **kwargs):
        """Exports the student, as `keras.Model.export` does."""
        return self.student.export(*args, **kwargs)
