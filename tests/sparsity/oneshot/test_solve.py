import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfprune.few_bits.moments import Moments, Problem
from tfprune.sparsity.choices.patterns import KeepOf, Pattern, Unstructured
from tfprune.sparsity.choices.selection import keep_count
from tfprune.sparsity.oneshot import solve as module
from tfprune.sparsity.oneshot.plan import shrinking
from tfprune.sparsity.oneshot.solve import Choose, approach, damped, reconstruct, refit, solve


def problem_of(x: np.ndarray, y: np.ndarray) -> Problem:
    moments = Moments(x.shape[0], x.shape[2], y.shape[2])
    moments.add(x, y)
    return moments.problem()


def stages(pattern: Pattern, count: int, size: int, number: int = 3) -> list[Choose]:
    def chooser(p: Pattern, c: int) -> Choose:
        return lambda scores: p.mask(scores, c)

    return [chooser(*stage) for stage in shrinking(pattern, count, size, number)]


def test_one_of_two_equal_inputs_takes_over_the_weight_of_the_other() -> None:
    x = np.array([[[1.0, 1.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 1.0]]])
    w = np.array([[[1.0], [2.0], [5.0]]])
    found = reconstruct(w, problem_of(x, x @ w), stages(Unstructured(), 2, 3), damping=1e-9)
    assert found.weights.round(6).ravel().tolist() in ([0, 3, 5], [3, 0, 5])


def test_for_independent_inputs_the_choice_is_that_of_wanda_and_no_weight_changes() -> None:
    x = np.diag([1.0, 10.0, 1.0, 1.0])[None]
    w = np.array([[[3.0], [1.0], [2.0], [-4.0]]])
    found = reconstruct(w, problem_of(x, x @ w), stages(Unstructured(), 2, 4), damping=1e-9)
    assert found.weights.round(6).ravel().tolist() == [0, 1, 0, -4]


def test_an_input_that_is_always_zero_is_pruned_first() -> None:
    x = np.array([[[1.0, 0.0], [2.0, 0.0]]])
    w = np.array([[[0.1], [1.0]]])
    found = reconstruct(w, problem_of(x, x @ w), stages(Unstructured(), 1, 2))
    assert found.mask.ravel().tolist() == [True, False]
    assert np.isclose(found.weights[0, 0, 0], 0.1)


def test_if_all_inputs_are_zero_the_smallest_weights_are_pruned() -> None:
    w = np.array([[[3.0], [1.0], [2.0]]])
    found = reconstruct(w, problem_of(np.zeros((1, 4, 3)), np.zeros((1, 4, 1))),
                        stages(Unstructured(), 2, 3))  # fmt: skip
    assert found.weights.ravel().tolist() == [3, 0, 2]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 30),
    sparsity=st.sampled_from([0.0, 0.3, 0.5, 0.8, 0.95]),
    pattern=st.sampled_from([Unstructured(), KeepOf(2, 4), KeepOf(1, 3)]),
    damping=st.sampled_from([1e-6, 0.01, 10.0]),
)
def test_the_error_is_never_larger_than_by_magnitude(
    seed: int, rows: int, sparsity: float, pattern: Pattern, damping: float
) -> None:
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((2, 9, 4))
    dense = rng.standard_normal((2, rows, 9)) @ rng.standard_normal((9, 9))
    # The pruned layers before have moved the inputs.
    now = dense + 0.3 * rng.standard_normal(dense.shape)
    problem = problem_of(now, dense @ w)
    count = keep_count(w.size, sparsity)
    choose = stages(pattern, count, w.size)
    found = reconstruct(w, problem, choose, damping=damping)
    smallest = np.where(choose[-1](np.abs(w)), w, 0)
    assert problem.error(found.weights) <= problem.error(smallest) + 1e-9
    assert not found.weights[~found.mask].any()
    if pattern.fixed is None:
        assert np.count_nonzero(found.mask) == count
    else:
        assert np.array_equal(found.mask, choose[-1](np.where(found.mask, 2.0, 1.0)))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_weights_are_exact_where_the_kept_inputs_determine_the_output(seed: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((40, rank)) @ rng.standard_normal((rank, 8)))[None]
    w = rng.standard_normal((1, 8, 3))
    problem = problem_of(x, x @ w)
    found = reconstruct(w, problem, [lambda s: KeepOf(rank, 8).mask(s, 0)], damping=1e-9)
    assert np.count_nonzero(found.mask) == rank * 3
    # The kept inputs can say all of it, and nothing but the pull to the old weights is in the way.
    exact = np.zeros_like(w)
    for j in range(3):
        kept = np.flatnonzero(found.mask[0, :, j])
        exact[0, kept, j] = np.linalg.lstsq(x[0][:, kept], (x @ w)[0, :, j], rcond=None)[0]
    assert problem.error(exact) <= 1e-9 * problem.energy
    pull = 1e-9 * np.trace(problem.gram[0]) / 8 * np.sum((exact - w) ** 2)
    assert problem.error(found.weights) <= pull + 1e-9 * problem.energy


