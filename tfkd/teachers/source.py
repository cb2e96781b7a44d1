"""Where knowledge comes from: what stands for the teacher in a Distiller."""

import os
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfkd import _keras, fused, head_search, taps
from tfkd.heads import GivenHead, Head


class Source:
    """Gives named tensors for a batch of inputs: a teacher, several, one that learns.

    A subclass writes `trace` and `call`, and says in the attributes what else is true of it. To be
    saved with a Distiller it is registered (`keras.saving.register_keras_serializable`), has a
    `get_config`, and keeps what it has learnt in `save` and `load`.

    Attributes:
        given: what `Distiller.teacher` shows.
        needs: names of what `call` gets by keyword beside the inputs, of "labels".
        storable: whether the answer to an input is always the same, so that it may be stored.
        live: whether a train step may ask it. One that is storable and not live has `answer(x,
            labels)`, which `tfkd.TeacherCache.build` calls with arrays.
        output_names: which of its tensors are outputs, of which the largest logits may be stored
            alone.
        heads: {name: `tfkd.heads.Head`} of what it gives, as far as that is known.
        metrics: list of `keras.metrics.Metric` that the Distiller reports and resets; those of a
            source that learns only while it trains.
        optimizer: of a source that learns, which no student may share; else None.
        variables: of a source that learns, all that its steps change, for checkpoints.
    """

    needs = ()
    storable = True
    live = True
    output_names = (taps.OUTPUT,)
    heads = {}
    metrics = ()
    optimizer = None
    variables = ()

    @property
    def given(self):
        return self

    @property
    def ready(self):
        """Whether what it takes is known without data."""
        return self.signature() is not None

    def tap(self, names):
        """Told the names that will be read; raises ValueError for one that it cannot give."""

    def signature(self):
        """The structure of `tf.TensorSpec` that it takes, or None where only data can tell."""

    def trace(self, signature):
        """{name: shape with batch} of all that it gives for such inputs; None if data must tell."""
        raise NotImplementedError

    def call(self, x, labels=None):
        """{name: tensor (batch, ...)} for inputs `x`; `labels` only where `needs` says so."""
        raise NotImplementedError

    def learn(self, x, labels, sample_weight):
        """What `call` gives, in a train step, and the step that a source that learns then takes.

        `labels` and `sample_weight` are None where there are none.

        Returns:
            ({name: tensor}, step): None for the step of a source that does not learn; else a
            function of the student's {name: tensor}, no gradient into them, that trains the source.
            The Distiller calls it once the student has answered and nothing was found wrong with
            the batch: what the source gives is from before its step, so that a learning rate of 0
            gives that of a fixed teacher.
        """
        return self.call(x, **self._needed(labels)), None

    def __call__(self, x, labels=None):
        """The tensors for one batch, no gradient into them.

        Raises:
            ValueError: it needs labels, and there are none.
        """
        return _constant(self.call(x, **self._needed(labels)))

    def answer_to(self, x, batch, names, training):
        """What is known of a batch: as stored with it, else what the source says to `x`.

        Args:
            x: the teacher's input.
            batch: `tfkd.batches.Batch`.
            names: what is read of the teacher.
            training: whether this is a train step.

        Returns:
            ({name: tensor}, None where nothing is known; the source's own step, see `learn`).
        """
        stored, step = batch.knowledge, None
        if self.live and not names <= set(stored or {}):
            if training:
                tensors, step = self.learn(x, batch.y, batch.sample_weight)
            else:
                tensors = self.call(x, **self._needed(batch.y))
            read = {name: tensor for name, tensor in tensors.items() if name in names}
            return {**(stored or {}), **_constant(read)}, step
        return {} if stored is None and not names else stored, step

    def _needed(self, labels):
        unknown = set(self.needs) - {"labels"}
        if unknown:
            raise ValueError(
                f"{type(self).__name__} needs {sorted(unknown)}, which a source cannot be given. "
                'Known is "labels".'
            )
        if "labels" in self.needs and labels is None:
            raise ValueError(
                f"{type(self).__name__} needs the labels, but the data has none. Give "
                "(inputs, labels)."
            )
        return {name: labels for name in self.needs}

    def models(self):
        """The Keras models inside, none of which may be (or share layers with) the student."""
        return []

    def serialized(self):
        """Its configuration, for a saved Distiller; None for what no file can hold."""
        return keras.saving.serialize_keras_object(self)

    def identity(self):
        """What tells it from others beside the weights of `models()`: plain data, for JSON."""
        return self.serialized()

    def save(self, directory):
        """Writes its state, called while a Distiller is saved."""

    def load(self, directory):
        """Reads what `save` has written."""


