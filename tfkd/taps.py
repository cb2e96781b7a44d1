"""Read a model as a dict of named tensors, in the one pass that runs anyway.

A name is an output of the model ("output" where it has one) or a layer: `"conv4"`, or a path
through nested models, `"backbone/block3_conv"`. What a tapped layer returns is recorded (see
`tfkd.recording`).
"""

import contextlib
import difflib
import functools

import keras
import tensorflow as tf

from tfkd import _keras, head_search, preprocessors
from tfkd import fused as fused_kernels
from tfkd.heads import of_outputs, refined
from tfkd.recording import make_tappable, recording

OUTPUT = "output"


class Taps:
    """A model seen as a dict of named tensors.

    Args:
        model: `keras.Model` or any `keras.Layer` (a `TFSMLayer`, say).
        names: names of outputs or layers to read besides the outputs.
        role: "teacher" or "student", for messages.
        heads: what is known of the outputs: a name of a head or a `tfkd.heads.Head`, or
            {output name: one}; found out by `trace` where it is not given.
        fused: whether its BatchNormalization layers run on TensorFlow's fused kernel.

    Attributes:
        shapes: {name: shape with batch} of the tensors that a pass gives, once traced.
        heads: {name: `Head`} of the tensors that a pass gives, once traced.
        output_heads: {output name: `Head`} of what the model itself returns, once traced.

    Raises:
        ValueError: a name is neither an output nor a layer; near matches are listed. Or the model
            has a preprocessor that a call leaves out.
    """

    def __init__(self, model, names=(), role="model", heads=None, fused=False):
        preprocessors.check_none(model, role)
        self.model, self.role, self._fused = model, role, fused
        self.output_names = output_names(model)
        self.shapes, self.heads, self.output_heads, self._given_heads = {}, {}, {}, heads
        self._layers, self._awaited = {}, {}
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
            make_tappable(layer)

    @property
    def signature(self):
        """The structure of `tf.TensorSpec` that the model takes, or None where it cannot tell."""
        return input_signature(self.model)

    @property
    def outputs(self):
        """Names of everything that one pass gives: outputs first, then tapped layers."""
        return (*(self.output_names or (OUTPUT,)), *self._layers)

    def __call__(self, inputs, training):
        """Runs the model once.

        Returns:
            (what the model returned, {name: tensor}). An output that is known to hold
            probabilities stands in the dict with its logits.
        """
        returned, named, tapped = self._run(inputs, training)
        tensors = {name: self._logits(name, tensor) for name, tensor in named.items()}
        for name, tensor in tapped.items():
            # The layer that a model ends in stands with its logits, as the output does.
            same = [output for output, given in named.items() if given is tensor]
            tensors[name] = tensors[same[0]] if same else tensor
        return returned, tensors

    def trace(self, signature):
        """Traces an inference pass; runs it only where the graph does not tell what a head is.

        Args:
            signature: structure of `tf.TensorSpec`, batch dimension included.

        Returns:
            {name: shape tuple}, batch included.
        """
        shapes, found, ends = {}, {}, {}

        def run(inputs):
            _, named, tapped = self._run(inputs, training=False)
            for name, tensor in (named | tapped).items():
                shapes[name] = tuple(tensor.shape)
                found[name] = head_search.search(tensor)
            same = {id(tensor): name for name, tensor in named.items()}
            ends.update({name: same[id(t)] for name, t in tapped.items() if id(t) in same})
            return {name: tf.identity(tensor) for name, tensor in (named | tapped).items()}

        traced = tf.function(run, autograph=False).get_concrete_function(signature)
        if self._fused:  # all layers are there now
            fused_kernels.install(self.model)
        looks = functools.cache(lambda: _measured(traced, signature))
        outputs = [name for name in found if name not in self._layers]
        given = of_outputs(self._given_heads, outputs)
        heads = {
            name: given.get(name) or head_search.head(one, lambda name=name: looks().get(name))
            for name, one in found.items()
        }
        self.output_heads = {name: heads[name] for name in outputs}
        self.heads = {
            name: heads[name].as_logits() if name in outputs or name in ends else heads[name]
            for name in heads
        }
        self.shapes = shapes
        return shapes

    def output_heads_under(self, loss):
        """`output_heads` with what the loss on the labels tells, as `Model.compile` takes it."""
        return refined(self.output_heads, self.shapes, loss)

    def heads_under(self, loss):
        """`heads` with what the loss on the labels tells."""
        outputs = {n: head.as_logits() for n, head in self.output_heads_under(loss).items()}
        return {**self.heads, **outputs}

    def _run(self, inputs, training):
        """(what the model returned, {output name: tensor}, {tapped layer: tensor}) of one pass."""
        arguments = {"training": training} if _keras.takes_training(self.model) else {}
        kernels = fused_kernels.active() if self._fused else contextlib.nullcontext()
        with kernels, recording(self._layers.values()) as seen:
            returned = self.model(arranged(self.model, inputs), **arguments)
        named = self._named(returned)
        for name, error in self._awaited.items():
            if name not in named:
                raise error
        tapped = {
            name: self._tapped(name, seen.get(id(layer))) for name, layer in self._layers.items()
        }
        return returned, named, tapped

    def _logits(self, name, tensor):
        """The logits behind an output that holds probabilities; any other output as it is."""
        found, source = head_search.search(tensor), _keras.logits_of(tensor)
        head = self.output_heads.get(name) or head_search.head(found, lambda: None)
        source = found.source if source is None and found.direct else source
        if source is not None:
            return _keras.with_mask(source, tensor)
        known = head.kind == "probabilities" and head.labels is not None
        return head.logits(tensor) if known else tensor

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
                f'Layer "{name}" of the {self.role} "{self.model.name}" is not called by the model,'
                " so there is nothing to tap. Tap a layer that takes part in its forward pass."
            )
        if not tf.is_tensor(tensor):
            raise ValueError(
                f'Layer "{name}" of the {self.role} "{self.model.name}" returns '
                f"{type(tensor).__name__}, not one tensor. Tap a layer inside or behind it."
            )
        return tensor


