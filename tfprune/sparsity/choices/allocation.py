"""Allocations: how many units of each kernel to keep."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tfprune.errors import FilterError, OptionError, nearest
from tfprune.sparsity.choices.schedules import check_sparsity
from tfprune.sparsity.choices.selection import keep_count, keep_largest
from tfprune.utils.registry import Registry


@dataclass(frozen=True)
class Share:
    """One kernel in an allocation.

    Args:
        path: Its path in the model, for tables and errors.
        shape: Its own shape, as in the layer.
        units: The pooled scores of its units.
    """

    path: str
    shape: tuple[int, ...]
    units: NDArray


class Allocation(Protocol):
    def __call__(self, shares: Sequence[Share], sparsity: float, progress: float, /) -> list[int]:
        """Return the number of units to keep of each kernel, at least one.

        `sparsity` is the current sparsity of the schedule; `progress` is its share of the final
        sparsity.
        """


ALLOCATIONS: Registry[Allocation] = Registry("allocation")


@ALLOCATIONS.register("uniform")
def uniform(shares: Sequence[Share], sparsity: float, progress: float) -> list[int]:
    """Keep the same fraction of every kernel.

    Example:
        >>> uniform([Share("a", (10,), np.ones(10)), Share("b", (4,), np.ones(4))], 0.5, 1.0)
        [5, 2]
    """
    return [keep_count(share.units.size, sparsity) for share in shares]


@ALLOCATIONS.register("global")
def over_all(shares: Sequence[Share], sparsity: float, progress: float) -> list[int]:
    """Use one threshold for the whole model, and keep at least one unit of each kernel.

    Example:
        >>> small, large = np.array([1.0, 2.0, 3.0]), np.array([7.0, 8.0, 9.0])
        >>> over_all([Share("a", (3,), small), Share("b", (3,), large)], 0.5, 1.0)
        [1, 2]
    """
    scores = np.concatenate([share.units.reshape(-1) for share in shares])
    sizes = [share.units.size for share in shares]
    total = max(keep_count(scores.size, sparsity), len(shares))
    # Each kernel keeps its best unit whatever its score, so that no layer is disconnected.
    ends = np.cumsum(sizes)
    best = np.array([end - size + np.argmax(scores[end - size : end])
                     for end, size in zip(ends, sizes, strict=True)])  # fmt: skip
    rest = np.delete(scores, best)
    owners = np.delete(np.repeat(np.arange(len(sizes)), sizes), best)
    kept = keep_largest(rest, total - len(shares))
    return (1 + np.bincount(owners[kept], minlength=len(sizes))).tolist()


@ALLOCATIONS.register("erk")
def erk(shares: Sequence[Share], sparsity: float, progress: float) -> list[int]:
    """Use Erdős–Rényi-kernel densities: proportional to (sum of axes) / (product of axes).

    Evci et al., Rigging the Lottery, 2020. Kernels that would need a density above one are kept
    dense, and the rest is distributed over the others.

    Example:
        >>> wide, narrow = np.ones((100, 100)), np.ones((10, 10))
        >>> erk([Share("a", (100, 100), wide), Share("b", (10, 10), narrow)], 0.9, 1.0)
        [918, 92]
    """
    sizes = np.array([share.units.size for share in shares], float)
    weights = np.array([np.sum(share.shape) / np.prod(share.shape) for share in shares])
    budget = (1 - sparsity) * sizes.sum()
    dense = np.zeros(len(shares), bool)
    while True:
        left = budget - sizes[dense].sum()
        scale = left / (weights * sizes)[~dense].sum() if not dense.all() else 0.0
        over = ~dense & (scale * weights > 1)
        if not over.any():
            break
        dense |= over
    density = np.where(dense, 1.0, scale * weights)
    return [int(c) for c in np.maximum(np.rint(density * sizes), 1)]


def by_path(table: Mapping[str, float]) -> Allocation:
    """Return an allocation from a table of path, layer name or regex → final sparsity.

    A kernel is matched by the first entry that its path equals or that matches (`re.search`)
    its path. Kernels that no entry matches are kept dense. On a schedule all increase together.

    Raises:
        FilterError: When applied, if an entry matches no kernel.
    """
    for key, value in table.items():
        check_sparsity(value, f"allocation[{key!r}]")
        try:
            re.compile(key)
        except re.error as error:
            raise OptionError(f"allocation[{key!r}]: not a regular expression: {error}") from None

    def allocate(shares: Sequence[Share], sparsity: float, progress: float) -> list[int]:
        paths = [share.path for share in shares]
        for key in table:
            if not any(_matches(key, path) for path in paths):
                raise FilterError(f"allocation[{key!r}] matches no kernel. {nearest(key, paths)}")
        finals = [next((table[key] for key in table if _matches(key, path)), 0.0) for path in paths]
        return [
            keep_count(share.units.size, final * progress)
            for share, final in zip(shares, finals, strict=True)
        ]

    return allocate


def _matches(key: str, path: str) -> bool:
    return key == path or re.search(key, path) is not None


def resolve_allocation(
    allocation: "str | Mapping[str, float] | Callable[..., list[int]]",
) -> Allocation:
    """Return the allocation that a name, a table or a callable stands for."""
    if isinstance(allocation, str):
        return ALLOCATIONS[allocation]
    if isinstance(allocation, Mapping):
        return by_path(allocation)
    if callable(allocation):
        return allocation
    raise OptionError(
        "allocation: expected a name, a table of path → sparsity, or a callable. "
        f"Received {allocation!r}."
    )
