"""The graph of a SavedModel on disk, to be changed."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np


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


def replace_outputs(function: Any, renamed: Mapping[str, str]) -> None:
    """Make the nodes of a `FunctionDef`, and its results, read other outputs.

    Args:
        function: A `FunctionDef`, changed in place.
        renamed: The new outputs by the names of the old.
    """
    for node in function.node_def:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    for key, name in function.ret.items():
        function.ret[key] = renamed.get(name, name)


def constant_value(by_name: Mapping[str, Any], name: str) -> np.ndarray | None:
    """Return the value of an input that is a constant, and None for others.

    Args:
        by_name: The nodes of the function.
        name: The name of the input.
    """
    import tensorflow as tf

    node = by_name.get(name.lstrip("^").partition(":")[0])
    if node is None or node.op != "Const":
        return None
    return np.asarray(tf.make_ndarray(node.attr["value"].tensor))


class Expression:
    """Nodes to be added in place of one, with names made of its name and numbers of its type.

    Args:
        function: A `FunctionDef`, which gets the nodes.
        node: The node that they replace.
    """

    def __init__(self, function: Any, node: Any) -> None:
        self._function, self._name, self._kind = function, node.name, node.attr["T"].type
        self._taken = {other.name for other in function.node_def}

    def _fresh(self, kind: str) -> str:
        numbers = (f"{self._name}/{kind}_{i}" for i in itertools.count())
        name = next(name for name in numbers if name not in self._taken)
        self._taken.add(name)
        return name

    def _node(self, kind: str, output: str, *inputs: str) -> str:
        node = self._function.node_def.add(name=self._fresh(kind.lower()), op=kind)
        node.input.extend(inputs)
        node.attr["T"].type = self._kind
        return f"{node.name}:{output}:0"

    def number(self, value: float) -> str:
        """Return a constant."""
        return constant(self._function, self._fresh("number"), value, self._kind)

    def relu(self, x: str) -> str:
        """Return max(x, 0)."""
        return self._node("Relu", "activations", x)

    def negate(self, x: str) -> str:
        """Return -x."""
        return self._node("Neg", "y", x)

    def absolute(self, x: str) -> str:
        """Return |x|."""
        return self._node("Abs", "y", x)

    def exp(self, x: str) -> str:
        """Return exp(x)."""
        return self._node("Exp", "y", x)

    def log(self, x: str) -> str:
        """Return the natural logarithm of x."""
        return self._node("Log", "y", x)

    def add(self, x: str, y: str) -> str:
        """Return x + y."""
        return self._node("AddV2", "z", x, y)

    def subtract(self, x: str, y: str) -> str:
        """Return x - y."""
        return self._node("Sub", "z", x, y)

    def multiply(self, x: str, y: str) -> str:
        """Return x · y."""
        return self._node("Mul", "z", x, y)
