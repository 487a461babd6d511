"""Grouping units: those made by the same axes or bound by the same constraints."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfprune.structure.ids.flow import Flow, Producer
from tfprune.structure.ids.ids import CHANNELS, HEADS, Ids

ONLY_ONE = ("layer", "backward_layer", "mirror", "cell")
"""Labels of wrapped layers that have one such axis only, and are left out of names."""


@dataclass(frozen=True)
class Member:
    """An axis of a weight that a group's units have positions on."""

    layer: str
    weight: str
    axis: int
    positions: int
    role: str


@dataclass(frozen=True, eq=False)
class Group:
    """Units made by the same axes, whose importances are therefore comparable.

    Units are removed in bundles: of one unit each, unless several blocks must keep equal counts.
    Then a bundle has one unit of each block.
    """

    index: int
    name: str
    kind: str
    units: np.ndarray
    blocks: np.ndarray
    producers: tuple[Producer, ...]
    members: tuple[Member, ...]
    exact: bool
    reasons: tuple[str, ...]

    @property
    def block_count(self) -> int:
        """How many blocks must keep equal counts (1: none)."""
        return int(self.blocks.max()) + 1

    @property
    def bundle_count(self) -> int:
        """How many bundles the group has."""
        return len(self.units) // self.block_count

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that make these units."""
        return tuple(dict.fromkeys(producer.op.name for producer in self.producers))


@dataclass(frozen=True)
class Frozen:
    """An axis that is kept whole, and why."""

    layer: str
    size: int
    reason: str


def group_units(flow: Flow) -> tuple[np.ndarray, tuple[Group, ...], tuple[Frozen, ...]]:
    """Return the root of each id, the groups of removable units, and the frozen axes."""
    root = components(flow.size, flow.edges)
    blocks = list(flow.blocks)
    while True:
        label = _labels(flow, root, blocks)
        misaligned = [block for block in blocks if not _is_nested(flow, root, label, block, blocks)]
        if not misaligned:
            break
        # Block constraints that do not nest: tie their columns, so that they are removed together.
        for block in misaligned:
            flow.tie(block)
        blocks = [block for block in blocks if not any(block is other for other in misaligned)]
        root = components(flow.size, flow.edges)
    frozen_ids = np.zeros(flow.size, bool)
    for ids, _ in flow.frozen:
        frozen_ids[root[ids]] = True
    live = np.unique(root)
    frozen_label = np.zeros(int(label.max()) + 1 if label.size else 1, bool)
    for block in blocks:
        # Equal counts are possible only if every unit of the blocks is removable.
        if frozen_ids[root[block]].any():
            frozen_label[label[root[block.ravel()]]] = True
            why = "it shares blocks of equal size with frozen channels"
            flow.freeze(block[~frozen_ids[root[block]]], why)
    free = live[~frozen_ids[live] & ~frozen_label[label[live]]]
    changed: dict[int, list[str]] = {}
    for ids, why in flow.changed:
        for number in np.unique(label[root[ids]]):
            changed.setdefault(int(number), []).append(why)
    owner = _producer_of(flow)
    members = _members(flow, root, label)
    groups: list[Group] = []
    numbers, first = np.unique(label[free], return_index=True)
    for number in numbers[np.argsort(free[first])]:
        mine = free[label[free] == number]
        ids = np.flatnonzero(label[root] == number)
        producers = [flow.producers[i] for i in np.unique(owner[ids]) if i >= 0]
        reasons = tuple(dict.fromkeys(changed.get(int(number), [])))
        kinds = {producer.kind for producer in producers}
        kind = HEADS if HEADS in kinds else (kinds.pop() if len(kinds) == 1 else CHANNELS)
        groups.append(
            Group(
                len(groups),
                _name(producers),
                kind,
                mine,
                _block_of(root, mine, blocks),
                tuple(producers),
                tuple(members.get(int(number), ())),
                not reasons,
                reasons,
            )
        )
    return root, tuple(groups), _frozen(flow, root, label, frozen_ids)


def _name(producers: list[Producer]) -> str:
    """Return the first layer that makes the units, with the axis if the layer has several."""
    first = producers[0]
    *labels, axis = first.key.replace("output_shape ", "").split(".")
    if axis in ("filters", "units", "output_dim"):
        labels = [label for label in labels if label not in ONLY_ONE]
        return ".".join([first.op.name, *labels])
    return ".".join([first.op.name, *labels, axis])


def _producer_of(flow: Flow) -> np.ndarray:
    owner = np.full(flow.size, -1)
    for index, producer in enumerate(flow.producers):
        owner[producer.start : producer.stop] = index
    return owner


def _labels(flow: Flow, root: np.ndarray, blocks: list[Ids]) -> np.ndarray:
    """Return a number for each root: equal for units made by the same axes, or bound by blocks."""
    rng = np.random.default_rng(0)
    owner = _producer_of(flow)
    salt = rng.integers(1, 2**62, len(flow.producers) + 1)
    pairs = np.unique(np.stack([root, owner]), axis=1) if flow.size else np.zeros((2, 0), int)
    signature = np.zeros(flow.size, np.int64)
    np.add.at(signature, pairs[0], salt[pairs[1]])
    _, label = np.unique(signature, return_inverse=True)
    label = label.reshape(-1)
    # Units of one block constraint form one group even if several layers make them.
    merge = np.arange(int(label.max()) + 1 if label.size else 0)
    for block in blocks:
        mine = np.unique(merge[label[root[block.ravel()]]])
        merge[np.isin(merge, mine)] = mine[0]
    return merge[label] if label.size else label


def _is_nested(
    flow: Flow, root: np.ndarray, label: np.ndarray, block: Ids, blocks: list[Ids]
) -> bool:
    """Return whether a block constraint nests with the others on the same units.

    Every unit must be in one block of it, all units of its group must be in it, and the
    blocks of one constraint must be unions of those of another.
    """
    rows = root[block]
    flat = rows.ravel()
    if len(np.unique(flat)) != len(flat):
        return False
    group = np.unique(label[flat])
    everyone = np.unique(root[np.isin(label[root], group)])
    if len(everyone) != len(flat):
        return False
    place = np.full(flow.size, -1)
    place[flat] = np.repeat(np.arange(len(rows)), rows.shape[1])
    for other in blocks:
        theirs = root[other]
        if other is block or not np.isin(theirs.ravel(), flat).all():
            continue
        if len(other) < len(block):
            continue
        if (place[theirs] != place[theirs[:, :1]]).any():
            return False
    return True


def _block_of(root: np.ndarray, mine: np.ndarray, blocks: list[Ids]) -> np.ndarray:
    """Return the block of each unit of a group, by the finest constraint."""
    result = np.zeros(len(mine), int)
    finest = 1
    for block in blocks:
        rows = root[block]
        if len(rows) > finest and np.isin(rows.ravel(), mine).all():
            finest = len(rows)
            place = np.zeros(len(root), int)
            place[rows] = np.arange(len(rows))[:, None]
            result = place[mine]
    return result


def _members(flow: Flow, root: np.ndarray, label: np.ndarray) -> dict[int, list[Member]]:
    found: dict[int, list[Member]] = {}
    seen = dict.fromkeys(id(call.op) for call in flow.graph.calls)
    for site in (flow.sites[key] for key in seen if key in flow.sites):
        for binding in site.bindings:
            numbers, counts = np.unique(label[root[binding.ids]], return_counts=True)
            for number, held in zip(numbers, counts, strict=True):
                member = Member(
                    site.op.name, binding.weight.name, binding.axis, int(held), binding.role
                )
                found.setdefault(int(number), []).append(member)
    return found


def _frozen(
    flow: Flow, root: np.ndarray, label: np.ndarray, frozen: np.ndarray
) -> tuple[Frozen, ...]:
    """Return each axis that is frozen, in full or in part, with the first reason."""
    why: dict[int, str] = {}
    for ids, reason in flow.frozen:
        for unit in np.unique(root[ids]):
            why.setdefault(int(unit), reason)
    lines = []
    for producer in flow.producers:
        mine = root[producer.start : producer.stop]
        held = [int(unit) for unit in np.unique(mine) if int(unit) in why]
        if held:
            count = int(np.isin(mine, held).sum())
            lines.append(Frozen(producer.op.name, count, why[held[0]]))
    return tuple(lines)


def components(size: int, edges: Sequence[tuple[Ids, Ids]]) -> np.ndarray:
    """Return the smallest id that each id is joined to, directly or indirectly.

    Example:
        >>> components(5, [(np.array([3, 1]), np.array([4, 3]))]).tolist()
        [0, 1, 2, 1, 1]
    """
    root = np.arange(size)
    if not edges:
        return root
    a = np.concatenate([edge[0] for edge in edges])
    b = np.concatenate([edge[1] for edge in edges])
    while True:
        ra, rb = root[a], root[b]
        apart = ra != rb
        if not apart.any():
            return root
        low, high = np.minimum(ra, rb)[apart], np.maximum(ra, rb)[apart]
        np.minimum.at(root, high, low)
        while True:
            jumped = root[root]
            if np.array_equal(jumped, root):
                break
            root = jumped