def heads_of(model, given=None, loss=None):
    """What the numbers of each output of a model mean.

    ```python
    tfkd.taps.heads_of(keras.applications.MobileNetV2(weights=None))
    # {"output": Head(kind="probabilities", labels="one_of_many")}
    ```

    Args:
        model: a built `keras.Model`.
        given: what is known beforehand, as in `Taps`; it wins over what is found.
        loss: the loss on the labels that the model is trained with, as `keras.Model.compile` takes
            it; by default that of a compiled model. It tells independent labels, and a regression,
            from one class of many, which logits alone do not.

    Returns:
        {output name: `tfkd.heads.Head`}, "output" for a single one. A head whose `kind` is None is
        not known; one whose `labels` is None may be of one class of many or of independent labels.

    Raises:
        ValueError: an unknown name of a head or output, or a model whose inputs are not known.
    """
    signature = input_signature(model)
    if signature is None:
        raise ValueError(f'The inputs of "{model.name}" are not known. Call it once on a batch.')
    reader = Taps(model, heads=given)
    reader.trace(signature)
    return reader.output_heads_under(getattr(model, "loss", None) if loss is None else loss)


def input_signature(model):
    """The structure of `tf.TensorSpec` that a model takes, or None where it cannot tell."""
    if getattr(model, "inputs", None):
        structure = model.inputs[0] if len(model.inputs) == 1 else model.input
        return keras.tree.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), structure)
    shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if not isinstance(shape, list | tuple) or not all(
        n is None or isinstance(n, int) for n in shape
    ):
        return None
    return tf.TensorSpec((None, *shape[1:]), model.compute_dtype)


def arranged(model, inputs):
    """A single input in the structure that the model was made with: `keras.Model([image], ...)`."""
    wanted = model.input if getattr(model, "inputs", None) and _is_functional(model) else None
    if not keras.tree.is_nested(wanted) or keras.tree.is_nested(inputs) or len(model.inputs) > 1:
        return inputs
    return keras.tree.pack_sequence_as(wanted, [inputs])


def _is_functional(model):
    return not isinstance(model, keras.Sequential)


def _measured(traced, signature):
    """{name: what its numbers look like} on made-up inputs, see `head_search.measure`."""
    inputs = head_search.made_up(signature)
    if inputs is None:
        return {}
    try:
        return {n: head_search.measure(t) for n, t in traced(inputs).items()}
    except tf.errors.OpError:  # the model does not take such inputs: its head stays unknown
        return {}


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
        inner = _keras.layers_of(layer, recursive=False)
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


def path_of(model, layer):
    """The path at which a layer stands in a model, as `find_layer` takes it; None where it is not
    there."""
    for child in _keras.layers_of(model, recursive=False):
        inner = None if child is layer else path_of(child, layer)
        if child is layer or inner is not None:
            return child.name if inner is None else f"{child.name}/{inner}"
    return None


def layer_paths(model, prefix=""):
    """Every layer's path, nested ones included, in the order of the model."""
    paths = []
    for layer in _keras.layers_of(model, recursive=False):
        paths += [prefix + layer.name, *layer_paths(layer, f"{prefix}{layer.name}/")]
    return paths


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
