"""Model files that would run code when they are read; here the code writes one marker file."""

import base64
import json
import marshal
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
from tensorflow.core.protobuf import saved_model_pb2
from tf_keras.protobuf import saved_metadata_pb2

FORMATS = {2: ("m.h5", "m.keras", "m", "old"), 3: ("m.h5", "m.keras")}
"""What each generation writes; "m" is a SavedModel, "old" one from before TensorFlow 2.5."""

SYMBOLS = (
    "io.write_file", "io.gfile.rmtree", "io.gfile.remove", "io.gfile.copy", "io.gfile.makedirs",
    "io.gfile.GFile", "load_op_library", "load_library", "py_function", "numpy_function",
    "saved_model.load", "saved_model.save", "summary.create_file_writer", "function",
    "config.run_functions_eagerly", "debugging.experimental.enable_dump_debug_info",
    "keras.models.model_from_json", "keras.models.load_model", "keras.utils.get_file",
    "keras.utils.deserialize_keras_object", "keras.layers.deserialize", "compat.v1.py_func",
    "data.Dataset.from_generator", "raw_ops.WriteFile", "__operators__.write_file",
)  # fmt: skip


def code(marker: Path) -> str:
    """Return Python bytecode that writes the marker, as Keras keeps that of a Lambda layer."""
    source = f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]"
    return base64.b64encode(marshal.dumps(eval(source).__code__)).decode()


