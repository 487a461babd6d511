import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfprune.few_bits.moments import Moments, Norms


def gathered(x: np.ndarray, y: np.ndarray, parts: int = 1) -> Moments:
    moments = Moments(x.shape[0], x.shape[2], y.shape[2])
    for piece in np.array_split(np.arange(x.shape[1]), parts):
        moments.add(x[:, piece], y[:, piece])
    return moments


def test_the_moments_of_two_rows_match_a_calculation_by_hand() -> None:
    x = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    problem = gathered(x, np.array([[[1.0], [3.0]]])).problem()
    assert problem.gram.tolist() == [[[5, 7], [7, 10]]]
    assert problem.cross.tolist() == [[[5], [7]]]
    assert problem.energy == 5


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_the_error_is_the_mean_square_for_any_batches_of_rows(seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, 12, 4)), rng.standard_normal((2, 12, 3))
    v = rng.standard_normal((2, 4, 3))
    moments = gathered(x, y, parts)
    error = np.sum((x @ v - y) ** 2) / 12
    assert np.isclose(moments.problem().error(v), error)
    shifted = np.sum((x @ v + moments.shift(v)[:, None, :] - y) ** 2) / 12
    assert np.isclose(moments.centered().error(v), shifted)
    assert shifted <= error + 1e-12


def test_the_shift_is_the_best_constant() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((1, 9, 2)) + 5, rng.standard_normal((1, 9, 1)) - 2
    v = np.ones((1, 2, 1))
    best = (y - x @ v).mean(axis=1)
    assert np.allclose(gathered(x, y).shift(v), best)


def test_norms_are_the_diagonal_of_the_moments() -> None:
    x = np.random.default_rng(0).standard_normal((2, 10, 3)).astype("float32")
    norms = Norms(2, 3)
    norms.add(x[:, :4])
    norms.add(x[:, 4:])
    gram = gathered(x, x).problem().gram
    assert np.allclose(norms.mean_squares(), np.diagonal(gram, axis1=1, axis2=2), rtol=1e-6)


def test_rounding_never_makes_an_error_negative() -> None:
    x = np.full((1, 50, 3), 1e8)
    w = np.ones((1, 3, 2)) / 3
    assert 0 <= gathered(x, x @ w).problem().error(w) < 1e2