class StoredKnowledge(Source):
    """No teacher: what it said comes with the data, or the student teaches itself.

    Args:
        head: what the stored outputs mean, if not logits; see `tfkd.taps.Taps`.
    """

    live, storable, ready, given = False, False, True, None

    def __init__(self, head=None):
        given = head if isinstance(head, dict) else {taps.OUTPUT: head}
        self.heads = {name: Head.get(one) for name, one in given.items()}

    def trace(self, signature):
        return None

    def serialized(self):
        return None


@keras.saving.register_keras_serializable(package="tfkd")
class LiveTeacher(Source):
    """A Keras model that is asked in every step, in inference mode, and frozen in place.

    Args:
        model: a `keras.Model` or a `keras.layers.TFSMLayer`.
        head: what its outputs mean, where that cannot be found out; see `tfkd.taps.Taps`.
        fused_kernels: whether its BatchNormalization layers run on TensorFlow's fused kernel; by
            default where that is the faster way.
    """

    _WEIGHTS, _ASSETS = "teacher.weights.h5", "teacher_assets_"

    def __init__(
        self,
        model: keras.Layer,
        head: GivenHead = None,
        fused_kernels: bool | None = None,
    ):
        self.model, self._names, self._given_kernels = model, (), fused_kernels
        self._fused = fused.faster() if fused_kernels is None else fused_kernels
        self._head, self._taps = head, None

    @property
    def given(self):
        return self.model

    @property
    def heads(self):
        return self._taps.heads

    @property
    def output_names(self):
        """Names of the model's own outputs."""
        return self._taps.output_names or (taps.OUTPUT,)

    @property
    def outputs(self):
        """Names of everything that it gives."""
        return self._taps.outputs

    def tap(self, names):
        self.model.trainable = False
        self._read(names)

    def _read(self, names):
        self._names = sorted({*self._names, *names})
        self._taps = taps.Taps(self.model, self._names, "teacher", self._head, self._fused)

    def signature(self):
        return taps.input_signature(self.model)

    def trace(self, signature):
        return self._taps.trace(signature)

    def call(self, x):
        return self._taps(x, training=False)[1]

    def models(self):
        return [self.model]

    def serialized(self):
        # How it was trained is left out: no part of its optimizer is saved.
        return _untrained(keras.saving.serialize_keras_object(self.model))

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        model = _untrained(serialize(self.model))
        return {"model": model, "head": serialize(self._head), "fused_kernels": self._given_kernels}

    @classmethod
    def from_config(cls, config):
        restore = keras.saving.deserialize_keras_object
        head = restore(config["head"]) if config["head"] is not None else None
        return cls(restore(config["model"]), head, config["fused_kernels"])

    def identity(self):
        try:
            return self.serialized()
        except NotImplementedError:  # a subclassed model without get_config
            return type(self.model).__name__

    def save(self, directory):
        if not isinstance(self.model, keras.Model) or not self.model.built:
            return
        # Keras would write the optimizer that the teacher was trained with as well.
        optimizer = vars(self.model).pop("optimizer", None)
        try:
            self.model.save_weights(os.path.join(directory, self._WEIGHTS))
        finally:
            if optimizer is not None:
                vars(self.model)["optimizer"] = optimizer
        for layer, path in self._with_assets(directory):
            os.makedirs(path)
            layer.save_assets(path)

    def load(self, directory):
        path = os.path.join(directory, self._WEIGHTS)
        if os.path.exists(path):
            self.model.load_weights(path)
            for layer, path in self._with_assets(directory):
                layer.load_assets(path)

    def _with_assets(self, directory):
        """(layer, folder) of the layers that keep more than weights: vocabularies."""
        layers = [layer for layer in _keras.layers_of(self.model) if hasattr(layer, "save_assets")]
        return [
            (layer, os.path.join(directory, f"{self._ASSETS}{number}"))
            for number, layer in enumerate(layers)
        ]


