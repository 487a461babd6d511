"""What to remove, as data: saved as JSON, and applied again to the same architecture."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfprune.errors import ArtifactError, OptionError, nearest, type_name
from tfprune.graph.residual_blocks import ResidualBlock
from tfprune.storage.files import parse_json, read_bytes, write_atomic
from tfprune.structure.groups.units import Units, vectors
from tfprune.structure.rebuild.cut import Cut


@dataclass(frozen=True)
class Removal:
    """The positions to remove from one axis that a layer makes."""

    layer: str
    axis: str
    size: int
    positions: tuple[int, ...]


@dataclass(frozen=True)
class BlockRemoval:
    """A residual block to remove, and its layers."""

    block: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Everything to remove from a model: blocks first, then units of the rest.

    `axes` are all axes that the layers of the rest make, as (layer, axis) in the order they run;
    with them the layers are found again if Keras has numbered their names differently.

    Example:
        >>> plan = Plan("net", (Removal("hidden", "units", 8, (1, 5)),))
        >>> Plan.from_json(plan.to_json()) == plan
        True
    """

    model: str
    removals: tuple[Removal, ...]
    blocks: tuple[BlockRemoval, ...] = ()
    axes: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain dicts, lists, numbers and strings."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Plan":
        """Return the plan from the result of `to_json`.

        Raises:
            OptionError: The data is not a plan.
        """
        try:
            removals = tuple(
                Removal(
                    str(item["layer"]),
                    str(item["axis"]),
                    _whole(item["size"]),
                    tuple(_whole(position) for position in item["positions"]),
                )
                for item in data["removals"]
            )
            blocks = tuple(
                BlockRemoval(str(item["block"]), tuple(str(name) for name in item["layers"]))
                for item in data.get("blocks", ())
            )
            axes = tuple((str(layer), str(axis)) for layer, axis in data.get("axes", ()))
            return cls(str(data["model"]), removals, blocks, axes)
        except KeyError as error:
            raise OptionError(f"this is not a plan of tfprune: it has no {error}") from None
        except (AttributeError, TypeError, ValueError) as error:
            raise OptionError(
                f"this is not a plan of tfprune, a dict as Plan.to_json returns it ({error}). "
                f"Received {type_name(data)}"
            ) from None

    def save(self, path: str | Path) -> None:
        """Write the plan as a JSON file."""
        write_atomic(path, json.dumps(self.to_json(), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """Read a plan from a JSON file.

        Raises:
            ArtifactError: The file is missing or not JSON.
            OptionError: The data is not a plan.
        """
        content = read_bytes(path, "save a plan to it first")
        try:
            data = parse_json(content)
        except ValueError as error:
            raise ArtifactError(f"{path}: not a plan that tfprune wrote ({error})") from None
        return cls.from_json(data)


def _whole(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        raise ValueError(f"sizes and positions are whole numbers, not {number!r}")
    return int(number)


def plan_of(cut: Cut) -> Plan:
    """Return the plan that removes the same blocks and units as a cut."""
    found, lines = cut.left, []
    producers = named_producers(found)
    for name, producer in producers.items():
        removed = np.flatnonzero(~cut.kept_mask[producer.start : producer.stop])
        if len(removed):
            layer, axis = name
            size = producer.stop - producer.start
            lines.append(Removal(layer, axis, size, tuple(int(position) for position in removed)))
    blocks = cut.branches.planned(cut.whole)
    removed_blocks = tuple(BlockRemoval(block.name, block.layers) for block in blocks)
    return Plan(found.model.name, tuple(lines), removed_blocks, tuple(producers))


def named_producers(found: Units) -> dict[tuple[str, str], Any]:
    """Return the axes that make ids, by layer name (its path if not unique) and key."""
    path = {id(call.op): call.path for call in reversed(found.graph.calls)}
    result: dict[tuple[str, str], Any] = {}
    for producer in found.flow.producers:
        name = (producer.op.name, producer.key)
        if name in result:
            name = (path.get(id(producer.op), producer.op.name), producer.key)
        while name in result:
            name = (name[0] + "'", name[1])
        result[name] = producer
    return result


def removed_by(found: Units, plan: Plan) -> np.ndarray:
    """Return the roots of the units that a plan removes.

    Raises:
        OptionError: The plan does not fit the model.
    """
    producers = named_producers(found)
    renamed = _renamed(plan, tuple(producers))
    roots: list[np.ndarray] = []
    for line in plan.removals:
        name = (line.layer, line.axis)
        producer = producers.get(renamed.get(name, name))
        size = None if producer is None else producer.stop - producer.start
        if producer is None or size != line.size:
            has = "no such axis" if size is None else f"{size} positions there"
            raise OptionError(
                f"plan for {plan.model!r}: {line.layer}.{line.axis} should have {line.size} "
                f"positions; model {found.model.name!r} has {has}"
            )
        bad = [p for p in line.positions if not 0 <= p < line.size]
        if bad:
            raise OptionError(f"plan: {line.layer}.{line.axis} has no position {bad[0]}")
        roots.append(found.root[producer.start + np.array(line.positions, int)])
    removed = np.unique(np.concatenate([np.zeros(0, int), *roots]))
    free = np.concatenate([np.zeros(0, int), *(group.units for group in found.groups)])
    frozen = np.setdiff1d(removed, free)
    if len(frozen):
        raise OptionError(
            f"plan for {plan.model!r}: {len(frozen)} of its units cannot be removed from "
            f"model {found.model.name!r}; look at tfprune.units(model)"
        )
    check_not_emptied(found, removed)
    return removed


def blocks_of(found: Units, plan: Plan) -> tuple[ResidualBlock, ...]:
    """Return the blocks that a plan removes.

    Raises:
        OptionError: The model has no such block, or the block has other layers.
    """
    known = {block.name: block for block in found.blocks}
    result = []
    for line in plan.blocks:
        block = known.get(line.block)
        if block is None:
            raise OptionError(
                f"plan for {plan.model!r}: model {found.model.name!r} has no block "
                f"{line.block!r}. {nearest(line.block, known)}"
            )
        # Keras may have numbered the names differently when the model was built.
        if [_base_name(name) for name in block.layers] != [_base_name(n) for n in line.layers]:
            raise OptionError(
                f"plan for {plan.model!r}: block {line.block!r} should have the layers "
                f"{', '.join(line.layers)}; in model {found.model.name!r} it has "
                f"{', '.join(block.layers)}"
            )
        result.append(block)
    return tuple(result)


def _renamed(
    plan: Plan, axes: tuple[tuple[str, str], ...]
) -> dict[tuple[str, str], tuple[str, str]]:
    """Return the names of a plan's axes in another model; {} if they are unchanged."""
    if set(plan.axes) == set(axes) or len(plan.axes) != len(axes):
        return {}
    pairs = dict(zip(plan.axes, axes, strict=True))
    same = all(
        _base_name(old[0]) == _base_name(new[0]) and old[1] == new[1] for old, new in pairs.items()
    )
    return pairs if same else {}


def _base_name(name: str) -> str:
    return re.sub(r"_\d+(?=[/.]|$)", "", name)


def check_not_emptied(found: Units, removed: np.ndarray) -> None:
    """Raise if a tensor would lose all its units, or if blocks would differ in size.

    Raises:
        OptionError: Names the layer that makes the units.
    """
    is_removed = np.zeros(found.flow.size, bool)
    is_removed[removed] = True
    for group in found.groups:
        counts = np.bincount(group.blocks[~is_removed[group.units]], minlength=group.block_count)
        if group.block_count > 1 and len(set(counts.tolist())) > 1:
            raise OptionError(
                f"plan: {group.name} must keep equal counts in its {group.block_count} blocks; "
                f"{counts.tolist()} would be kept"
            )
    for ids in vectors(found):
        if is_removed[found.root[ids]].all():
            at = next(p for p in found.flow.producers if p.start <= ids[0] < p.stop)
            raise OptionError(f"plan: it removes all units of {at.op.name}; keep at least one")
