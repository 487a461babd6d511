"""The graph of a model: calls of primitive operations, and the tensors between them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from keras import tree

from tfprune.data.model_inputs import Shape


@dataclass(frozen=True)
class Ref:
    """A tensor of the graph, by its position in `Graph.values`."""

    index: int


@dataclass(frozen=True)
class Value:
    """The shape and dtype of a tensor, and the shape of the mask that Keras attaches to it."""

    shape: Shape
    dtype: str
    mask: Shape | None = None


@dataclass(eq=False)
class Call:
    """One call of one operation, with `Ref`s for the tensors in its arguments."""

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Ref, ...]
    path: str

    @property
    def inputs(self) -> tuple[Ref, ...]:
        """The tensors that the call reads, in the order of its arguments."""
        leaves = tree.flatten((self.args, self.kwargs))
        return tuple(leaf for leaf in leaves if isinstance(leaf, Ref))


@dataclass(eq=False)
class Graph:
    """A model as calls in the order they run."""

    model: Any
    inputs: Any
    outputs: Any
    input_layers: list[Any]
    values: list[Value] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    traced: list[str] = field(default_factory=list)
    untrained: list[str] = field(default_factory=list)
    """Notes on what the model computes in training only."""
    nested: list[tuple[Any, Ref]] = field(default_factory=list)
    """The input layers of nested models, and the tensors passed to them."""
    masks: dict[Ref, Any] = field(default_factory=dict)
    """The masks that Keras attaches to tensors, if they are tensors of the graph."""
    paths: dict[str, str] = field(default_factory=dict)
    """Of a flat model: where each operation was in the model that was flattened, by its name."""

    def move(self, offset: int) -> None:
        """Add an offset to the numbers of the tensors, to make the graph part of another."""

        def moved(leaf: Any) -> Any:
            return Ref(leaf.index + offset) if isinstance(leaf, Ref) else leaf

        self.inputs, self.outputs = (
            tree.map_structure(moved, r) for r in (self.inputs, self.outputs)
        )
        self.nested = [(layer, moved(ref)) for layer, ref in self.nested]
        for call in self.calls:
            call.args, call.kwargs, call.outputs = (
                tree.map_structure(moved, part) for part in (call.args, call.kwargs, call.outputs)
            )

    def shape(self, ref: Ref) -> Shape:
        """Return the shape of a tensor, batch first, with None for unknown sizes."""
        return self.values[ref.index].shape

    def dtype(self, ref: Ref) -> str:
        """Return the dtype of a tensor."""
        return self.values[ref.index].dtype

    def only_reader(self, ref: Ref) -> Call | None:
        """Return the only call that reads a tensor; None if there are more or it is an output."""
        readers = self.readers(ref)
        if len(readers) != 1 or ref in tree.flatten(self.outputs):
            return None
        return readers[0]

    def readers(self, ref: Ref) -> list[Call]:
        """Return the calls that read a tensor."""
        return [call for call in self.calls if ref in call.inputs]

    def calls_of(self, op: Any) -> list[Call]:
        """Return the calls of an operation."""
        return [call for call in self.calls if call.op is op]

    def starts(self) -> dict[int, Any]:
        """Return the input layer of each input of the model, by the number of its tensor."""
        refs = tree.flatten(self.inputs)
        return {ref.index: layer for ref, layer in zip(refs, self.input_layers, strict=True)}

    def producers(self) -> dict[int, Call]:
        """Return, for each tensor, the call that made it."""
        return {ref.index: call for call in self.calls for ref in call.outputs}


def needed(calls: list[Call], wanted: Iterable[Ref]) -> list[Call]:
    """Return the calls that tensors depend on, in order."""
    reached, found = set(wanted), []
    for call in reversed(calls):
        if reached.intersection(call.outputs):
            found.append(call)
            reached.update(call.inputs)
    return found[::-1]
