"""Random inputs that the same seed always draws, and differences that can be checked by eye."""

import numpy as np
import pytest

from tfprune.data.model_comparison import (
    correlation,
    differences,
    full_shape,
    is_whole,
    largest_share,
    random_input,
    rms_share,
    same_answers,
)  # fmt: skip


def draw(dtype: str, **options) -> np.ndarray:
    return random_input(np.random.default_rng(0), (50, 4), dtype, **options)


def test_floats_are_normal_numbers() -> None:
    expected = np.random.default_rng(0).normal(size=(50, 4))
    for dtype in ("float64", "float32", "float16"):
        np.testing.assert_array_equal(draw(dtype), expected.astype(dtype))
    np.testing.assert_array_equal(draw("bfloat16"), expected.astype("float32"))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64"])
def test_other_types_are_whole_numbers_of_a_range(dtype: str) -> None:
    array = draw(dtype, whole=(3, 7))
    assert array.dtype == dtype
    assert set(array.ravel().tolist()) == {3, 4, 5, 6}
    assert set(draw(dtype).ravel().tolist()) == {0, 1}


def test_indices_may_be_floats_and_text_is_numbers() -> None:
    assert set(draw("float32", whole=(0, 3), indices=True).ravel().tolist()) == {0.0, 1.0, 2.0}
    assert set(draw("string", whole=(0, 3)).ravel().tolist()) == {"0", "1", "2"}


def test_a_range_of_one_number_leaves_the_generator_unchanged() -> None:
    random = np.random.default_rng(0)
    assert random_input(random, (4,), "bool", whole=(1, 2)).all()
    assert not random_input(random, (4,), "int8", whole=(0, 1)).any()
    assert random.random() == np.random.default_rng(0).random()


def test_open_sizes_are_filled() -> None:
    assert full_shape((None, None, 3), 2, 8) == (2, 8, 3)
    assert full_shape((5, -1), 2, 8) == (5, 8)


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
def test_numbers_that_are_not_finite_differ_infinitely(
    expected, actual, apart, with_equal_holes
) -> None:
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


def test_correlation_of_constants_and_of_numbers_that_are_not_finite() -> None:
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
