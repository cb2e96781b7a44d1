import os
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from tfkd.runtime.graph_inspection import SUSPECT, require_harmless, suspect_operations
from tfkd.runtime.worker import Worker


def after(operation, x):
    with tf.control_dependencies([operation]):
        return tf.identity(x)


def lines(datasets):
    return datasets.reduce(tf.constant(""), lambda before, new: new)[None]


MODELS = {
    "ReadFile": lambda x: tf.map_fn(tf.io.read_file, x),
    "WriteFile": lambda x: after(tf.io.write_file(x[0], x[0]), x),
    "MatchingFiles": lambda x: tf.cond(tf.size(x) > 1, lambda: tf.io.matching_files(x), lambda: x),
    "EagerPyFunc": lambda x: tf.py_function(lambda y: y, [x], tf.string),
    "PyFunc": lambda x: tf.numpy_function(lambda y: y, [x], tf.string),
    "PyFuncStateless": lambda x: tf.numpy_function(lambda y: y, [x], tf.string, stateful=False),
    "PrintV2": lambda x: after(tf.print(x, output_stream="file:///tmp/printed"), x),
    "TFRecordDataset": lambda x: lines(tf.data.TFRecordDataset(x)),
    "TextLineDataset": lambda x: lines(
        tf.data.Dataset.from_tensor_slices(x).interleave(tf.data.TextLineDataset)
    ),
    "FixedLengthRecordDatasetV2": lambda x: lines(tf.data.FixedLengthRecordDataset(x, 3)),
    "CacheDatasetV2": lambda x: lines(tf.data.Dataset.from_tensor_slices(x).cache("/tmp/cached")),
    "RestoreV2": lambda x: tf.raw_ops.RestoreV2(
        prefix=x[0], tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.string]
    )[0],
    "SaveV2": lambda x: after(
        tf.raw_ops.SaveV2(prefix=x[0], tensor_names=["a"], shape_and_slices=[""], tensors=[x]),
        x,
    ),
    "MergeV2Checkpoints": lambda x: after(
        tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=x, destination_prefix=x[0]), x
    ),
    "ImmutableConst": lambda x: tf.raw_ops.ImmutableConst(
        dtype=tf.string, shape=[1], memory_region_name="/etc/passwd"
    ),
    "DebugIdentityV2": lambda x: tf.raw_ops.DebugIdentityV2(
        input=x, debug_urls=["file:///tmp/dumped"]
    ),
    "LoadAndRemapMatrix": lambda x: tf.strings.as_string(
        tf.raw_ops.LoadAndRemapMatrix(
            ckpt_path=x[0],
            old_tensor_name="a",
            row_remapping=tf.zeros(1, tf.int64),
            col_remapping=tf.zeros(0, tf.int64),
            initializing_values=tf.zeros(0),
            num_rows=1,
            num_cols=1,
        )
    ),
    "DecodeProtoV2": lambda x: tf.raw_ops.DecodeProtoV2(
        bytes=x,
        message_type="m",
        field_names=["f"],
        output_types=[tf.string],
        descriptor_source="/tmp/described",
    ).values[0],
}


def saved(function, path):
    """A SavedModel whose one signature maps strings to strings."""
    module = tf.Module()
    traced = tf.function(lambda x: {"y": function(x)}, autograph=False)
    signature = traced.get_concrete_function(tf.TensorSpec((None,), tf.string, name="x"))
    tf.saved_model.save(module, str(path), signatures=signature)
    return path


def changed(path, change):
    """Rewrite saved_model.pb after `change(meta graph)`."""
    file = path / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(model.meta_graphs[0])
    file.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("operation", sorted(MODELS))
def test_every_kind_of_op_is_found_wherever_it_stands(operation, tmp_path):
    path = saved(MODELS[operation], tmp_path)
    with pytest.raises(ValueError, match=rf"compute: {operation} \(.*--trust"):
        require_harmless(path)


def test_what_only_computes_and_prints_is_let_through(version, tmp_path):
    assert suspect_operations(version) == []
    require_harmless(version)
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))
    model.export(str(tmp_path / "keras"), verbose=False)
    assert suspect_operations(tmp_path / "keras") == []
    for number, stream in enumerate(("stdout", "stderr", "log(info)")):
        path = saved(
            lambda x: after(tf.raw_ops.PrintV2(input=x[0], output_stream=stream), x),  # noqa: B023
            tmp_path / str(number),
        )
        assert suspect_operations(path) == []


def lookup(folder, name="vocabulary.txt"):
    """A Keras model whose vocabulary is a file, exported with it as an asset."""
    (folder / name).write_text("a\nb\nc\n")
    text = keras.Input((1,), dtype="string", name="text")
    numbers = keras.layers.StringLookup(vocabulary=str(folder / name))(text)
    model = keras.Model(text, keras.layers.Embedding(5, 2)(numbers))
    model.export(str(folder / "lookup"), verbose=False)
    return folder / "lookup"


def test_a_vocabulary_among_the_models_own_assets_is_let_through(tmp_path):
    path = lookup(tmp_path)
    assert os.listdir(path / "assets") == ["vocabulary.txt"]
    assert suspect_operations(path) == []


def another_file(meta):
    """The path of the asset becomes one that is written in the graph."""
    for node in meta.graph_def.node:
        if node.op == "AssignVariableOp":
            node.input[1] = "stolen"
    node = meta.graph_def.node.add(name="stolen", op="Const")
    node.attr["dtype"].type = 7
    node.attr["value"].tensor.dtype = 7
    node.attr["value"].tensor.string_val.append(b"/etc/passwd")


