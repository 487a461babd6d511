"""Zeros that nothing holds: those of a loaded model, which training would fill without a word."""

import warnings
from typing import Any

import keras
import numpy as np

from tfprune.errors import ScheduleWarning
from tfprune.sparsity.kernels import find_kernels

# Kernels that were trained densely have next to none; one that is zero all over was made so.
_FEWEST = 0.05


def unheld_zeros(model: Any) -> dict[str, float]:
    """Return the fraction of zeros of each kernel that looks pruned and has no constraint."""
    return {kernel.path: share for kernel, share in _unheld(model)}


def watch_zeros(model: Any) -> Any:
    """Return a model that says so when it is trained although nothing holds its zeros: itself.

    The word comes from a constraint, as the zeros of a pruned model do: it is in no saved file,
    and `prune` and `load_masks` put theirs in its place.
    """
    found = _unheld(model)
    if found:
        watch = Unheld({kernel.path: share for kernel, share in found})
        for kernel, _ in found:
            kernel.variable.constraint = watch
    return model


class Unheld(keras.constraints.Constraint):
    """Leaves weights as they are and warns, once, that their zeros will be lost.

    Args:
        zeros: The fraction of zeros of each kernel it is set on.
    """

    def __init__(self, zeros: dict[str, float]) -> None:
        self.zeros = zeros

    def __call__(self, w: Any) -> Any:
        if self.zeros:
            zeros, self.zeros = self.zeros, {}
            warnings.warn(
                f"training fills the zeros of {describe(zeros)}: nothing holds them, since saved "
                "models carry no masks. Call prune() again, with the schedule if there was one, "
                "or load_masks(), before fit",
                ScheduleWarning,
                stacklevel=2,
            )
        return w


def describe(zeros: dict[str, float]) -> str:
    """Name a few kernels with their zeros.

    Example:
        >>> describe({"a/kernel": 0.5, "b/kernel": 0.25})
        'a/kernel (50%), b/kernel (25%)'
    """
    named = [f"{path} ({share:.0%})" for path, share in list(zeros.items())[:3]]
    return ", ".join(named) + (f" and {len(zeros) - 3} more" if len(zeros) > 3 else "")


def _unheld(model: Any) -> list[tuple[Any, float]]:
    kernels, _ = find_kernels([model])
    found = []
    for kernel in kernels:
        constraint = kernel.variable.constraint
        # A constraint of the user's own may be what made the zeros, and holds them then.
        if constraint is None or isinstance(constraint, Unheld):
            weights = kernel.variable.value.numpy()
            share = 1 - np.count_nonzero(weights) / weights.size if weights.size else 0.0
            if _FEWEST <= share < 1:
                found.append((kernel, share))
    return found