def test_the_columns_are_the_least_squares_answer_of_numpy() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((1, 50, 6)), rng.standard_normal((1, 50, 4))
    mask = rng.random((1, 6, 4)) < 0.6
    found = solve(problem_of(x, y), mask)
    for j in range(4):
        kept = np.flatnonzero(mask[0, :, j])
        expected = np.linalg.lstsq(x[0][:, kept], y[0, :, j], rcond=None)[0]
        assert np.allclose(found[0, kept, j], expected)
        assert not found[0, ~mask[0, :, j], j].any()


def test_conjugate_gradients_reach_the_same_solution_with_falling_error() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 80, 12)) @ rng.standard_normal((12, 12)) + 1
    w = rng.standard_normal((2, 12, 5))
    problem = damped(problem_of(x, x @ w), w, 0.01)
    mask = rng.random(w.shape) < 0.5
    exact = solve(problem, mask)
    assert np.allclose(approach(problem, w, mask), exact, atol=1e-3)
    errors = [problem.error(approach(problem, w, mask, steps=n)) for n in range(12)]
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(errors))
    assert errors[0] == problem.error(np.where(mask, w, 0))


def test_a_column_without_a_weight_stays_empty_in_both_ways() -> None:
    x = np.random.default_rng(2).standard_normal((1, 9, 3))
    problem = problem_of(x, x)
    nothing = np.zeros((1, 3, 3), bool)
    assert not solve(problem, nothing).any()
    assert not approach(problem, np.ones((1, 3, 3)), nothing).any()


def test_long_columns_are_approached_short_ones_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(2).standard_normal((1, 40, 8))
    problem = problem_of(x, x)
    mask = np.ones((1, 8, 8), bool)
    monkeypatch.setattr(module, "USUAL_STEPS", 1)
    short = refit(problem, np.zeros((1, 8, 8)), np.eye(8, dtype=bool)[None])
    assert np.array_equal(short, solve(problem, np.eye(8, dtype=bool)[None]))
    long = refit(problem, np.zeros((1, 8, 8)), mask)
    assert np.array_equal(long, approach(problem, np.zeros((1, 8, 8)), mask))
    assert not np.array_equal(long, solve(problem, mask))


def test_stages_are_better_than_one_on_average_and_not_used_for_large_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(7)
    ratios = []
    for _ in range(10):
        x = rng.standard_normal((1, 200, 16)) @ rng.standard_normal((16, 16))
        w = rng.standard_normal((1, 16, 6))
        problem = problem_of(x, x @ w)
        count = keep_count(w.size, 0.7)
        once = reconstruct(w, problem, stages(Unstructured(), count, w.size, 1))
        thrice = reconstruct(w, problem, stages(Unstructured(), count, w.size, 3))
        ratios.append(problem.error(thrice.weights) / problem.error(once.weights))
    assert np.mean(ratios) < 0.9
    monkeypatch.setattr(module, "MAX_STAGE_FLOPS", 0)
    large = reconstruct(w, problem, stages(Unstructured(), count, w.size, 3))
    assert np.array_equal(large.mask, once.mask)
