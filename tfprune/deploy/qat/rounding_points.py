"""The tensors of a model that an int8 file rounds, and those that share a range."""

from collections import defaultdict
from collections.abc import Container, Iterator
from typing import Any

import keras
from keras import tree

from tfprune.deploy.qat.layer_map import FOLDABLE, QUANTIZED
from tfprune.deploy.qat.rounding.choices import Choices
from tfprune.deploy.qat.rounding.ranges import FIXED_LIMITS
from tfprune.graph.call_kinds import kind_of
from tfprune.graph.graph import Call, Graph, Ref
from tfprune.graph.tracing.weight import Constant, Weight
from tfprune.keras_support.internals import is_keras_operation, with_mask

# They only move numbers, so their output needs no new range.
_MOVERS = ("movement", "lookup", "selection")
# They compute new numbers, which the file rounds with the range of their input …
_KEEPERS = ("blend", "limit", "padding")
# … and for these, all inputs have the range of the output.
_CUTS = ("extreme",)
_JOINS = ("join", "choice", *_CUTS)


class OperationGraph:
    """The operations of a flat model, each with all that its calls read and give.

    Args:
        graph: The calls of the model, whose operations have different names.
        choices: How operations are rounded; those that are not there compute in floats.

    Attributes:
        operations: The operations by name, in topological order, from the layers of the inputs on.
        outputs: The outputs of the first call of each, by name.
        calls: The calls of each, by name.
        readers: The readers of the outputs of each, by name; None stands for an output of the
            model.
        covered: The names of those whose output is rounded inside already.
        kernels: Pairs of names: of an operation and its reader, which rounds it as a kernel.
        fixed: The names of those that depend on no input. A file has what they compute as
            constants, so that it is rounded only where it is read.
        chosen: The names of those that are rounded.
    """

    def __init__(self, graph: Graph, choices: Choices) -> None:
        self.values = graph.values
        self.makers: dict[int, Any] = graph.starts()
        self.outputs = {op.name: [self.values[number]] for number, op in self.makers.items()}
        self.calls: dict[str, list[Call]] = defaultdict(list)
        self.readers: dict[str, list[Any]] = defaultdict(list)
        self.covered: set[str] = set()
        self.kernels: set[tuple[str, str]] = set()
        depend = set(self.makers)
        for call in graph.calls:
            self.makers.update((ref.index, call.op) for ref in call.outputs)
            self.outputs.setdefault(call.op.name, [self.values[one.index] for one in call.outputs])
            self.calls[call.op.name].append(call)
            for ref in call.inputs:
                self.readers[self.makers[ref.index].name].append(call.op)
            reads = not isinstance(call.op, Weight | Constant)
            if reads and depend.intersection(ref.index for ref in call.inputs):
                depend.update(ref.index for ref in call.outputs)
        for ref in tree.flatten(graph.outputs):
            self.readers[self.makers[ref.index].name].append(None)
        self.operations = {op.name: op for op in self.makers.values()}
        self.fixed = set(self.operations) - {self.makers[index].name for index in depend}
        self.chosen = {
            name
            for name, op in self.operations.items()
            if not isinstance(op, keras.layers.InputLayer)
            and name in choices
            and name not in self.fixed
        }
        self.without_range = {name for name in self.chosen if not choices[name].output}

    def kind(self, operation: Any) -> str:
        """Return the kind of an operation that is rounded; "" for others."""
        return kind_of(operation) if operation is not None and self.rounds(operation) else ""

    def rounds(self, operation: Any) -> bool:
        """Return whether an operation is rounded, so that it reads rounded tensors."""
        return operation.name in self.chosen

    def is_bare(self, operation: Any) -> bool:
        """Return whether the output of an operation is rounded only where it is read."""
        return not self.rounds(operation) or operation.name in self.without_range

    def reads_rounded(self, reader: Any, operation: Any) -> bool:
        """Return whether a reader of an operation's output takes it rounded to a range."""
        if not self.rounds(reader) or takes_indices(reader, self):
            return False
        return (operation.name, reader.name) not in self.kernels

    def is_read_rounded(self, operation: Any) -> bool:
        """Return whether an output is rounded where it is read."""
        readers = [one for one in self.readers[operation.name] if one is not None]
        return self.is_bare(operation) and any(self.reads_rounded(r, operation) for r in readers)

    def sources(self, operation: Any) -> list[Any]:
        """Return the operations whose float outputs an operation reads."""
        if takes_indices(operation, self):
            return []
        read = [ref.index for call in self.calls[operation.name] for ref in call.inputs]
        return [self.makers[i] for i in read if self.values[i].dtype.startswith("float")]

    def symbol(self, leaf: Any) -> Any:
        """Return a symbolic tensor, with its mask, for a tensor in the arguments of a call."""
        if not isinstance(leaf, Ref):
            return leaf
        value = self.values[leaf.index]
        mask = None if value.mask is None else keras.KerasTensor(value.mask, "bool")
        return with_mask(keras.KerasTensor(value.shape, value.dtype), mask)


