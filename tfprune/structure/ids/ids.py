"""Channel ids, the weight axes that are indexed by them, and the record of each operation's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tfprune.structure.ids.flow import Flow


Ids = np.ndarray

Axes = tuple[Ids | None, ...]

CHANNELS, HEADS, WIDTH = "channels", "heads", "width"
"""What an axis counts: `round_to` applies to channels and widths, never to heads."""

MAKE, USE, ALONG = "make", "use", "along"
"""A weight axis makes ids, uses them (zeroing it removes the unit's effect), or runs along them."""


class Keep:
    """Which ids are kept. Rules edit sizes and constants with `count` and `mask`."""

    def __init__(self, kept_mask: np.ndarray) -> None:
        self.kept_mask = kept_mask

    def mask(self, ids: Ids) -> np.ndarray:
        """Return, for each position, whether it is kept."""
        return self.kept_mask[ids]

    def count(self, ids: Ids) -> int:
        """Return how many positions of an axis are kept."""
        return int(np.count_nonzero(self.kept_mask[ids]))

    def all(self, ids: Ids | None) -> bool:
        """Return whether an axis is kept whole."""
        return ids is None or bool(self.kept_mask[ids].all())


@dataclass(frozen=True, eq=False)
class Binding:
    """An axis of a weight and the ids it is indexed by.

    `ids` of two dimensions are those of a grouped kernel: position p of the axis means
    `ids[b, p]` for the b-th block of `along`, the ids of the kernel's last axis.
    """

    weight: Any
    axis: int
    ids: Ids
    role: str
    along: Ids | None = None
    scale: bool = False


def places(op: Any) -> dict[int, int]:
    """Return the index of each weight of an operation, by the `id` of the variable."""
    return {id(weight): place for place, weight in enumerate(getattr(op, "weights", ()))}


Edit = Callable[[Keep], Any]

Rewrite = Callable[[Keep, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]


def positions(array: np.ndarray, binding: Binding) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the ids along a weight's axis, and the weight as rows of that axis."""
    for ids, block in blocks(array, binding):
        rows = np.moveaxis(block, binding.axis, 0)
        yield ids, rows.reshape(len(rows), -1)


def blocks(array: np.ndarray, binding: Binding) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the ids along a weight's axis with the weight, or with each grouped-kernel block."""
    if binding.along is None:
        yield binding.ids, array
        return
    yield from zip(binding.ids, np.split(array, len(binding.ids), axis=-1), strict=True)


@dataclass(eq=False)
class Site:
    """The record of one operation, shared by all its calls."""

    op: Any
    flow: "Flow"
    prefix: tuple[str | int, ...] = ()
    labels: tuple[str, ...] = ()
    bindings: list[Binding] = field(default_factory=list)
    edits: dict[tuple[str | int, ...], Edit] = field(default_factory=dict)
    made: dict[str, Ids] = field(default_factory=dict)
    factors: list[tuple[Any, Edit]] = field(default_factory=list)
    zeroed: list[Binding] = field(default_factory=list)
    inner: dict[tuple[str | int, ...], "Site"] = field(default_factory=dict)
    owner: Any = None

    def make(self, key: str, size: int, *, kind: str = CHANNELS, resize: bool = True) -> Ids:
        """Return the ids of an axis that this operation makes; the same for all its calls.

        Args:
            key: The entry of the layer's config that holds the size.
            size: How many positions the axis has.
            kind: What the axis counts: CHANNELS, HEADS or WIDTH.
            resize: False if the config has no such entry.
        """
        if key not in self.made:
            name = ".".join([*self.labels, key])
            ids = self.flow.fresh(size, self.owner or self.op, kind, name)
            self.made[key] = ids
            if resize:
                self.edit(key, lambda keep: keep.count(ids))
        return self.made[key]

    def edit(self, key: str, change: Edit) -> None:
        """Set an entry of the layer's config from the kept ids."""
        self.edits[(*self.prefix, key)] = change

    def bind(
        self,
        weight: Any,
        axis: int,
        ids: Ids | None,
        role: str = ALONG,
        *,
        along: Ids | None = None,
        scale: bool = False,
    ) -> None:
        """Record that an axis of a weight is indexed by ids; in a later call, join the ids."""
        if weight is None:
            return
        axis %= len(weight.shape)
        for old in self.bindings:
            if old.weight is weight and old.axis == axis:
                if ids is not old.ids:
                    self.flow.join(ids, old.ids, f"{self.op.name} is shared")
                return
        if ids is None and self.flow.calls_of(self.op) > 1:
            ids = self.flow.fixed(weight.shape[axis], f"{self.op.name} is shared")
        if ids is not None:
            self.bindings.append(Binding(weight, axis, ids, role, along, scale))
            self.flow.bound[id(weight), axis] = ids

    def factor(self, weight: Any, change: Edit) -> None:
        """Multiply a weight by a number that depends on the kept ids."""
        if not any(old is weight for old, _ in self.factors):
            self.factors.append((weight, change))

    def zero(self, weight: Any, axis: int, ids: Ids) -> None:
        """Zero a weight at removed ids in the reference of the proof, in addition to USE axes."""
        if not any(old.weight is weight and old.axis == axis for old in self.zeroed):
            self.zeroed.append(Binding(weight, axis, ids, USE))

    def inside(self, op: Any, *path: str | int, label: str = "") -> "Site":
        """Return the site of a layer inside this one.

        Args:
            op: The inner layer.
            path: The path of the inner layer in the config of this one.
            label: The prefix of the inner layer's axis names; by default the start of the path.
        """
        if path not in self.inner:
            labels = (*self.labels, label or str(path[0]))
            inner = Site(op, self.flow, (*self.prefix, *path, "config"), labels)
            inner.bindings, inner.edits = self.bindings, self.edits
            inner.factors, inner.zeroed = self.factors, self.zeroed
            inner.owner = self.owner or self.op
            self.inner[path] = inner
        return self.inner[path]

    @property
    def makes(self) -> bool:
        """Whether this operation or one inside it has made ids."""
        return bool(self.made) or any(inner.makes for inner in self.inner.values())
