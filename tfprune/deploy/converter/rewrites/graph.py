"""The graph of a SavedModel on disk, to be changed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def functions_of(folder: Path) -> Iterator[list[Any]]:
    """Yield the `FunctionDef`s of a SavedModel, and write them back when the block ends.

    Args:
        folder: The SavedModel.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString(path.read_bytes())
    yield [f for graph in saved.meta_graphs for f in graph.graph_def.library.function]
    path.write_bytes(saved.SerializeToString(deterministic=True))


def constant(function: Any, name: str, value: float | list[int], kind: int) -> str:
    """Add a scalar or a list to a `FunctionDef` and return its name as an input."""
    import tensorflow as tf

    node = function.node_def.add(name=name, op="Const")
    node.attr["dtype"].type = kind
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype=tf.as_dtype(kind)))
    return f"{name}:output:0"
