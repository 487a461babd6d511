"""Patterns of zeros: a pattern pools scores into units and expands units to masks.

A pattern gets a kernel as an array of three axes: (outer, inputs, outputs). For a Dense layer
`outer` is 1; for a convolution it is the window positions. So one pattern fits every layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from tfprune.errors import OptionError
from tfprune.sparsity.choices.selection import keep_largest
from tfprune.utils.registry import Registry

BlockPooling = Literal["AVG", "MAX"]


class Pattern(Protocol):
    """A pattern of zeros. `fixed` patterns determine the sparsity and ignore the schedule's.

    A pattern works on the (outer, inputs, outputs) view of a kernel's scores.
    """

    @property
    def fixed(self) -> float | None:
        """The sparsity that the pattern determines, or None if it allows any."""

    def pool(self, scores: NDArray) -> NDArray:
        """Return one score per unit."""

    def spread(self, kept: NDArray[np.bool_], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        """Return the mask over all weights that keeps the `kept` units."""

    def mask(self, scores: NDArray, count: int) -> NDArray[np.bool_]:
        """Return the mask that keeps the `count` best units."""


class _Pooling:
    """Patterns that keep the `count` best units of a kernel."""

    fixed: float | None = None

    def pool(self, scores: NDArray) -> NDArray:
        raise NotImplementedError

    def spread(self, kept: NDArray[np.bool_], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        raise NotImplementedError

    def mask(self, scores: NDArray, count: int) -> NDArray[np.bool_]:
        o, i, u = scores.shape
        return self.spread(keep_largest(self.pool(scores), count), (o, i, u))


@dataclass(frozen=True)
class Unstructured(_Pooling):
    """Each weight is a unit.

    Example:
        >>> Unstructured().mask(np.array([[[1.0, 4.0], [3.0, 2.0]]]), 2).astype(int).tolist()
        [[[0, 1], [1, 0]]]
    """

    def pool(self, scores: NDArray) -> NDArray:
        return scores

    def spread(self, kept: NDArray[np.bool_], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        return kept.reshape(shape)


@dataclass(frozen=True)
class Block(_Pooling):
    """Blocks of `height` inputs by `width` outputs, kept or zeroed together.

    A convolution is treated as the matrix (window positions × inputs, outputs). Blocks at the
    lower and right edge may be smaller; they are scored by the weights they have.

    Args:
        height: Inputs in a block.
        width: Outputs in a block.
        pooling: `"AVG"` or `"MAX"` of the scores in it.

    Example:
        >>> scores = np.array([[[1.0, 1.0, 9.0], [1.0, 1.0, 0.0]]])
        >>> Block(2, 2).mask(scores, 1).astype(int).tolist()
        [[[0, 0, 1], [0, 0, 1]]]
    """

    height: int
    width: int
    pooling: BlockPooling = "AVG"

    def __post_init__(self) -> None:
        for name, value in (("height", self.height), ("width", self.width)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise OptionError(
                    f"block {name}: expected a whole number >= 1. Received {value!r}."
                )
        if self.pooling not in get_args(BlockPooling):
            raise OptionError(f"block pooling: expected 'AVG' or 'MAX'. Received {self.pooling!r}.")

    def pool(self, scores: NDArray) -> NDArray:
        matrix = scores.reshape(-1, scores.shape[-1])
        if self.pooling == "MAX":
            tall = np.maximum.reduceat(matrix, np.arange(0, matrix.shape[0], self.height), axis=0)
            return np.maximum.reduceat(tall, np.arange(0, matrix.shape[1], self.width), axis=1)
        return _mean_runs(_mean_runs(matrix, self.height, 0), self.width, 1)

    def spread(self, kept: NDArray[np.bool_], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        rows, columns = shape[0] * shape[1], shape[2]
        tall = np.repeat(np.repeat(kept, self.height, axis=0), self.width, axis=1)
        return tall[:rows, :columns].reshape(shape)


def _mean_runs(matrix: NDArray, run: int, axis: int) -> NDArray:
    size = matrix.shape[axis]
    starts = np.arange(0, size, run)
    lengths = np.minimum(starts + run, size) - starts
    sums = np.add.reduceat(matrix, starts, axis=axis)
    return sums / np.expand_dims(lengths, 1 - axis).astype(matrix.dtype)


@dataclass(frozen=True)
class KeepOf:
    """Keeps `keep` of every `of` consecutive inputs, for each output: GPUs support 2 of 4.

    An incomplete group at the end keeps up to `keep`: padded with zeros, as hardware does, it has
    the pattern.

    Args:
        keep: How many inputs of a group to keep.
        of: The size of a group.

    Example:
        >>> scores = np.array([[[4.0], [3.0], [2.0], [1.0], [1.0], [1.0]]])
        >>> KeepOf(2, 4).mask(scores, 0).astype(int).ravel().tolist()
        [1, 1, 0, 0, 1, 1]
    """

    keep: int
    of: int

    def __post_init__(self) -> None:
        if not 0 < self.keep < self.of:
            raise OptionError(
                f"n:m pattern: expected 0 < n < m, n weights kept of every m. "
                f"Received {self.keep}:{self.of}."
            )

    def __str__(self) -> str:
        return f"{self.keep}:{self.of}"

    @property
    def fixed(self) -> float:
        return 1 - self.keep / self.of

    def pool(self, scores: NDArray) -> NDArray:
        return scores

    def spread(self, kept: NDArray[np.bool_], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        return kept.reshape(shape)

    def mask(self, scores: NDArray, count: int) -> NDArray[np.bool_]:
        outer, inputs, outputs = scores.shape
        groups = -(-inputs // self.of)
        padded = np.full((outer, groups * self.of, outputs), -np.inf, np.result_type(scores, "f4"))
        padded[:, :inputs] = scores
        grouped = padded.reshape(outer, groups, self.of, outputs)
        order = np.argsort(-grouped, axis=2, kind="stable")
        kept = np.zeros(grouped.shape, bool)
        np.put_along_axis(kept, order[:, :, : self.keep], True, axis=2)
        return kept.reshape(outer, groups * self.of, outputs)[:, :inputs]


@dataclass(frozen=True)
class WholeUnits:
    """Channels or attention heads, zeroed in every weight that makes or shifts them.

    Its units span several kernels, so it is not a `Pattern` of one kernel; the model determines
    which slices belong together (see `tfprune.units`). `shrink(model, "zeros")` removes the
    closed units.

    Args:
        kind: `"channel"` (channels, neurons and widths) or `"head"`.
    """

    kind: str

    fixed: ClassVar[None] = None

    def __post_init__(self) -> None:
        if self.kind not in ("channel", "head"):
            raise OptionError(f"whole units: expected 'channel' or 'head'. Received {self.kind!r}.")


AnyPattern = Pattern | WholeUnits

PATTERNS: Registry[Callable[..., AnyPattern]] = Registry("pattern")
PATTERNS.register("unstructured")(Unstructured)
PATTERNS.register("block")(Block)
PATTERNS.register("n:m")(KeepOf)
PATTERNS.register("channel")(partial(WholeUnits, "channel"))
PATTERNS.register("head")(partial(WholeUnits, "head"))


def of_one_kernel(pattern: "str | AnyPattern", call: str) -> Pattern:
    """Return the pattern for a function that prunes kernels one by one.

    Example:
        >>> of_one_kernel("2:4", "prune_oneshot")
        KeepOf(keep=2, of=4)
    """
    found = resolve_pattern(pattern)
    if isinstance(found, WholeUnits):
        raise OptionError(
            f"{call}: pattern {found.kind!r} closes units over several layers, which is not "
            "supported. Use tfprune.prune for zeros in training, or tfprune.shrink to remove units"
        )
    return found


def check_fixed(call: str, pattern: AnyPattern, sparsity: float, allocation: object) -> None:
    """Raise for a sparsity or allocation that a pattern of fixed sparsity cannot have.

    Example:
        >>> check_fixed("prune", KeepOf(2, 4), 0.7, "uniform")
        Traceback (most recent call last):
        tfprune.errors.OptionError: prune: pattern 2:4 makes 50% zeros; pass sparsity=0.5. \
