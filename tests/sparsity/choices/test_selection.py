import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfprune.sparsity.choices.selection import keep_count, keep_largest


@pytest.mark.parametrize(
    ("size", "sparsity", "count"),
    [(10, 0.8, 2), (5, 0.5, 2), (7, 0.5, 4), (3, 0.99, 1), (1, 0.0, 1), (0, 0.5, 0),
     (50_000_000, 0.8, 10_000_000), (1_860_000, 0.8, 372_000)],
)  # fmt: skip
def test_counts(size: int, sparsity: float, count: int) -> None:
    assert keep_count(size, sparsity) == count


def by_sorting(scores: np.ndarray, count: int) -> np.ndarray:
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores.ravel(), kind="stable")[:count]] = True
    return mask.reshape(scores.shape)


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=9),
               elements=st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0])),
    st.floats(0, 1),
)  # fmt: skip
def test_many_ties_agree_with_a_stable_sort(scores: np.ndarray, share: float) -> None:
    count = round(share * scores.size)
    np.testing.assert_array_equal(keep_largest(scores, count), by_sorting(scores, count))


KINDS = {
    "dense": lambda rng, n: rng.standard_normal(n),
    "magnitudes": lambda rng, n: np.abs(rng.standard_normal(n)),
    "80 % zeros": lambda rng, n: np.abs(rng.standard_normal(n)) * (rng.random(n) < 0.2),
    "rounded": lambda rng, n: np.round(rng.standard_normal(n), 1),
    "sorted": lambda rng, n: np.sort(np.abs(rng.standard_normal(n))),
    "constant": lambda rng, n: np.full(n, 0.3),
    "periodic": lambda rng, n: np.tile([9.0, 1, 2, 3, 4, 5, 6, 7], n // 8 + 1)[:n],
    "signed, 60 % zeros": lambda rng, n: rng.standard_normal(n) * (rng.random(n) < 0.4),
    "negative": lambda rng, n: -np.abs(rng.standard_normal(n)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_large_arrays_agree_with_a_stable_sort(kind: str) -> None:
    rng = np.random.default_rng(0)
    for size in (2**15 + 1, 100_003):
        scores = KINDS[kind](rng, size).astype(np.float32)
        positives = np.count_nonzero(scores > 0)
        for count in (0, 1, 2, size // 5, size // 2, size - 1, size, positives):
            np.testing.assert_array_equal(keep_largest(scores, count), by_sorting(scores, count))


def test_a_count_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 to 3. Received 4"):
        keep_largest(np.ones(3), 4)
