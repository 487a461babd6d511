"""The units of a model: what can be removed, in groups."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.errors import ModelError
from tfprune.graph.graph import Graph
from tfprune.graph.inputs import InputShape
from tfprune.graph.read import read
from tfprune.graph.residual_blocks import ResidualBlock, find_blocks
from tfprune.keras_support.internals import all_layers
from tfprune.keras_support.models import refuse_quantized
from tfprune.structure import rules
from tfprune.structure.groups.grouping import Frozen, Group, group_units
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import MAKE, Binding, Ids, Site
from tfprune.structure.ids.propagate import concrete_shapes, count, propagate


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
    def blocks(self) -> tuple[ResidualBlock, ...]:
        """The residual branches, in the order in which they run."""
        return find_blocks(self.graph)

    @cached_property
    def bindings(self) -> list[tuple[Site, Binding]]:
        """All weight axes with ids."""
        return [(site, binding) for site in self.sites for binding in site.bindings]

    def kept_mask(self, removed: np.ndarray) -> np.ndarray:
        """Return, for each id, whether it is kept when the units of these roots are removed."""
        is_removed = np.zeros(self.flow.size, bool)
        is_removed[removed] = True
        return ~is_removed[self.root]

    @property
    def prunable_share(self) -> float:
        """The share of the model's multiplications that are in operations that can be cut."""
        return reachable(self)

    def __str__(self) -> str:
        return describe_units(self)


def units(model: keras.Model, *, input_shape: InputShape | None = None) -> Units:
    """Return the units of a model in groups, and its frozen channels.

    Args:
        model: A built Keras 3 model of any kind.
        input_shape: The shape of the input without the batch (or a structure of shapes), to count
            multiplications if the model leaves sizes open.

    Raises:
        ModelError: The model cannot be read, or has quantized or LoRA layers.

    Example:
        >>> import keras
        >>> import tfprune
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"),
        ...                           keras.layers.Dense(2)])
        >>> [(group.name, len(group.units)) for group in tfprune.units(model)]
        [('hidden', 3)]
    """
    if isinstance(model, keras.Model):
        refuse_quantized(model)
    graph = read(model, lambda op: rules.find(op) is not None, input_shape=input_shape)
    refuse_lora(graph)
    return units_of(model, graph, input_shape=input_shape)


def units_of(model: Any, graph: Graph, *, input_shape: Any = None) -> Units:
    """Return the units of a graph that was read from a model, or of a part of it."""
    shapes = concrete_shapes(graph, input_shape)
    sizes, counts = count(graph, shapes)
    flow = Flow(graph, shapes, sizes)
    for ref in tree.flatten(graph.inputs):
        flow.axes_of[ref.index] = (None,) * len(flow.shape(ref))
    propagate(flow, graph, counts)
    for ref in tree.flatten(graph.outputs):
        flow.freeze_axes(flow.axes(ref), "it is an output of the model")
    return Units(model, graph, flow, *group_units(flow))


def refuse_lora(graph: Graph) -> None:
    """Raise for layers with LoRA weights."""
    for call in graph.calls:
        if not isinstance(call.op, keras.Layer):
            continue
        for layer in all_layers(call.op):
            if getattr(layer, "lora_enabled", False):
                raise ModelError(
                    f"layer {layer.name!r} has LoRA weights, which cannot be cut: merge them "
                    "first (save the model and load its weights into one without LoRA)"
                )


def vectors(found: Units) -> list[Ids]:
    """Return the distinct vectors of ids of all tensor and weight axes; none may become empty."""
    seen: dict[bytes, Ids] = {}
    for axes in found.flow.axes_of.values():
        for ids in axes:
            if ids is not None:
                seen.setdefault(np.ascontiguousarray(ids).tobytes(), ids)
    for _, binding in found.bindings:
        if binding.ids.ndim == 1 and binding.role == MAKE:
            seen.setdefault(np.ascontiguousarray(binding.ids).tobytes(), binding.ids)
    return list(seen.values())


def reachable(found: Units) -> float:
    """Return the share of multiplications in calls that removable units affect (NaN: unknown)."""
    free = np.zeros(found.flow.size, bool)
    for group in found.groups:
        free[group.units] = True
    free = free[found.root]
    total = reach = 0.0
    for cost in found.flow.costs:
        total += cost.now
        if any(free[vector].any() for vector in cost.vectors):
            reach += cost.now
    return reach / total if total else 0.0


def span(layers: tuple[str, ...]) -> str:
    """Return the layers of a block, from the first to the last.

    Example:
        >>> span(("up", "norm", "down")), span(("up",)), span(())
        ('up … down, 3 layers', 'up', 'no weights')
    """
    if len(layers) < 2:
        return layers[0] if layers else "no weights"
    return f"{layers[0]} … {layers[-1]}, {len(layers)} layers"


def describe_units(found: "Units") -> str:
    """Return the units of a model as a table."""
    share = found.prunable_share
    reach = "unknown" if math.isnan(share) else f"{share:.1%}"
    lines = [
        f"{found.model.name}: {sum(len(g.units) for g in found.groups):,} units in "
        f"{len(found.groups)} groups; prunable share of multiplications: {reach}"
    ]
    width = max([len(group.name) for group in found.groups], default=0)
    for group in found.groups:
        exact = "" if group.exact else "  not exact"
        blocks = f" in {group.block_count} blocks" if group.block_count > 1 else ""
        lines.append(
            f"  {group.name:<{width}}  {len(group.units):>5} {group.kind}{blocks}  "
            f"{len(group.members)} weight axes{exact}"
        )
    for line in found.frozen:
        lines.append(f"  {line.layer}: {line.size} kept ({line.reason})")
    if found.blocks:
        can = sum(block.removable for block in found.blocks)
        lines.append(f"  {len(found.blocks)} residual blocks, {can} of them removable")
        lines.extend(
            f"    {block.name}  ({span(block.layers)})"
            + (f": kept ({block.reason})" if block.reason else "")
            for block in found.blocks
        )
    lines.extend(f"  note: {note}" for note in found.graph.notes)
    return "\n".join(lines)
