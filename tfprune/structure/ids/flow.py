"""The channel ids of a graph, and what each operation does to them.

Each axis of each tensor carries a vector of integer ids, or None where nothing can be removed
along it. Rules (see `tfprune.structure.rules`) say what an operation does to the ids of its
inputs; this module offers what they need: make, join, freeze, bind to a weight.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfprune.data.model_inputs import Shape
from tfprune.graph.graph import Call, Graph, Ref
from tfprune.structure.ids.ids import CHANNELS, Axes, Ids, Rewrite, Site


def product(extents: Iterable[Ids | int | None]) -> tuple[float, tuple[Ids, ...]]:
    """Return the product of the sizes of some axes (None: unknown), and the ids of the others."""
    factor, vectors = 1.0, []
    for extent in extents:
        if isinstance(extent, np.ndarray):
            if extent.ndim == 2:  # A row for each block of a grouped kernel's outputs.
                factor /= len(extent)
                extent = extent.ravel()
            vectors.append(extent)
        else:
            factor *= math.nan if extent is None else extent
    return factor, tuple(vectors)


@dataclass(frozen=True, eq=False)
class CallCost:
    """Multiplications of one call: `factor` times the remaining positions of each vector."""

    call: Call
    factor: float
    vectors: tuple[Ids, ...]

    @property
    def now(self) -> float:
        """The multiplications before anything is removed."""
        return self.factor * math.prod(ids.size for ids in self.vectors)


@dataclass(frozen=True, eq=False)
class ZeroedInput:
    """An input that a call sums over without a weight: it is zeroed where ids are removed."""

    call: Call
    ref: Ref
    axis: int
    ids: Ids


@dataclass(frozen=True)
class Producer:
    """An operation's axis that made ids: `start` up to `stop`."""

    op: Any
    kind: str
    key: str
    start: int
    stop: int


