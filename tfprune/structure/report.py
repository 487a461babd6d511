"""The report of `shrink`, as data and as text."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from tfprune.structure.groups.units import span
from tfprune.structure.select.plan import Plan


@dataclass(frozen=True)
class Cost:
    """What a model costs. `macs` is None if the model leaves the sizes of its input open."""

    params: int
    macs: int | None
    units: int


@dataclass(frozen=True)
class GroupChange:
    """How many units a group had, and how many were kept."""

    name: str
    kind: str
    before: int
    after: int
    exact: bool


@dataclass(frozen=True)
class BlockChange:
    """A residual block: whether it was removed, and why it is not removable ("": it is)."""

    name: str
    layers: tuple[str, ...]
    removed: bool
    reason: str


@dataclass(frozen=True)
class LayerChange:
    """A layer's parameters before and after."""

    layer: str
    params_before: int
    params_after: int


@dataclass(frozen=True)
class ShrinkReport:
    """What `shrink` did, and how it was verified.

    `exact` means that the small model computes what the original computes with the removed
    units zeroed. If it is False, `reasons` names the operations that depend on the number of
    channels, and `error` is measured against the original with those computed over the kept
    channels. `against` says what `error` was measured against. `importance` and `ranking` are
    None if the target does not use them.
    """

    model: str
    target: dict[str, float] | str | None
    importance: str | None
    ranking: str | None
    round_to: int
    before: Cost
    after: Cost
    achieved: float | None
    groups: tuple[GroupChange, ...]
    layers: tuple[LayerChange, ...]
    exact: bool
    reasons: tuple[str, ...]
    error: float | None
    against: str
    frozen: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    plan: Plan
    blocks: tuple[BlockChange, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain dicts, lists, numbers and strings."""
        return json.loads(json.dumps(asdict(self)))

    def __str__(self) -> str:
        before, after = self.before, self.after
        judged = ", ".join(word for word in (self.importance, self.ranking) if word)
        lines = [
            f"{self.model}: shrunk to {self.target}" + (f" ({judged})" if judged else ""),
            f"  parameters {before.params:,} → {after.params:,} "
            f"({after.params / max(before.params, 1):.3f})",
        ]
        if before.macs and after.macs is not None:
            lines.append(
                f"  multiplications {before.macs:,} → {after.macs:,} "
                f"({after.macs / before.macs:.3f})"
            )
        lines.append(f"  units {before.units:,} → {after.units:,}")
        removed = [block for block in self.blocks if block.removed]
        if removed:
            lines.append(f"  {len(removed)} of {len(self.blocks)} residual blocks removed:")
            lines.extend(f"    {block.name}  ({span(block.layers)})" for block in removed)
            lines.extend(
                f"    {block.name} kept: {block.reason}"
                for block in self.blocks
                if block.reason and not block.removed
            )
        if self.error is None:
            lines.append("  not verified")
        else:
            against = self.against
            if not self.exact:
                against += ", its normalizations computed over the kept channels"
            lines.append(f"  differs by {self.error:.1e} of the output's scale from {against}")
        lines.extend(f"  not exact: {reason}" for reason in self.reasons)
        lines.extend(f"  note: {note}" for note in self.notes)
        width = max([len(change.name) for change in self.groups], default=0)
        lines.extend(
            f"    {change.name:<{width}}  {change.before:>5} → {change.after:<5} {change.kind}"
            for change in self.groups
            if change.before != change.after
        )
        return "\n".join(lines)
