"""The graph of a SavedModel on disk, to be changed."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.attr_value_pb2 import AttrValue


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


def constant(function: Any, name: str, value: float | list[Any], kind: int) -> str:
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


def node_of(by_name: Mapping[str, Any], name: str) -> Any:
    """Return the node that makes an input; None for an argument of the function.

    Args:
        by_name: The nodes of the function.
        name: The name of the input.
    """
    return by_name.get(name.lstrip("^").partition(":")[0])


def constant_value(by_name: Mapping[str, Any], name: str) -> np.ndarray | None:
    """Return the value of an input that is a constant, and None for others.

    Args:
        by_name: The nodes of the function.
        name: The name of the input.
    """
    import tensorflow as tf

    node = node_of(by_name, name)
    if node is None or node.op != "Const":
        return None
    return np.asarray(tf.make_ndarray(node.attr["value"].tensor))


def note_sizes(node: Any, sizes: Sequence[int]) -> None:
    """Note the sizes of the output of a node, -1 for open ones, in place of those it has."""
    shapes = node.attr["_output_shapes"].list
    del shapes.shape[:]
    noted = shapes.shape.add()
    for size in sizes:
        noted.dim.add(size=size)


class Expression:
    """Nodes to be added in place of one, with names made of its name and numbers of its type.

    Args:
        function: A `FunctionDef`, which gets the nodes.
        node: The node that they replace.
    """

    def __init__(self, function: Any, node: Any) -> None:
        self._graph, self._reader, self._name = function, node, node.name
        self._kind = node.attr["T"].type
        self._taken = {other.name for other in function.node_def}

    def _fresh(self, kind: str) -> str:
        numbers = (f"{self._name}/{kind}_{i}" for i in itertools.count())
        name = next(name for name in numbers if name not in self._taken)
        self._taken.add(name)
        return name

    def node(self, kind: str, output: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return its output.

        Args:
            kind: Its operation.
            output: The name of its output.
            *inputs: The names of its inputs.
            **attributes: Its attributes but T: numbers, lists of them, bytes.
        """
        node = self._graph.node_def.add(name=self._fresh(kind.lower()), op=kind)
        node.input.extend(inputs)
        node.attr["T"].type = self._kind
        for key, value in attributes.items():
            if isinstance(value, bytes):
                node.attr[key].s = value
            elif isinstance(value, list):
                node.attr[key].list.i.extend(value)
            elif key.startswith("T") or key == "Index":
                node.attr[key].type = value
            else:
                node.attr[key].i = value
        return f"{node.name}:{output}:0"

    def note_sizes(self, sizes: list[int]) -> None:
        """Note the sizes of the output of the node added last, -1 for open ones."""
        note_sizes(self._graph.node_def[-1], sizes)

    def number(self, value: float) -> str:
        """Return a constant."""
        return constant(self._graph, self._fresh("number"), value, self._kind)

    def relu(self, x: str) -> str:
        """Return max(x, 0)."""
        return self.node("Relu", "activations", x)

    def negate(self, x: str) -> str:
        """Return -x."""
        return self.node("Neg", "y", x)

    def absolute(self, x: str) -> str:
        """Return |x|."""
        return self.node("Abs", "y", x)

    def exp(self, x: str) -> str:
        """Return exp(x)."""
        return self.node("Exp", "y", x)

    def log(self, x: str) -> str:
        """Return the natural logarithm of x."""
        return self.node("Log", "y", x)

    def add(self, x: str, y: str) -> str:
        """Return x + y."""
        return self.node("AddV2", "z", x, y)

    def subtract(self, x: str, y: str) -> str:
        """Return x - y."""
        return self.node("Sub", "z", x, y)

    def multiply(self, x: str, y: str) -> str:
        """Return x · y."""
        return self.node("Mul", "z", x, y)

    def whole_numbers(self, value: int | list[Any]) -> str:
        """Return a constant of 32-bit integers."""
        return constant(self._graph, self._fresh("integers"), value, types_pb2.DT_INT32)

    def reshape(self, x: str, sizes: list[int]) -> str:
        """Return x with other sizes, of which one may be -1."""
        given = self.whole_numbers(sizes)
        return self.node("Reshape", "output", x, given, Tshape=types_pb2.DT_INT32)

    def transpose(self, x: str, axes: list[int]) -> str:
        """Return x with its axes in another order."""
        given = self.whole_numbers(axes)
        return self.node("Transpose", "y", x, given, Tperm=types_pb2.DT_INT32)

    def gather(self, x: str, places: list[int], axis: int) -> str:
        """Return the entries of an axis at some places."""
        given, along = self.whole_numbers(places), self.whole_numbers(axis)
        gathered = self.node(
            "GatherV2", "output", x, given, along,
            Tindices=types_pb2.DT_INT32, Taxis=types_pb2.DT_INT32,
        )  # fmt: skip
        node = self._graph.node_def[-1]
        node.attr["Tparams"].type = node.attr.pop("T").type
        return gathered

    def pad(self, x: str, sizes: list[list[int]]) -> str:
        """Return x with zeros before and after each axis."""
        if not np.any(sizes):
            return x
        given = self.whole_numbers(sizes)
        return self.node("Pad", "output", x, given, Tpaddings=types_pb2.DT_INT32)

    def become_reshape(self, x: str, sizes: list[int]) -> None:
        """Replace the operation of the node, whose output is called "output", by a reshape of x."""
        node, shapes = self._reader, AttrValue()
        shapes.CopyFrom(self._reader.attr["_output_shapes"])
        control = [name for name in node.input if name.startswith("^")]
        given = self.whole_numbers(sizes)
        node.op = "Reshape"
        del node.input[:]
        node.input.extend([x, given, *control])
        node.attr.clear()
        node.attr["T"].type, node.attr["Tshape"].type = self._kind, types_pb2.DT_INT32
        node.attr["_output_shapes"].CopyFrom(shapes)
