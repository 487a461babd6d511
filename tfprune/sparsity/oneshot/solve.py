"""Which weights of a matrix to keep, and what the kept ones have to be, so that its products stay.

A layer gave the rows Y = X₀ W. In the pruned model it has the inputs X, a little different from X₀
since the layers before it are pruned. Weights are taken away and the others changed to make up for
both: minimise ‖X V − Y‖² over V with zeros, which depends on the rows through H = XᵀX/rows,
C = XᵀY/rows and ‖Y‖² alone. H is damped, H + λI, where λ is a fraction of its mean diagonal, and
V is drawn to W with it: C + λW. A few hundred samples do not say everything.

**Which.** Without zeros the best is T = H⁻¹C. Taking weight j of a column away alone, with the best
answer of all others, costs t_j² / [H⁻¹]_jj (Hassibi and Stork, Optimal Brain Surgeon, 1993; Frantar
and Alistarh, SparseGPT, 2023). Where H is diagonal this is (|w_j| ‖X_j‖)², the square of Wanda's
score (Sun et al., A Simple and Effective Pruning Approach, 2023). The estimate holds for few
weights, so they are taken in stages, each judged by what is left: [H_SS⁻¹]_jj.

**What.** Given the set S of a column's kept weights, the best answer solves

    H_SS v_S = C_S

and each column is solved by itself, directly. SparseGPT instead finds an answer for all columns in
one sweep over the inputs, in which an input can make up only for those before it: cheaper, and at
many zeros points of accuracy behind, with the same Y: see benchmarks/oneshot.py. Where columns are
too long to be solved one by one, conjugate gradients (all columns at once, by matrix products) come
as close as wanted.

Arrays have three axes, (products, inputs, outputs): a layer may be several products that share
nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tfprune.sparsity.oneshot.moments import Problem

Choose = Callable[[NDArray], NDArray[np.bool_]]

MAX_STAGE_FLOPS = 1e11
"""Above this, in one stage, weights are taken all at once: the inverses would take too long."""

MAX_STEPS = 200
"""Of conjugate gradients."""

USUAL_STEPS = 40
"""What conjugate gradients take with damped H until the error is that of the direct answer to four
digits; at 1,152 inputs and half of the weights they are then twice as fast, beyond much more."""


@dataclass(frozen=True)
class Solution:
    """What became of a layer.

    Args:
        weights: The new weights, zero where the mask is.
        mask: What was kept.
    """

    weights: NDArray
    mask: NDArray[np.bool_]


def damped(problem: Problem, weights: NDArray, damping: float) -> Problem:
    """Return the problem with a pull toward `weights`.

    Args:
        problem: The problem.
        weights: The weights as they came.
        damping: λ as a fraction of the mean diagonal of H, in each product.
    """
    width = problem.gram.shape[-1]
    level = damping * np.trace(problem.gram, axis1=1, axis2=2) / width
    # Inputs that never spoke leave H zero: any λ then says that the weights stay as they are.
    level = np.where(level > 0, level, 1.0)[:, None, None]
    return Problem(
        problem.gram + level * np.eye(width), problem.cross + level * weights, problem.energy
    )


def reconstruct(
    weights: NDArray, problem: Problem, stages: Sequence[Choose], *, damping: float = 0.01
) -> Solution:
    """Return the weights to keep and their new values.

    The error on the samples is never above that of the smallest weights set to zero.

    Args:
        weights: (products, inputs, outputs), as they came.
        problem: What the products are to be.
        stages: From scores to masks, fewer kept in each; the last is what is wanted. When the
            layer is too large for stages, the last is used alone.
        damping: λ as a fraction of the mean diagonal of H.

    Example:
        >>> x = np.array([[[1.0, 1.0], [2.0, 2.0]]])  # two inputs that say the same
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
    # The score is an estimate and the damping a pull away from the samples: neither can promise
    # to beat the plain way, which therefore is tried when it could win, with the same refit first.
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
    """Those gone already score below all others."""
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
    """Return the best weights with the zeros of `mask`, by whichever way is the shorter."""
    kept = np.count_nonzero(mask, axis=1).astype(float)
    direct = np.sum(kept**3) * 2 / 3
    products, width, outputs = mask.shape
    iterative = 2.0 * products * width**2 * outputs * USUAL_STEPS
    return solve(problem, mask) if direct <= iterative else approach(problem, start, mask)


def solve(problem: Problem, mask: NDArray[np.bool_]) -> NDArray:
    """Return the best weights with the zeros of `mask`, each column solved directly."""
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
    """Return nearly the best weights with the zeros of `mask`, by conjugate gradients.

    Every step makes the error smaller, so the answer is never worse than `start`.

    Args:
        problem: The problem.
        start: Where to begin.
        mask: What is kept.
        steps: How many at most.
        tolerance: Of the residual, relative to the first one: then a column is done.
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
