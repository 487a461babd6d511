"""What is asked for: a cost and how much of it may stay."""

import math
from dataclasses import dataclass

import numpy as np

from tfprune.errors import OptionError, nearest

COSTS = ("blocks", "channels", "macs", "params", "tflite_bytes")


class OutOfReach(OptionError):
    """More is asked for than options let go; `least` is what stays at least."""

    def __init__(self, message: str, least: float) -> None:
        super().__init__(message)
        self.least = least


@dataclass(frozen=True)
class Target:
    """A cost and its limit: a share of what the model has now (up to 1), or an amount.

    Of blocks alone it is the share that goes, since those that must stay do not count.
    """

    cost: str
    value: float

    @property
    def is_share(self) -> bool:
        """Tell a share from an amount."""
        return self.value <= 1

    def __str__(self) -> str:
        return f"{self.cost} {self.value:g}" if self.is_share else f"{self.cost} {self.value:,.0f}"

    def limit(self, now: float) -> float:
        """The most that may stay, in units of the cost."""
        return self.value * now if self.is_share else self.value


def check_target(target: object) -> None:
    """Check what a recipe may ask for: a cost as `parse_target` takes it, or "zeros".

    Raises:
        OptionError: It is neither.

    Example:
        >>> check_target("zeros")
    """
    if target == "gates":
        raise OptionError('no stage of a run places gates. Close units with [prune] pattern = '
                          '"channel" and take "zeros"')  # fmt: skip
    if target != "zeros":
        parse_target(target)


def parse_target(target: object) -> Target:
    """Read `{"macs": 0.5}`.

    Raises:
        OptionError: It is not one known cost with a positive number.

    Example:
        >>> parse_target({"macs": 0.5}).limit(1000)
        500.0
        >>> parse_target({"blocks": 0.25})
        Target(cost='blocks', value=0.25)
    """
    wanted = 'a dict of one cost, as {"macs": 0.5}, or "zeros" or "gates"'
    if not isinstance(target, dict) or len(target) != 1:
        raise OptionError(f"shrink target: expected {wanted}. Received {target!r}")
    ((cost, value),) = target.items()
    if cost not in COSTS:
        raise OptionError(f"shrink target: unknown cost {cost!r}. {nearest(str(cost), COSTS)}")
    number = isinstance(value, int | float | np.integer | np.floating)
    positive = number and not isinstance(value, bool) and 0 < value < math.inf
    if not positive and cost != "blocks":
        raise OptionError(
            f"shrink target {cost}: expected a share in (0, 1] of what stays, or an amount. "
            f"Received {value!r}"
        )
    if cost == "blocks" and not (positive and value <= 1):
        hint = f". {per_cent(value)}" if positive and per_cent(value) else ""
        raise OptionError(
            "shrink target blocks: expected the share in (0, 1] of the removable blocks that "
            f"goes. Received {value!r}{hint}"
        )
    return Target(cost, float(value))


def per_cent(value: float) -> str:
    """What to say to one who may have meant per cent."""
    return f"Did you mean {value / 100:g}?" if 1 < value < 100 else ""
