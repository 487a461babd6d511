"""The target of `shrink`: a cost and how much of it to keep."""

import math
from dataclasses import dataclass

import numpy as np

from tfprune.errors import OptionError, nearest

COSTS = ("blocks", "channels", "macs", "params", "tflite_bytes")


class OutOfReach(OptionError):
    """The options do not allow the target; `least` is the least cost that they allow."""

    def __init__(self, message: str, least: float) -> None:
        super().__init__(message)
        self.least = least


@dataclass(frozen=True)
class Target:
    """A cost and its limit: a share of what the model has now (up to 1), or an amount.

    For blocks it is the share to remove, of the removable ones.
    """

    cost: str
    value: float

    @property
    def is_share(self) -> bool:
        """Whether the value is a share and not an amount."""
        return self.value <= 1

    def __str__(self) -> str:
        return f"{self.cost} {self.value:g}" if self.is_share else f"{self.cost} {self.value:,.0f}"

    def limit(self, now: float) -> float:
        """Return the largest allowed cost, for a model that now costs `now`."""
        return self.value * now if self.is_share else self.value


def check_target(target: object) -> None:
    """Check a target in a recipe: a cost as in `parse_target`, or "zeros".

    Raises:
        OptionError: It is neither.

    Example:
        >>> check_target("zeros")
    """
    if target == "gates":
        raise OptionError('no stage of a run adds gates. Close units with [prune] pattern = '
                          '"channel" and use "zeros"')  # fmt: skip
    if target != "zeros":
        parse_target(target)


def parse_target(target: object) -> Target:
    """Parse a target such as `{"macs": 0.5}`.

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
            f"shrink target {cost}: expected a share in (0, 1] to keep, or an amount. "
            f"Received {value!r}"
        )
    if cost == "blocks" and not (positive and value <= 1):
        hint = f". {per_cent(value)}" if positive and per_cent(value) else ""
        raise OptionError(
            "shrink target blocks: expected the share in (0, 1] of the removable blocks to "
            f"remove. Received {value!r}{hint}"
        )
    return Target(cost, float(value))


def per_cent(value: float) -> str:
    """Return a hint for a value that may be meant as per cent."""
    return f"Did you mean {value / 100:g}?" if 1 < value < 100 else ""