class Flow:
    """The state that rules read and write while ids are propagated through a graph."""

    def __init__(
        self, graph: Graph, shapes: Sequence[Shape] | None = None, sizes: Sequence[Shape] = ()
    ) -> None:
        self.graph = graph
        self.shapes = list(shapes) if shapes else [value.shape for value in graph.values]
        self.sizes = list(sizes) if sizes else list(self.shapes)
        self.dtypes = [value.dtype for value in graph.values]
        self.axes_of: dict[int, Axes] = {}
        self.bound: dict[tuple[int, int], Ids] = {}
        self.sites: dict[int, Site] = {}
        self.producers: list[Producer] = []
        self.edges: list[tuple[Ids, Ids]] = []
        self.frozen: list[tuple[Ids, str]] = []
        self.changed: list[tuple[Ids, str]] = []
        self.blocks: list[Ids] = []
        self.costs: list[CallCost] = []
        self.zeroed_inputs: list[ZeroedInput] = []
        self.rewrites: dict[int, Rewrite] = {}
        self.gathered: dict[int, list[Ids]] = {}
        self.vocabulary: dict[int, int] = {}
        self.inside: dict[int, Graph] = {}
        self.size = 0
        self._calls: dict[int, int] = {}
        for call in graph.calls:
            self._calls[id(call.op)] = self._calls.get(id(call.op), 0) + 1

    # reading

    def calls_of(self, op: Any) -> int:
        """Return how often an operation is called in this graph."""
        return self._calls.get(id(op), 1)

    def axes(self, ref: Any) -> Axes:
        """Return the ids of each axis of a tensor; an array or number in the arguments has none."""
        if isinstance(ref, Ref):
            return self.axes_of[ref.index]
        return (None,) * len(getattr(ref, "shape", ()))

    def shape(self, ref: Any) -> tuple[int | None, ...]:
        """Return the shape of a tensor, or of an array or number in the arguments."""
        if isinstance(ref, Ref):
            return tuple(self.shapes[ref.index])
        return tuple(getattr(ref, "shape", ()))

    def extents(self, ref: Any) -> list[Ids | int | None]:
        """Return what each axis of a tensor or weight multiplies a cost by: its ids, or its size.

        The sizes of a tensor are those for one sample.
        """
        if isinstance(ref, Ref):
            sizes, axes = self.sizes[ref.index], self.axes(ref)
        else:
            sizes = self.shape(ref)
            axes = tuple(self.bound.get((id(ref), axis)) for axis in range(len(sizes)))
        return [size if ids is None else ids for size, ids in zip(sizes, axes, strict=True)]

    def site(self, op: Any) -> Site:
        """Return the site of an operation: which of its weights have which ids."""
        if id(op) not in self.sites:
            self.sites[id(op)] = Site(op, self)
        return self.sites[id(op)]

    # writing

    def fresh(self, size: int, op: Any, kind: str = CHANNELS, key: str = "") -> Ids:
        """Return new ids, one for each position."""
        ids = np.arange(self.size, self.size + size)
        self.size += size
        self.producers.append(Producer(op, kind, key, int(ids[0]), int(ids[-1]) + 1))
        return ids

    def fixed(self, size: int, why: str) -> Ids:
        """Return new ids that cannot be removed: positions of an input beside removable ones."""
        ids = np.arange(self.size, self.size + size)
        self.size += size
        self.frozen.append((ids, why))
        return ids

    def freeze(self, ids: Ids | None, why: str) -> None:
        """Freeze ids, with the reason."""
        if ids is not None and ids.size:
            self.frozen.append((ids.ravel(), why))

    def freeze_axes(self, axes: Axes, why: str) -> None:
        """Freeze all ids of a tensor."""
        for ids in axes:
            self.freeze(ids, why)

    def keep_whole(self, call: Call, why: str) -> None:
        """Freeze a layer with weights whose outputs must all be kept, so that it is listed."""
        site = self.site(call.op)
        if getattr(call.op, "weights", ()) and not site.makes:
            size = self.sizes[call.outputs[0].index][-1]
            self.freeze(site.make("output", size or 1, resize=False), why)

    def join(self, a: Ids | None, b: Ids | None, why: str) -> Ids | None:
        """Join two axes: the ids at each position are kept or removed together.

        An axis of one position broadcasts and is not joined; ids that meet an axis that
        carries none are frozen.
        """
        if a is None and b is None:
            return None
        if a is None or b is None:
            self.freeze(b if a is None else a, why)
            return None
        if a is b:
            return a
        if a.shape == b.shape:
            self.edges.append((a.ravel(), b.ravel()))
            return a
        self.freeze(a, why)
        self.freeze(b, why)
        return None

    def merge(self, parts: Sequence[Any], why: str) -> Axes:
        """Return the axes of an elementwise result: the inputs joined, as they broadcast.

        Arrays and numbers among the arguments are not joined: they are sliced to what is
        kept (see `tfprune.structure.rules.elementwise`).
        """
        parts = [part for part in parts if isinstance(part, Ref)]
        shapes = [self.shape(part) for part in parts]
        axes = [self.axes(part) for part in parts]
        rank = max(len(shape) for shape in shapes)
        merged: list[Ids | None] = []
        for position in range(-rank, 0):
            here = [
                (shape[position], ids[position])
                for shape, ids in zip(shapes, axes, strict=True)
                if len(shape) >= -position
            ]
            wide = [ids for size, ids in here if size != 1] or [ids for _, ids in here]
            if any(ids is None for ids in wide):
                for ids in wide:
                    self.freeze(ids, why)
                merged.append(None)
                continue
            result = wide[0]
            for ids in wide[1:]:
                result = self.join(result, ids, why)
            merged.append(result)
        return tuple(merged)

    def adopt(self, graph: Graph, sizes: Sequence[Shape], times: int) -> None:
        """Add the tensors and calls of a graph that runs inside one call of this one.

        Args:
            graph: The inner graph. Its tensors are numbered after the known ones.
            sizes: The sizes of its tensors for one sample.
            times: How often that call is made.
        """
        graph.move(len(self.shapes))
        self.shapes += [value.shape for value in graph.values]
        self.dtypes += [value.dtype for value in graph.values]
        self.sizes += sizes
        counts = Counter(id(call.op) for call in graph.calls)
        self._calls.update((key, count * times) for key, count in counts.items())

    def leave(self, call: Call, graph: Graph) -> None:
        """Move what the rules asked for inside an adopted graph to the call that runs it.

        The call runs as one piece, and the graph is kept in `inside`. So an input that would have
        to be zeroed inside it, and a size in the arguments of an inner call, are frozen.
        """
        self.inside[id(call)] = graph
        inner = {id(one): one for one in graph.calls}
        for item in self.zeroed_inputs:
            if id(item.call) in inner:
                self.freeze(item.ids, f"{item.call.path} inside {call.path} sums over it")
        self.zeroed_inputs = [item for item in self.zeroed_inputs if id(item.call) not in inner]
        for key, one in inner.items():
            for ids in self.gathered.pop(key, ()):
                self.gather(call, ids)
            if self.rewrites.pop(key, None) is not None:
                why = f"its size is in the arguments of {one.path} inside {call.path}"
                for ref in (*one.inputs, *one.outputs):
                    self.freeze_axes(self.axes(ref), why)

    def tie(self, ids: Ids) -> Ids:
        """Join the rows of an array of ids: the ids of a column are kept or removed together."""
        for row in ids[1:]:
            self.edges.append((ids[0], row))
        return ids[0]

    def block(self, ids: Ids, blocks: int) -> None:
        """Require that each of `blocks` equal parts of an axis keeps equally many ids."""
        if 1 < blocks < len(ids):
            self.blocks.append(ids.reshape(blocks, -1))

    def change(self, ids: Ids | None, why: str) -> None:
        """Record that removing these ids changes the result of what is kept, with the reason."""
        if ids is not None:
            self.changed.append((ids.ravel(), why))

    def cost(self, call: Call, factor: float, *vectors: Ids | int | None) -> None:
        """Count multiplications: a factor times the length of each vector (None: not known).

        For a layer that neither the rules of `tfprune.graph.cost` nor tracing its call can count.
        The rule then counts everything that ids can change.
        """
        sizes, ids = product(vectors)
        self.costs.append(CallCost(call, factor * sizes, ids))

    def complete(self, call: Call, since: int, macs: float) -> None:
        """Count what a call multiplies beyond the costs since then, which no unit reduces."""
        known = sum(cost.now for cost in self.costs[since:])
        if macs > known or (math.isnan(macs) and since == len(self.costs)):
            self.costs.append(CallCost(call, macs - known, ()))

    def repeat_costs(self, since: int, call: Call, times: int | None) -> None:
        """Multiply the costs counted since then by how often a call runs its layer."""
        factor = math.nan if times is None else times
        self.costs[since:] = [
            CallCost(call, cost.factor * factor, cost.vectors) for cost in self.costs[since:]
        ]

    def zero_input(self, call: Call, ref: Any, axis: int, ids: Ids | None) -> None:
        """Record that a call sums an input over ids without a weight that could be zero there."""
        if ids is not None and isinstance(ref, Ref):
            self.zeroed_inputs.append(ZeroedInput(call, ref, axis % len(self.shape(ref)), ids))

    def gather(self, call: Call, ids: Ids) -> None:
        """Record that a call mixes the positions of an axis: removed ones are left out.

        The reference of the proof computes such a call on the kept positions only.
        """
        self.gathered.setdefault(id(call), []).append(ids)

    def rewrite(self, call: Call, change: Rewrite) -> None:
        """Record how to change the arguments of a call to what is kept."""
        self.rewrites[id(call)] = change