def set_twice(meta):
    another = meta.graph_def.node.add(name="again", op="AssignVariableOp")
    original = next(n for n in meta.graph_def.node if n.op == "AssignVariableOp")
    another.input.extend([original.input[0], "stolen"])


def twin(meta):
    """Another handle of the same variable, which a function could set."""
    original = next(
        n
        for n in meta.graph_def.node
        if n.op == "VarHandleOp"
        and any(a.op == "AssignVariableOp" and a.input[0] == n.name for a in meta.graph_def.node)
    )
    copy = meta.graph_def.node.add()
    copy.CopyFrom(original)
    copy.name = "twin"


@pytest.mark.parametrize("change", [another_file, set_twice, twin])
def test_a_table_that_may_read_another_file_is_refused(tmp_path, change):
    path = changed(lookup(tmp_path), change)
    (found,) = suspect_operations(path)
    assert found.startswith("InitializeTableFromTextFileV2 (reads files)")


@pytest.mark.parametrize("name", ["../vocabulary.txt", "/etc/passwd", "a/../../b", ""])
def test_an_asset_outside_of_its_folder_is_refused(tmp_path, name):
    def rename(meta):
        meta.asset_file_def[0].filename = name

    with pytest.raises(ValueError, match="leads out of its directory"):
        require_harmless(changed(lookup(tmp_path), rename))


def test_the_restore_op_may_only_restore(version, tmp_path):
    """A graph whose loading would save, and one whose signature would call the saver."""

    def save_at_loading(meta):
        meta.saver_def.restore_op_name = meta.saver_def.save_tensor_name.split(":")[0]

    path = changed(shutil.copytree(version, tmp_path / "1"), save_at_loading)
    assert any(found.startswith("SaveV2") for found in suspect_operations(path))

    def save_at_request(meta):
        signature = meta.signature_def["serving_default"]
        signature.outputs["saved"].name = meta.saver_def.save_tensor_name

    path = changed(shutil.copytree(version, tmp_path / "2"), save_at_request)
    kinds = {found.split()[0] for found in suspect_operations(path)}
    assert {"SaveV2", "MergeV2Checkpoints"} <= kinds


def test_nodes_that_nothing_runs_and_functions_in_attributes_count_too(version, tmp_path):
    def unused(meta):
        meta.graph_def.node.add(name="unused", op="ReadFile")

    path = changed(shutil.copytree(version, tmp_path / "1"), unused)
    assert suspect_operations(path) == ["ReadFile (reads files) in the main graph"]

    def module(meta):
        node = meta.graph_def.node.add(name="compiled", op="XlaCallModule")
        code = attr_value_pb2.AttrValue(s=b"... xla_python_cpu_callback ...")
        node.attr["module"].CopyFrom(code)

    path = changed(shutil.copytree(version, tmp_path / "2"), module)
    (found,) = suspect_operations(path)
    assert found.startswith("XlaCallModule")


def test_forms_that_cannot_be_examined_and_links_are_refused(version, tmp_path):
    for name in ("saved_model.cpb", "saved_model.pbtxt"):
        path = shutil.copytree(version, tmp_path / name)
        (path / name).write_text("")
        with pytest.raises(ValueError, match=f"{name} is of a form that is not examined"):
            require_harmless(path)
    path = shutil.copytree(version, tmp_path / "linked")
    (path / "variables" / "more").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="variables/more is a link that leads out"):
        require_harmless(path)
    (path / "variables" / "more").unlink()
    (path / "variables" / "more").symlink_to(path / "saved_model.pb")
    require_harmless(path)
    with pytest.raises(FileNotFoundError, match="Could not find SavedModel"):
        require_harmless(tmp_path / "linked" / "variables")
    (path / "saved_model.pb").write_bytes(b"\xff" * 50)
    with pytest.raises(ValueError, match="saved_model.pb cannot be read"):
        require_harmless(path)


def test_the_list_names_real_ops_and_leaves_none_of_its_kind_out():
    """TensorFlow's own registry is asked: every op whose name or arguments speak of files, Python
    or the network is either suspect or known to be harmless."""
    names = {name for name in dir(tf.raw_ops) if not name.startswith("_")}
    missing = {name for name in SUSPECT if op_def_registry.get(name) is None}
    assert missing <= {"InitializeTRTResource", "SerializeTRTResource"}  # only with CUDA
    word = re.compile(r"filename|file_pattern|path|directory|debug_urls|address|logdir|db_uri")
    harmless = {"CTCBeamSearchDecoder", "ShardedFilename", "ShardedFilespec"}
    for name in names - set(SUSPECT) - harmless:
        definition = op_def_registry.get(name)
        if definition is None:
            continue
        arguments = [*definition.input_arg, *definition.attr]
        speaking = [argument.name for argument in arguments if word.search(argument.name)]
        assert not speaking, (name, speaking)


def test_without_the_look_a_request_could_write_a_file(tmp_path):
    target = tmp_path / "written.txt"
    path = saved(MODELS["WriteFile"], tmp_path / "model")
    with Worker(path) as worker:
        worker.run("serving_default", {"x": np.array([str(target).encode()], object)})
    assert target.read_bytes() == str(target).encode()
