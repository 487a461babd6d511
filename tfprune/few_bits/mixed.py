"""Which layers need 8 bits where the others have 4, by what each costs the output."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Kernels = Mapping[str, tuple[Any, NDArray, NDArray]]
"""By path: the variable of a kernel, its value as it was, and its value in few bits."""


def sensitivities(kernels: Kernels, error: Callable[[], float]) -> dict[str, float]:
    """Return the error of the output with each kernel in few bits by itself.

    Args:
        kernels: The kernels; all are assigned their values in few bits when this returns.
        error: Returns the error of the output for the values of now.
    """
    for variable, before, _ in kernels.values():
        variable.assign(before)
    found = {}
    for path, (variable, before, few) in kernels.items():
        variable.assign(few)
        found[path] = error()
        variable.assign(before)
    for variable, _, few in kernels.values():
        variable.assign(few)
    return found


def worst_layers(
    errors: Mapping[str, float], sizes: Mapping[str, int], now: float, wanted: float
) -> list[str]:
    """Return the layers to give 8 bits so that the error becomes small enough.

    The squares of errors add up, as those of independent noise do. First come those that take away
    most for each byte more.

    Args:
        errors: The error of the output with each layer in few bits by itself.
        sizes: The number of weights of each.
        now: The error with all of them in few bits.
        wanted: The error wanted.

    Example:
        >>> worst_layers({"a": 0.1, "b": 0.3, "c": 0.3}, {"a": 1, "b": 1, "c": 100}, 0.4, 0.35)
        ['b']
    """
    squares = {path: error**2 for path, error in errors.items()}
    total = sum(squares.values())
    if not total:
        return []
    # Errors of several layers may also grow together; then each counts for more.
    left, raised = now**2, []
    for path in sorted(squares, key=lambda path: squares[path] / sizes[path], reverse=True):
        if left <= wanted**2:
            break
        left -= now**2 * squares[path] / total
        raised.append(path)
    return raised


def relative(found: Mapping[str, NDArray], wanted: Mapping[str, NDArray], scale: Any) -> float:
    """Return the largest error of an output: root mean square, as a fraction of its scale.

    Args:
        found: The outputs by name; those that are not in `wanted` do not count.
        wanted: What they should be.
        scale: Returns the scale of an output.
    """
    errors = (
        float(np.sqrt(np.mean(np.square(found[name] - value)))) / (scale(value) or 1.0)
        for name, value in wanted.items()
    )
    return max(errors, default=0.0)
