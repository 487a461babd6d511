"""What can be removed from a model: units, in groups, with everything that holds them together."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.errors import ModelError
from tfprune.graph.read import Graph, read
from tfprune.graph.residual_blocks import Block, find_blocks
from tfprune.structure import rules
from tfprune.structure.ids.flow import Flow, Producer, components
from tfprune.structure.ids.propagate import carry
from tfprune.structure.ids.shapes import concrete_shapes, count
from tfprune.structure.ids.site import CHANNELS, HEADS, MAKE, Binding, Ids, Site
from tfprune.utils.keras_internals import all_layers

ONLY_ONE = ("layer", "backward_layer", "mirror", "cell")
"""Labels of what a layer wraps that has one such axis only, and needs no name for it."""


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
    """Units that are alike: made by the same axes, and therefore to be compared.

    `bundles` are the sets of units that can only go together: one unit each, unless as many
    must stay in each of several blocks.
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
        """How many times something can be removed."""
        return len(self.units) // self.block_count

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that make these units."""
        return tuple(dict.fromkeys(producer.op.name for producer in self.producers))


@dataclass(frozen=True)
class Frozen:
    """An axis that stays whole, and why."""

    layer: str
    size: int
    reason: str


@dataclass(frozen=True, eq=False)
class Units:
    """A model's prunable units, printable and iterable by group."""

    model: Any
    graph: Graph
    flow: Flow
    root: np.ndarray
    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> Group:
        return self.groups[index]

    @cached_property
    def sites(self) -> list[Site]:
        """The sites of the model's operations, in the order they are first called."""
        seen = dict.fromkeys(id(call.op) for call in self.graph.calls)
        return [self.flow.sites[key] for key in seen if key in self.flow.sites]

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The residual branches, in the order in which they run."""
        return find_blocks(self.graph)

    @cached_property
    def bindings(self) -> list[tuple[Site, Binding]]:
        """Every weight axis that carries ids."""
        return [(site, binding) for site in self.sites for binding in site.bindings]

    def alive(self, removed: np.ndarray) -> np.ndarray:
        """For each id, whether it lives when the units of these roots are removed."""
        dead = np.zeros(self.flow.size, bool)
        dead[removed] = True
        return ~dead[self.root]

    @property
    def prunable_share(self) -> float:
        """The share of the model's multiplications that lie in operations that can be cut."""
        from tfprune.structure.select.cost_meter import reachable

        return reachable(self)

    def __str__(self) -> str:
        from tfprune.structure.report import describe_units

        return describe_units(self)


def units(model: Any, *, input_shape: Any = None) -> Units:
    """What can be removed from a model: groups of units with their members, and what is frozen.

    Args:
        model: A built Keras 3 model of any kind.
        input_shape: The shape of the input without the batch (or a structure of shapes), for
            multiplications to be counted where the model leaves sizes open.

    Raises:
        ModelError: The model cannot be read, or holds quantised or LoRA layers.

    Example:
        >>> import keras
        >>> import tfprune
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"),
        ...                           keras.layers.Dense(2)])
        >>> [(group.name, len(group.units)) for group in tfprune.units(model)]
        [('hidden', 3)]
    """
    graph = read(model, lambda op: rules.find(op) is not None, input_shape=input_shape)
    refuse(graph)
    return units_of(model, graph, input_shape=input_shape)


def units_of(model: Any, graph: Graph, *, input_shape: Any = None) -> Units:
    """The units of a graph that was read from a model, or of what is left of one."""
    shapes = concrete_shapes(graph, input_shape)
    sizes, counts = count(graph, shapes)
    flow = Flow(graph, shapes, sizes)
    for ref in tree.flatten(graph.inputs):
        flow.axes_of[ref.index] = (None,) * len(flow.shape(ref))
    carry(flow, graph, counts)
    for ref in tree.flatten(graph.outputs):
        flow.freeze_axes(flow.axes(ref), "it is an output of the model")
    return _group(model, graph, flow)


