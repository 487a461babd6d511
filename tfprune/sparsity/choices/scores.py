"""Scores of weights, one function each; high means keep.

A score takes the weights and the evidence about them, and returns an array of their shape. What
it needs besides the weights is registered with it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tfprune.errors import OptionError
from tfprune.utils.registry import Registry


@dataclass(frozen=True)
class Evidence:
    """What a score can use besides the values of a weight array.

    Args:
        gradient: Mean gradient of the loss, if the score needs it.
        movement: The sum of w·Δw over training, if the score needs it.
        rng: For scores that draw random numbers.
    """

    gradient: NDArray | None = None
    movement: NDArray | None = None
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))


class ScoreFunction(Protocol):
    def __call__(self, weights: NDArray, evidence: Evidence, /) -> NDArray: ...


@dataclass(frozen=True)
class Score:
    """A named score.

    Args:
        function: `(weights, evidence) -> scores` of the same shape, high means keep.
        needs: `"gradient"`, `"movement"` or nothing.
        settled: True if held zeros always score lowest, so that masks need not be computed again
            for the same sparsity.
    """

    function: ScoreFunction
    needs: str | None = None
    settled: bool = False


SCORES: Registry[Score] = Registry("score")


def register(
    name: str, *, needs: str | None = None, settled: bool = False
) -> Callable[[ScoreFunction], ScoreFunction]:
    """Register a score under a name for `prune(score=…)`.

    Example:
        >>> @register("largest_first_axis")
        ... def by_row(weights, evidence):
        ...     return np.broadcast_to(np.abs(weights).max(-1, keepdims=True), weights.shape)
        >>> "largest_first_axis" in SCORES
        True
        >>> del SCORES._entries["largest_first_axis"]
    """

    def store(function: ScoreFunction) -> ScoreFunction:
        SCORES.register(name)(Score(function, needs, settled))
        return function

    return store


def resolve_score(score: "str | ScoreFunction | Score") -> Score:
    """Return the score that a name or a callable stands for."""
    if isinstance(score, str):
        return SCORES[score]
    if isinstance(score, Score):
        return score
    if callable(score):
        return Score(score)
    raise OptionError(
        f"score: expected a name or a callable (weights, evidence) -> scores. Received {score!r}."
    )


def score_weights(score: Score, weights: NDArray, evidence: Evidence) -> NDArray:
    """Apply a score and check what it returned."""
    scores = np.asarray(score.function(weights, evidence))
    if not np.issubdtype(scores.dtype, np.floating):
        scores = scores.astype(np.float64)
    name = getattr(score.function, "__name__", "score")
    if scores.shape != weights.shape:
        raise OptionError(
            f"score {name!r} returned shape {scores.shape} for weights of shape {weights.shape}; "
            "it must return one number per weight"
        )
    if np.isnan(scores.max()):  # NaN if any is, without a temporary array
        raise OptionError(f"score {name!r} returned NaN; the weights or the gradient have NaN")
    return scores


@register("magnitude", settled=True)
def magnitude(weights: NDArray, evidence: Evidence) -> NDArray:
    """Return |w|.

    Example:
        >>> magnitude(np.array([-2.0, 1.0]), Evidence())
        array([2., 1.])
    """
    return np.abs(weights)


@register("gradient", needs="gradient")
def gradient(weights: NDArray, evidence: Evidence) -> NDArray:
    """Return |∂L/∂w|, also of pruned weights."""
    assert evidence.gradient is not None
    return np.abs(evidence.gradient)


@register("taylor", needs="gradient")
def taylor(weights: NDArray, evidence: Evidence) -> NDArray:
    """Return |w · ∂L/∂w|: the first-order change of the loss if the weight is set to zero.

    Molchanov et al., Importance Estimation for Neural Network Pruning, 2019.
    """
    assert evidence.gradient is not None
    return np.abs(weights * evidence.gradient)


@register("movement", needs="movement")
def movement(weights: NDArray, evidence: Evidence) -> NDArray:
    """Return Σ w·Δw over the training so far: positive if a weight moved away from zero.

    Sanh et al., Movement Pruning, 2020, with the update of the optimizer instead of −lr·∂L/∂w. A
    pruned weight keeps its score, and is restored when other scores fall below it.
    """
    assert evidence.movement is not None
    return evidence.movement


@register("random")
def random(weights: NDArray, evidence: Evidence) -> NDArray:
    """Return uniform noise, as a baseline."""
    return evidence.rng.random(weights.shape, dtype=np.float32)
