"""How far the outputs of a file lie from those of the Keras model."""

import numpy as np

from tfprune.errors import DataError
from tfprune.runtime.artifact import Parity


def parity(
    output: str,
    expected: np.ndarray,
    actual: np.ndarray,
    *,
    data: str,
    fraction: float,
    step: float = 0.0,
) -> Parity:
    """Compare one output on the same samples.

    Args:
        output: Its name.
        expected: What the Keras model gives.
        actual: What the file gives.
        data: "calibration" or "random": where the samples are from.
        fraction: The difference allowed, as a fraction of `scale_of(expected)`; for integer
            outputs the fraction of numbers that may differ.
        step: The distance between two numbers that the output can take in the file: no file can
            be nearer than that, however small the spread.

    Raises:
        DataError: The model itself gives NaN or infinity on these samples.

    Example:
        >>> found = parity("y", np.array([[0.0], [2.0]]), np.array([[0.1], [1.9]]),
        ...                data="random", fraction=0.2)
        >>> round(found.rms_error, 3), found.spread, round(found.bound, 3), agrees(found)
        (0.1, 1.0, 0.2, True)
    """
    if expected.shape != actual.shape:
        raise ValueError(f"output {output!r}: shape {actual.shape}, expected {expected.shape}")
    whole_numbers = expected.dtype.kind in "biu"
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    if not np.isfinite(expected).all():
        raise DataError(
            f"the Keras model gives NaN or infinity for output {output!r} on {data} samples, so "
            "that no file can be compared with it; give calibration= real samples"
        )
    # An output of NaN is as far as can be, not equal to anything.
    difference = np.where(np.isfinite(actual), np.abs(actual - expected), np.inf)
    if whole_numbers:
        difference = (difference != 0).astype(np.float64)
        rms, bound = float(difference.mean()), fraction
        spread = float(expected.std())
    else:
        rms = float(np.sqrt(np.mean(difference**2)))
        spread = float(expected.std())
        # Zeros everywhere have no scale, and float arithmetic may still differ in the last bit.
        bound = fraction * scale_of(expected) + step + 1e-6
    return Parity(
        output=output,
        samples=len(expected),
        data=data,
        max_error=float(difference.max(initial=0.0)),
        rms_error=rms,
        spread=spread,
        correlation=_correlation(expected, actual),
        agreement=1.0 - rms if whole_numbers else _agreement(expected, actual),
        bound=bound,
    )


def scale_of(expected: np.ndarray) -> float:
    """Return what differences of an output are measured by.

    Its standard deviation, but no less than a twentieth of its largest number: few samples may
    happen to give nearly the same, and 8 bits still err by a fraction of that number.
    """
    if not expected.size:
        return 0.0
    return max(float(expected.std()), 0.05 * float(np.abs(expected).max()))


def agrees(found: Parity) -> bool:
    """Tell whether an output is within its bound."""
    return found.rms_error <= found.bound


def _correlation(expected: np.ndarray, actual: np.ndarray) -> float:
    a, b = expected.ravel() - expected.mean(), actual.ravel() - actual.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    if not np.isfinite(norm):
        return 0.0
    return (
        float(a @ b) / norm
        if norm
        else float(np.array_equal(expected, actual) or a.any() == b.any())
    )


def _agreement(expected: np.ndarray, actual: np.ndarray) -> float:
    if expected.ndim < 2 or expected.shape[-1] < 2:
        return 1.0
    return float(np.mean(expected.argmax(-1) == actual.argmax(-1)))
