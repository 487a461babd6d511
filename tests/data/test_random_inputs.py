"""Random inputs: what they may be, and that the same seed draws what it always drew."""

import numpy as np
import pytest

from tfprune.data.random_inputs import full_shape, random_input


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


def test_a_range_of_one_number_draws_nothing() -> None:
    random = np.random.default_rng(0)
    assert random_input(random, (4,), "bool", whole=(1, 2)).all()
    assert not random_input(random, (4,), "int8", whole=(0, 1)).any()
    assert random.random() == np.random.default_rng(0).random()


def test_open_sizes_are_filled() -> None:
    assert full_shape((None, None, 3), 2, 8) == (2, 8, 3)
    assert full_shape((5, -1), 2, 8) == (5, 8)
