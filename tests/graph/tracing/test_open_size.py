import keras
import numpy as np
import pytest

from tfprune.graph.tracing.open_size import OpenSizeError, ratio, size_of


def test_sizes_are_whole_numbers_that_can_be_computed_with() -> None:
    x = keras.Input((None, None, 8))
    n, m = size_of(x, 1), size_of(x, 2)
    assert n == size_of(x, 1)
    assert n + 0 == n * 1 == n // 1 == n
    assert 2 * n - n == n
    assert n - n == 0
    assert n * m // m == n
    assert (n + m) * 3 // 3 == m + n
    assert n + 1 != n
    assert n % 4 + n // 4 * 4 == n
    assert n.axis == 1
    assert (n + 1).axis is None
    assert repr(2 * n * m - 3) == "2 * axis 1 of (None, None, None, 8) * axis 2 of " + (
        "(None, None, None, 8) + -3"
    )
    with pytest.raises(OpenSizeError, match="cannot be compared"):
        assert n == 3
    with pytest.raises(OpenSizeError, match="a number is needed"):
        range(n)


def test_a_size_becomes_a_number_and_a_vector_of_zeros() -> None:
    x = keras.Input((None, None, 8))
    n, m = size_of(x, 1), size_of(x, 2)
    for size in (n, n + 2, n - 2, 3 * m + n * m, (n * m + 1) // 4, n % 4 + n // 4 * 4):
        model = keras.Model(x, [size.value(), size.line()])
        for shape in ((1, 5, 3, 8), (2, 9, 4, 8)):
            expected = size.at({n.key: shape[1], m.key: shape[2]}.__getitem__)
            number, line = model(np.ones(shape, "float32"))
            assert int(number) == expected
            np.testing.assert_array_equal(line, np.zeros(expected))


def test_the_ratio_of_two_sizes_is_a_number_only_for_all_axes() -> None:
    x = keras.Input((None, None, 8))
    n, m = size_of(x, 1), size_of(x, 2)
    assert ratio(n * m * 6, m * n * 2) == 3
    assert ratio(n * 16, n // 4 * 8) == 8
    assert ratio(n * m, n) is None
    assert ratio(n, n * 2) is None
    assert ratio(12, 4) == 3
