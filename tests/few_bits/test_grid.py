import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfprune.errors import OptionError
from tfprune.few_bits.grid import (
    BITS,
    check_bits,
    largest_level,
    round_jointly,
    round_nearest,
)
from tfprune.few_bits.moments import Problem


def problem_of(x: np.ndarray, w: np.ndarray) -> Problem:
    gram = x.transpose(0, 2, 1) @ x / x.shape[1]
    return Problem(gram, gram @ w, float(np.sum((x @ w) ** 2) / x.shape[1]))


def levels(weights: np.ndarray) -> np.ndarray:
    """Return how many steps the largest weight of each column is."""
    columns = weights.transpose(0, 2, 1).reshape(-1, weights.shape[1])
    found = []
    for column in np.abs(columns):
        largest = column.max() or 1.0
        steps = (column / largest * n for n in range(1, 128))
        counts = (n for n, one in enumerate(steps, 1) if np.allclose(one, np.rint(one), atol=1e-6))
        found.append(next(counts))
    return np.array(found)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    bits=st.sampled_from(BITS),
    density=st.sampled_from([0.0, 0.3, 1.0]),
    width=st.sampled_from([1, 5, 40]),
)
def test_weights_are_on_the_grid_zeros_stay(
    seed: int, bits: int, density: float, width: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 60, width)) @ rng.standard_normal((width, width))
    w = rng.standard_normal((2, width, 3)) * (rng.random((2, width, 3)) < density)
    problem = problem_of(x, w)
    problem.gram[:] += 0.01 * np.eye(width)
    found = round_jointly(problem, w, bits)
    assert not found[w == 0].any()
    assert levels(found).max() <= largest_level(bits)
    if bits == 8:  # the step of any converter
        assert np.array_equal(np.abs(found).max(axis=1), np.abs(w).max(axis=1))
    nearest = round_nearest(w, bits, np.diagonal(problem.gram, axis1=1, axis2=2))
    assert levels(nearest).max() <= largest_level(bits)


@pytest.mark.parametrize("bits", BITS)
def test_the_others_make_up_for_the_rounding_of_one(bits: int) -> None:
    rng = np.random.default_rng(3)
    ratios = []
    for _ in range(5):
        x = rng.standard_normal((1, 300, 24)) @ rng.standard_normal((24, 24))
        w = rng.standard_normal((1, 24, 6))
        problem = problem_of(x, w)
        joint, alone = round_jointly(problem, w, bits), round_nearest(w, bits)
        ratios.append(problem.error(joint) / problem.error(alone))
    assert np.mean(ratios) < 0.7


def test_a_small_problem_is_solved_as_by_trying_all() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((1, 50, 3)) * [1.0, 2.0, 0.5]
    w = rng.standard_normal((1, 3, 1))
    problem = problem_of(x, w)
    best = np.inf
    for whole in itertools.product((-1, 0, 1), repeat=3):
        k = np.array(whole, float)[None, :, None]
        bend, pull = float(np.sum(k * (problem.gram @ k))), float(np.sum(k * problem.cross))
        best = min(best, problem.error(max(pull, 0.0) / (bend or 1.0) * k))
    assert problem.error(round_jointly(problem, w, 2)) == pytest.approx(best)


def test_a_step_may_be_smaller_than_that_of_the_largest_weight() -> None:
    w = np.array([10.0] + [3.1, -2.9, 3.0, -3.0] * 20)[None, :, None]
    found = round_nearest(w, 3)
    assert abs(found[0, 1:, 0]).max() == pytest.approx(3.0, abs=0.4)
    assert found[0, 0, 0] < 10
    heavy = np.ones((1, w.size))
    heavy[0, 0] = 1e6
    assert round_nearest(w, 3, heavy)[0, 0, 0] == pytest.approx(10.0, rel=0.2)


@pytest.mark.parametrize("bits", [0, 1, 5, 16, True, "4", 4.5])
def test_other_numbers_of_bits_are_refused(bits: object) -> None:
    with pytest.raises(OptionError, match=r"bits: expected one of 2, 3, 4, 8\. Received"):
        check_bits(bits)
