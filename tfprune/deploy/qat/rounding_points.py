"""The tensors of a model that an int8 file rounds, and those that share a range."""

from collections.abc import Container
from typing import Any

import keras

from tfprune.deploy.qat.layer_map import FOLDABLE, QUANTIZED
from tfprune.deploy.qat.ranges import FIXED_LIMITS
from tfprune.graph.call_kinds import kind_of
from tfprune.keras_support.internals import calls_of, is_keras_operation, maker_of, readers_of

# They only move numbers, so their output needs no new range.
_MOVERS = ("movement", "lookup", "selection")
# They compute new numbers, which the file rounds with the range of their input …
_KEEPERS = ("blend", "limit", "padding")
# … and for these, all inputs have the range of the output.
_CUTS = ("extreme",)
_JOINS = ("join", "choice", *_CUTS)


class OperationGraph:
    """The operations of a model and their readers, without other models that share its layers.

    Args:
        model: A functional model.

    Attributes:
        model: The model.
        operations: Its operations by name, in topological order.
        given: The names of those whose output is an output of the model.
        covered: The names of those whose output is rounded inside already.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.operations: dict[str, Any] = {each.name: each for each in model.operations}
        self.covered: set[str] = set()
        self.given = {maker_of(tensor).name for tensor in model.outputs}

    def calls(self, operation: Any) -> list[Any]:
        """Return the calls of an operation in this model."""
        return [
            node
            for node in calls_of(operation)
            if all(maker_of(tensor).name in self.operations for tensor in node.input_tensors)
        ]

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
        if kind_of(operation) in _MOVERS + _KEEPERS:
            for source in graph.sources(operation):
                name_alike(names[name], names[source.name])
    # Operations read by something other than joins and operations with the same range.
    bound = {
        names[name]
        for name, operation in operations.items()
        for reader in graph.readers(operation)
        if kind_of(reader) not in _JOINS and (reader is None or names[reader.name] != names[name])
    }
    free = {
        name
        for name, first in names.items()
        if kind_of(operations[first]) in _JOINS
        or (first not in bound and fixed_limits(operations[first]) is None)
    } - graph.covered
    for name, operation in operations.items():
        if kind_of(operation) in _JOINS:
            for source in graph.sources(operation):
                if source.name in free:
                    name_alike(names[source.name], names[name])
    for tensor in graph.model.inputs:  # a clone names the layers of inputs after their tensors
        name = maker_of(tensor).name
        if names[name] == name:
            name_alike(name, tensor.name)
        names[tensor.name] = names[name]
    return names


def moves(operation: Any) -> bool:
    """Return whether an operation of Keras only moves numbers, or rounds to its input's range."""
    return kind_of(operation) in _MOVERS + _KEEPERS + _JOINS


def has_range(operation: Any, folded: Container[str], graph: OperationGraph) -> bool:
    """Return whether the file stores the output of this operation as a separate tensor."""
    if kind_of(operation) in _MOVERS or operation.name in graph.covered:
        return False
    outputs = operation.output
    if not isinstance(outputs, keras.KerasTensor) or not outputs.dtype.startswith("float"):
        return False
    if operation.name in folded:
        return False
    if isinstance(operation, keras.layers.PReLU) or kind_of(operation) in _KEEPERS + _JOINS:
        return True
    # The converter fuses a ReLU into the operation before it, except into these. The input of a
    # fused one is not stored.
    after = graph.readers(operation)
    if len(after) != 1:
        return True
    cut = kind_of(after[0]) in _CUTS and fixed_limits(operation) is None
    return not (cut or _is_relu(after[0]))


def fixed_limits(operation: Any) -> tuple[float, float] | None:
    """Return the fixed output range of the runtime's kernel, if it has one."""
    if isinstance(operation, (keras.layers.Activation, *QUANTIZED)):
        activation = getattr(operation, "activation", None)
        for name, limits in FIXED_LIMITS.items():
            if activation is getattr(keras.activations, name):
                return limits
        return None
    kind = type(operation)
    own = kind.__module__.startswith("keras.")
    return FIXED_LIMITS.get(kind.__name__.lower()) if own else None


def second_factors(graph: OperationGraph, folded: Container[str]) -> set[str]:
    """Return the names of operations whose output is the second factor of a product."""
    found: set[str] = set()
    operations: list[Any] = []
    for operation in graph.operations.values():
        # The second has zero point 0, so that every runtime computes the product correctly.
        if kind_of(operation) == "product":
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
