"""Channel ids, and the weight axes that are indexed by them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Ids = np.ndarray


Axes = tuple[Ids | None, ...]


CHANNELS, HEADS, WIDTH = "channels", "heads", "width"
"""What a made axis counts: `round_to` is for channels and widths, never for heads."""


MAKE, USE, ALONG = "make", "use", "along"
"""A weight axis makes ids, uses them up (a silenced unit is zero here), or runs along them."""


class Keep:
    """Which ids live. `count` and `mask` are what rules edit sizes and constants with."""

    def __init__(self, alive: np.ndarray) -> None:
        self.alive = alive

    def mask(self, ids: Ids) -> np.ndarray:
        """True at each position that stays."""
        return self.alive[ids]

    def count(self, ids: Ids) -> int:
        """How many positions of an axis stay."""
        return int(np.count_nonzero(self.alive[ids]))

    def all(self, ids: Ids | None) -> bool:
        """Tell whether an axis stays whole."""
        return ids is None or bool(self.alive[ids].all())


@dataclass(frozen=True, eq=False)
class Binding:
    """An axis of a weight and the ids it is indexed by.

    `ids` of two dimensions are those of a grouped kernel: position p of the axis means
    `ids[b, p]` for the b-th block of `along`, the ids of the kernel's last axis.
    """

    weight: Any
    axis: int
    ids: Ids
    role: str
    along: Ids | None = None
    scale: bool = False


def places(op: Any) -> dict[int, int]:
    """Where each weight of an operation stands among its weights, by the `id` of the variable."""
    return {id(weight): place for place, weight in enumerate(getattr(op, "weights", ()))}


Edit = Callable[[Keep], Any]


Rewrite = Callable[[Keep, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]


def positions(array: np.ndarray, binding: Binding) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The ids along a weight's axis, and the weight with that axis first and the rest flat."""
    for ids, block in blocks(array, binding):
        rows = np.moveaxis(block, binding.axis, 0)
        yield ids, rows.reshape(len(rows), -1)


def blocks(array: np.ndarray, binding: Binding) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The ids along a weight's axis with the weight, or with each block of a grouped kernel."""
    if binding.along is None:
        yield binding.ids, array
        return
    yield from zip(binding.ids, np.split(array, len(binding.ids), axis=-1), strict=True)
