"""Read a model as a dict of named tensors, in the one pass that runs anyway.

A name is an output of the model ("output" where it has one) or a layer: `"conv4"`, or a path
through nested models, `"backbone/block3_conv"`. The `call` of a tapped layer is wrapped on the
instance, which is what Keras invokes in Functional, Sequential, nested and subclassed models alike;
the wrapper stores what it returns only while a pass is recorded in its own thread, so that replicas
stay apart and nothing is left in saved or exported models.
"""

import contextlib
import difflib
import functools
import threading

import tensorflow as tf

OUTPUT = "output"

# Smallest probability that a logarithm is taken of, just above float32's smallest normal number.
_TINY = 1.2e-38

_local = threading.local()


class Taps:
    """A model seen as a dict of named tensors.

    Args:
        model: `keras.Model` or any `keras.Layer` (a `TFSMLayer`, say).
        names: names of outputs or layers to read besides the outputs.
        role: "teacher" or "student", for messages.

    Raises:
        ValueError: a name is neither an output nor a layer; near matches are listed.
    """

    def __init__(self, model, names=(), role="model"):
        self.model, self.role = model, role
        self.output_names = output_names(model)
        self._layers, self._awaited, self._activations = {}, {}, {}
        for name in names:
            if name in (self.output_names or (OUTPUT,)) or name == OUTPUT:
                continue
            try:
                self._layers[name] = find_layer(model, name, role, self.output_names)
            except ValueError as error:
                if self.output_names is not None or name in layer_paths(model):
                    raise
                self._awaited[name] = error  # perhaps an output, which only a call can tell
        for layer in self._layers.values():
            _make_tappable(layer)

    @property
    def outputs(self):
        """Names of everything that one pass gives: outputs first, then tapped layers."""
        return (*(self.output_names or (OUTPUT,)), *self._layers)

    def __call__(self, inputs, training):
        """Runs the model once.

        Returns:
            (what the model returned, {name: tensor}). A classifier that ends in softmax or sigmoid
            stands in the dict with its logits.
        """
        arguments = (
            {"training": training} if getattr(self.model, "_call_has_training_arg", 1) else {}
        )
        with _recording(self._layers.values()) as seen:
            returned = self.model(inputs, **arguments)
        named = self._named(returned)
        tensors = {name: logits(t, self._activations.get(name))[0] for name, t in named.items()}
        for name, error in self._awaited.items():
            if name not in tensors:
                raise error
        for name, layer in self._layers.items():
            tapped = self._tapped(name, seen.get(id(layer)))
            # The layer that a model ends in stands with its logits, as the output does.
            same = [output for output, tensor in named.items() if tensor is tapped]
            tensors[name] = tensors[same[0]] if same else tapped
        return returned, tensors

    def trace(self, signature):
        """Traces an inference pass without running it.

        Args:
            signature: structure of `tf.TensorSpec`, batch dimension included.

        Returns:
            ({name: shape tuple}, {output name: "softmax", "sigmoid" or None}).
        """
        shapes, activations = {}, {}

        def run(inputs):
            returned, tensors = self(inputs, training=False)
            shapes.update({name: tuple(t.shape) for name, t in tensors.items()})
            named = self._named(returned)
            activations.update({name: logits(t)[1] for name, t in named.items()})
            return tensors

        tf.function(run, autograph=False).get_concrete_function(signature)
        self._activations = activations  # an eager tensor does not tell how it was made
        return shapes, activations

    def _named(self, returned):
        if isinstance(returned, dict):
            named = dict(returned)
        elif isinstance(returned, list | tuple):
            names = self.output_names or [f"{OUTPUT}_{i}" for i in range(len(returned))]
            named = dict(zip(names, returned, strict=True))
        else:
            return {OUTPUT: returned}
        return {OUTPUT: next(iter(named.values()))} if len(named) == 1 else named

    def _tapped(self, name, tensor):
        if tensor is None:
            raise ValueError(
                f'Layer "{name}" of the {self.role} "{self.model.name}" is not called by the '
                "model, "
                "so there is nothing to tap. Tap a layer that takes part in its forward pass."
            )
        if not tf.is_tensor(tensor):
            raise ValueError(
                f'Layer "{name}" of the {self.role} "{self.model.name}" returns '
                f"{type(tensor).__name__}, not one tensor. Tap a layer inside or behind it."
            )
        return tensor


def output_names(model):
    """Names of the outputs of a model, `("output",)` for one, None where only a call can tell."""
    outputs = getattr(model, "outputs", None)
    if not outputs:
        return None
    if len(outputs) == 1:
        return (OUTPUT,)
    structure = model.output
    names = tuple(structure) if isinstance(structure, dict) else tuple(model.output_names)
    if len(set(names)) < len(names):  # one layer gives several outputs
        return tuple(f"{OUTPUT}_{i}" for i in range(len(names)))
    return names


