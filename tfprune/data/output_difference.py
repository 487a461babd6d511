"""How far two outputs are apart: all the measures that are taken of it."""

import numpy as np


def differences(
    expected: np.ndarray, actual: np.ndarray, *, equal_holes: bool = False
) -> np.ndarray:
    """The absolute differences, infinite where one of two numbers is not finite.

    With `equal_holes`, NaN or the same infinity in both is no difference.
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
    """The largest of the `differences`, as a share of the largest finite number expected.

    Where only zeros are expected, it is a share of `scale_of_zeros`, of 0 infinite.

    Example:
        >>> largest_share(np.array([0.0, 4.0]), np.array([1.0, 4.0]))
        0.25
    """
    gap = float(differences(expected, actual, equal_holes=equal_holes).max(initial=0.0))
    size = np.abs(expected.astype(np.float64))
    scale = float(size.max(initial=0.0, where=np.isfinite(size))) or scale_of_zeros
    return 0.0 if gap == 0 else gap / scale if scale else float("inf")


def rms_share(expected: np.ndarray, actual: np.ndarray) -> float:
    """The root mean squared difference, as a share of `scale_of` what is expected."""
    return rms(differences(expected, actual)) / (scale_of(expected) or 1.0)


def rms(gap: np.ndarray) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.mean(gap**2)))


def scale_of(expected: np.ndarray) -> float:
    """What differences of an output are measured by.

    Its standard deviation, but no less than a twentieth of its largest number: few samples may
    happen to give nearly the same, and 8 bits still err by a fraction of that number.
    """
    if not expected.size:
        return 0.0
    return max(float(expected.std()), 0.05 * float(np.abs(expected).max()))


def correlation(expected: np.ndarray, actual: np.ndarray) -> float:
    """Pearson's; of constants 1 if both are, and 0 where numbers are not finite."""
    a, b = expected.ravel() - expected.mean(), actual.ravel() - actual.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    if not np.isfinite(norm):
        return 0.0
    if not norm:
        return float(np.array_equal(expected, actual) or a.any() == b.any())
    return float(a @ b) / norm


def is_whole(outputs: np.ndarray) -> bool:
    """Tell outputs that are decisions already, such as those of an argmax."""
    return outputs.dtype.kind in "biu"


def same_answers(expected: np.ndarray, actual: np.ndarray) -> np.ndarray | None:
    """Where the top class, or the decision, is the same; None of outputs without classes.

    Example:
        >>> same_answers(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.2, 0.3], [0.1, 0.4]]))
        array([ True, False])
    """
    if is_whole(expected):
        return np.asarray(expected == actual)
    if expected.ndim < 2 or expected.shape[-1] < 2:
        return None
    return np.asarray(expected.argmax(-1) == actual.argmax(-1))
