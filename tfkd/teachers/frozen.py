"""A teacher's inference as one constant-folded graph.

The teacher's variables become constants and grappler folds what depends on nothing else: above all
BatchNormalization into the bias-free convolution before it. The graph holds only what the asked
names need, nothing past the deepest of them. The folded weights are then taken out of the graph
again and captured: every function and replica that calls it shares them. (As constants they would
be copied about five times for each function that calls the teacher.)
"""

import warnings

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.grappler import tf_optimizer
from tensorflow.python.training.saver import export_meta_graph

# A GraphDef is a protocol buffer: 2 GiB at most, nearly all of it weights.
GRAPH_LIMIT_BYTES = 2_000_000_000

# Constants below this size stay in the graph.
_SHARED_BYTES = 1024


class FrozenTeacher:
    """Calls `outputs` through a frozen graph, made at the first call with each shape of input.

        teacher_outputs = FrozenTeacher(lambda x: {"output": teacher(x, training=False)}, "resnet")
        knowledge = teacher_outputs(images)         # eagerly, in a tf.function, in a replica

    One graph serves every batch size. Numbers and dtypes are those of `outputs`, to rounding: a
    float32 teacher gives float32, a mixed-precision teacher runs as its policy says.

    Where freezing is impossible (inputs that are not dense tensors, more than 2 GB of weights, an
    inference that writes variables or reads a table) a UserWarning says so once and `outputs` runs.

    The weights are those of the moment of freezing. `refresh` finds out whether they have changed;
    a `tf.function` that has called this object must then be traced anew, since it holds the old
    graph. A teacher that changes while such a function runs must not be frozen.

    Args:
        outputs: callable, tensor (or nest of tensors) with the batch first → {name: tensor}; an
            inference without side effects.
        name: what the warning calls the teacher.
        limit_bytes: a teacher with more bytes of weights than this is not frozen.
    """

    def __init__(self, outputs, name="teacher", limit_bytes=GRAPH_LIMIT_BYTES):
        self._outputs = outputs
        self._name = name
        self._limit_bytes = limit_bytes
        self._frozen = {}  # input signature → function of the flat inputs, None where it runs live
        self._weights = []  # (variable, its value when frozen)
        self._warned = False

    def __call__(self, inputs):
        """{name: tensor} for `inputs`, a tensor or nest of tensors as `outputs` takes them."""
        leaves = tf.nest.flatten(inputs)
        if not all(isinstance(leaf, tf.Tensor | np.ndarray) for leaf in leaves):
            self._warn("its inputs are not all dense tensors")
            return self._outputs(inputs)
        leaves = [tf.convert_to_tensor(leaf) for leaf in leaves]
        signature = tuple(_any_batch(leaf) for leaf in leaves)
        key = (signature, repr(tf.nest.map_structure(lambda _: 0, inputs)))
        if key not in self._frozen:
            try:
                # Out of the graph that is being traced, if any: this one belongs to no caller.
                with tf.init_scope():
                    self._frozen[key] = self._freeze(signature, inputs)
            except Exception as error:
                # Whatever a foreign model does that cannot be frozen, it can still be run.
                self._warn(f"{type(error).__name__}: {error}")
                self._frozen[key] = None
        frozen = self._frozen[key]
        return self._outputs(inputs) if frozen is None else frozen(*leaves)

    def refresh(self):
        """Forget the frozen graphs if a weight that went into them has changed.

        Returns:
            True if so: functions that have called this object must be traced anew. A teacher that
            runs live is never stale. Cheap where nothing was assigned.
        """
        changed = any(_differs(variable, value) for variable, value in self._weights)
        if changed:
            self._frozen.clear()
            self._weights.clear()
        return changed

    def _freeze(self, signature, inputs):
        structure = tf.nest.map_structure(lambda _: 0, inputs)

        def flat_outputs(*leaves):
            return dict(self._outputs(tf.nest.pack_sequence_as(structure, leaves)))

        live = tf.function(flat_outputs, autograph=False).get_concrete_function(*signature)
        size = sum(v.dtype.size * v.shape.num_elements() for v in live.variables)
        if size > self._limit_bytes:
            raise ValueError(f"{size:,} bytes of weights, more than {self._limit_bytes:,}")
        # Read before the graph is made: a change in between is found rather than missed.
        weights = [(variable, np.asarray(variable.read_value())) for variable in live.variables]
        function = _folded(live, signature)
        self._weights += weights
        return function

    def _warn(self, reason):
        if not self._warned:
            warnings.warn(
                f'Teacher "{self._name}" cannot be frozen and runs as it is, slower: {reason}',
                stacklevel=3,
            )
        self._warned = True


