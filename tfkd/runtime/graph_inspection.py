"""What a SavedModel could do beside computing: the ops that touch files, the network or Python.

A SavedModel is a program. Its graph may read any file that the process may read, write files, call
Python functions of the process or open connections. Nothing here runs the graph: the file is parsed
and its nodes are listed, those of the main graph and of every function. A model's own weights and
vocabularies are let through: RestoreV2 below the loader's restore op, SaveV2 and MergeV2Checkpoints
below the op that only a trainer runs, and lookup tables that are read from the model's own assets.
"""

import os
from collections import defaultdict
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

READS = """
    ReadFile MatchingFiles WholeFileReader WholeFileReaderV2 TextLineReader TextLineReaderV2
    FixedLengthRecordReader FixedLengthRecordReaderV2 TFRecordReader TFRecordReaderV2 LMDBReader
    RecordInput Restore RestoreSlice RestoreV2 DTensorRestoreV2
    LoadAndRemapMatrix GenerateVocabRemapping InitializeTableFromTextFile
    InitializeTableFromTextFileV2 ImmutableConst FixedUnigramCandidateSampler Skipgram
    TFRecordDataset TFRecordDatasetV2 TextLineDataset FixedLengthRecordDataset
    FixedLengthRecordDatasetV2 CSVDataset CSVDatasetV2 ExperimentalCSVDataset LMDBDataset
    ExperimentalLMDBDataset SqlDataset ExperimentalSqlDataset MatchingFilesDataset
    ExperimentalMatchingFilesDataset LoadDataset SnapshotDatasetReader SnapshotChunkDataset
    SnapshotNestedDatasetReader ListSnapshotChunksDataset InitializeTRTResource
    ReaderRead ReaderReadV2 ReaderReadUpTo ReaderReadUpToV2 DecodeProtoV2 EncodeProto
""".split()
WRITES = """
    WriteFile Save SaveSlices SaveV2 MergeV2Checkpoints SaveDataset SaveDatasetV2
    SnapshotDataset SnapshotDatasetV2 CacheDataset CacheDatasetV2 DatasetToTFRecord
    ExperimentalDatasetToTFRecord DistributedSave CreateSummaryFileWriter CreateSummaryDbWriter
    SummaryWriter WriteSummary WriteScalarSummary WriteHistogramSummary WriteImageSummary
    WriteAudioSummary WriteGraphSummary WriteRawProtoSummary ImportEvent DumpTensor
    CalibrationStatisticsSaver SerializeTRTResource FileSystemSetConfiguration PrintV2
    DebugIdentity DebugIdentityV2 DebugIdentityV3 DebugNanCount DebugNumericSummary
    DebugNumericSummaryV2
""".split()
PYTHON = """
    PyFunc PyFuncStateless EagerPyFunc XlaHostCompute _XlaHostComputeMlir
    XlaSendToHost XlaRecvFromHost _XlaSendFromHost _XlaSendFromHostV2 _XlaRecvAtHost
    _XlaRecvAtHostV2 XlaCustomCall XlaCustomCallV2 XlaCallModule
""".split()
NETWORK = """
    RpcServer RpcServerStart RpcServerRegister RpcClient RpcCall RpcCheckStatus RpcGetValue
    RemoteCall DataServiceDataset DataServiceDatasetV2 DataServiceDatasetV3 DataServiceDatasetV4
    RegisterDataset RegisterDatasetV2 _Send _Recv _HostSend _HostRecv Send Recv
""".split()
OTHER = (
    "DatasetFromGraph Abort".split()
)  # runs a graph that is hidden in a string; ends the process
_KINDS = {
    "reads files": READS,
    "writes files": WRITES,
    "runs Python or host code": PYTHON,
    "uses the network": NETWORK,
    "runs a hidden graph or ends the process": OTHER,
}
SUSPECT = {name: kind for kind, names in _KINDS.items() for name in names}

