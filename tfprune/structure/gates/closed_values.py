"""The constants that the consumers of closed units receive.

Whether a position is the same for every input is derived from the graph and not from samples: a
ReLU whose output is zero on some inputs may be nonzero on others. The value of the constant is
then read from a single run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers as kl
from keras import tree

from tfprune.graph.call_kinds import spelled
from tfprune.graph.graph import Call, Ref
from tfprune.graph.rebuild import Weights, execute, perform
from tfprune.structure.gates.layers import ChannelGate
from tfprune.structure.groups.units import Units
from tfprune.structure.ids.ids import MAKE, USE, Binding, Ids, places, positions
from tfprune.structure.proof.inputs import random_inputs
from tfprune.structure.rebuild.repair import source_of

TOLERANCE = 1e-6
"""Values that vary by less than this share of their tensor's maximum are constant."""

RECURRENT = (kl.RNN, kl.Bidirectional)
SEPARABLE = (kl.SeparableConv1D, kl.SeparableConv2D)
ATTENTION = (kl.MultiHeadAttention, kl.GroupQueryAttention)
INNER = (*RECURRENT, *SEPARABLE, *ATTENTION)
"""Layers that also use units internally, where no tensor of the graph shows them."""

PRODUCTS = frozenset({
    "Multiply", "Matmul", "Einsum", "Dot", "Tensordot", "Divide", "TrueDivide",
    "DotProductAttention",
})  # fmt: skip
"""Operations whose output is zero where one input is zero, whatever the others are."""

JOINS = frozenset({"Concatenate", "Stack", "Append", "Hstack", "Vstack", "Dstack"})
"""Operations whose output elements are each an element of an input."""

MEANS = frozenset(spelled("GlobalAveragePooling#D GlobalMaxPooling#D Mean Max Min"))
"""Reductions that return the common value of equal elements, however many there are."""


@dataclass(frozen=True, eq=False)
class ConsumerInput:
    """One axis of an input of a call that uses closed units.

    Attributes:
        call: The consumer.
        roots: The root of the unit at each position.
        value: The value at each position, if it is constant.
        is_constant: Whether the unit is closed and its value the same for every input, and
            everywhere along the other axes.
        is_zero: Whether that value is zero.
    """

    call: Call
    roots: Ids
    value: np.ndarray
    is_constant: np.ndarray
    is_zero: np.ndarray


@dataclass(frozen=True, eq=False)
class Consumers:
    """The inputs of all consumers of closed units.

    Attributes:
        inputs: What each consumer receives.
        inside: By call, the units whose values inside the layer are not known to be zero.
    """

    inputs: list[ConsumerInput]
    inside: list[tuple[Call, Ids]]


def record_consumers(
    found: Units, weights: Weights, closed: np.ndarray, zero: np.ndarray, input_shape: Any
) -> Consumers:
    """Return what the consumers of closed units receive from them.

    Args:
        found: The units of the model.
        weights: Its weights.
        closed: For each id, whether it is the root of a closed unit to record.
        zero: For each id, whether it is the root of a unit whose own weights are all zero.
        input_shape: The shape of the input, if the model leaves it open.
    """
    recorder = _Recorder(found, weights, np.flatnonzero(closed), zero)
    inputs = random_inputs(found, np.random.default_rng(0), input_shape)
    for ref in tree.flatten(found.graph.inputs):
        recorder.constant[ref.index] = np.zeros(len(recorder.closed), bool)
    tensors = [keras.ops.convert_to_tensor(array) for array in inputs]
    execute(found.graph, tensors, recorder.run)
    return Consumers(recorder.inputs, recorder.inside)


