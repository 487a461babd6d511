"""How much does a weight matter? One function a score; high means keep.

A score takes the weights and what is known about them, and returns an array of their shape. What
it needs to know beside the weights it says when it is registered.
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
    """What is known about a weight array beside its values.

    Args:
        gradient: Mean gradient of the loss, where the score asked for it.
        movement: The sum over training of w·Δw, where the score asked for it.
        rng: For scores that draw.
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
        settled: True where held zeros always score lowest, so that asking again for the same
            sparsity changes nothing and the work can be spared.
    """

    function: ScoreFunction
    needs: str | None = None
    settled: bool = False


SCORES: Registry[Score] = Registry("score")


def register(
    name: str, *, needs: str | None = None, settled: bool = False
) -> Callable[[ScoreFunction], ScoreFunction]:
    """Add a score under a name that `prune(score=…)` then takes.

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


def resolve(score: "str | ScoreFunction | Score") -> Score:
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
            "it has to return one number a weight"
        )
    if np.isnan(scores.max()):  # which is NaN if any is, and needs no array of its own
        raise OptionError(f"score {name!r} returned NaN; the weights or the gradient hold NaN")
    return scores


@register("magnitude", settled=True)
def magnitude(weights: NDArray, evidence: Evidence) -> NDArray:
    """|w|.

    Example:
        >>> magnitude(np.array([-2.0, 1.0]), Evidence())
        array([2., 1.])
    """
    return np.abs(weights)


@register("gradient", needs="gradient")
def gradient(weights: NDArray, evidence: Evidence) -> NDArray:
    """|∂L/∂w|: how strongly the loss pulls at a weight, pruned ones included."""
    assert evidence.gradient is not None
    return np.abs(evidence.gradient)


@register("taylor", needs="gradient")
def taylor(weights: NDArray, evidence: Evidence) -> NDArray:
    """|w · ∂L/∂w|: the first-order change of the loss when the weight is set to zero.

    Molchanov et al., Importance Estimation for Neural Network Pruning, 2019.
    """
    assert evidence.gradient is not None
    return np.abs(weights * evidence.gradient)


@register("movement", needs="movement")
def movement(weights: NDArray, evidence: Evidence) -> NDArray:
    """Σ w·Δw over the training so far: positive where a weight moved away from zero.

    Sanh et al., Movement Pruning, 2020, with the update that the optimizer applied in the place
    of −lr·∂L/∂w. A pruned weight keeps the score it had, and returns when others sink below it.
    """
    assert evidence.movement is not None
    return evidence.movement


@register("random")
def random(weights: NDArray, evidence: Evidence) -> NDArray:
    """Uniform noise: the control that every other score has to beat."""
    return evidence.rng.random(weights.shape, dtype=np.float32)