Received 0.7.
    """
    if pattern.fixed is None:
        return
    if not np.isclose(pattern.fixed, sparsity, atol=1e-3):
        raise OptionError(
            f"{call}: pattern {pattern} makes {pattern.fixed:.0%} zeros; pass "
            f"sparsity={pattern.fixed:.4g}. Received {sparsity:g}."
        )
    if allocation != "uniform":
        raise OptionError(
            f"{call}: pattern {pattern} sets {pattern.fixed:.0%} zeros everywhere; it requires "
            "allocation='uniform'"
        )


def resolve_pattern(pattern: "str | AnyPattern") -> AnyPattern:
    """Return the pattern that a name stands for: `unstructured`, `block(4,1)`, `2:4`, `channel`.

    Example:
        >>> resolve_pattern("2:4"), resolve_pattern("block(4,1)")
        (KeepOf(keep=2, of=4), Block(height=4, width=1, pooling='AVG'))
    """
    if not isinstance(pattern, str):
        if isinstance(pattern, WholeUnits):
            return pattern
        if all(hasattr(pattern, name) for name in ("fixed", "pool", "spread", "mask")):
            return pattern
        raise OptionError(f"pattern: expected a name or a Pattern. Received {pattern!r}.")
    text = pattern.replace(" ", "")
    keep, colon, of = text.partition(":")
    if colon and keep.isdigit() and of.isdigit():
        return PATTERNS["n:m"](int(keep), int(of))
    name, bracket, rest = text.partition("(")
    if not bracket:
        if name in ("block", "n:m"):
            raise OptionError(f"pattern {name!r} needs sizes: write 'block(4,1)' or '2:4'")
        return PATTERNS[name]()
    sizes = rest.rstrip(")").split(",")
    if not rest.endswith(")") or not all(size.isdigit() for size in sizes):
        raise OptionError(f"pattern: expected the form 'block(4,1)'. Received {pattern!r}.")
    make = PATTERNS[name]
    try:
        return make(*map(int, sizes))
    except TypeError as error:
        raise OptionError(f"pattern {pattern!r}: {error}") from None
