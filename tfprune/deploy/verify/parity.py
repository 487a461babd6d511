"""Difference between the outputs of a file and those of the Keras model."""

from collections.abc import Callable, Sequence

import numpy as np

from tfprune.data.model_comparison import (
    correlation,
    differences,
    is_whole,
    rms,
    same_answers,
    scale_of,
)
from tfprune.errors import ConversionError, DataError
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
        output: The output's name.
        expected: The output of the Keras model.
        actual: The output of the file.
        data: "calibration" or "random": the source of the samples.
        fraction: The difference allowed, as a fraction of `scale_of(expected)`; for integer
            outputs the fraction of numbers that may differ.
        step: The quantization step of the output in the file: no file can be nearer than that,
            however small the spread.

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
    whole_numbers = is_whole(expected)
    if not np.isfinite(expected).all():
        raise DataError(
            f"the Keras model gives NaN or infinity for output {output!r} on {data} samples, so "
            "no file can be compared with it; pass real samples as calibration="
        )
    # An output of NaN is infinitely far from everything.
    gap = differences(expected, actual)
    same = same_answers(expected, actual)
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    if whole_numbers:
        gap = (gap != 0).astype(np.float64)
        error, bound = float(gap.mean()), fraction
        agreement = 1.0 - error
    else:
        # Zeros everywhere have no scale, and float arithmetic may still differ in the last bit.
        error, bound = rms(gap), fraction * scale_of(expected) + step + 1e-6
        agreement = 1.0 if same is None else float(np.mean(same))
    return Parity(
        output=output,
        samples=len(expected),
        data=data,
        max_error=float(gap.max(initial=0.0)),
        rms_error=error,
        spread=float(expected.std()),
        correlation=correlation(expected, actual),
        agreement=agreement,
        bound=bound,
    )


def agrees(found: Parity) -> bool:
    """Return whether an output is within its bound."""
    return found.rms_error <= found.bound


def check_agreement(
    found: Sequence[Parity], file: str, advice: str, begins: Callable[[], str] = str
) -> None:
    """Raise a ConversionError if an output exceeds its bound; only then find the layer."""
    bad = [entry for entry in found if not agrees(entry)]
    if not bad:
        return
    worst = max(bad, key=lambda entry: entry.rms_error / entry.bound)
    raise ConversionError(
        f"{file} disagrees with the model: output {worst.output!r} differs by "
        f"{worst.rms_error:.3g} (root mean square; allowed {worst.bound:.3g}), correlation "
        f"{worst.correlation:.4f}, on {worst.samples} {worst.data} samples{begins()}; {advice}, or "
        "accept it with bound="
    )
