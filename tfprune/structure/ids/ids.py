"""Channel ids, and the weight axes that are indexed by them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Ids = np.ndarray


Axes = tuple[Ids | None, ...]


CHANNELS, HEADS, WIDTH = "channels", "heads", "width"
"""What an axis counts: `round_to` applies to channels and widths, never to heads."""


MAKE, USE, ALONG = "make", "use", "along"
"""A weight axis makes ids, uses them (zeroing it removes the unit's effect), or runs along them."""


class Keep:
    """Which ids are kept. Rules edit sizes and constants with `count` and `mask`."""

    def __init__(self, kept_mask: np.ndarray) -> None:
        self.kept_mask = kept_mask

    def mask(self, ids: Ids) -> np.ndarray:
        """Return, for each position, whether it is kept."""
        return self.kept_mask[ids]

    def count(self, ids: Ids) -> int:
        """Return how many positions of an axis are kept."""
        return int(np.count_nonzero(self.kept_mask[ids]))

    def all(self, ids: Ids | None) -> bool:
        """Return whether an axis is kept whole."""
        return ids is None or bool(self.kept_mask[ids].all())


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
    """Return the index of each weight of an operation, by the `id` of the variable."""
    return {id(weight): place for place, weight in enumerate(getattr(op, "weights", ()))}


Edit = Callable[[Keep], Any]


Rewrite = Callable[[Keep, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]


def positions(array: np.ndarray, binding: Binding) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the ids along a weight's axis, and the weight as rows of that axis."""
    for ids, block in blocks(array, binding):
        rows = np.moveaxis(block, binding.axis, 0)
        yield ids, rows.reshape(len(rows), -1)


def blocks(array: np.ndarray, binding: Binding) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the ids along a weight's axis with the weight, or with each grouped-kernel block."""
    if binding.along is None:
        yield binding.ids, array
        return
    yield from zip(binding.ids, np.split(array, len(binding.ids), axis=-1), strict=True)
