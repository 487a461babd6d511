"""Weights on a grid, chosen together, so that the products of a layer stay what they were.

A file of few bits stores a weight as a whole number times the step of its output,

    v_ij = s_j k_ij,   |k_ij| ≤ L = 2^(bits−1) − 1

Rounding each weight to the nearest multiple ignores that inputs are correlated: here the others
make up for the error of one. With H and C as in `solve`, each column minimizes

    s² kᵀHk − 2 s kᵀC

in turn over one k_i, whose optimum is the multiple nearest to its best real value given all others
(coordinate descent), and over s, in closed form; no step of either increases it. It begins with the
s for which rounding to the nearest has the smallest squared error, weighted by the diagonal of H:
the largest weights are then clipped.

In 8 bits little is gained by another s, and files of 8 bits have none but that of the largest
weight: so s is fixed, and that weight is L.
"""

import numpy as np
from numpy.typing import NDArray

from tfprune.errors import OptionError
from tfprune.few_bits.moments import Problem

BITS = (2, 3, 4, 8)

SWEEPS = 8
"""The most passes over all weights; further ones reduce the error by a hundredth."""

_SHARES = np.linspace(0.2, 1.0, 17)
_BLOCK = 32


def check_bits(bits: object) -> None:
    """Raise OptionError unless weights can be stored in so many bits."""
    if isinstance(bits, bool) or bits not in BITS:
        raise OptionError(f"bits: expected one of {', '.join(map(str, BITS))}. Received {bits!r}.")


def largest_level(bits: int) -> int:
    """Return the largest whole number of a grid, which is symmetric.

    Example:
        >>> [largest_level(bits) for bits in (2, 3, 4, 8)]
        [1, 3, 7, 127]
    """
    return int(2 ** (bits - 1) - 1)


def round_nearest(weights: NDArray, bits: int, importance: NDArray | float = 1.0) -> NDArray:
    """Return each weight rounded to the nearest of its grid, with the best step for each column.

    Args:
        weights: Any weights, (products, inputs, outputs).
        bits: The bits of the grid.
        importance: What a squared error counts, (products, inputs).

    Example:
        >>> round_nearest(np.array([[[0.9], [-1.1], [0.2]]]), bits=2).round(6).ravel().tolist()
        [1.0, -1.0, 0.0]
    """
    step, most = _best_step(weights, bits, importance), largest_level(bits)
    whole = np.clip(np.rint(weights / step), -most, most)
    if bits == 8:
        return step * whole
    squares = np.sum(np.square(whole), axis=1, keepdims=True)
    means = np.sum(whole * weights, axis=1, keepdims=True) / np.where(squares > 0, squares, 1.0)
    return means * whole


def round_jointly(problem: Problem, start: NDArray, bits: int) -> NDArray:
    """Return weights on a grid, zero where `start` is, with products near the wanted ones.

    Args:
        problem: The least-squares problem.
        start: The best weights without a grid, (products, inputs, outputs).
        bits: The bits of the grid.

    Example:
        >>> x = np.array([[[1.0, 1.0], [1.0, 0.9]]])  # nearly equal inputs
        >>> w = np.array([[[3.0], [1.4], [1.4]]])[:, 1:]
        >>> h = x.transpose(0, 2, 1) @ x
        >>> found = round_jointly(Problem(h, h @ w, 0.0), w, bits=2)
        >>> bool(abs(x @ (found - w)).max() < 0.1)
        True
    """
    most = largest_level(bits)
    step = _best_step(start, bits, np.diagonal(problem.gram, axis1=1, axis2=2))
    high = np.where(start != 0, most, 0.0)
    low = -high
    if bits == 8:
        largest = np.abs(start) == np.abs(start).max(axis=1, keepdims=True)
        low, high = (np.where(largest, np.sign(start) * most, bound) for bound in (low, high))
    values, whole = start, np.zeros(start.shape)
    for _ in range(SWEEPS):
        before = whole
        whole = _sweep(problem, values, step, low, high)
        if np.array_equal(whole, before):
            break
        if bits != 8:
            bend = np.sum(whole * (problem.gram @ whole), axis=1, keepdims=True)
            pull = np.sum(whole * problem.cross, axis=1, keepdims=True)
            step = np.where(pull > 0, pull / np.where(bend > 0, bend, 1.0), step)
        values = step * whole
    return values


def _best_step(weights: NDArray, bits: int, importance: NDArray | float) -> NDArray:
    """Return the step of each column, (products, 1, outputs)."""
    most, widest = largest_level(bits), np.abs(weights).max(axis=1, keepdims=True)
    widest = np.where(widest > 0, widest, 1.0)
    counts = np.broadcast_to(importance, weights.shape[:2])[:, :, None]
    best, least = widest / most, np.full(widest.shape, np.inf)
    for share in np.ones(1) if bits == 8 else _SHARES:
        step = share * widest / most
        apart = weights - step * np.clip(np.rint(weights / step), -most, most)
        error = np.sum(counts * np.square(apart), axis=1, keepdims=True)
        best, least = np.where(error < least, step, best), np.minimum(error, least)
    return best


def _sweep(problem: Problem, start: NDArray, step: NDArray, low: NDArray, high: NDArray) -> NDArray:
    """Return the whole numbers after rounding each weight in turn, given the others."""
    gram, values = problem.gram, start.copy()
    whole = np.empty(start.shape)
    residual = problem.cross - gram @ values
    for first in range(0, values.shape[1], _BLOCK):
        block = slice(first, min(first + _BLOCK, values.shape[1]))
        near, own = residual[:, block].copy(), gram[:, block, block]
        moved = np.empty(near.shape)
        for i in range(near.shape[1]):
            row = first + i
            optimum = (values[:, row] + near[:, i] / own[:, i, i, None]) / step[:, 0]
            whole[:, row] = np.clip(np.rint(optimum), low[:, row], high[:, row])
            moved[:, i] = step[:, 0] * whole[:, row] - values[:, row]
            # Those before it in the block, and the other blocks, follow in one product.
            near[:, i + 1 :] -= own[:, i + 1 :, i, None] * moved[:, i, None]
        values[:, block] += moved
        residual -= gram[:, :, block] @ moved
    return whole
