"""The tensors of a model that an int8 file rounds, and those that share a range."""

from collections.abc import Container
from typing import Any

import keras

from tfprune.deploy.qat.layer_map import FOLDABLE, QUANTIZED
from tfprune.deploy.qat.ranges import FIXED_LIMITS
from tfprune.keras_support.internals import calls_of, is_keras_operation, maker_of, readers_of

# They only move numbers, so their output needs no new range.
_MOVERS = (
    "InputLayer", "Flatten", "Reshape", "Permute", "RepeatVector", "Dropout", "SpatialDropout1D",
    "SpatialDropout2D", "GaussianNoise", "Identity", "ZeroPadding1D", "ZeroPadding2D",
    "Cropping1D", "Cropping2D", "MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D",
    "GlobalMaxPooling2D", "Embedding", "Transpose", "Swapaxes", "Moveaxis", "ExpandDims", "Squeeze",
    "GetItem", "Split", "Tile", "Repeat", "Max", "Min", "UpSampling1D",
)  # fmt: skip

# They compute new numbers, which the file rounds with the range of their input …
_KEEPERS = ("AveragePooling1D", "AveragePooling2D", "UpSampling2D", "Pad", "Clip", "Flip")
# … and for these, all inputs have the range of the output.
_CUTS = ("Maximum", "Minimum")
_JOINS = ("Concatenate", "Stack", "Where", *_CUTS)

# Products of two tensors. The second has zero point 0, so that every runtime computes it correctly.
_PRODUCTS = ("Matmul", "Einsum", "Dot")


class OperationGraph:
    """The operations of a model and their readers, without other models that share its layers.

    Args:
        model: A functional model.

    Attributes:
        model: The model.
        operations: Its operations by name, in topological order.
        given: The names of those whose output is an output of the model.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.operations: dict[str, Any] = {each.name: each for each in model.operations}
        self.given = {maker_of(tensor).name for tensor in model.outputs}

    def sources(self, operation: Any) -> list[Any]:
        """Return the operations whose float outputs an operation reads."""
        read = [tensor for node in calls_of(operation) for tensor in node.input_tensors]
        sources = [maker_of(tensor) for tensor in read if tensor.dtype.startswith("float")]
        return [source for source in sources if source.name in self.operations]

    def readers(self, operation: Any) -> list[Any]:
        """Return the readers of an operation's output; None stands for an output of the model."""
        after = [node.operation for node in readers_of(operation)]
        inside = [reader for reader in after if reader.name in self.operations]
        return [*inside, None] if operation.name in self.given else inside


def foldable(graph: OperationGraph, kinds: Container[str]) -> dict[str, str]:
    """Return which BatchNormalization is folded into which of these layers, by name."""
    found = {}
    for layer in graph.model.layers:
        if layer.name not in kinds or type(layer) not in FOLDABLE:
            continue
        if layer.activation is not keras.activations.linear:
            continue
        after = graph.readers(layer)
        if len(after) != 1 or type(after[0]) is not keras.layers.BatchNormalization:
            continue
        if after[0].axis in (-1, len(layer.output.shape) - 1):
            found[layer.name] = after[0].name
    return found


def range_names(graph: OperationGraph) -> dict[str, str]:
    """Return the name of the range of each operation's output.

    Operations with one name share a range, since the file has one scale for them. An input of a
    join has its own range if something else reads it too: the file rounds it again before the join.
    A join that another join reads always has that one's range; otherwise a chain of joins would
    round the same numbers repeatedly.
    """
    operations = graph.operations
    names = {name: name for name in operations}

    def name_alike(old: str, new: str) -> None:
        names.update({name: new for name, first in names.items() if first == old})

    for name, operation in operations.items():
        if _kind(operation) in _MOVERS + _KEEPERS:
            for source in graph.sources(operation):
                name_alike(names[name], names[source.name])
    # Operations read by something other than joins and operations with the same range.
    bound = {
        names[name]
        for name, operation in operations.items()
        for reader in graph.readers(operation)
        if _kind(reader) not in _JOINS and (reader is None or names[reader.name] != names[name])
    }
    free = {
        name
        for name, first in names.items()
        if _kind(operations[first]) in _JOINS
        or (first not in bound and fixed_limits(operations[first]) is None)
    }
    for name, operation in operations.items():
        if _kind(operation) in _JOINS:
            for source in graph.sources(operation):
                if source.name in free:
                    name_alike(names[source.name], names[name])
    for tensor in graph.model.inputs:  # a clone names the layers of inputs after their tensors
        name = maker_of(tensor).name
        if names[name] == name:
            name_alike(name, tensor.name)
        names[tensor.name] = names[name]
    return names


def _kind(operation: Any) -> str:
    """Return the class name of one of Keras's own operations; "" for others."""
    kind = type(operation)
    return kind.__name__ if kind.__module__.startswith("keras.") else ""


def has_range(operation: Any, folded: Container[str], graph: OperationGraph) -> bool:
    """Return whether the file stores the output of this operation as a separate tensor."""
    if _kind(operation) in _MOVERS:
        return False
    outputs = operation.output
    if not isinstance(outputs, keras.KerasTensor) or not outputs.dtype.startswith("float"):
        return False
    if operation.name in folded:
        return False
    if isinstance(operation, keras.layers.PReLU) or _kind(operation) in _KEEPERS + _JOINS:
        return True
    # The converter fuses a ReLU into the operation before it, except into these. The input of a
    # fused one is not stored.
    after = graph.readers(operation)
    if len(after) != 1:
        return True
    cut = _kind(after[0]) in _CUTS and fixed_limits(operation) is None
    return not (cut or _is_relu(after[0]))


def fixed_limits(operation: Any) -> tuple[float, float] | None:
    """Return the fixed output range of the runtime's kernel, if it has one."""
    if isinstance(operation, (keras.layers.Activation, *QUANTIZED)):
        activation = getattr(operation, "activation", None)
        for name, limits in FIXED_LIMITS.items():
            if activation is getattr(keras.activations, name):
                return limits
        return None
    return FIXED_LIMITS.get(_kind(operation).lower())


def second_factors(graph: OperationGraph, folded: Container[str]) -> set[str]:
    """Return the names of operations whose output is the second factor of a product."""
    found: set[str] = set()
    operations: list[Any] = []
    for operation in graph.operations.values():
        if _kind(operation) in _PRODUCTS:
            for node in calls_of(operation):
                factors = keras.tree.flatten(node.arguments.args)
                second = factors[1] if len(factors) == 2 else None
                if isinstance(second, keras.KerasTensor):
                    operations.append(maker_of(second))
    while operations:
        operation = operations.pop()
        if operation.name in found or operation.name not in graph.operations:
            continue
        found.add(operation.name)
        if not has_range(operation, folded, graph):
            operations += graph.sources(operation)
    return found


def _is_relu(operation: Any) -> bool:
    kind = type(operation)
    if isinstance(operation, keras.layers.ReLU) or (
        is_keras_operation(kind) and kind.__name__ in ("Relu", "Relu6", "ReLU")
    ):
        slope, least = (getattr(operation, name, 0) for name in ("negative_slope", "threshold"))
        return not slope and not least
    activation = getattr(operation, "activation", None)
    return isinstance(operation, keras.layers.Activation) and activation in (
        keras.activations.relu,
        keras.activations.relu6,
    )
