"""What is to be removed, as data: JSON out, JSON in, applied again to the same architecture."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfprune.errors import ArtifactError, OptionError, nearest, type_name
from tfprune.graph.residual_blocks import Block
from tfprune.storage.files import parse_json, read_bytes, write_atomic
from tfprune.structure.groups.units import Units, vectors
from tfprune.structure.rebuild.cut import Cut


@dataclass(frozen=True)
class Removal:
    """Positions to remove of one axis that a layer makes."""

    layer: str
    axis: str
    size: int
    positions: tuple[int, ...]


@dataclass(frozen=True)
class BlockRemoval:
    """A residual block to take out whole, and the layers that make it."""

    block: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that is to be removed from a model: blocks first, then units of what is left.

    `axes` are all axes that the layers of what is left make, as (layer, axis) in the order they
    run: by them the layers are found again where Keras has counted further in their names.

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
        """The plan as plain dicts, lists, numbers and strings."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Plan":
        """The plan from what `to_json` gave.

        Raises:
            OptionError: It is something else.
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
                f"this is not a plan of tfprune, a dict as Plan.to_json gives it ({error}). "
                f"Received {type_name(data)}"
            ) from None

    def save(self, path: str | Path) -> None:
        """Write the plan as a JSON file."""
        write_atomic(path, json.dumps(self.to_json(), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """Read a plan from a JSON file.

        Raises:
            ArtifactError: The file is missing or no JSON.
            OptionError: It is no plan.
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
    """The plan that takes out the same blocks and units."""
    found, lines = cut.left, []
    producers = named_producers(found)
    for name, producer in producers.items():
        gone = np.flatnonzero(~cut.alive[producer.start : producer.stop])
        if len(gone):
            layer, axis = name
            size = producer.stop - producer.start
            lines.append(Removal(layer, axis, size, tuple(int(position) for position in gone)))
    blocks = cut.branches.planned(cut.whole)
    gone_whole = tuple(BlockRemoval(block.name, block.layers) for block in blocks)
    return Plan(found.model.name, tuple(lines), gone_whole, tuple(producers))


def named_producers(found: Units) -> dict[tuple[str, str], Any]:
    """Every axis that makes ids, by its layer's name (its path where two share one) and key."""
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
    """The roots of the units that a plan removes.

    Raises:
        OptionError: The plan does not fit the model.
    """
    producers = named_producers(found)
    renamed = _renamed(plan, tuple(producers))
    gone: list[np.ndarray] = []
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
        gone.append(found.root[producer.start + np.array(line.positions, int)])
    removed = np.unique(np.concatenate([np.zeros(0, int), *gone]))
    free = np.concatenate([np.zeros(0, int), *(group.units for group in found.groups)])
    stuck = np.setdiff1d(removed, free)
    if len(stuck):
        raise OptionError(
            f"plan for {plan.model!r}: {len(stuck)} of its units cannot be removed from "
            f"model {found.model.name!r}; look at tfprune.units(model)"
        )
    check_not_emptied(found, removed)
    return removed


def blocks_of(found: Units, plan: Plan) -> tuple[Block, ...]:
    """The blocks that a plan takes out.

    Raises:
        OptionError: The model has no such block, or it is made of other layers.
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
        # Keras may have counted further when the model was built.
        if [_uncounted(name) for name in block.layers] != [_uncounted(n) for n in line.layers]:
            raise OptionError(
                f"plan for {plan.model!r}: block {line.block!r} should be made of "
                f"{', '.join(line.layers)}; in model {found.model.name!r} it is of "
                f"{', '.join(block.layers)}"
            )
        result.append(block)
    return tuple(result)


def _renamed(
    plan: Plan, axes: tuple[tuple[str, str], ...]
) -> dict[tuple[str, str], tuple[str, str]]:
    """What the axes of a plan are called in a model that was built later; {} if as they were."""
    if set(plan.axes) == set(axes) or len(plan.axes) != len(axes):
        return {}
    pairs = dict(zip(plan.axes, axes, strict=True))
    same = all(
        _uncounted(old[0]) == _uncounted(new[0]) and old[1] == new[1] for old, new in pairs.items()
    )
    return pairs if same else {}


def _uncounted(name: str) -> str:
    return re.sub(r"_\d+(?=[/.]|$)", "", name)


def check_not_emptied(found: Units, removed: np.ndarray) -> None:
    """Raise if nothing would be left of some tensor, or if blocks would differ in size.

    Raises:
        OptionError: Naming the layer that makes the units.
    """
    gone = np.zeros(found.flow.size, bool)
    gone[removed] = True
    for group in found.groups:
        counts = np.bincount(group.blocks[~gone[group.units]], minlength=group.block_count)
        if group.block_count > 1 and len(set(counts.tolist())) > 1:
            raise OptionError(
                f"plan: {group.name} must keep as many units in each of its "
                f"{group.block_count} blocks; {counts.tolist()} would stay"
            )
    for ids in vectors(found):
        if gone[found.root[ids]].all():
            at = next(p for p in found.flow.producers if p.start <= ids[0] < p.stop)
            raise OptionError(f"plan: it would empty {at.op.name}; leave it at least one unit")
