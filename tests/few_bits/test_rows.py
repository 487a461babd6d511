import numpy as np
import pytest

from tfprune.few_bits.rows import conv_rows, dense_rows, einsum_rows

RNG = np.random.default_rng


def test_patches_of_a_3x3_image_match_those_by_hand() -> None:
    image = np.arange(9.0).reshape(1, 3, 3, 1)
    rows = conv_rows(image, (2, 2), (1, 1), (1, 1), "valid", 1, 99, RNG(0))
    assert rows[0].tolist() == [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]


def test_same_padding_adds_at_the_end_first_and_causal_at_the_start() -> None:
    signal = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
    same = conv_rows(signal, (2,), (1,), (1,), "same", 1, 99, RNG(0))
    assert same[0].tolist() == [[1, 2], [2, 3], [3, 0]]
    causal = conv_rows(signal, (2,), (1,), (1,), "causal", 1, 99, RNG(0))
    assert causal[0].tolist() == [[0, 1], [1, 2], [2, 3]]


def test_groups_have_their_own_channels() -> None:
    signal = np.arange(8.0).reshape(1, 2, 4)
    rows = conv_rows(signal, (2,), (1,), (1,), "valid", 2, 99, RNG(0))
    assert rows.tolist() == [[[0, 1, 4, 5]], [[2, 3, 6, 7]]]


def test_dilation_and_strides() -> None:
    signal = np.arange(7.0).reshape(1, 7, 1)
    dilated = conv_rows(signal, (2,), (1,), (3,), "valid", 1, 99, RNG(0))
    assert dilated[0].tolist() == [[0, 3], [1, 4], [2, 5], [3, 6]]
    strided = conv_rows(signal, (3,), (2,), (1,), "valid", 1, 99, RNG(0))
    assert strided[0].tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]


def test_einsum_rows_follow_the_letters() -> None:
    x = np.arange(12.0).reshape(2, 3, 2)
    rows = einsum_rows(x, "abc", "b", "c", 99, RNG(0))
    assert rows[1].tolist() == [[2, 3], [8, 9]]
    flat = einsum_rows(x, "abc", "", "bc", 99, RNG(0))
    assert flat.tolist() == [[[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]]
    assert einsum_rows(x, "abc", "", "cb", 99, RNG(0))[0, 0].tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize("limit", [1, 7])
def test_the_limit_is_kept_and_the_same_rows_are_drawn_from_the_same_seed(limit: int) -> None:
    image = RNG(1).standard_normal((2, 6, 6, 3))

    def draw() -> np.ndarray:
        return conv_rows(image, (3, 3), (1, 1), (1, 1), "same", 1, limit, RNG(5))

    everything = conv_rows(image, (3, 3), (1, 1), (1, 1), "same", 1, 999, RNG(5))[0].tolist()
    assert draw().shape == (1, limit, 27)
    assert np.array_equal(draw(), draw())
    assert all(row in everything for row in draw()[0].tolist())
    assert dense_rows(image, limit, RNG(0)).shape == (1, limit, 3)
    assert einsum_rows(image, "abcd", "d", "b", limit, RNG(0)).shape == (3, limit, 6)
