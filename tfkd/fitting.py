"""Before and after a step: data is checked, what waited for it is made, figures are reported."""

import contextlib
import functools
import inspect

import keras
import tensorflow as tf

from tfkd import _keras, batches, named_losses, progress, replicas, validation, workers


class FittedModel(progress.Progress, _keras.PreparedModel):
    """The part of a Distiller between `fit` and the step.

    A subclass has the members of `tfkd.Distiller`: the student and its `taps`, the `source` of
    knowledge, the `matching` of losses, and `connect(stored_shapes)`.
    """

    def __repr__(self):
        losses = zip(self.distillation_loss_weights, self.distillation_losses, strict=True)
        terms = ", ".join(f"{weight:g} * {loss!r}" for weight, loss in losses)
        return (
            f"{type(self).__name__}(teacher={_name(self.teacher)}, student={_name(self.student)}, "
            f"student_loss_weight={self.student_loss_weight:g}, losses=[{terms}])"
        )

    def build(self, input_shape):
        self._build_on(_keras.symbolic_of_shapes(input_shape))

    def _build_on(self, inputs):
        """Builds what is not built by calling it on symbolic inputs, as Keras does in `fit`."""
        taught, own = inputs, inputs
        if self.separate_inputs:
            taught, own = batches.own_inputs(inputs)
        for model, given in [(self.student, own), *((m, taught) for m in self.source.models())]:
            if not model.built:
                model(given)
        taught, own = (keras.tree.map_structure(_keras.spec_of, x) for x in (taught, own))
        self.connect(inputs=(taught, own))

    def compile(self, optimizer="adam", loss=None, **kwargs):
        validation.own_optimizer(optimizer, self.source)
        super().compile(optimizer, loss, **kwargs)
        for model in (self, self.student):
            workers.by_chief(model, self.distribute_strategy)

    @functools.wraps(keras.Model.fit)
    def fit(self, x=None, y=None, *args, class_weight=None, **kwargs):
        given = inspect.signature(super().fit).bind(x, y, *args, **kwargs).arguments
        if self.over_workers:
            given = workers.as_datasets(given, shuffled=True)
        x, y = given["x"], given.get("y")
        if class_weight and (self.over_workers or batches.has_knowledge(x)):
            x, class_weight = batches.class_weighted(x, class_weight), None
        callbacks = given.pop("callbacks", None)
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = keras.tree.flatten(callbacks or [])
            if not any(isinstance(own, progress.Follow) for own in callbacks):
                callbacks = [progress.Follow(), *callbacks]
        given |= {"x": x, "callbacks": callbacks, "class_weight": class_weight}
        with self._door(x, y, training=True):
            if self.over_workers:
                given = workers.of_worker(given, self.distribute_strategy)
            return super().fit(**given)

    @functools.wraps(keras.Model.evaluate)
    def evaluate(self, x=None, y=None, *args, **kwargs):
        given = self._of_worker(super().evaluate, x, y, *args, **kwargs)
        with self._door(x, y, training=False):
            return super().evaluate(**given)

    @functools.wraps(keras.Model.predict)
    def predict(self, x, *args, **kwargs):
        with validation.explained():
            return super().predict(**self._of_worker(super().predict, x, *args, **kwargs))

    def _of_worker(self, method, *args, **kwargs):
        """The arguments of a method by name, the data as a worker reads it."""
        given = inspect.signature(method).bind(*args, **kwargs).arguments
        given |= given.pop("kwargs", {})
        if self.over_workers:
            given = workers.of_worker(workers.as_datasets(given), self.distribute_strategy)
        return given

    @contextlib.contextmanager
    def _door(self, x, y, training):
        validation.data(x, y, self.student_loss_weight, has_loss=self.loss is not None)
        with validation.explained():
            if self.compiled:  # else Keras says so
                replicas.check(self)
                self.prepare(*batches.symbolic(x, y)[:4], training=training)
            if training and self.built:
                validation.trainable(self)
            yield

    def prepare(self, x, y=None, sample_weight=None, knowledge=None, training=True):
        """Makes what waited for the data: unbuilt models, adapters to stored knowledge, metrics.

        Args:
            x, y, sample_weight, knowledge: a batch, of which only shapes and dtypes count.
            training: whether the optimizer's variables are needed.
        """
        if self.prepared or x is None:
            return
        with tf.init_scope(), self.distribute_strategy.scope():
            if not self.built:
                self._build_on(batches.symbolic(x).x)
            if knowledge is not None:
                self.connect(batches.shapes(knowledge))
            if self.compiled and self.matching.connected:
                own = batches.own_inputs(x)[1] if self.separate_inputs else x
                self.make_variables(*batches.symbolic(own, y)[:2], training)
                named_losses.read(self, self.taps.output_heads_under(self.loss))

    @property
    def prepared(self):
        """Whether there is nothing left for `prepare` to make."""
        return self.matching.connected and (not self.compiled or self.has_variables)

    # Each step.

    def opened(self, data, training):
        """(`Batch` with the student's x, knowledge, the source's step) of what `fit` gives.

        Bad data stops here. The step is None where the source takes none, see `Source.learn`.
        """
        batch = batches.unpack(data)
        self.prepare(*batch[:4])
        if training:
            batch = self.source.rewritten(batch, self._answers, self.progress_tensor())
        share = replicas.share(_rows(batch))
        own = taught = batch.x
        if self.separate_inputs:
            taught, own = batches.own_inputs(batch.x)
        also = {metric.teacher_name for metric in self.teacher_metrics}
        read = self.matching.read_of_teacher | self.matching.with_weights(also)
        knowledge, step = self.source.answer_to(taught, batch, read, training)
        unknown = self.matching.unknown_logits(self.source.heads)
        checks = [
            validation.finite(knowledge or {}),
            *(
                validation.looks_like_logits(knowledge[n], n)
                for n in unknown
                if n in (knowledge or {})
            ),
            *named_losses.label_checks(self, batch.y, self.taps.shapes),
        ]
        with tf.control_dependencies([check for check in checks if check is not None]):
            own = tf.nest.map_structure(tf.identity, own, expand_composites=True)
        return batch._replace(x=own, share=share), knowledge, step

    def of_all_rows(self, loss, batch):
        """A loss whose gradients, summed over the replicas, are those of the mean over all rows."""
        return loss if batch.share is None else loss * batch.share

    def _answers(self, x):
        """{name: tensor} of the student in inference mode, no gradient into them."""
        return self.taps(x, training=False)[1]

    def reported(self, batch, y_pred, knowledge, tensors, loss, training):
        """Updates and reports the metrics that this batch has a value for."""
        x, y, sample_weight = batch[:3]
        self.track_loss(loss, _rows(batch))
        for metric in self.teacher_metrics if knowledge is not None else ():
            metric.update(knowledge, tensors, sample_weight)
        if y is not None:
            y = batches.labels_of_outputs(y, y_pred)
            results = self.compute_metrics(x, y, y_pred, sample_weight)
        else:
            results = self.get_metrics_result()
            results.pop("student_loss", None)
        if knowledge is None:
            unknown = [self.distillation_loss_tracker, self.total_loss_tracker, *self.loss_trackers]
            for name in ("loss", *(tracker.name for tracker in unknown)):
                results.pop(name, None)
        if not training:
            for metric in self.source_metrics:  # of train steps, of which there are none
                results.pop(metric.name, None)
        return results


def _rows(batch):
    return tf.shape(keras.tree.flatten(batch.x)[0])[0]


def _name(model):
    """A model, source or function in a word; None for none."""
    if model is None or isinstance(model, keras.Layer):
        return None if model is None else model.name
    return getattr(model, "__name__", None) or type(model).__name__