class _Recorder:
    """A run of the model that tracks where closed units are constant.

    `constant` holds, for each tensor and closed unit, whether the tensor contains the unit and
    its values there are the same for every input. "Number" means the position of a unit in
    `closed`.
    """

    def __init__(self, found: Units, weights: Weights, closed: Ids, zero: np.ndarray) -> None:
        self.found, self.weights, self.closed = found, weights, closed
        self.zero = zero[closed]
        self.number = np.full(found.flow.size, -1)
        self.number[closed] = np.arange(len(closed))
        self.constant: dict[int, np.ndarray] = {}
        self.inputs: list[ConsumerInput] = []
        self.inside: list[tuple[Call, Ids]] = []

    def run(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call and record its inputs and which of its outputs are constant."""
        specs, values = tree.flatten((call.args, call.kwargs)), tree.flatten((args, kwargs))
        given = {
            ref: tensor for ref, tensor in zip(specs, values, strict=True) if isinstance(ref, Ref)
        }
        made = perform(call.op, args, kwargs)
        graph = self.found.flow.inside.get(id(call))
        if graph is None:
            self._record(call, given)
            constant = self._find_constant(call, given, tree.flatten(made))
        else:
            # A wrapper runs its graph once for each step; here all steps run at once.
            (x,) = args[:1]
            (start,), (end,) = tree.flatten(graph.inputs), tree.flatten(graph.outputs)
            self.constant[start.index] = self.constant[call.inputs[0].index]
            execute(graph, [keras.ops.reshape(x, (-1, *x.shape[2:]))], self.run)
            constant = self.constant[end.index]
        for ref in call.outputs:
            self.constant[ref.index] = constant & self._holds(ref)
        return made

    # which outputs are constant

    def _find_constant(self, call: Call, given: dict[Ref, Any], made: list[Any]) -> np.ndarray:
        """Return, for each unit, whether its values in a call's output are constant."""
        op, none = call.op, np.zeros(len(self.closed), bool)
        known = [self.constant[ref.index] for ref in given]
        if type(op).__name__ in JOINS:  # an input without the unit does not affect it
            known = [
                constant | ~self._holds(ref) for constant, ref in zip(known, given, strict=True)
            ]
        constant = np.logical_and.reduce(known) if known else none
        for binding in self._bindings(op, MAKE):
            mine = self._numbers(self.found.root[binding.ids])
            constant[mine] = self.zero[mine]
        if isinstance(op, ChannelGate):
            shut = keras.ops.convert_to_numpy(op.values()) == 0
            for binding in self._bindings(op):
                constant[self._numbers(self.found.root[binding.ids[shut]])] = True
        if type(op).__name__ in PRODUCTS:
            constant = constant | self._multiplied_by_zero(call, given)
        if isinstance(op, RECURRENT) or self._closes_open_size(call, given):
            # Nonzero values depend on the number of steps, given by masks and sizes.
            nonzero = np.logical_or.reduce(
                [self._nonzero(ref, x) for ref, x in zip(call.outputs, made, strict=True)]
            )
            constant = constant & ~nonzero
        return constant

    def _multiplied_by_zero(self, call: Call, given: dict[Ref, Any]) -> np.ndarray:
        """Return, for each unit, whether its values are multiplied by zero."""
        zero = {
            ref: self.constant[ref.index] & ~self._nonzero(ref, tensor)
            for ref, tensor in given.items()
        }
        kind, none = type(call.op).__name__, np.zeros(len(self.closed), bool)
        if kind == "Multiply":
            return np.logical_or.reduce(list(zero.values()))
        if "Divide" in kind:
            first = call.args[0] if call.args else None
            return zero[first] if isinstance(first, Ref) else none
        held = [zero[ref] | ~self._holds(ref) for ref in given]
        return np.logical_and.reduce(held) if held else none

    def _closes_open_size(self, call: Call, given: dict[Ref, Any]) -> bool:
        """Return whether a call reduces an axis of unknown size, on which its constants depend."""
        values = self.found.graph.values

        def open_axes(refs: Any) -> int:
            inner = [values[ref.index].shape[1:] for ref in refs if ref.index < len(values)]
            return max((sum(size is None for size in shape) for shape in inner), default=0)

        if open_axes(call.outputs) >= open_axes(given):
            return False
        has_mean = type(call.op).__name__ in MEANS
        return not (
            has_mean and all(self._is_uniform(ref, tensor) for ref, tensor in given.items())
        )

    def _is_uniform(self, ref: Ref, tensor: Any) -> bool:
        """Return whether each constant unit has the same value everywhere in a tensor."""
        for ids, rows in self._rows(ref, tensor):
            constant = np.isin(self.found.root[ids], self.closed[self.constant[ref.index]])
            spread = np.ptp(rows[constant], axis=1)
            if (spread > TOLERANCE * (np.abs(rows).max() or 1.0)).any():
                return False
        return True

    def _numbers(self, roots: Ids) -> Ids:
        numbers = self.number[roots.ravel()]
        return numbers[numbers >= 0]

    def _holds(self, ref: Ref) -> np.ndarray:
        """Return, for each unit, whether a tensor contains it."""
        held = np.zeros(len(self.closed), bool)
        for ids in self.found.flow.axes(ref):
            if ids is not None:
                held[self._numbers(self.found.root[ids])] = True
        return held

    def _nonzero(self, ref: Ref, tensor: Any) -> np.ndarray:
        """Return, for each unit, whether it has nonzero values in a tensor."""
        nonzero = np.zeros(len(self.closed), bool)
        for ids, rows in self._rows(ref, tensor):
            nonzero[self._numbers(self.found.root[ids[rows.any(axis=1)]])] = True
        return nonzero

    def _rows(self, ref: Ref, tensor: Any) -> Iterator[tuple[Ids, np.ndarray]]:
        """Yield the ids of each axis that holds closed units, with the tensor as rows of it."""
        for axis, ids in enumerate(self.found.flow.axes(ref)):
            if ids is not None and len(self._numbers(self.found.root[ids])):
                yield ids, _rows_of(tensor, axis)

    # what consumers receive

    def _record(self, call: Call, given: dict[Ref, Any]) -> None:
        root = self.found.root
        for binding in self._bindings(call.op, USE):
            roots = root[binding.ids.ravel()]
            if not len(self._numbers(roots)):
                continue
            at = _read_at(self.found, call, binding)
            if at is not None:
                self._record_input(call, roots, at, given)
            else:
                self._record_inside(call, roots, given)
        for item in self.found.flow.zeroed_inputs:
            if item.call is call:
                self._record_input(call, root[item.ids], (item.ref, item.axis), given)

    def _record_input(
        self, call: Call, roots: Ids, at: tuple[Ref, int], given: dict[Ref, Any]
    ) -> None:
        ref, axis = at
        rows = _rows_of(given[ref], axis)
        numbers = self.number[roots]
        constant = (numbers >= 0) & self.constant[ref.index][numbers]
        scale = np.abs(rows).max() or 1.0
        mean = rows.mean(axis=1)
        uniform = constant & (np.abs(rows - mean[:, None]).max(axis=1) <= TOLERANCE * scale)
        zero = constant & (np.abs(rows).max(axis=1) <= TOLERANCE * 1e-3 * scale)
        self.inputs.append(ConsumerInput(call, roots, np.where(zero, 0, mean), uniform, zero))

    def _record_inside(self, call: Call, roots: Ids, given: dict[Ref, Any]) -> None:
        """Record the units that may have nonzero values inside a layer that uses them."""
        op, mine = call.op, self.closed[self._numbers(roots)]
        if not isinstance(op, INNER) or any(map(_nonzero_at_zero, _cells(op))):
            self.inside.append((call, mine))
            return
        # Inside a separable convolution zeros remain zeros. The other layers make the units
        # themselves, starting from the given state.
        if not isinstance(op, SEPARABLE):
            self.inside.append((call, mine[~self._zero_inside(op, mine)]))
        for ref in given:
            for axis, ids in enumerate(self.found.flow.axes(ref)):
                if ids is not None and np.isin(self.found.root[ids], mine).any():
                    self._record_input(call, self.found.root[ids], (ref, axis), given)

    def _zero_inside(self, op: Any, mine: Ids) -> np.ndarray:
        """Return, for each unit, whether a layer makes it and all its weights there are zero."""
        root, site = self.found.root, self.found.flow.sites[id(op)]
        made, nonzero = np.zeros(len(root), bool), np.zeros(len(root), bool)
        owner = self.found.flow.sites[id(op)].owner or op
        for binding in site.bindings:
            if binding.role == USE:
                continue
            array = self.weights[id(owner)][places(owner)[id(binding.weight)]]
            for ids, rows in positions(array, binding):
                made[root[ids]] |= binding.role == MAKE
                nonzero[root[ids[(rows != 0).any(axis=1)]]] = True
        return made[mine] & ~nonzero[mine]

    def _bindings(self, op: Any, role: str | None = None) -> Iterator[Binding]:
        """Yield the weight axes of an operation itself, without those of a wrapper's layers."""
        site = self.found.flow.sites.get(id(op))
        own = places(op)
        for binding in site.bindings if site is not None else ():
            if id(binding.weight) in own and role in (None, binding.role):
                yield binding


def _rows_of(tensor: Any, axis: int) -> np.ndarray:
    x = np.moveaxis(keras.ops.convert_to_numpy(tensor).astype(np.float64), axis, 0)
    return x.reshape(len(x), -1)


def _read_at(found: Units, call: Call, binding: Binding) -> tuple[Ref, int] | None:
    """Return the input and axis of a call that a weight's axis is multiplied with, if any."""
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
    """Yield the cells of a recurrent layer; nothing for any other."""
    if isinstance(op, kl.Bidirectional):
        yield from (*_cells(op.forward_layer), *_cells(op.backward_layer))
    elif isinstance(op, kl.RNN):
        yield from op.cell.cells if isinstance(op.cell, kl.StackedRNNCells) else (op.cell,)


def _nonzero_at_zero(cell: Any) -> bool:
    """Return whether a cell's activation is nonzero at zero."""
    return bool(keras.ops.convert_to_numpy(cell.activation(keras.ops.zeros((1,)))).any())
