"""The layers of a model that train under rounding, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras

from tfprune.deploy.qat.rounding.layer_rounding import (
    DEFAULT,
    LayerRounding,
    Ranges,
    WeightRounding,
    check_ranges,
    rule_for,
)
from tfprune.errors import OptionError
from tfprune.graph.graph import Graph
from tfprune.utils.filters import Filters, as_filters, check_used, choose, matches

# Whose kernels the runtime takes in fewer than 8 bits.
NARROW = (
    keras.layers.Dense,
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
)


@dataclass(frozen=True)
class Choices:
    """How each operation of a flat model is rounded.

    Attributes:
        roundings: Of those that are, by name.
        ranges: How the ranges of inputs and of unrounded tensors follow the batches.
    """

    roundings: Mapping[str, LayerRounding]
    ranges: Ranges = "widening"

    def __post_init__(self) -> None:
        if not self.roundings:
            raise OptionError("no layer of the model is left to be rounded")

    def __getitem__(self, name: str) -> LayerRounding:
        return self.roundings.get(name, DEFAULT)

    def __contains__(self, name: object) -> bool:
        return name in self.roundings


Choose = Callable[[Graph], Choices]


def chosen_by(
    only: Filters[Any], skip: Filters[Any], bits: int | Mapping[str, int], ranges: Ranges
) -> Choose:
    """Return a function that makes the choices of `quantize_aware` for a flat model.

    Raises:
        OptionError: An argument is not among the allowed values.
    """
    kept, left = as_filters("only", only), as_filters("skip", skip)
    every, by_name = (8, bits) if isinstance(bits, Mapping) else (bits, {})
    as_filters("bits", tuple(by_name))
    for number in (every, *by_name.values()):
        WeightRounding(number)
    check_ranges(ranges)

    def choices(flat: Graph) -> Choices:
        operations = list({call.op.name: call.op for call in flat.calls}.values())

        def names(op: Any) -> list[str]:
            return list(dict.fromkeys([op.name, flat.paths[op.name]]))

        check_used(operations, names, kept, left)
        for pattern in by_name:
            _check_narrow(pattern, [op for op in operations if matches(pattern, op, names(op))])
        found = {}
        for op, wanted in zip(operations, choose(operations, names, kept, left), strict=True):
            if wanted:
                rounding = rule_for(op)
                number = next((by_name[p] for p in by_name if matches(p, op, names(op))), every)
                if number != DEFAULT.bits and type(op) in NARROW:
                    rounding = replace(rounding, bits=number)
                if rounding.ranges == DEFAULT.ranges:
                    rounding = replace(rounding, ranges=ranges)
                found[op.name] = rounding
        return Choices(found, ranges)

    return choices


def _check_narrow(pattern: Any, operations: list[Any]) -> None:
    known = ", ".join(kind.__name__ for kind in NARROW)
    if not any(type(op) in NARROW for op in operations):
        names = ", ".join(f"{op.name} ({type(op).__name__})" for op in operations) or "nothing"
        raise OptionError(
            f"bits: {pattern!r} matches {names}; the runtime takes fewer than 8 bits for {known} "
            "only. Leave it out"
        )
