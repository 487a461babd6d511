"""Where shared values begin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tfprune.clustering.centroids import INITS, first_centroids

ROWS = arrays(
    np.float32, st.tuples(st.integers(1, 3), st.integers(1, 60)),
    elements=st.integers(-50, 50).map(lambda n: n / 8),
)  # fmt: skip


@given(ROWS, st.integers(2, 8), st.sampled_from(sorted(INITS)), st.booleans())
def test_rows_get_sorted_centroids_within_their_range(
    rows: np.ndarray, count: int, init: str, keep_zeros: bool
) -> None:
    found = first_centroids(rows, count, INITS[init], keep_zeros=keep_zeros)
    assert found.shape == (len(rows), count)
    assert (np.diff(found, axis=1) >= 0).all()
    for row, centroids in zip(rows, found, strict=True):
        assert row.min() - 1e-5 <= centroids[0]
        assert centroids[-1] <= row.max() + 1e-5
        if keep_zeros and (row == 0).any():
            assert 0 in centroids
        if np.unique(row).size <= count:
            assert set(row.tolist()) <= set(centroids.tolist())


@pytest.mark.parametrize(
    ("init", "expected"), [("linear", [0, 4, 8]), ("density", [0.1, 4, 8]), ("kmeans++", [1, 8])]
)
def test_inits_on_a_row_that_can_be_checked_by_eye(init: str, expected: list[float]) -> None:
    row = np.array([[0.0, 1, 2, 6, 8, 8, 8, 8, 10]]) if init == "kmeans++" else np.arange(9.0)[None]
    found = first_centroids(row, len(expected), INITS[init], keep_zeros=False)
    np.testing.assert_allclose(found[0], expected, atol=0.05)
