"""Dense layers of low rank: fewer parameters, begun from the layers that they replace."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="tfkd")
class LowRankDense(keras.layers.Layer):
    """A Dense layer whose kernel is a product of rank r: r (inputs + units) parameters of it.

    Computes `activation(x @ down @ up + bias)`, down of shape (inputs, rank) and up (rank, units).

    Args:
        units: size of the output.
        rank: r, at least 1. It saves parameters below inputs · units / (inputs + units).
        activation: as of `keras.layers.Dense`.
        use_bias: as of `keras.layers.Dense`.

    Raises:
        ValueError: units or rank that are no whole numbers of at least 1.
    """

    def __init__(self, units, rank, activation=None, use_bias=True, **kwargs):
        super().__init__(**kwargs)
        for name, number in (("units", units), ("rank", rank)):
            if isinstance(number, bool) or not hasattr(number, "__index__") or number < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {number!r}.")
        self.units, self.rank, self.use_bias = int(units), int(rank), bool(use_bias)
        self.activation = keras.activations.get(activation)
        self.supports_masking = True

    def build(self, input_shape):
        inputs = input_shape[-1]
        self.down = self.add_weight((inputs, self.rank), "glorot_uniform", name="down")
        self.up = self.add_weight((self.rank, self.units), "glorot_uniform", name="up")
        if self.use_bias:
            self.bias = self.add_weight((self.units,), "zeros", name="bias")

    def call(self, inputs):
        value = ops.matmul(ops.matmul(inputs, self.down), self.up)
        value = value + self.bias if self.use_bias else value
        return value if self.activation is None else self.activation(value)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def take_over(self, kernel, bias=None):
        """Takes the best approximation of a Dense layer's weights, by singular value decomposition.

        Of W ≈ U_r S_r V_rᵀ both factors get the root of the singular values, so that neither learns
        faster than the other. With full rank the layer computes what the Dense layer does.

        Args:
            kernel: array (inputs, units).
            bias: array (units,), or None.
        """
        left, values, right = np.linalg.svd(np.asarray(kernel, "float64"), full_matrices=False)
        roots = np.sqrt(values[: self.rank])
        missing = self.rank - len(roots)  # a rank above the full one has rows that add nothing
        self.down.assign(np.pad(left[:, : self.rank] * roots, ((0, 0), (0, missing))))
        self.up.assign(np.pad(roots[:, None] * right[: self.rank], ((0, missing), (0, 0))))
        if bias is not None:
            self.bias.assign(bias)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "rank": self.rank,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
        }


def with_low_rank(model, rank):
    """A copy of a model with Dense layers of low rank where that saves parameters.

    Every `keras.layers.Dense` with rank · (inputs + units) < inputs · units becomes a
    `LowRankDense` with the best approximation of its kernel; everything else, attention included,
    keeps its weights. The model itself is not changed.

    ```python
    smaller = tfkd.models.with_low_rank(trained, rank=16)  # then distil it from `trained`
    ```

    Args:
        model: a built functional or Sequential `keras.Model`, nested ones included.
        rank: r, at least 1.

    Returns:
        `keras.Model` of the same name, inputs and outputs.

    Raises:
        ValueError: no model that can be copied, or none of its Dense layers would become smaller.
    """
    if isinstance(rank, bool) or not hasattr(rank, "__index__") or rank < 1:
        raise ValueError(f"rank must be a whole number of at least 1, got {rank!r}.")
    replaced = {}

    def smaller(layer):
        config = layer.get_config()
        if type(layer) is not keras.layers.Dense or not layer.built:
            return type(layer).from_config(config)
        inputs, units = layer.kernel.shape
        if rank * (inputs + units) >= inputs * units:
            return type(layer).from_config(config)
        own = {name: config[name] for name in ("name", "dtype", "units", "use_bias", "trainable")}
        made = LowRankDense(rank=rank, activation=layer.activation, **own)
        replaced[id(made)] = layer
        return made

    try:
        copy = keras.models.clone_model(model, clone_function=smaller, recursive=True)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f'"{model.name}" cannot be copied with other layers '
            f"({str(error).splitlines()[0]}). Give a functional or Sequential model."
        ) from error
    if not replaced:
        raise ValueError(
            f'No Dense layer of "{model.name}" would have fewer parameters at rank {rank}: that '
            "takes a rank below inputs · units / (inputs + units). Give a smaller one."
        )
    _take_weights(model, copy, replaced)
    return copy


def _take_weights(model, copy, replaced):
    for own, new in zip(model.layers, copy.layers, strict=True):
        if id(new) in replaced:
            new.take_over(own.kernel, own.bias if own.use_bias else None)
        elif isinstance(own, keras.Model):
            _take_weights(own, new, replaced)
        else:
            new.set_weights(own.get_weights())