class CallableTeacher(StoredKnowledge):
    """Any function from a batch of inputs to arrays: a PyTorch or ONNX model, an API.

    Only `tfkd.TeacherCache.build` calls it; students learn from what is stored.

    ```python
    def answers(images):                              # NumPy array, uint8 or float32
        with torch.no_grad():
            return model(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()

    teacher = tfkd.teachers.CallableTeacher(answers, name="resnet50-v2")
    distiller = tfkd.Distiller(teacher, student, losses)
    tfkd.TeacherCache.build("cache", distiller, train)
    ```

    Args:
        function: (inputs as NumPy arrays) -> one array (batch, ...) or {name: array}.
        name: what tells this teacher from others, as a function has no weights to look at; by
            default the function's own name.
        head: what its outputs mean, as in `tfkd.taps.Taps`; by default they are measured when they
            are first seen: rows that are distributions are probabilities, numbers outside of 0 to 1
            are logits, and what lies between is asked for.
    """

    storable = True

    def __init__(self, function: Callable, name: str | None = None, head: GivenHead = None):
        super().__init__(head)
        self.function = function
        self.name = name or getattr(function, "__qualname__", type(function).__name__)
        self._function_heads = self.heads  # what the function gives; `heads` is what comes of it
        self.heads = {output: head.as_logits() for output, head in self.heads.items()}

    def answer(self, x, labels=None):
        """{name: float32 array (batch, ...)} for a batch; outputs of probabilities as logits.

        Args:
            x: structure of arrays, the batch first.
            labels: not read.

        Raises:
            ValueError: an answer that is no array of numbers with one row an example.
        """
        x = keras.tree.map_structure(np.array, x)  # copies, which it may write to
        rows = len(keras.tree.flatten(x)[0])
        given = self.function(x)
        if isinstance(given, tuple):  # NumPy would stack arrays of one shape
            raise ValueError(
                f'The teacher "{self.name}" gave a tuple of {len(given)}, which names nothing. '
                'Give one array, or {"output": array, "name of a feature": array}.'
            )
        given = given if isinstance(given, dict) else {taps.OUTPUT: given}
        return {name: self._checked(name, values, rows) for name, values in given.items()}

    @property
    def given(self):
        return self

    def identity(self):
        return {"function": self.name}

    def answer_to(self, x, batch, names, training):
        if batch.knowledge is not None or not names:
            return super().answer_to(x, batch, names, training)
        raise ValueError(
            f'The teacher "{self.name}" is a Python function, which no train step can call. Store '
            "its answers once with tfkd.TeacherCache.build(directory, distiller, dataset), and fit "
            "on tfkd.TeacherCache(directory).dataset(...)."
        )

    def _checked(self, name, values, rows):
        values = np.asarray(values)
        if values.dtype.kind not in "fiu" or not values.ndim or len(values) != rows:
            raise ValueError(
                f'The teacher "{self.name}" gave "{name}" as an array of {values.dtype} with shape '
                f"{values.shape} for {rows} inputs. It must give numbers, with one row an input."
            )
        values = values.astype("float32")
        head = self._function_heads.get(name)
        if head is not None and head.kind is None:
            head = head_search.head(head_search.Found(None), lambda: head_search.measure(values))
            self._function_heads[name], self.heads[name] = head, head.as_logits()
        known = head is not None and head.kind == "probabilities"
        return head.logits(values).numpy() if known else values


def get(teacher, head=None, fused_kernels=None):
    """The `Source` for what a Distiller was given as its teacher.

    Args:
        teacher: see `tfkd.Distiller`.
        head, fused_kernels: for a model or function, see `LiveTeacher`.

    Raises:
        ValueError: nothing that can be a teacher.
    """
    if isinstance(teacher, Source):
        return teacher
    if teacher is None:
        return StoredKnowledge(head)
    if isinstance(teacher, keras.Layer):
        return LiveTeacher(teacher, head, fused_kernels)
    if callable(teacher):
        return CallableTeacher(teacher, head=head)
    raise ValueError(
        "teacher must be a keras.Model, a keras.layers.TFSMLayer over a SavedModel, a source of "
        "tfkd.teachers, a function from a batch of inputs to arrays, or None where the data brings "
        f"the teacher's outputs; got {type(teacher).__name__} {teacher!r}."
    )


def _constant(tensors):
    return {name: tf.stop_gradient(tensor) for name, tensor in tensors.items()}


def _untrained(config):
    if isinstance(config, dict):
        return {k: _untrained(v) for k, v in config.items() if k != "compile_config"}
    return [_untrained(v) for v in config] if isinstance(config, list) else config
