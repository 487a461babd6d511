"""Numbers that share values."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tfprune.utils.centroids import distinct, nearest, settled

NUMBERS = arrays(np.float64, st.integers(1, 60), elements=st.integers(-1000, 1000).map(float))
CENTROIDS = arrays(np.float64, st.integers(1, 9), elements=st.integers(-1000, 1000).map(float))


@given(NUMBERS, CENTROIDS)
def test_each_number_goes_to_a_nearest_centroid(numbers: np.ndarray, centroids: np.ndarray) -> None:
    centroids = np.sort(centroids)
    found = centroids[nearest(numbers[None], centroids[None])[0]]
    best = np.abs(numbers[:, None] - centroids).min(axis=1)
    np.testing.assert_array_equal(np.abs(numbers - found), best)


@given(NUMBERS, CENTROIDS)
def test_settling_never_adds_error(numbers: np.ndarray, centroids: np.ndarray) -> None:
    numbers, centroids = np.sort(numbers), np.sort(centroids)

    def error(some: np.ndarray) -> float:
        return float(np.min((numbers[:, None] - some) ** 2, axis=1).sum())

    found = settled(numbers, centroids)
    assert (np.diff(found) >= 0).all()
    assert error(found) <= error(centroids) * (1 + 1e-9) + 1e-6


def test_zeros_of_both_signs_are_one_value() -> None:
    np.testing.assert_array_equal(distinct(np.array([-1.0, -0.0, 0.0, 0.0, 2.0])), [-1, 0, 2])
