"""A Keras model as teacher, asked in every step."""

import os

import keras

from tfkd import _keras, fused, taps
from tfkd.heads import GivenHead
from tfkd.teachers.source import Source


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
    of_model = False  # whether a Distiller was given the model itself

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
        return self._model() if self.of_model else keras.saving.serialize_keras_object(self)

    def _model(self):
        # How it was trained is left out: no part of its optimizer is saved.
        return _untrained(keras.saving.serialize_keras_object(self.model))

    def get_config(self):
        head = keras.saving.serialize_keras_object(self._head)
        return {"model": self._model(), "head": head, "fused_kernels": self._given_kernels}

    @classmethod
    def from_config(cls, config):
        restore = keras.saving.deserialize_keras_object
        head = restore(config["head"]) if config["head"] is not None else None
        return cls(restore(config["model"]), head, config["fused_kernels"])

    def identity(self):
        try:
            return self._model()
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


def _untrained(config):
    if isinstance(config, dict):
        return {k: _untrained(v) for k, v in config.items() if k != "compile_config"}
    return [_untrained(v) for v in config] if isinstance(config, list) else config
