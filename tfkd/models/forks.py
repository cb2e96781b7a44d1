"""Surgery on a model's graph: a copy with inner maps laid open, and the part that an output needs.

Nested models stay nested, so that every layer keeps its path ("backbone/block3_pool"): a nested
model that is forked inside gets the forked maps as further outputs. Such a model's outputs are a
dict of path to map, its own output among them under `_OWN`.
"""

import keras

from tfkd import preprocessors, taps
from tfkd.models import tap_points

OUTPUT = taps.OUTPUT
_OWN = "output"
_ENDINGS = ("softmax", "sigmoid")


def checked(model, at, growth):
    """The paths to fork at, shallow to deep.

    Args:
        model: what the caller gave as a backbone.
        at: layer names or paths, or None for every stage end but the last.
        growth: "exits" or "branches", for messages.

    Raises:
        TypeError: `model` is no functional or Sequential `keras.Model`.
        ValueError: no classifier of one output, no stages, unknown layers, maps that cannot be
            forked.
    """
    check_backbone(model, growth)
    if at is None:
        stages = tap_points.stage_ends(model)
        if len(stages) < 2:
            raise ValueError(
                f'Model "{model.name}" has {len(stages) or "no"} stage'
                f"{'' if len(stages) == 1 else 's'} (layers named stage<N>_out, or maps at several "
                f"known resolutions); {growth} need two or more. Say where to fork, for example "
                f'at=["block1", "block2"]. Its layers: {", ".join(taps.layer_paths(model)[:12])}.'
            )
        return stages[:-1]
    paths = [at] if isinstance(at, str) else list(at)
    if not paths:
        raise ValueError(f"at is empty: name the layers that get {growth}, or leave it out.")
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise ValueError(f"at names {twice} more than once; a layer is forked once.")
    for path in paths:
        map_shape(model, path)
    return sorted(paths, key=taps.layer_paths(model).index)


def map_shape(model, path):
    """(height, width, channels) of the map that the layer at `path` gives.

    Raises:
        ValueError: no such layer, or its output is no map of known size.
    """
    layer = taps.find_layer(model, path)
    shape = getattr(getattr(layer, "output", None), "shape", None)
    if shape is None or len(shape) != 4 or None in shape[1:]:
        found = "something else" if shape is None else f"the shape {tuple(shape)}"
        stages = tap_points.stage_ends(model)
        hint = f" Its stages: {', '.join(stages)}." if stages else ""
        raise ValueError(
            f'Layer "{path}" of model "{model.name}" gives {found}; a fork needs a map of known '
            f"size, (batch, height, width, channels).{hint}"
        )
    return tuple(shape[1:])


def opened_copy(model, paths):
    """Copies a model, weights included, and lays inner maps open.

    Args:
        model: functional or Sequential `keras.Model` of one output.
        paths: of layers, as `checked` gives them.

    Returns:
        (inputs, {path: map}, logits): symbolic tensors of the copy. A model that ends in softmax or
        sigmoid is copied without it.
    """
    single = keras.Model(_ends(model)[0], model.outputs[0], name=model.name)
    copy = _copy(single, paths, as_logits=True)
    opened = dict(copy.output)
    logits = opened.pop(_OWN)
    return copy.input, opened, logits


def made_by(tensor):
    """The layer or operation that gives a symbolic tensor."""
    return tensor._keras_history.operation


def narrowed(model, names, name):
    """The model that gives some of a model's outputs and holds no layer beyond what they need.

    Args:
        model: `keras.Model` whose outputs are a dict.
        names: an output's name, or a list of them (then the outputs are a dict).
        name: of the new model.

    Returns:
        Functional `keras.Model` on the same input, sharing the layers.
    """
    wanted = (
        model.output[names] if isinstance(names, str) else {key: model.output[key] for key in names}
    )
    return _narrowed(keras.Model(model.input, wanted, name=name))


def _narrowed(model):
    used = _used_outputs(model.outputs)
    replacements = {}
    for layer in model.layers:
        if _is_functional(layer) and (positions := used.get(id(layer))):
            if len(positions) < len(layer.outputs):
                kept = [layer.outputs[position] for position in positions]
                part = keras.Model(layer.input, kept, name=layer.name)
                replacements[id(layer)] = (_narrowed(part), positions)
    if not replacements:
        return model

    def call(layer, *args, **kwargs):
        if id(layer) not in replacements:
            return layer(*args, **kwargs)
        part, positions = replacements[id(layer)]
        given = dict(zip(positions, keras.tree.flatten(part(*args, **kwargs)), strict=True))
        # Nothing reads the outputs that are gone: any tensor may stand in their places.
        return [given.get(index, given[positions[0]]) for index in range(len(layer.outputs))]

    # Called on the model's own input: the tensors of shared layers stay connected to it.
    again = keras.models.clone_model(
        model, input_tensors=model.input, clone_function=lambda layer: layer, call_function=call
    )
    return keras.Model(model.input, again.output, name=model.name)


