"""What closed units still say to the layers that read them.

Whether a position is the same for every input is reasoned from the graph and never guessed from
samples: a rectifier that happens to be shut on some inputs may open on others. What it says is
then read from a single run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers as kl
from keras import tree

from tfprune.graph.read import Call, Ref
from tfprune.structure.gates.layers import ChannelGate
from tfprune.structure.groups.units import Units
from tfprune.structure.ids.ids import MAKE, USE, Binding, Ids, places, positions
from tfprune.structure.proof.inputs import random_inputs
from tfprune.structure.rebuild.rebuild import execute, perform
from tfprune.structure.rebuild.repair import source_of
from tfprune.structure.rebuild.weights import Weights

QUIET = 1e-6
"""A voice that varies by less than this share of its tensor's largest number is constant."""

RECURRENT = (kl.RNN, kl.Bidirectional)
SEPARABLE = (kl.SeparableConv1D, kl.SeparableConv2D)
ATTENTION = (kl.MultiHeadAttention, kl.GroupQueryAttention)
INNER = (*RECURRENT, *SEPARABLE, *ATTENTION)
"""Layers that use units up inside, where no tensor of the graph shows them."""

PRODUCTS = frozenset({
    "Multiply", "Matmul", "Einsum", "Dot", "Tensordot", "Divide", "TrueDivide",
    "DotProductAttention",
})  # fmt: skip
"""Zero where what they are given is zero, whatever they are given besides."""

JOINS = frozenset({"Concatenate", "Stack", "Append", "Hstack", "Vstack", "Dstack"})
"""Each number that they give is one that they were given."""

MEANS = frozenset({
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D", "Mean", "Max", "Min",
})  # fmt: skip
"""Of numbers that are all alike they give that number, however many there are."""


@dataclass(frozen=True, eq=False)
class Voice:
    """What the positions of an axis say to one call.

    Attributes:
        call: What reads them.
        roots: The root of the unit at each position.
        constant: What each position is, where it is steady.
        steady: Whether that is the same for every input, and everywhere along the other axes.
        silent: Whether it is zero.
    """

    call: Call
    roots: Ids
    constant: np.ndarray
    steady: np.ndarray
    silent: np.ndarray


@dataclass(frozen=True, eq=False)
class Heard:
    """What is said to all readers, and the units that speak inside of a layer, by call."""

    voices: list[Voice]
    inside: list[tuple[Call, Ids]]


def listen(
    found: Units, weights: Weights, closed: np.ndarray, zero: np.ndarray, input_shape: Any
) -> Heard:
    """What some units say to each call that reads them.

    Args:
        found: The units of the model.
        weights: Its weights.
        closed: For each id, whether it is the root of a unit that is asked for.
        zero: For each id, whether it is the root of a unit that is made by zeros alone.
        input_shape: The shape of the input, where the model leaves it open.
    """
    listener = _Listener(found, weights, np.flatnonzero(closed), zero)
    inputs = random_inputs(found, np.random.default_rng(0), input_shape)
    for ref in tree.flatten(found.graph.inputs):
        listener.sealed[ref.index] = np.zeros(len(listener.asked), bool)
    tensors = [keras.ops.convert_to_tensor(array) for array in inputs]
    execute(found.graph, tensors, listener.run)
    return Heard(listener.voices, listener.inside)