def _folded(live, signature):
    """A concrete function with the numbers of `live`, folded, its weights shared.

    Args:
        live: concrete function that returns a dict of tensors.
        signature: tuple of `tf.TensorSpec`, its inputs.

    Raises:
        ValueError: `live` needs a resource that is not a variable, or writes one.
    """
    frozen = convert_variables_to_constants_v2(live, lower_control_flow=False)
    input_names = [tensor.name for tensor in frozen.inputs]
    if len(input_names) != len(signature):
        resources = ", ".join(input_names[len(signature) :])
        raise ValueError(f"its inference uses resources that are not variables ({resources})")
    output_names = [tensor.name for tensor in frozen.outputs]
    graph = _fold_constants(frozen.graph, input_names + output_names)
    weights = _take_weights(graph)
    _still_placeholders(graph)
    structure = live.structured_outputs

    @tf.function(input_signature=signature, autograph=False)
    def teacher(*leaves):
        given = dict(zip(input_names, leaves, strict=True))
        # Identity captures: the importer takes tensors of the graph only.
        given |= {name: tf.identity(value) for name, value in weights.items()}
        outputs = tf.graph_util.import_graph_def(graph, given, output_names, name="")
        return tf.nest.pack_sequence_as(structure, outputs)

    return teacher.get_concrete_function()


def _fold_constants(graph, kept_names):
    """GraphDef of `graph` after grappler's constant folding, which also drops what nobody needs."""
    meta_graph = export_meta_graph(graph_def=graph.as_graph_def(), graph=graph)
    meta_graph.collection_def["train_op"].node_list.value.extend(kept_names)
    config = tf.compat.v1.ConfigProto()
    # "dependency" drops the Identity nodes that keep a normalization from its convolution.
    config.graph_options.rewrite_options.optimizers.extend(["pruning", "constfold", "dependency"])
    config.graph_options.rewrite_options.min_graph_nodes = -1  # small graphs too
    return tf_optimizer.OptimizeGraph(config, meta_graph)


def _take_weights(graph):
    """Empty the large float constants of a GraphDef; {tensor name: eager tensor of the value}."""
    weights = {}
    for node in graph.node:
        if node.op != "Const":
            continue
        value = node.attr["value"].tensor
        if tf.as_dtype(value.dtype).is_floating and value.ByteSize() >= _SHARED_BYTES:
            weights[f"{node.name}:0"] = tf.constant(tf.make_ndarray(value))
            # The node stays, as a scalar, for those who wait for it.
            value.CopyFrom(tf.make_tensor_proto(0, value.dtype, shape=[]))
    return weights


def _still_placeholders(graph):
    """Turn a GraphDef's placeholders into scalars, which run where something merely waits for them.

    Whoever reads an input is given the caller's tensor; an edge of mere order is not.
    """
    for node in graph.node:
        if node.op == "Placeholder":
            kind = tf.as_dtype(node.attr["dtype"].type)
            node.op = "Const"
            node.attr.clear()
            node.attr["dtype"].type = kind.as_datatype_enum
            empty = b"" if kind == tf.string else 0
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(empty, kind, shape=[]))


def _any_batch(tensor):
    """The tensor's specification with the first dimension left open."""
    if not tensor.shape.rank:
        return tf.TensorSpec(tensor.shape, tensor.dtype)
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)


def _differs(variable, value):
    """Whether a variable holds something else than `value`, a NumPy view taken of it earlier.

    On a CPU the view shares the variable's buffer, and TensorFlow never writes into a buffer that
    somebody else holds: the same address is the same content, and nothing need be compared.
    """
    now = np.asarray(variable.read_value())
    return now.ctypes.data != value.ctypes.data and now.tobytes() != value.tobytes()
