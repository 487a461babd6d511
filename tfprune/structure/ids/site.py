"""The record of one operation: the ids that it makes, and the axes that they index."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tfprune.structure.ids.ids import ALONG, CHANNELS, USE, Binding, Edit, Ids

if TYPE_CHECKING:
    from tfprune.structure.ids.flow import Flow


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
