"""The train step of distillation: one student pass, one dict of knowledge, one weighted sum."""

import contextlib
import functools
import os

import keras
import tensorflow as tf
from keras.src.losses.loss import unscale_loss_for_distribution

from tfkd import checks, compiling, losses
from tfkd import fused as fused_kernels
from tfkd.adapters import Adapters
from tfkd.coefficients import Coefficient, Coefficients
from tfkd.taps import OUTPUT, Taps
from tfkd.teachers.frozen import FrozenTeacher
from tfkd.terms import Terms


@keras.saving.register_keras_serializable(package="tfkd")
class Distiller(keras.Model):
    """Trains a student on labels and on what a teacher knows.

    ```python
    distiller = tfkd.Distiller(
        teacher,
        student,
        [
            tfkd.losses.LogitsDistillation(temperature=4),
            tfkd.losses.FeatureDistillation("mse", "backbone/block4_pool", "stage3_out"),
        ],
        distillation_loss_weights=[1.0, 0.5],
        student_loss_weight=0.1,
    )
    distiller.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    distiller.fit(dataset, epochs=10, validation_data=validation)
    distiller.student.save("student.keras")
    ```

    The total is `student_loss_weight * student_loss + (1 - student_loss_weight) * sum_i
    distillation_loss_weights[i] * loss_i`, plus the student's regularisers. A superset of
    `keras.distillation.Distiller`, whose loss objects it takes as well.

    `fit` takes what `keras.Model.fit` takes, and datasets of `(x, y, sample_weight, knowledge)`,
    where `knowledge` maps "output" and tapped layers to the teacher's stored tensors: then the
    teacher is not run. Examples without labels are distilled with `student_loss_weight=0`. Labels
    given once are those of every output of a student with several (exits, say).

    Args:
        teacher: a trained `keras.Model`, or a `keras.layers.TFSMLayer` over a SavedModel; run in
            inference mode, frozen in place (`teacher.trainable = False`), never saved with weights
            or exported. None where every example brings stored knowledge, or where all losses
            are taught by the student itself.
        student: the `keras.Model` to train. Both models are given the same input; what they need
            (resizing, scaling) they own as layers.
        distillation_losses: a loss or a list of losses, see `tfkd.losses`.
        distillation_loss_weights: a weight >= 0 for each loss, 1.0 by default.
        student_loss_weight: weight between 0 and 1 of the loss on the labels.
        name: name of the model.
        fused: whether the student's BatchNormalization layers train on TensorFlow's fused kernel,
            the same numbers to 1e-5; by default where that is the faster way.

    Attributes:
        student: the student, a plain Keras model.
        teacher: the teacher, or None.
        distillation_losses: list of the losses.
        student_loss_weight, distillation_loss_weights: numbers; assign to change them at any time,
            without a retrace.

    Raises:
        ValueError: models, losses, names, shapes or weights that do not fit together.
    """

    def __init__(
        self,
        teacher,
        student,
        distillation_losses,
        distillation_loss_weights=None,
        student_loss_weight=0.5,
        name="distiller",
        fused=None,
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        checks.models(teacher, student)
        given = [losses.get(loss) for loss in checks.losses(distillation_losses)]
        weights = checks.weights(distillation_loss_weights, len(given))
        self._distillation_loss_weights = Coefficients(weights, "distillation_loss_weights")
        self._student_loss_weight = Coefficient(
            student_loss_weight, "student_loss_weight", maximum=1.0
        )
        self.student = student
        self.adapters = Adapters()
        self._terms = Terms(given, self.adapters)
        self._student_feature_extractor = Taps(student, self._terms.names("student"), "student")
        self._teacher_feature_extractor = None
        self._frozen_teacher = None
        if teacher is not None:
            teacher.trainable = False
            self._teacher_feature_extractor = Taps(teacher, self._terms.names("teacher"), "teacher")
            self._frozen_teacher = FrozenTeacher(self._taught, teacher.name)
        self.fused = fused_kernels.faster() if fused is None else bool(fused)
        self._head = None  # the student's final activation, known once it was traced
        self.student_loss_tracker = keras.metrics.Mean(name="student_loss")
        self.distillation_loss_tracker = keras.metrics.Mean(name="distillation_loss")
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")
        self.loss_trackers = [keras.metrics.Mean(name=name) for name in self._terms.metric_names]
        if student.built and (teacher is None or teacher.built):
            self._connect()

    # What was given.

    @property
    def teacher(self):
        extractor = self._teacher_feature_extractor
        return None if extractor is None else extractor.model

    def __dir__(self):
        # Keras saves what it finds in `dir`: the teacher is no part of the weights.
        return [name for name in super().__dir__() if name != "teacher"]

    @property
    def distillation_losses(self):
        return list(self._terms.losses)

    @property
    def student_loss_weight(self):
        return self._student_loss_weight.value

    @student_loss_weight.setter
    def student_loss_weight(self, value):
        self._student_loss_weight.value = value

    @property
    def distillation_loss_weights(self):
        return self._distillation_loss_weights

    @distillation_loss_weights.setter
    def distillation_loss_weights(self, values):
        self._distillation_loss_weights[:] = values

    # Building: names become tensors, shapes become adapters.

    def build(self, input_shape):
        for model in (self.student, self.teacher):
            if model is not None and not model.built:
                model.build(input_shape)
        self._connect()

    def _connect(self, knowledge_shapes=None):
        """Traces both models where their input is known and wires the losses to them; once.

        Args:
            knowledge_shapes: {name: shape} of stored knowledge, where there is no teacher to ask.
        """
        signature = checks.input_signature(self.teacher, self.student)
        if self._terms.connected or signature is None:
            return
        student_shapes, activations = self._student_feature_extractor.trace(signature)
        self._head = activations.get(OUTPUT) or "linear"
        if self.teacher is not None:
            knowledge_shapes, _ = self._teacher_feature_extractor.trace(signature)
        elif not self._terms.reads_teacher:
            knowledge_shapes = {}
        if knowledge_shapes is not None:
            self._terms.connect(knowledge_shapes, student_shapes)
            self.built = True
        if self.fused:
            fused_kernels.install(self.student)

    def get_build_config(self):
        config = dict(super().get_build_config() or {})
        if self.teacher is None:
            config["knowledge_shapes"] = self._terms.knowledge_shapes
        return config

    def build_from_config(self, config):
        config = dict(config)
        stored = config.pop("knowledge_shapes", None)
        if config.get("input_shape") is not None:
            self.build(config["input_shape"])
        if stored is not None:
            self._connect(stored)

    def compile(self, optimizer="adam", loss=None, loss_weights=None, metrics=None, **kwargs):
        """As `keras.Model.compile`; `loss` is the student's loss on the labels.

        A crossentropy given by name is read as one of logits where the student ends in logits.
        `loss` may be left out where `student_loss_weight` is 0. For `keras.distillation`'s sake,
        metrics are understood in the third place as well.
        """
        if metrics is None and compiling.are_metrics(loss_weights):
            loss_weights, metrics = None, loss_weights
        if self._head == "linear":
            loss = compiling.loss_of_logits(loss)
        super().compile(optimizer, loss, loss_weights=loss_weights, metrics=metrics, **kwargs)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    # One batch.

    def call(self, inputs, training=None, **kwargs):
        return self.student(inputs, training=training, **kwargs)

    def train_step(self, data):
        x, y, sample_weight, knowledge = self._batch(data)
        with tf.GradientTape() as tape:
            y_pred, tensors = self._pass(x, training=True)
            loss = self.compute_loss(x, y, y_pred, sample_weight, True, knowledge, tensors)
            scaled = self.optimizer.scale_loss(loss)
        weights = self.trainable_weights
        if weights:
            gradients = tape.gradient(scaled, weights)
            # Bad data stops in the loss: then no variable, not even an adapter's, has moved.
            with tf.control_dependencies([loss]):
                self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return self._logs(x, y, y_pred, sample_weight, knowledge, loss)

    def test_step(self, data):
        x, y, sample_weight, knowledge = self._batch(data)
        y_pred, tensors = self._pass(x, training=False)
        loss = self.compute_loss(x, y, y_pred, sample_weight, False, knowledge, tensors)
        return self._logs(x, y, y_pred, sample_weight, knowledge, loss)

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
            x: the input of both models.
            y: labels, or None.
            y_pred: what the student returned for `x`.
            sample_weight: optional weights of the examples.
            training: whether the student runs in training mode.
            knowledge: {name: tensor} of the teacher; by default the teacher is run on `x`.
            tensors: {name: tensor} of the student's pass; by default the student is run on `x`.
        """
        if tensors is None:
            y_pred, tensors = self._pass(x, training)
        if knowledge is None:
            knowledge = self._knowledge(x, None)
        batch = tf.shape(keras.tree.flatten(y_pred)[0])[0]
        share = self._student_loss_weight.tensor()
        penalties = [self._aggregate_additional_loss(penalty) for penalty in self.losses]
        total = tf.add_n([tf.zeros(()), *(tf.cast(penalty, tf.float32) for penalty in penalties)])
        student_loss = self._student_loss(y, y_pred, sample_weight)
        if student_loss is not None:
            total += share * student_loss
            _track(self.student_loss_tracker, student_loss, batch)
        if knowledge is not None:
            values = self._terms(knowledge, tensors, sample_weight, y)
            distillation_loss = self._distillation_loss(values, batch)
            total += (1.0 - share) * distillation_loss
            _track(self.distillation_loss_tracker, distillation_loss, batch)
        _track(self.total_loss_tracker, total, batch)
        return total

    def _pass(self, x, training):
        """The student's one pass: (what it returned, {name: tensor})."""
        with fused_kernels.active() if self.fused else contextlib.nullcontext():
            return self._student_feature_extractor(x, training=training)

    def _student_loss(self, y, y_pred, sample_weight):
        compiled = getattr(self, "_compile_loss", None)
        if compiled is not None and y is not None:
            y = compiling.labels_of_outputs(y, y_pred)
            return tf.cast(compiled(y, y_pred, sample_weight), tf.float32)
        checks.supervised(self.student_loss_weight, has_loss=compiled is not None)
        return None

    def _distillation_loss(self, values, batch):
        for tracker, value in zip(self.loss_trackers, values, strict=True):
            _track(tracker, value, batch)
        weights = self._distillation_loss_weights
        return tf.add_n([weights.tensor(i) * value for i, value in enumerate(values)])

    def _batch(self, data):
        """(x, y, sample_weight, knowledge) of one batch; None for what there is not."""
        if isinstance(data, tuple) and len(data) == 4:
            x, y, sample_weight, knowledge = data
        else:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            knowledge = None
        if not self._terms.connected:
            self._connect_to(x, knowledge)
        return x, y, sample_weight, self._knowledge(x, knowledge)

    def _connect_to(self, x, knowledge):
        """Builds what waited for the first batch: unbuilt models, adapters to stored knowledge."""

        def shape(tensor):
            return (None, *tensor.shape[1:])

        with tf.init_scope():
            if not self.built:
                self.build(keras.tree.map_structure(shape, x))
            if knowledge is not None:
                self._connect(keras.tree.map_structure(shape, knowledge))

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Under a strategy Keras draws a batch to build from, and data that counts its epochs counts
        # one more: only where there is something left to make.
        if not (self._terms.connected and compiling.is_made(self)):
            super()._maybe_symbolic_build(iterator, data_batch)

    def _symbolic_build(self, iterator=None, data_batch=None):
        # Under a strategy Keras builds before the first step, and knows of no stored knowledge.
        if isinstance(data_batch, tuple) and len(data_batch) == 4:
            *data_batch, knowledge = data_batch
            if not self._terms.connected:
                self._connect_to(data_batch[0], knowledge)
            data_batch = tuple(data_batch)
        super()._symbolic_build(iterator, data_batch)

    def knowledge(self, x):
        """What the losses read of the teacher on inputs `x`, {name: tensor}."""
        return self._knowledge(x, None)

    def _knowledge(self, x, stored):
        if not self._terms.reads_teacher:
            return {}
        if stored is not None or self.teacher is None:
            return stored
        tensors = self._frozen_teacher(x)
        return {name: tf.stop_gradient(tensor) for name, tensor in tensors.items()}

    def _taught(self, x):
        """What the losses read of the teacher, and nothing else: {name: tensor}."""
        _, tensors = self._teacher_feature_extractor(x, training=False)
        return {name: tensors[name] for name in self._terms.names("teacher")}

    def _logs(self, x, y, y_pred, sample_weight, knowledge, loss):
        """Updates and reports the metrics that this batch has a value for."""
        _track(self._loss_tracker, loss, tf.shape(keras.tree.flatten(x)[0])[0])
        left_out = set()
        if y is None:
            results = self.get_metrics_result()
            left_out |= {"student_loss"}
        else:
            y = compiling.labels_of_outputs(y, y_pred)
            results = self.compute_metrics(x, y, y_pred, sample_weight)
        if knowledge is None:
            unknown = [self.distillation_loss_tracker, self.total_loss_tracker, *self.loss_trackers]
            left_out |= {"loss", *(tracker.name for tracker in unknown)}
        return {name: value for name, value in results.items() if name not in left_out}

    # Whole runs.

    @functools.wraps(keras.Model.fit)
    def fit(self, x=None, y=None, *args, class_weight=None, **kwargs):
        self._check(x, y)
        if class_weight and compiling.has_knowledge(x):
            x = compiling.class_weighted(x, class_weight)
        elif class_weight is not None:
            kwargs["class_weight"] = class_weight
        with checks.explained():
            self._make_variables(compiling.batch_of(x, y), training=True)
            return super().fit(x, y, *args, **kwargs)

    @functools.wraps(keras.Model.evaluate)
    def evaluate(self, x=None, y=None, *args, **kwargs):
        self._check(x, y)
        with checks.explained():
            self._make_variables(compiling.batch_of(x, y), training=False)
            return super().evaluate(x, y, *args, **kwargs)

    def _make_variables(self, batch, training):
        if not self.compiled:
            return  # Keras says so
        if not self._terms.connected and batch.x is not None:
            with self.distribute_strategy.scope():
                self._connect_to(batch.x, batch.knowledge)
        if self._terms.connected:
            compiling.make_variables(self, batch, training)

    def make_train_function(self, force=False):
        self._follow_teacher()
        return super().make_train_function(force)

    def make_test_function(self, force=False):
        self._follow_teacher()
        return super().make_test_function(force)

    def _follow_teacher(self):
        """Makes compiled steps anew that hold the teacher as it was before its weights changed."""
        if self._frozen_teacher is not None and self._frozen_teacher.refresh():
            if self.train_function is not None:
                super().make_train_function(force=True)
            if self.test_function is not None:
                super().make_test_function(force=True)

    def _check(self, x, y):
        checks.data(x, y, self.student, self.student_loss_weight, has_loss=self.loss is not None)

    # Saving.

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "teacher": serialize(self.teacher),
            "student": serialize(self.student),
            "distillation_losses": [serialize(loss) for loss in self._terms.losses],
            "distillation_loss_weights": list(self._distillation_loss_weights),
            "student_loss_weight": self.student_loss_weight,
            "fused": self.fused,
        }

    @classmethod
    def from_config(cls, config):
        restore = keras.saving.deserialize_keras_object
        config = {**config, "teacher": restore(config["teacher"])}
        config["student"] = restore(config["student"])
        config["distillation_losses"] = [restore(loss) for loss in config["distillation_losses"]]
        return cls(**config)

    def save_assets(self, directory):
        # Part of a whole saved Distiller, but of no weights file.
        if isinstance(self.teacher, keras.Model) and self.teacher.built:
            self.teacher.save_weights(os.path.join(directory, _TEACHER_WEIGHTS))

    def load_assets(self, directory):
        path = os.path.join(directory, _TEACHER_WEIGHTS)
        if os.path.exists(path):
            self.teacher.load_weights(path)

    def export(self, *args, **kwargs):
        """Exports the student, as `keras.Model.export` does."""
        return self.student.export(*args, **kwargs)


_TEACHER_WEIGHTS = "teacher.weights.h5"


def _track(tracker, loss, batch):
    tracker.update_state(unscale_loss_for_distribution(loss), sample_weight=batch)
