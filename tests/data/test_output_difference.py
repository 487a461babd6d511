"""How far outputs are apart, in numbers small enough to check by eye."""

import numpy as np
import pytest

from tfprune.data.output_difference import (
    correlation,
    differences,
    is_whole,
    largest_share,
    rms_share,
    same_answers,
)  # fmt: skip

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("expected", "actual", "apart", "with_equal_holes"),
    [
        ([1.0, 2.0], [1.5, 2.0], [0.5, 0.0], [0.5, 0.0]),
        ([1.0, 2.0], [NAN, 2.0], [INF, 0.0], [INF, 0.0]),
        ([NAN, INF], [NAN, INF], [INF, INF], [0.0, 0.0]),
        ([INF, 1.0], [-INF, INF], [INF, INF], [INF, INF]),
    ],
)
def test_what_is_not_finite_is_as_far_as_can_be(expected, actual, apart, with_equal_holes) -> None:
    one, other = np.array(expected), np.array(actual)
    assert differences(one, other).tolist() == apart
    assert differences(one, other, equal_holes=True).tolist() == with_equal_holes


def test_outputs_of_different_shapes_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match=r"outputs of shape \(3,\), expected \(2,\)"):
        differences(np.zeros(2), np.zeros(3))


def test_a_share_is_of_the_largest_finite_number() -> None:
    assert largest_share(np.array([0.0, -4.0]), np.array([1.0, -4.0])) == 0.25
    assert largest_share(np.zeros(2), np.array([0.0, 0.5])) == 0.5
    assert largest_share(np.zeros(2), np.array([0.0, 0.5]), scale_of_zeros=0.0) == INF
    assert largest_share(np.zeros(0), np.zeros(0)) == 0.0
    assert largest_share(np.array([4.0, 1.0]), np.array([4.0, NAN])) == INF
    # An infinite number would make any other difference small.
    holes = np.array([INF, 4.0]), np.array([INF, 3.0])
    assert largest_share(*holes, equal_holes=True) == 0.25
    assert largest_share(np.float16([60000]), np.float16([-60000])) == 2.0


def test_root_mean_squares_are_a_share_of_the_scale() -> None:
    assert rms_share(np.array([[0.0, 4.0], [4.0, 0.0]]), np.array([[0.0, 4.0], [4.0, 2.0]])) == 0.5
    assert rms_share(np.zeros(4), np.full(4, 0.5)) == 0.5
    assert rms_share(np.array([0.0, 4.0]), np.array([0.0, NAN])) == INF


def test_correlation_of_constants_and_of_what_is_not_finite() -> None:
    line = np.arange(4.0)
    assert correlation(line, 2 * line) == pytest.approx(1.0)
    assert correlation(line, -line) == pytest.approx(-1.0)
    assert correlation(np.ones(4), np.full(4, 3.0)) == 1.0
    assert correlation(np.ones(4), line) == 0.0
    assert correlation(line, np.full(4, NAN)) == 0.0


def test_answers_are_top_classes_or_decisions() -> None:
    scores = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert same_answers(scores, scores[::-1]).tolist() == [False, False]
    assert same_answers(np.array([3, 4]), np.array([3, 5])).tolist() == [True, False]
    assert same_answers(np.zeros((4, 1)), np.zeros((4, 1))) is None
    assert is_whole(np.zeros(2, "uint8"))
    assert not is_whole(np.zeros(2, "float16"))