_RESTORE = {"RestoreV2", "Restore", "RestoreSlice"}
_SAVE = {"SaveV2", "SaveSlices", "Save", "MergeV2Checkpoints"} | _RESTORE
_TABLES = {"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"}
_STREAMS = {b"stdout", b"stderr", b"log(info)", b"log(warning)", b"log(error)"}
_SHOWN = 10
_DEPTH = 50  # of calls from which a path may come


def require_harmless(path):
    """Refuse a version directory whose graph touches files, the network or Python.

    Raises:
        ValueError: lists the ops and where they are. FileNotFoundError: there is no model.
    """
    path = Path(path)
    found = _foreign_links(path) + suspect_operations(path)
    if found:
        shown = found[:_SHOWN]
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ValueError(
            f"{path} is not loaded, because a model is a program and this one could do more than "
            f"compute: {'; '.join(shown)}{more}. If you know where it comes from and trust it, "
            "serve it with --trust (in Python: trust=True)."
        )


def suspect_operations(path):
    """["ReadFile (reads files) in function f", ...] of a version directory.

    Raises:
        ValueError: what is there cannot be examined. FileNotFoundError: there is no saved_model.pb.
    """
    path = Path(path)
    for name in ("saved_model.cpb", "saved_model.pbtxt"):
        if (path / name).exists():
            raise ValueError(f"{path / name} is of a form that is not examined before loading.")
    file = path / "saved_model.pb"
    if not file.exists():
        raise FileNotFoundError(f"Could not find SavedModel: there is no {file}.")
    try:
        model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except DecodeError as error:
        raise ValueError(f"{file} cannot be read: {error}.") from None
    found = set()
    for graph in model.meta_graphs:
        found |= _Graph(graph).suspects()
    return sorted(found)


def _foreign_links(path):
    """Files of the directory that stand elsewhere."""
    root, found = path.resolve(), []
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            entry = Path(folder) / name
            if entry.is_symlink() and not entry.resolve().is_relative_to(root):
                found.append(f"{entry.relative_to(root)} is a link that leads out of the directory")
    return found


