"""Choosing which weights of a matrix to keep, and refitting them to preserve its products.

A layer of the original model computes the rows Y = X₀ W. In the pruned model it has the inputs X,
which differ a little from X₀ since the layers before it are pruned. Weights are removed and the
others changed to compensate for both: minimize ‖X V − Y‖² over V with zeros, which depends on the
rows only through H = XᵀX/rows, C = XᵀY/rows and ‖Y‖². A few hundred samples do not determine V
well, so H is damped, H + λI, where λ is a fraction of its mean diagonal, and V is pulled toward W:
C + λW.

**Which weights.** Without zeros the optimum is T = H⁻¹C. Removing only weight j of a column, with
optimal values for all others, costs t_j² / [H⁻¹]_jj (Hassibi and Stork, Optimal Brain Surgeon,
1993; Frantar and Alistarh, SparseGPT, 2023). If H is diagonal this is (|w_j| ‖X_j‖)², the square
of Wanda's score (Sun et al., A Simple and Effective Pruning Approach, 2023). The estimate holds
for few weights, so they are removed in stages, each scored by the remaining ones: [H_SS⁻¹]_jj.

**Which values.** Given the set S of a column's kept weights, the optimum solves

    H_SS v_S = C_S

and each column is solved directly, by itself. SparseGPT instead solves all columns in one sweep
over the inputs, in which an input can compensate only for those before it: cheaper, but with many
zeros less accurate by points, with the same Y: see benchmarks/oneshot.py. If columns are too long
to be solved one by one, conjugate gradients (all columns at once, by matrix products) approach the
optimum as closely as needed.

Arrays have three axes, (products, inputs, outputs): a layer may be several independent products.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tfprune.few_bits.moments import Problem, damped

Choose = Callable[[NDArray], NDArray[np.bool_]]

MAX_STAGE_FLOPS = 1e11
"""If one stage takes more, all weights are removed at once: the inverses would take too long."""

MAX_STEPS = 200
"""The most steps of conjugate gradients."""

USUAL_STEPS = 40
"""The steps of conjugate gradients with damped H until the error agrees with the direct solution
to four digits; at 1,152 inputs and half of the weights they are then twice as fast, with more
inputs much faster."""


@dataclass(frozen=True)
class Solution:
    """The new weights of a layer, zero where the mask is False."""

    weights: NDArray
    mask: NDArray[np.bool_]


def reconstruct(
    weights: NDArray, problem: Problem, stages: Sequence[Choose], *, damping: float = 0.01
) -> Solution:
    """Return the weights to keep and their new values.

    The error on the samples is never larger than with the smallest weights set to zero.

    Args:
        weights: The original weights, (products, inputs, outputs).
        problem: The least-squares problem.
        stages: Functions from scores to masks, each keeping fewer weights; the last gives the
            result. If the layer is too large for stages, only the last is used.
        damping: λ as a fraction of the mean diagonal of H.

    Example:
        >>> x = np.array([[[1.0, 1.0], [2.0, 2.0]]])  # two equal inputs
        >>> w = np.array([[[3.0], [1.0]]])
        >>> h = x.transpose(0, 2, 1) @ x / 2
        >>> problem = Problem(h, h @ w, float(np.sum((x @ w) ** 2) / 2))
        >>> keep_one = lambda scores: scores == scores.max()
        >>> reconstruct(w, problem, [keep_one], damping=1e-9).weights.round(6).ravel().tolist()
        [4.0, 0.0]
    """
    held = damped(problem, weights, damping)
    mask = _choose(weights, held, stages)
    found = Solution(refit(held, weights, mask), mask)
    # The score is an estimate and the damping pulls away from the samples, so the result may be
    # worse than zeroing the smallest weights; then that is tried too, with and without refit.
    smallest = stages[-1](np.abs(weights))
    plain = Solution(np.where(smallest, weights, 0.0), smallest)
    if problem.error(found.weights) <= problem.error(plain.weights):
        return found
    refitted = Solution(refit(held, weights, smallest), smallest)
    return min(refitted, plain, key=lambda solution: problem.error(solution.weights))


def _choose(weights: NDArray, problem: Problem, stages: Sequence[Choose]) -> NDArray[np.bool_]:
    inverse = np.linalg.inv(problem.gram)
    values = inverse @ problem.cross
    spread = np.broadcast_to(np.diagonal(inverse, axis1=1, axis2=2)[:, :, None], weights.shape)
    mask = np.ones(weights.shape, bool)
    if len(stages) > 1 and not _affordable(values, mask, spread, stages[0]):
        stages = stages[-1:]
    for choose in stages[:-1]:
        mask &= choose(_saliency(values, spread, mask))
        values, spread = _solve_with_spread(problem, mask)
    return mask & stages[-1](_saliency(values, spread, mask))


def _saliency(values: NDArray, spread: NDArray, mask: NDArray[np.bool_]) -> NDArray:
    """Return the score of each weight; removed ones score below all others."""
    return np.where(mask, np.square(values) / np.where(mask, spread, 1.0), -1.0)


def _affordable(values: NDArray, mask: NDArray, spread: NDArray, choose: Choose) -> bool:
    kept = np.count_nonzero(choose(_saliency(values, spread, mask)), axis=1).astype(float)
    return bool(2 * np.sum(kept**3) <= MAX_STAGE_FLOPS)


def _solve_with_spread(problem: Problem, mask: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    """Solve each column and return its [H_SS⁻¹]_jj as well."""
    values, spread = np.zeros(mask.shape), np.ones(mask.shape)
    for p, j, kept in _columns(mask):
        inverse = np.linalg.inv(problem.gram[p][np.ix_(kept, kept)])
        values[p, kept, j] = inverse @ problem.cross[p, kept, j]
        spread[p, kept, j] = np.diagonal(inverse)
    return values, spread


def _columns(mask: NDArray[np.bool_]) -> Iterator[tuple[int, int, NDArray[np.intp]]]:
    for p in range(mask.shape[0]):
        for j in range(mask.shape[2]):
            yield p, j, np.flatnonzero(mask[p, :, j])


def refit(problem: Problem, start: NDArray, mask: NDArray[np.bool_]) -> NDArray:
    """Return the optimal weights with the zeros of `mask`, by the faster method."""
    kept = np.count_nonzero(mask, axis=1).astype(float)
    direct = np.sum(kept**3) * 2 / 3
    products, width, outputs = mask.shape
    iterative = 2.0 * products * width**2 * outputs * USUAL_STEPS
    return solve(problem, mask) if direct <= iterative else approach(problem, start, mask)


def solve(problem: Problem, mask: NDArray[np.bool_]) -> NDArray:
    """Return the optimal weights with the zeros of `mask`, solving each column directly."""
    values = np.zeros(mask.shape)
    for p, j, kept in _columns(mask):
        values[p, kept, j] = np.linalg.solve(
            problem.gram[p][np.ix_(kept, kept)], problem.cross[p, kept, j]
        )
    return values


def approach(
    problem: Problem,
    start: NDArray,
    mask: NDArray[np.bool_],
    *,
    steps: int = MAX_STEPS,
    tolerance: float = 1e-5,
) -> NDArray:
    """Return nearly optimal weights with the zeros of `mask`, by conjugate gradients.

    Every step reduces the error, so the result is never worse than `start`. A column is done when
    its residual is below `tolerance` of its first one.
    """
    values = np.where(mask, start, 0.0)
    scale = np.diagonal(problem.gram, axis1=1, axis2=2)[:, :, None]
    residual = np.where(mask, problem.cross - problem.gram @ values, 0.0)
    direction = residual / scale
    square = np.sum(residual * direction, axis=1, keepdims=True)
    enough = square * tolerance**2
    for _ in range(steps):
        active = square > enough
        if not active.any():
            break
        ahead = np.where(mask, problem.gram @ direction, 0.0)
        bend = np.sum(direction * ahead, axis=1, keepdims=True)
        step = np.where(active, square / np.where(active, bend, 1.0), 0.0)
        values += step * direction
        residual -= step * ahead
        scaled = residual / scale
        following = np.sum(residual * scaled, axis=1, keepdims=True)
        turn = np.where(active, following / np.where(active, square, 1.0), 0.0)
        direction = scaled + turn * direction
        square = np.where(active, following, square)
    return values
