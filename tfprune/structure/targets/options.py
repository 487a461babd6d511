"""The options of `shrink`, checked once, and the registry of the kinds of target."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tfprune.errors import OptionError
from tfprune.graph.inputs import InputShape
from tfprune.keras_support.losses import Loss
from tfprune.structure.groups.units import Units
from tfprune.structure.rebuild.cut import Cut
from tfprune.structure.select.importance import IMPORTANCES
from tfprune.structure.select.plan import Plan
from tfprune.structure.select.ranking import RANKINGS
from tfprune.structure.select.target import Target, parse_target
from tfprune.utils.filters import Filter
from tfprune.utils.registry import Registry

CLOSED = ("zeros", "gates")
"""The targets that remove closed units and branches."""


@dataclass(frozen=True, eq=False)
class ShrinkOptions:
    """The options of `shrink`, with the same names.

    Raises:
        OptionError: An option is out of its range, or two cannot be combined.
    """

    target: dict[str, float] | str | Plan | None
    importance: str | Callable[[np.ndarray], np.ndarray]
    ranking: str
    data: Any
    loss: Loss | None
    round_to: int
    only: tuple[Filter[Any], ...]
    skip: tuple[Filter[Any], ...]
    ratios: Mapping[str, float] | None
    cap: float
    heads: bool
    verify: bool
    repair: Any
    seed: int
    input_shape: InputShape | None

    def __post_init__(self) -> None:
        if self.kind == "cost" and self.cost is None and not self.ratios:
            raise OptionError("shrink target: None is allowed only with ratios=")
        self._check_ranges()
        self._check_together()

    @cached_property
    def cost(self) -> Target | None:
        """The cost and its limit, or the share of blocks; None for other kinds of target."""
        if self.target is None or isinstance(self.target, Plan) or self.target in CLOSED:
            return None
        return parse_target(self.target)

    @cached_property
    def kind(self) -> str:
        """The name in `TARGETS` of the kind of target."""
        if isinstance(self.target, Plan):
            return "plan"
        if self.target in CLOSED:
            return "closed"
        return "blocks" if self.cost is not None and self.cost.cost == "blocks" else "cost"

    def _check_ranges(self) -> None:
        if not callable(self.importance):
            IMPORTANCES[self.importance]
        RANKINGS[self.ranking]
        for option, least in (("round_to", 1), ("seed", 0)):
            value = getattr(self, option)
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not whole or value < least:
                raise OptionError(
                    f"shrink {option}: expected an integer of at least {least}, not {value!r}"
                )
        cap = self.cap
        if isinstance(cap, bool) or not isinstance(cap, int | float) or not 0 < cap <= 1:
            raise OptionError(f"shrink cap: expected a share in (0, 1]. Received {cap!r}")
        for option in ("heads", "verify"):
            value = getattr(self, option)
            if not isinstance(value, bool | np.bool_):
                raise OptionError(f"shrink {option}: expected True or False. Received {value!r}")
        if self.ratios is not None and not isinstance(self.ratios, Mapping):
            raise OptionError(
                'shrink ratios: expected the share to keep, by name, as {"conv": 0.5}. '
                f"Received {self.ratios!r}"
            )

    def _check_together(self) -> None:
        if self.kind == "blocks" and (self.ratios or self.repair is not None):
            raise OptionError(
                "shrink target blocks: ratios= and repair= apply to channels. Shrink twice: "
                "first by blocks, then by channels"
            )
        name = self.target if self.kind == "closed" else self.kind
        if self.kind in ("closed", "plan") and (self.only or self.skip or self.ratios):
            raise OptionError(
                f"shrink target {name}: it determines what is removed: leave out only=, skip= "
                "and ratios="
            )
        if self.kind == "closed" and self.repair is not None:
            raise OptionError(
                f"shrink target {name}: it is exact and needs no repair: leave out repair="
            )


TargetKind = Callable[[Units, ShrinkOptions], Cut]
"""A function that returns the cut that meets the options."""

TARGETS: Registry[TargetKind] = Registry("kind of target")