class _Graph:
    """The nodes of one meta graph and of its functions. A place is (function name, node name),
    with the function "" for the main graph."""

    def __init__(self, meta):
        self._meta = meta
        self._functions = {f.signature.name: f for f in meta.graph_def.library.function}
        self._nodes = {"": {node.name: node for node in meta.graph_def.node}}
        self._callers = defaultdict(list)
        for name, function in self._functions.items():
            self._nodes[name] = {node.name: node for node in function.node_def}
        for place in list(self._nodes):
            for node in self._nodes[place].values():
                for called in _called(node):
                    self._callers[called].append((place, node))
        self._assets = {_node_name(asset.tensor_info.name) for asset in meta.asset_file_def}

    def suspects(self):
        """{description} of what is found and not explained by the model's own files."""
        found = set()
        for asset in self._meta.asset_file_def:
            if not _inside(asset.filename):
                found.add(
                    f'an asset is called "{asset.filename}", which leads out of its directory'
                )
        saver = self._meta.saver_def
        running = self._below(self._entries())
        restoring = self._below({_node_name(saver.restore_op_name)})
        saving = self._below({_node_name(saver.save_tensor_name)})
        for place, nodes in self._nodes.items():
            for node in nodes.values():
                kind = _suspicion(node)
                if kind is None or self._is_asset_table(place, node):
                    continue
                here = (place, node.name)
                own = here not in running
                if own and here in restoring and node.op in _RESTORE:
                    continue
                if own and here in saving and here not in restoring and node.op in _SAVE:
                    continue
                where = f'function "{place}"' if place else "the main graph"
                found.add(f"{node.op} ({kind}) in {where}")
        return found

    def _entries(self):
        """Names of the nodes that loading and requests run, the restore op excepted."""
        names = set()
        for signature in self._meta.signature_def.values():
            for tensor in [*signature.inputs.values(), *signature.outputs.values()]:
                names.add(_node_name(tensor.name))
        for key in ("saved_model_main_op", "legacy_init_op"):
            names |= {_node_name(name) for name in self._meta.collection_def[key].node_list.value}
        return names

    def _below(self, names):
        """Places of everything that running some nodes of the main graph runs."""
        seen, waiting = set(), [("", name) for name in names]
        while waiting:
            place, name = here = waiting.pop()
            node = self._nodes.get(place, {}).get(name)
            if node is None or here in seen:
                continue
            seen.add(here)
            waiting += [(place, _node_name(source)) for source in node.input]
            for called in _called(node):
                waiting += [(called, inner) for inner in self._nodes.get(called, {})]
        return seen

    def _is_asset_table(self, place, node):
        """Whether a node reads a lookup table, and from nothing but the model's own assets."""
        if node.op not in _TABLES or len(node.input) < 2:
            return False
        return self._is_asset(place, node.input[1], 0)

    def _is_asset(self, place, source, depth):
        """Whether a tensor is the path of an asset, whatever way it takes through the graph."""
        name = _node_name(source)
        node = self._nodes[place].get(name)
        if depth > _DEPTH:
            return False
        if node is None:
            return self._is_asset_argument(place, name, depth)
        if node.op == "Identity":
            return self._is_asset(place, node.input[0], depth + 1)
        if place == "" and node.op == "ReadVariableOp":
            return self._is_asset_variable(_node_name(node.input[0]), depth)
        return place == "" and name in self._assets and node.op in ("Const", "Placeholder")

    def _is_asset_argument(self, place, name, depth):
        function = self._functions.get(place)
        arguments = [argument.name for argument in function.signature.input_arg] if function else []
        if name not in arguments or not self._callers[place]:
            return False
        position = arguments.index(name)
        return all(
            caller.op in ("PartitionedCall", "StatefulPartitionedCall")
            and position < len(caller.input)
            and self._is_asset(outer, caller.input[position], depth + 1)
            for outer, caller in self._callers[place]
        )

    def _is_asset_variable(self, handle, depth):
        """Whether a variable of the main graph is only ever set to the path of an asset."""
        variable = self._nodes[""].get(handle)
        if variable is None or variable.op != "VarHandleOp":
            return False
        name = variable.attr["shared_name"].s
        twins = [
            node
            for nodes in self._nodes.values()
            for node in nodes.values()
            if node.op == "VarHandleOp" and node.attr["shared_name"].s == name
        ]
        users = [
            node
            for node in self._nodes[""].values()
            if handle in (_node_name(source) for source in node.input)
        ]
        set_by = [node for node in users if node.op == "AssignVariableOp"]
        return (
            len(twins) == 1
            and {node.op for node in users}
            <= {"AssignVariableOp", "ReadVariableOp", "VarIsInitializedOp"}
            and bool(set_by)
            and all(self._is_asset("", node.input[1], depth + 1) for node in set_by)
        )


def _called(node):
    """Names of the functions that a node calls."""
    names = [node.op]  # a function can be called like an op
    for value in node.attr.values():
        if value.HasField("func"):
            names.append(value.func.name)
        names += [function.name for function in value.list.func]
    return names


def _suspicion(node):
    """What a node may do, or None; of some ops an attribute decides."""
    kind = SUSPECT.get(node.op)
    if node.op == "PrintV2":
        stream = node.attr["output_stream"].s
        return None if stream in _STREAMS or not stream else kind
    if node.op in ("DecodeProtoV2", "EncodeProto"):
        source = node.attr["descriptor_source"].s
        return None if source in (b"", b"local://") or source.startswith(b"bytes://") else kind
    if node.op == "FixedUnigramCandidateSampler":
        return kind if node.attr["vocab_file"].s else None
    if node.op == "XlaCallModule":
        return kind if b"callback" in node.attr["module"].s else None
    return kind


def _node_name(tensor):
    """ "^a", "a:0" and, in functions, "a:output:0" as "a"."""
    return tensor.removeprefix("^").partition(":")[0]


def _inside(name):
    return (
        bool(name) and "\\" not in name and not os.path.isabs(name) and ".." not in name.split("/")
    )