def payloads(generation: int, marker: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give each payload's name and the config of the layer that carries it."""
    yield from _old(marker) if generation == 2 else _new(marker)
    for name, value in _functions(marker):
        yield name, dense(generation, activation=value)
        yield f"initializer {name}", dense(generation, kernel_initializer=value)
    for module, kind in (
        ("os", "system"), ("subprocess", "Popen"), ("builtins", "exec"), ("builtins", "open"),
        ("tfprune.loading.load", "load_model"), ("tfprune.workers.process", "LineProcess"),
        ("tfprune.recipe.user_code", "import_function"), ("keras.models", "load_model"),
        ("keras.saving", "load_model"), ("keras.utils", "get_file"),
        ("keras.config", "set_backend"),
        ("tf_keras.models", "model_from_json"), ("tf_keras.src.saving.saving_api", "load_model"),
        ("keras.src.saving.saving_lib", "Dense"), ("keras.layers", "TFSMLayer"),
        (None, "TFSMLayer"),
        ("keras.layers", "TorchModuleWrapper"), ("keras.layers", "JaxLayer"),
        ("keras.layers", "FlaxLayer"), ("keras.layers", "deserialize"),
    ):  # fmt: skip
        layer = {**dense(generation), "class_name": kind, "module": module}
        layer["config"] = {"name": "d", "filepath": str(marker)}
        yield f"{module}.{kind}", layer
    spec = {"class_name": "__typespec__", "spec_name": "Popen", "module": "subprocess",
            "registered_name": None, "config": [str(marker)]}  # fmt: skip
    yield "typespec", dense(generation, activation=spec)
    disguised = {**dense(generation), "module": "keras.layers", "registered_name": "load_model"}
    yield "registered_name", disguised
    lookup = {**dense(generation), "class_name": "StringLookup"}
    lookup["config"] = {"name": "d", "vocabulary": str(marker)}
    yield "vocabulary", lookup


def dense(generation: int, **options: Any) -> dict[str, Any]:
    """Return the config of a Dense layer called on the one input."""
    return {
        "class_name": "Dense",
        "module": "keras.layers",
        "name": "d",
        "config": {"name": "d", "units": 2, **options},
        "inbound_nodes": [call(generation)],
    }


def call(generation: int) -> Any:
    """Return how a layer is called on the one input."""
    if generation == 2:
        return [["i", 0, 0, {}]]
    history = {"shape": [None, 4], "dtype": "float32", "keras_history": ["i", 0, 0]}
    return {"args": [{"class_name": "__keras_tensor__", "config": history}], "kwargs": {}}


def model(generation: int, layer: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a functional model with one layer."""
    shape = {"batch_input_shape": [None, 4]} if generation == 2 else {"batch_shape": [None, 4]}
    start = {
        "class_name": "InputLayer",
        "module": "keras.layers",
        "name": "i",
        "config": {"name": "i", "dtype": "float32", **shape},
        "inbound_nodes": [],
    }
    end = layer.get("name", "d")
    inner = {
        "name": "m", "trainable": True, "layers": [start, layer],
        "input_layers": [["i", 0, 0]], "output_layers": [[end, 0, 0]],
    }  # fmt: skip
    home = "keras.src.engine" if generation == 2 else "keras.src.models"
    return {"class_name": "Functional", "module": f"{home}.functional", "config": inner}


def _functions(marker: Path) -> Iterator[tuple[str, Any]]:
    for module, name in (
        ("keras.models", "load_model"), ("keras.utils", "get_file"), ("builtins", "exec"),
        ("builtins", "load_model"), ("os", "system"),
        ("keras.config", "enable_unsafe_deserialization"),
        ("keras.activations", "deserialize"), ("tfprune.loading.load", "load_model"),
    ):  # fmt: skip
        function = {"class_name": "function", "module": module, "config": name}
        yield f"function {module}.{name}", {**function, "registered_name": name}
    pickled = {"class_name": "__lambda__", "config": {"value": code(marker)}}
    yield "pickled function", pickled
    yield "the word load_model", "load_model"


def _lambda(function: Any, **options: Any) -> dict[str, Any]:
    config = {"name": "d", "function": function, "arguments": {}, **options}
    return {"class_name": "Lambda", "module": "keras.layers", "config": config}


def _old(marker: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, symbol in enumerate(SYMBOLS):
        for kind, options in (
            ("TFOpLambda", {"function": symbol}),
            ("SlicingOpLambda", {"function": symbol}),
        )[: 1 + (number < 5)]:
            yield f"{kind} {symbol}", function_call(marker, kind, options)
    tensor = function_call(marker, "TFOpLambda", {"function": "io.write_file"})
    tensor["inbound_nodes"] = call(2)
    yield "io.write_file on a tensor", tensor
    yield (
        "a known function on constants",
        function_call(marker, "TFOpLambda", {"function": "math.add"}),
    )
    looks = function_call(marker, "TFOpLambda", {"function": "math.add"})
    looks["inbound_nodes"] = [["_CONSTANT_VALUE", -1, ["i", 0, 0], {"y": 1}]]
    yield "constants that look like a tensor", looks
    yield (
        "ClassMethod",
        function_call(
            marker, "ClassMethod", {"cls_symbol": "io.gfile.GFile", "method_name": "write"}
        ),
    )
    yield "InstanceMethod", function_call(marker, "InstanceMethod", {"attr_name": "numpy"})
    yield "InstanceProperty", function_call(marker, "InstanceProperty", {"attr_name": "device"})
    node = {"name": "w", "op": "WriteFile", "input": ["f", "c"]}
    yield (
        "TensorFlowOpLayer",
        function_call(marker, "TensorFlowOpLayer", {"node_def": json.dumps(node), "constants": {}}),
    )
    run = _lambda([code(marker), None, None], function_type="lambda", module="builtins")
    yield "Lambda", {**run, "name": "d", "inbound_nodes": [call(2)]}
    yield "Lambda inside of a wrapper", {
        **dense(2), "class_name": "TimeDistributed", "config": {"name": "d", "layer": run},
    }  # fmt: skip
    yield "Lambda without its module", {
        "class_name": "Lambda", "config": run["config"], "name": "d", "inbound_nodes": [call(2)],
    }  # fmt: skip


def function_call(marker: Path, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a call of a function of TensorFlow on constants."""
    return {
        "class_name": kind,
        "name": "d",
        "config": {"name": "d", "trainable": True, "dtype": "float32", **options},
        "inbound_nodes": [["_CONSTANT_VALUE", -1, str(marker), {"contents": "x"}]],
    }


def _new(marker: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    pickled = {"class_name": "__lambda__", "config": {"code": code(marker)}}
    pickled["config"] |= {"defaults": None, "closure": None}
    run = _lambda(pickled)
    yield "Lambda", {**run, "name": "d", "inbound_nodes": [call(3)]}
    loads = {"class_name": "function", "module": "keras.models", "config": "load_model",
             "registered_name": "function"}  # fmt: skip
    gadget = {**_lambda(loads), "name": "d"}
    gadget["inbound_nodes"] = [{"args": [], "kwargs": {"inputs": str(marker)}}]
    yield "Lambda of load_model", gadget
    for layer in ("TimeDistributed", "Bidirectional", "SpectralNormalization"):
        yield f"{layer} of a Lambda", {
            **dense(3), "class_name": layer, "config": {"name": "d", "layer": run},
        }  # fmt: skip
    constants = dense(3)
    constants["inbound_nodes"] = [{"args": [str(marker)], "kwargs": {}}]
    yield "a call on constants", constants
    for kind in ("Map", "Scan", "WhileLoop", "Cond", "VectorizedMap", "Function", "Operation"):
        module = "keras.src.ops.core"
        yield kind, {**dense(3), "class_name": kind, "module": module}


def write(folder: Path, name: str, config: Any, base: Path, **training: Any) -> Path:
    """Write a model file with another config.

    Args:
        folder: Where to.
        name: One of `FORMATS`.
        config: The config of the model.
        base: A file of the same format and generation.
        training: For HDF5, what the model was compiled with.
    """
    path = folder / name
    if base.is_dir():
        return _write_folder(path, json.dumps(config), base, old=name == "old")
    shutil.copy(base, path)
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = json.dumps(config)
            if training:
                file.attrs["training_config"] = json.dumps(training)
        return path
    with zipfile.ZipFile(base) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.namelist():
            text = json.dumps(config) if entry == "config.json" else old.read(entry)
            new.writestr(entry, text)
    return path


def _write_folder(path: Path, config: str, base: Path, *, old: bool) -> Path:
    shutil.copytree(base, path)
    metadata = saved_metadata_pb2.SavedMetadata()
    metadata.ParseFromString((path / "keras_metadata.pb").read_bytes())
    for node in metadata.nodes:
        if node.node_id == 0:
            node.metadata = json.dumps(
                {**json.loads(node.metadata), **json.loads(config), "model_config": None}
            )
    (path / "keras_metadata.pb").write_bytes(metadata.SerializeToString())
    if old:
        make_old(path)
    return path


def make_old(path: Path) -> None:
    """Keep the metadata of a SavedModel where TensorFlow kept them before 2.5."""
    metadata = saved_metadata_pb2.SavedMetadata()
    metadata.ParseFromString((path / "keras_metadata.pb").read_bytes())
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((path / "saved_model.pb").read_bytes())
    nodes = saved.meta_graphs[0].object_graph_def.nodes
    for node in metadata.nodes:
        nodes[node.node_id].user_object.metadata = node.metadata
    (path / "saved_model.pb").write_bytes(saved.SerializeToString())
    (path / "keras_metadata.pb").unlink()