def _used_outputs(tensors):
    """{id of an operation: sorted positions of those of its outputs that `tensors` depend on}."""
    used, seen, waiting = {}, set(), list(tensors)
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        operation, node, position = tensor._keras_history
        used.setdefault(id(operation), set()).add(position)
        waiting += operation._inbound_nodes[node].input_tensors
    return {operation: sorted(positions) for operation, positions in used.items()}


def _copy(model, paths, as_logits=False):
    """A copy whose output is a dict: each path's tensor, and the model's own output as `_OWN`."""
    inner = {}
    for path in paths:
        head, _, rest = path.partition("/")
        inner.setdefault(head, []).append(rest)
    # Neither compiled nor Sequential, whatever the model is.
    bare = keras.Model(*_ends(model), name=model.name)
    last = made_by(bare.outputs[0]) if as_logits else None
    copies, opened = {}, {}

    def copy_once(layer):
        if id(layer) not in copies:
            rests = [rest for rest in inner.get(layer.name, ()) if rest]
            copies[id(layer)] = (layer, _copied_layer(layer, rests, as_logits=layer is last))
        return copies[id(layer)][1]

    def call(layer, *args, **kwargs):
        if isinstance(layer, keras.layers.Identity):
            kwargs = {}  # those of the softmax that it stands for
        outputs = layer(*args, **kwargs)
        rests = inner.get(layer.name, ())
        if any(rests):
            tensors, outputs = outputs, outputs[_OWN]
        for rest in rests:
            path = f"{layer.name}/{rest}" if rest else layer.name
            if path in opened:
                raise ValueError(
                    f'Layer "{layer.name}" of model "{model.name}" is called several times, so '
                    f'"{path}" does not tell which map to fork. Fork at a layer that is called '
                    "once."
                )
            opened[path] = tensors[rest] if rest else outputs
        return outputs

    # Left alone, clone_model would name an input after its tensor.
    inputs = keras.tree.map_structure(
        lambda tensor: keras.Input(
            batch_shape=tensor.shape,
            dtype=tensor.dtype,
            name=made_by(tensor).name,
        ),
        bare.input,
    )
    copy = keras.models.clone_model(bare, inputs, clone_function=copy_once, call_function=call)
    for layer, twin in copies.values():
        if isinstance(layer, keras.layers.Layer) and not _is_functional(layer):
            twin.set_weights(layer.get_weights())
    return keras.Model(copy.input, {**opened, _OWN: copy.output}, name=model.name)


def _copied_layer(layer, paths, as_logits):
    """A layer's twin; its weights are those of the layer once it is called and they are copied."""
    if _is_functional(layer):
        twin = _copy(layer, paths, as_logits)
        if not paths:
            twin = keras.Model(twin.input, twin.output[_OWN], name=layer.name)
        if not layer.trainable:
            twin.trainable = False
        return twin
    if paths:
        raise ValueError(
            f'Layer "{layer.name}" is no functional model: its graph is not known and cannot be '
            f'forked at "{paths[0]}". Fork at a layer outside it.'
        )
    if as_logits and type(layer).__name__.lower() in _ENDINGS:  # a layer, or one of keras.ops
        return keras.layers.Identity(dtype="float32", name=layer.name)
    if not isinstance(layer, keras.layers.Layer):
        return layer  # an operation such as keras.ops.flip: it has no weights
    configuration = layer.get_config()
    if as_logits and getattr(layer.__dict__.get("activation"), "__name__", None) in _ENDINGS:
        configuration["activation"] = "linear"
    return type(layer).from_config(configuration)


def _ends(model):
    """Input and output of a functional or Sequential model, in the structure of its call.

    `input` and `output` of a Sequential model are those of its first call by another model.
    """
    if isinstance(model, keras.Sequential):
        return model.inputs[0], model.outputs[0]
    return model.input, model.output


def _is_functional(layer):
    """Whether a layer is a model with a graph of its own: functional or Sequential."""
    return isinstance(layer, keras.Model) and bool(getattr(layer, "inputs", None))


def check_backbone(model, growth):
    """Raises TypeError or ValueError unless a model is a classifier whose graph can be changed.

    Args:
        model: what the caller gave.
        growth: what it is to get, in the plural, for messages.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"The backbone must be a keras.Model; given {type(model).__name__}. Build one with "
            "tfkd.models.build, keras.applications or the functional API."
        )
    preprocessors.check_none(model)
    if not _is_functional(model):
        raise TypeError(
            f'Model "{model.name}" is a subclassed or unbuilt model, whose graph is not known; '
            f"{growth} need a functional or a built Sequential model."
        )
    if len(model.outputs) > 1:
        raise ValueError(
            f'Model "{model.name}" has the outputs {list(taps.output_names(model))} already; '
            f"{growth} need a model of one output. Of a model with exits or branches, take "
            "tfkd.models.trunk(model)."
        )
    shape = tuple(model.outputs[0].shape)
    if len(shape) != 2 or shape[-1] is None:
        raise ValueError(
            f'Model "{model.name}" returns the shape {shape}; {growth} need a classifier, which '
            "returns (batch, classes)."
        )
