"""Random inputs on which models are compared, and measures of the difference of their outputs."""

from collections.abc import Sequence

import numpy as np


def random_input(
    random: np.random.Generator,
    shape: tuple[int, ...],
    dtype: str,
    *,
    whole: tuple[int, int] = (0, 2),
    indices: bool = False,
) -> np.ndarray:
    """Return random numbers for one input: normal for floats, integers for all other types.

    Integers are in range(*whole), as text for "string"; with `indices`, floats are integers too.
    "bfloat16", which NumPy does not have, becomes float32.

    Example:
        >>> random_input(np.random.default_rng(0), (2, 3), "int32", whole=(5, 9))
        array([[8, 7, 7],
               [6, 6, 5]], dtype=int32)
    """
    made = np.dtype({"string": "str", "bfloat16": "float32"}.get(dtype, dtype))
    if made.kind == "f" and not indices:
        return random.standard_normal(shape).astype(made)
    return random.integers(*whole, shape).astype(made)


def full_shape(shape: Sequence[int | None], samples: int, open_size: int) -> tuple[int, ...]:
    """Return a shape with `samples` for an open batch, and `open_size` for other open sizes.

    Example:
        >>> full_shape((None, 3, -1), 2, 8)
        (2, 3, 8)
    """
    sizes = (samples, *(open_size for _ in shape[1:]))
    return tuple(
        size if given is None or given == -1 else int(given)
        for given, size in zip(shape, sizes, strict=True)
    )


def differences(
    expected: np.ndarray, actual: np.ndarray, *, equal_holes: bool = False
) -> np.ndarray:
    """Return absolute differences, infinite where a number is not finite.

    With `equal_holes`, NaN or the same infinity in both counts as no difference.
    """
    if expected.shape != actual.shape:
        raise ValueError(f"outputs of shape {actual.shape}, expected {expected.shape}")
    one, other = expected.astype(np.float64), actual.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(one - other)
    gap = np.where(np.isnan(gap), np.inf, gap)
    if equal_holes:
        gap[(one == other) | (np.isnan(one) & np.isnan(other))] = 0.0
    return gap


def largest_share(
    expected: np.ndarray,
    actual: np.ndarray,
    *,
    equal_holes: bool = False,
    scale_of_zeros: float = 1.0,
) -> float:
    """Return the largest of the `differences`, relative to the largest finite expected number.

    If all expected numbers are zero, it is relative to `scale_of_zeros`, and infinite if that is 0.

    Example:
        >>> largest_share(np.array([0.0, 4.0]), np.array([1.0, 4.0]))
        0.25
    """
    gap = float(differences(expected, actual, equal_holes=equal_holes).max(initial=0.0))
    size = np.abs(expected.astype(np.float64))
    scale = float(size.max(initial=0.0, where=np.isfinite(size))) or scale_of_zeros
    return 0.0 if gap == 0 else gap / scale if scale else float("inf")


def rms_share(expected: np.ndarray, actual: np.ndarray) -> float:
    """Return the root mean squared difference, relative to `scale_of(expected)`."""
    return rms(differences(expected, actual)) / (scale_of(expected) or 1.0)


def rms(gap: np.ndarray) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(gap**2)))


def scale_of(expected: np.ndarray) -> float:
    """Return the scale of an output, to which its differences are relative.

    It is the standard deviation, but at least a twentieth of the largest number: few samples may
    have nearly equal outputs, and errors of 8 bits are a fraction of that number.
    """
    if not expected.size:
        return 0.0
    return max(float(expected.std()), 0.05 * float(np.abs(expected).max()))


def correlation(expected: np.ndarray, actual: np.ndarray) -> float:
    """Return Pearson's correlation; 1 for two constants, 0 if a number is not finite."""
    a, b = expected.ravel() - expected.mean(), actual.ravel() - actual.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    if not np.isfinite(norm):
        return 0.0
    if not norm:
        return float(np.array_equal(expected, actual) or a.any() == b.any())
    return float(a @ b) / norm


def is_whole(outputs: np.ndarray) -> bool:
    """Return whether outputs are decisions, such as those of an argmax."""
    return outputs.dtype.kind in "biu"


def same_answers(expected: np.ndarray, actual: np.ndarray) -> np.ndarray | None:
    """Return where the top class, or the decision, is the same; None without classes.

    Example:
        >>> same_answers(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.2, 0.3], [0.1, 0.4]]))
        array([ True, False])
    """
    if is_whole(expected):
        return np.asarray(expected == actual)
    if expected.ndim < 2 or expected.shape[-1] < 2:
        return None
    return np.asarray(expected.argmax(-1) == actual.argmax(-1))