def find_layer(model, name, role="model", also=()):
    """The layer called `name`, or at that path through nested layers.

    Raises:
        ValueError: there is none; near matches and the way to name nested layers are given.
    """
    layer = model
    for part in name.split("/"):
        inner = layer._flatten_layers(False, recursive=False)
        found = [child for child in inner if child.name == part]
        if not found:
            raise ValueError(_no_layer(model, name, role, also))
        if len(found) > 1:
            raise ValueError(
                f'{len(found)} layers of {role} "{model.name}" are called "{name}". Give each its '
                "own name= to tell which one to tap."
            )
        layer = found[0]
    return layer


def layer_paths(model, prefix=""):
    """Every layer's path, nested ones included, in the order of the model."""
    paths = []
    for layer in model._flatten_layers(False, recursive=False):
        paths += [prefix + layer.name, *layer_paths(layer, f"{prefix}{layer.name}/")]
    return paths


def logits(output, known=None):
    """The logits behind a classifier's output, and the activation that was undone.

    Args:
        output: what a model returned: logits, or probabilities from softmax or sigmoid.
        known: the final activation where an earlier trace found one.

    Returns:
        (tensor, None) for logits; (logits, "softmax" or "sigmoid") where a final activation was
        recognised: its own input where it can be reached, else the inverse of the activation.
    """
    found, activation = _undone(output, known)
    mask = getattr(output, "_keras_mask", None)
    if mask is not None and found is not output:
        found = tf.identity(found)
        found._keras_mask = mask
    return found, activation


def _undone(output, known):
    activation, source = _final_activation(output)
    activation = activation or known
    kept = getattr(output, "_keras_logits", None)
    if kept is not None:
        return kept, activation or ("sigmoid" if output.shape[-1] == 1 else "softmax")
    if activation is None or source is not None:
        return (output if source is None else source), activation
    probabilities = tf.cast(output, tf.float32)
    recovered = tf.math.log(tf.maximum(probabilities, _TINY))
    if activation == "sigmoid":
        recovered -= tf.math.log(tf.maximum(1.0 - probabilities, _TINY))
    return recovered, activation


def _final_activation(tensor):
    """("softmax" or "sigmoid", its input or None), (None, None) if the last op is neither."""
    if not hasattr(tensor, "graph"):
        return None, None
    operation, inside = tensor.op, False
    index = tensor.value_index
    while True:
        kind = operation.type
        if kind in ("Softmax", "Sigmoid"):
            return kind.lower(), None if inside else operation.inputs[0]
        if kind in ("Identity", "StopGradient", "Cast"):
            source = operation.inputs[0]
        elif kind in ("PartitionedCall", "StatefulPartitionedCall"):
            function = operation.graph._get_function(operation.get_attr("f").name)
            if function is None or not hasattr(function, "graph"):
                return None, None
            source, inside = function.graph.outputs[index], True
        else:
            return None, None
        operation, index = source.op, source.value_index


@contextlib.contextmanager
def _recording(layers):
    outer = getattr(_local, "seen", None)
    seen = _local.seen = {id(layer): None for layer in layers}
    try:
        yield seen
    finally:
        _local.seen = outer


def _make_tappable(layer):
    call = layer.call
    while call is not None:
        if getattr(call, "records_for_taps", False):
            return
        call = getattr(call, "inner", None)

    @functools.wraps(layer.call, updated=())
    def recorded(*args, **kwargs):
        outputs = recorded.inner(*args, **kwargs)
        seen = getattr(_local, "seen", None)
        if seen is not None and id(layer) in seen:
            seen[id(layer)] = outputs
        return outputs

    # A chain of wrappers: what is wrapped may itself be replaced later (see tfkd.fused).
    recorded.inner = layer.call
    recorded.records_for_taps = True
    # Past Keras's attribute tracking: a plain function on the instance, saved with nothing.
    object.__setattr__(layer, "call", recorded)


def _no_layer(model, name, role, also):
    known = [*(also or ()), *layer_paths(model)]
    leaf = name.rsplit("/", 1)[-1]
    inside = [path for path in known if path.endswith(f"/{leaf}")]
    near = list(dict.fromkeys([*inside, *difflib.get_close_matches(name, known, n=3)]))[:4]
    if near:
        hint = "Did you mean " + " or ".join(f'"{match}"' for match in near) + "?"
    else:
        hint = "It has: " + ", ".join(f'"{path}"' for path in known[:12])
        hint += ", …" if len(known) > 12 else ("." if known else "no layers yet (build it first).")
    return (
        f'No layer "{name}" in {role} "{model.name}". {hint} Layers inside nested models are named '
        'by path, for example "backbone/conv5_dw".'
    )
