import numpy as np
import pytest

from tfprune.errors import OptionError
from tfprune.sparsity.choices.scores import SCORES, Evidence, Score, resolve_score, score_weights

W = np.array([[-3.0, 1.0], [0.0, 2.0]], np.float32)
EVIDENCE = Evidence(
    gradient=np.array([[0.5, -4.0], [9.0, 0.0]], np.float32),
    movement=np.array([[-1.0, 2.0], [0.0, 0.5]], np.float32),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("magnitude", [[3, 1], [0, 2]]),
        ("gradient", [[0.5, 4], [9, 0]]),
        ("taylor", [[1.5, 4], [0, 0]]),
        ("movement", [[-1, 2], [0, 0.5]]),
    ],
)
def test_golden(name: str, expected: list[list[float]]) -> None:
    np.testing.assert_array_equal(score_weights(SCORES[name], W, EVIDENCE), expected)


def test_random_is_the_same_for_the_same_generator_and_ignores_the_weights() -> None:
    draws = [
        score_weights(SCORES["random"], w, Evidence(rng=np.random.default_rng(3)))
        for w in (W, 2 * W)
    ]
    np.testing.assert_array_equal(*draws)


def test_a_callable_is_a_score() -> None:
    score = resolve_score(lambda weights, evidence: (weights > 0).astype(int))
    np.testing.assert_array_equal(score_weights(score, W, EVIDENCE), [[0, 1], [0, 1]])


def test_what_a_callable_returns_is_checked() -> None:
    with pytest.raises(OptionError, match=r"returned shape \(2,\) for weights of shape \(2, 2\)"):
        score_weights(Score(lambda w, e: w[0]), W, EVIDENCE)
    with pytest.raises(OptionError, match="returned NaN"):
        score_weights(Score(lambda w, e: w * np.nan), W, EVIDENCE)


def test_unknown_scores_are_named() -> None:
    with pytest.raises(OptionError, match="Did you mean magnitude"):
        resolve_score("magnitud")
    with pytest.raises(OptionError, match="expected a name or a callable"):
        resolve_score(3)