def refuse(graph: Graph) -> None:
    """Raise for layers whose weights are not what their shape says."""
    for call in graph.calls:
        if not isinstance(call.op, keras.Layer):
            continue
        for layer in all_layers(call.op):
            if getattr(layer, "lora_enabled", False):
                raise ModelError(
                    f"layer {layer.name!r} has LoRA weights, which cannot be cut: merge them "
                    "first (save the model and load its weights into one without LoRA)"
                )
            if getattr(layer, "quantization_mode", None):
                raise ModelError(
                    f"layer {layer.name!r} is quantised ({layer.quantization_mode}) and cannot "
                    "be cut: shrink the float model first, then quantise"
                )


# grouping


def _group(model: Any, graph: Graph, flow: Flow) -> Units:
    root = components(flow.size, flow.edges)
    blocks = list(flow.blocks)
    while True:
        label = _labels(flow, root, blocks)
        crooked = [block for block in blocks if not _in_line(flow, root, label, block, blocks)]
        if not crooked:
            break
        # Blocks that cut across each other: their columns go together, whatever block they are in.
        for block in crooked:
            flow.tie(block)
        blocks = [block for block in blocks if not any(block is other for other in crooked)]
        root = components(flow.size, flow.edges)
    frozen_ids = np.zeros(flow.size, bool)
    for ids, _ in flow.frozen:
        frozen_ids[root[ids]] = True
    live = np.unique(root)
    frozen_label = np.zeros(int(label.max()) + 1 if label.size else 1, bool)
    for block in blocks:
        # Equal counts can be kept only if every unit of the blocks may go.
        if frozen_ids[root[block]].any():
            frozen_label[label[root[block.ravel()]]] = True
            why = "it shares blocks of equal size with something that stays"
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
        makers = [flow.producers[i] for i in np.unique(owner[ids]) if i >= 0]
        reasons = tuple(dict.fromkeys(changed.get(int(number), [])))
        kinds = {maker.kind for maker in makers}
        kind = HEADS if HEADS in kinds else (kinds.pop() if len(kinds) == 1 else CHANNELS)
        groups.append(
            Group(
                len(groups),
                _name(makers),
                kind,
                mine,
                _block_of(root, mine, blocks),
                tuple(makers),
                tuple(members.get(int(number), ())),
                not reasons,
                reasons,
            )
        )
    return Units(model, graph, flow, root, tuple(groups), _frozen(flow, root, label, frozen_ids))


def _name(makers: list[Producer]) -> str:
    """The first layer that makes the units; with its axis where a layer has several."""
    first = makers[0]
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
    """A number for each root: equal for units made by the same axes, or bound by blocks."""
    rng = np.random.default_rng(0)
    owner = _producer_of(flow)
    salt = rng.integers(1, 2**62, len(flow.producers) + 1)
    pairs = np.unique(np.stack([root, owner]), axis=1) if flow.size else np.zeros((2, 0), int)
    signature = np.zeros(flow.size, np.int64)
    np.add.at(signature, pairs[0], salt[pairs[1]])
    _, label = np.unique(signature, return_inverse=True)
    label = label.reshape(-1)
    # Units of one block constraint belong together even if several layers make them.
    merge = np.arange(int(label.max()) + 1 if label.size else 0)
    for block in blocks:
        mine = np.unique(merge[label[root[block.ravel()]]])
        merge[np.isin(merge, mine)] = mine[0]
    return merge[label] if label.size else label


def _in_line(
    flow: Flow, root: np.ndarray, label: np.ndarray, block: Ids, blocks: list[Ids]
) -> bool:
    """Tell whether a block constraint fits the others on the same units.

    Every unit must stand in one block of it, all units of its group must be in it, and the
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
    """The finest block that each unit of a group stands in."""
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
    """One line for each made axis that stays, in full or in part, with the first reason."""
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


def vectors(found: Units) -> list[Ids]:
    """Every distinct vector of ids that a tensor or weight axis has: none may be emptied."""
    seen: dict[bytes, Ids] = {}
    for axes in found.flow.axes_of.values():
        for ids in axes:
            if ids is not None:
                seen.setdefault(np.ascontiguousarray(ids).tobytes(), ids)
    for _, binding in found.bindings:
        if binding.ids.ndim == 1 and binding.role == MAKE:
            seen.setdefault(np.ascontiguousarray(binding.ids).tobytes(), binding.ids)
    return list(seen.values())