def foldable(graph: OperationGraph, kinds: Container[str]) -> dict[str, str]:
    """Return which BatchNormalization is folded into which of these layers, by name."""
    found = {}
    for layer in graph.operations.values():
        if layer.name not in kinds or type(layer) not in FOLDABLE:
            continue
        if layer.activation is not keras.activations.linear:
            continue
        after = graph.readers[layer.name]
        if len(after) != 1 or type(after[0]) is not keras.layers.BatchNormalization:
            continue
        if not graph.rounds(after[0]):
            continue
        if after[0].axis in (-1, len(graph.outputs[layer.name][0].shape) - 1):
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
        if graph.kind(operation) in _MOVERS + _KEEPERS:
            for source in graph.sources(operation):
                name_alike(names[name], names[source.name])
    for name, first in _computed_before(graph):
        name_alike(names[name], names[first])
    # Operations read by something other than joins and operations with the same range.
    bound = {
        names[name]
        for name, operation in operations.items()
        for reader in graph.readers[operation.name]
        if graph.kind(reader) not in _JOINS
        and (reader is None or names[reader.name] != names[name])
        and (not graph.is_bare(operation) or (reader is not None and graph.rounds(reader)))
    }
    free = {
        name
        for name, first in names.items()
        if graph.kind(operations[first]) in _JOINS
        or (first not in bound and fixed_limits(operations[first]) is None)
    } - graph.covered
    for name, operation in operations.items():
        if graph.kind(operation) in _JOINS:
            for source in graph.sources(operation):
                if source.name in free:
                    name_alike(names[source.name], names[name])
    for name, operation in operations.items():
        if isinstance(operation, keras.layers.InputLayer) and names[name] == name:
            name_alike(name, operation.output.name)
    return names


def _computed_before(graph: OperationGraph) -> Iterator[tuple[str, str]]:
    """Yield activations, each with the first one that computes the same from the same tensor.

    The converter merges them: with two ranges, the one that is left would stay float.
    """
    found: dict[Any, str] = {}
    for name, operation in graph.operations.items():
        calls = graph.calls[name]
        if not calls or len(calls[0].inputs) != 1:
            continue
        if _is_relu(operation):
            made: Any = getattr(operation, "max_value", None)
        elif isinstance(operation, keras.layers.Activation):
            made = operation.activation
        else:
            continue
        first = found.setdefault((made, calls[0].inputs), name)
        if first != name:
            yield name, first


def moves(operation: Any) -> bool:
    """Return whether an operation of Keras only moves numbers, or rounds to its input's range."""
    return kind_of(operation) in _MOVERS + _KEEPERS + _JOINS


def takes_indices(operation: Any, graph: OperationGraph) -> bool:
    """Return whether an operation makes whole numbers of what it reads, such as tokens."""
    if isinstance(operation, keras.layers.Embedding):
        return True
    cast = is_keras_operation(type(operation)) and type(operation).__name__ == "Cast"
    return cast and not graph.outputs[operation.name][0].dtype.startswith("float")


def has_range(operation: Any, folded: Container[str], graph: OperationGraph) -> bool:
    """Return whether the file stores the output of this operation as a separate tensor."""
    if graph.is_bare(operation) or operation.name in graph.covered:
        return False
    if kind_of(operation) in _MOVERS:
        return False
    outputs = graph.outputs[operation.name]
    if len(outputs) != 1 or not outputs[0].dtype.startswith("float"):
        return False
    if operation.name in folded:
        return False
    if isinstance(operation, keras.layers.PReLU) or kind_of(operation) in _KEEPERS + _JOINS:
        return True
    # The converter fuses a ReLU into the operation before it, except into these. The input of a
    # fused one is not stored.
    after = graph.readers[operation.name]
    if len(after) != 1 or after[0] is None or not graph.rounds(after[0]):
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
        if graph.kind(operation) == "product":
            for call in graph.calls[operation.name]:
                factors = tree.flatten(call.args)
                second = factors[1] if len(factors) == 2 else None
                if isinstance(second, Ref):
                    operations.append(graph.makers[second.index])
    while operations:
        operation = operations.pop()
        if operation.name in found:
            continue
        found.add(operation.name)
        if not graph.is_bare(operation) and not has_range(operation, folded, graph):
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
