"""Warning about zeros that no mask holds, as in a loaded model: training overwrites them."""

import warnings
from typing import Any

import keras
import numpy as np

from tfprune.errors import ScheduleWarning
from tfprune.graph.kernels import find_kernels

# Dense kernels have almost no zeros; a kernel of zeros only was initialized that way.
_FEWEST = 0.05


def unheld_zeros(model: Any) -> dict[str, float]:
    """Return the fraction of zeros of each kernel that looks pruned and has no constraint."""
    return {kernel.path: share for kernel, share in _unheld(model)}


def watch_zeros(model: Any) -> Any:
    """Make a model warn when it is trained without masks for its zeros, and return it.

    The warning comes from a constraint, which is not saved in files, and which `prune` and
    `load_masks` replace.
    """
    found = _unheld(model)
    if found:
        watch = Unheld({kernel.path: share for kernel, share in found})
        for kernel, _ in found:
            kernel.variable.constraint = watch
    return model


class Unheld(keras.constraints.Constraint):
    """Returns weights unchanged and warns, once, that their zeros will be lost.

    Args:
        zeros: The fraction of zeros of each kernel it is set on.
    """

    def __init__(self, zeros: dict[str, float]) -> None:
        self.zeros = zeros

    def __call__(self, w: Any) -> Any:
        if self.zeros:
            zeros, self.zeros = self.zeros, {}
            warnings.warn(
                f"training overwrites the zeros of {describe_zeros(zeros)}: no mask holds them, "
                "since saved models have no masks. Call prune() again, with the schedule if there "
                "was one, or load_masks(), before fit",
                ScheduleWarning,
                stacklevel=2,
            )
        return w


def describe_zeros(zeros: dict[str, float]) -> str:
    """Return the names of a few kernels with their fractions of zeros.

    Example:
        >>> describe_zeros({"a/kernel": 0.5, "b/kernel": 0.25})
        'a/kernel (50%), b/kernel (25%)'
    """
    named = [f"{path} ({share:.0%})" for path, share in list(zeros.items())[:3]]
    return ", ".join(named) + (f" and {len(zeros) - 3} more" if len(zeros) > 3 else "")


def _unheld(model: Any) -> list[tuple[Any, float]]:
    kernels, _ = find_kernels([model])
    found = []
    for kernel in kernels:
        constraint = kernel.variable.constraint
        # A user's constraint may have made the zeros, and then holds them.
        if constraint is None or isinstance(constraint, Unheld):
            weights = kernel.variable.value.numpy()
            share = 1 - np.count_nonzero(weights) / weights.size if weights.size else 0.0
            if _FEWEST <= share < 1:
                found.append((kernel, share))
    return found
