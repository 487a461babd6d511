"""The sparsity of a model as a table, one row per kernel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from tfprune.graph.kernels import Skipped, find_kernels
from tfprune.sparsity.masks import Hold
from tfprune.sparsity.pruning import roots_of
from tfprune.utils.text_table import aligned


@dataclass(frozen=True)
class KernelSparsity:
    """The zeros of one kernel.

    Args:
        path: Its path in the model.
        shape: Its shape.
        size: Its number of weights.
        zeros: How many of them are zero.
        held: Whether a mask holds them.
        revived: How many pruned weights mask updates have restored, over the whole training.
    """

    path: str
    shape: tuple[int, ...]
    size: int
    zeros: int
    held: bool
    revived: int

    @property
    def sparsity(self) -> float:
        """The fraction of zeros."""
        return self.zeros / self.size


@dataclass(frozen=True)
class Sparsity:
    """The zeros of a model: iterate over it for rows, print it for a table.

    Args:
        rows: One per kernel, in the order of the layers.
        skipped: Layers with weights that are not pruned, and why.
    """

    rows: tuple[KernelSparsity, ...]
    skipped: tuple[Skipped, ...]

    def __iter__(self) -> Iterator[KernelSparsity]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, path: str) -> KernelSparsity:
        return next(row for row in self.rows if row.path == path)

    @property
    def size(self) -> int:
        """The weights in all kernels."""
        return sum(row.size for row in self.rows)

    @property
    def zeros(self) -> int:
        """The zeros in all kernels."""
        return sum(row.zeros for row in self.rows)

    @property
    def sparsity(self) -> float:
        """The fraction of zeros over all kernels."""
        return self.zeros / self.size if self.size else 0.0

    def __str__(self) -> str:
        cells = [("kernel", "shape", "weights", "zeros", "sparsity", "held", "revived")]
        cells += [
            (row.path, "×".join(map(str, row.shape)), f"{row.size:,}", f"{row.zeros:,}",
             f"{row.sparsity:.2%}", "yes" if row.held else "no", f"{row.revived:,}")
            for row in self.rows
        ]  # fmt: skip
        cells.append(("all", "", f"{self.size:,}", f"{self.zeros:,}", f"{self.sparsity:.2%}",
                      "", f"{sum(row.revived for row in self.rows):,}"))  # fmt: skip
        lines = aligned(cells, right=range(2, 7))
        lines += [f"not pruned: {e.layer} ({e.kind}): {e.reason}" for e in self.skipped]
        return "\n".join(lines)


def sparsity_of(model: keras.layers.Layer | Sequence[keras.layers.Layer]) -> Sparsity:
    """Return how many weights of each kernel are zero.

    Raises:
        ModelError: It is no Keras 3 model, layer or list of layers.

    Example:
        >>> import keras, tfprune
        >>> x = keras.Input((8,))
        >>> model = keras.Model(x, keras.layers.Dense(4, name="head")(x))
        >>> print(sparsity_of(tfprune.prune(model, 0.75)))
        kernel       shape  weights  zeros  sparsity  held  revived
        head/kernel  8×4         32     24    75.00%   yes        0
        all                      32     24    75.00%              0
    """
    kernels, skipped = find_kernels(roots_of(model, "sparsity_of"))
    left_out = {entry.layer: entry for entry in skipped}
    rows = []
    for kernel in kernels:
        value = kernel.variable.value.numpy()
        zeros = int(value.size - np.count_nonzero(value))
        hold = kernel.variable.constraint
        held, revived = isinstance(hold, Hold), 0
        if held:
            revived = hold.revived
            left_out |= {entry.layer: entry for entry in hold.pruning.skipped}
        rows.append(KernelSparsity(kernel.path, kernel.shape, value.size, zeros, held, revived))
    return Sparsity(tuple(rows), tuple(left_out.values()))