class _Listener:
    """A run of the model, with what is known of each tensor at the positions of some units.

    `sealed` tells for each tensor and unit whether the tensor holds the unit, and is there the
    same for every input.
    """

    def __init__(self, found: Units, weights: Weights, asked: Ids, zero: np.ndarray) -> None:
        self.found, self.weights, self.asked = found, weights, asked
        self.zero = zero[asked]
        self.number = np.full(found.flow.size, -1)
        self.number[asked] = np.arange(len(asked))
        self.sealed: dict[int, np.ndarray] = {}
        self.voices: list[Voice] = []
        self.inside: list[tuple[Call, Ids]] = []

    def run(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a call gives; what it is told, and what of its outputs is sealed, is noted."""
        specs, values = tree.flatten((call.args, call.kwargs)), tree.flatten((args, kwargs))
        given = {
            ref: tensor for ref, tensor in zip(specs, values, strict=True) if isinstance(ref, Ref)
        }
        made = perform(call.op, args, kwargs)
        graph = self.found.flow.inside.get(id(call))
        if graph is None:
            self._listen(call, given)
            sealed = self._seal(call, given, tree.flatten(made))
        else:
            # A wrapper runs its graph on every step: here on all of them at once.
            (x,) = args[:1]
            (start,), (end,) = tree.flatten(graph.inputs), tree.flatten(graph.outputs)
            self.sealed[start.index] = self.sealed[call.inputs[0].index]
            execute(graph, [keras.ops.reshape(x, (-1, *x.shape[2:]))], self.run)
            sealed = self.sealed[end.index]
        for ref in call.outputs:
            self.sealed[ref.index] = sealed & self._holds(ref)
        return made

    # what is sealed

    def _seal(self, call: Call, given: dict[Ref, Any], made: list[Any]) -> np.ndarray:
        """For each unit, whether what a call gives of it is the same for every input."""
        op, none = call.op, np.zeros(len(self.asked), bool)
        known = [self.sealed[ref.index] for ref in given]
        if type(op).__name__ in JOINS:  # an input without the unit has no part in it
            known = [sealed | ~self._holds(ref) for sealed, ref in zip(known, given, strict=True)]
        sealed = np.logical_and.reduce(known) if known else none
        for binding in self._bindings(op, MAKE):
            mine = self._asked(self.found.root[binding.ids])
            sealed[mine] = self.zero[mine]
        if isinstance(op, ChannelGate):
            shut = keras.ops.convert_to_numpy(op.values()) == 0
            for binding in self._bindings(op):
                sealed[self._asked(self.found.root[binding.ids[shut]])] = True
        if type(op).__name__ in PRODUCTS:
            sealed = sealed | self._annulled(call, given)
        if isinstance(op, RECURRENT) or self._closes_open_size(call, given):
            # How often they ran, masks and sizes say.
            loud = np.logical_or.reduce(
                [self._loud(ref, x) for ref, x in zip(call.outputs, made, strict=True)]
            )
            sealed = sealed & ~loud
        return sealed

    def _annulled(self, call: Call, given: dict[Ref, Any]) -> np.ndarray:
        """The units that are multiplied by zero, whatever the rest is."""
        zero = {
            ref: self.sealed[ref.index] & ~self._loud(ref, tensor) for ref, tensor in given.items()
        }
        kind, none = type(call.op).__name__, np.zeros(len(self.asked), bool)
        if kind == "Multiply":
            return np.logical_or.reduce(list(zero.values()))
        if "Divide" in kind:
            first = call.args[0] if call.args else None
            return zero[first] if isinstance(first, Ref) else none
        held = [zero[ref] | ~self._holds(ref) for ref in given]
        return np.logical_and.reduce(held) if held else none

    def _closes_open_size(self, call: Call, given: dict[Ref, Any]) -> bool:
        """Tell whether a call sums up an axis of any length: its constants depend on that."""
        values = self.found.graph.values

        def open_axes(refs: Any) -> int:
            inner = [values[ref.index].shape[1:] for ref in refs if ref.index < len(values)]
            return max((sum(size is None for size in shape) for shape in inner), default=0)

        if open_axes(call.outputs) >= open_axes(given):
            return False
        alike = type(call.op).__name__ in MEANS
        return not (alike and all(self._even(ref, tensor) for ref, tensor in given.items()))

    def _even(self, ref: Ref, tensor: Any) -> bool:
        """Tell whether each sealed unit is the same number everywhere in a tensor."""
        for ids, rows in self._rows(ref, tensor):
            sealed = np.isin(self.found.root[ids], self.asked[self.sealed[ref.index]])
            spread = np.ptp(rows[sealed], axis=1)
            if (spread > QUIET * (np.abs(rows).max() or 1.0)).any():
                return False
        return True

    def _asked(self, roots: Ids) -> Ids:
        numbers = self.number[roots.ravel()]
        return numbers[numbers >= 0]

    def _holds(self, ref: Ref) -> np.ndarray:
        """For each unit, whether it has a position in a tensor."""
        held = np.zeros(len(self.asked), bool)
        for ids in self.found.flow.axes(ref):
            if ids is not None:
                held[self._asked(self.found.root[ids])] = True
        return held

    def _loud(self, ref: Ref, tensor: Any) -> np.ndarray:
        """For each unit, whether a tensor is anything but zero there."""
        loud = np.zeros(len(self.asked), bool)
        for ids, rows in self._rows(ref, tensor):
            loud[self._asked(self.found.root[ids[rows.any(axis=1)]])] = True
        return loud

    def _rows(self, ref: Ref, tensor: Any) -> Iterator[tuple[Ids, np.ndarray]]:
        """The ids of each axis of a tensor that holds some unit, and the tensor by that axis."""
        for axis, ids in enumerate(self.found.flow.axes(ref)):
            if ids is not None and len(self._asked(self.found.root[ids])):
                yield ids, _rows_of(tensor, axis)

    # what is told

    def _listen(self, call: Call, given: dict[Ref, Any]) -> None:
        root = self.found.root
        for binding in self._bindings(call.op, USE):
            roots = root[binding.ids.ravel()]
            if not len(self._asked(roots)):
                continue
            at = _read_at(self.found, call, binding)
            if at is not None:
                self._hear(call, roots, at, given)
            else:
                self._look_inside(call, roots, given)
        for silence in self.found.flow.silences:
            if silence.call is call:
                self._hear(call, root[silence.ids], (silence.ref, silence.axis), given)

    def _hear(self, call: Call, roots: Ids, at: tuple[Ref, int], given: dict[Ref, Any]) -> None:
        ref, axis = at
        rows = _rows_of(given[ref], axis)
        numbers = self.number[roots]
        sealed = (numbers >= 0) & self.sealed[ref.index][numbers]
        scale = np.abs(rows).max() or 1.0
        mean = rows.mean(axis=1)
        steady = sealed & (np.abs(rows - mean[:, None]).max(axis=1) <= QUIET * scale)
        silent = sealed & (np.abs(rows).max(axis=1) <= QUIET * 1e-3 * scale)
        self.voices.append(Voice(call, roots, np.where(silent, 0, mean), steady, silent))

    def _look_inside(self, call: Call, roots: Ids, given: dict[Ref, Any]) -> None:
        """Note the units that a layer uses up inside, and not only as zeros."""
        op, mine = call.op, self.asked[self._asked(roots)]
        if not isinstance(op, INNER) or any(map(_speaks_at_zero, _cells(op))):
            self.inside.append((call, mine))
            return
        # A separable convolution has nothing inside that could make something of zero; units of
        # the others are made there, and start from what the layer is given as its state.
        if not isinstance(op, SEPARABLE):
            self.inside.append((call, mine[~self._zero_inside(op, mine)]))
        for ref in given:
            for axis, ids in enumerate(self.found.flow.axes(ref)):
                if ids is not None and np.isin(self.found.root[ids], mine).any():
                    self._hear(call, self.found.root[ids], (ref, axis), given)

    def _zero_inside(self, op: Any, mine: Ids) -> np.ndarray:
        """For each of some units, whether a layer makes it, of zeros alone, its biases too."""
        root, site = self.found.root, self.found.flow.sites[id(op)]
        made, speaks = np.zeros(len(root), bool), np.zeros(len(root), bool)
        owner = self.found.flow.sites[id(op)].owner or op
        for binding in site.bindings:
            if binding.role == USE:
                continue
            array = self.weights[id(owner)][places(owner)[id(binding.weight)]]
            for ids, rows in positions(array, binding):
                made[root[ids]] |= binding.role == MAKE
                speaks[root[ids[(rows != 0).any(axis=1)]]] = True
        return made[mine] & ~speaks[mine]

    def _bindings(self, op: Any, role: str | None = None) -> Iterator[Binding]:
        """The weight axes of an operation itself: those of a wrapper are its layers' too."""
        site = self.found.flow.sites.get(id(op))
        own = places(op)
        for binding in site.bindings if site is not None else ():
            if id(binding.weight) in own and role in (None, binding.role):
                yield binding


def _rows_of(tensor: Any, axis: int) -> np.ndarray:
    x = np.moveaxis(keras.ops.convert_to_numpy(tensor).astype(np.float64), axis, 0)
    return x.reshape(len(x), -1)


def _read_at(found: Units, call: Call, binding: Binding) -> tuple[Ref, int] | None:
    """The input and axis of a call that a weight's axis is multiplied with; None: none of them."""
    op = call.op
    at = source_of(found, call, binding)
    if at is None and isinstance(op, kl.RNN):
        first = op.cell.cells[0] if isinstance(op.cell, kl.StackedRNNCells) else op.cell
        if binding.weight is first.kernel and isinstance(call.args[0], Ref):
            return _carrying(found, (call.args[0],), binding)
    return at if at is not None or isinstance(op, INNER) else _carrying(found, call.inputs, binding)


def _carrying(found: Units, refs: tuple[Ref, ...], binding: Binding) -> tuple[Ref, int] | None:
    roots = found.root[binding.ids.ravel()]
    for ref in refs:
        for axis, ids in reversed(list(enumerate(found.flow.axes(ref)))):
            if ids is not None and np.array_equal(found.root[ids], roots):
                return ref, axis
    return None


def _cells(op: Any) -> Iterator[Any]:
    """The cells of a recurrent layer; of any other, none."""
    if isinstance(op, kl.Bidirectional):
        yield from (*_cells(op.forward_layer), *_cells(op.backward_layer))
    elif isinstance(op, kl.RNN):
        yield from op.cell.cells if isinstance(op.cell, kl.StackedRNNCells) else (op.cell,)


def _speaks_at_zero(cell: Any) -> bool:
    """Tell whether a cell makes something of zeros."""
    return bool(keras.ops.convert_to_numpy(cell.activation(keras.ops.zeros((1,)))).any())
