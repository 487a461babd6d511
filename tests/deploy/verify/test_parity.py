"""The difference between file and model, in numbers small enough to check by eye."""

import numpy as np
import pytest

from tfprune.data.model_comparison import scale_of
from tfprune.deploy.verify.parity import agrees, check_agreement, parity
from tfprune.errors import ConversionError, DataError


def _compare(expected, actual, **options):
    options = {"data": "random", "fraction": 0.1, **options}
    return parity("y", np.array(expected), np.array(actual), **options)


def test_errors_spread_and_bound():
    found = _compare([[0.0, 4.0], [4.0, 0.0]], [[0.0, 4.0], [4.0, 2.0]])
    assert (found.max_error, found.rms_error, found.spread) == (2.0, 1.0, 2.0)
    assert found.bound == pytest.approx(0.2, abs=1e-5)
    assert found.agreement == 1.0
    assert not agrees(found)


def test_one_step_of_a_quantized_output_is_always_allowed():
    # Nearly equal probabilities: the spread is 0.001, and the file knows steps of 1/256 only.
    expected, actual = [[0.099], [0.101]], [[0.1015625], [0.1015625]]
    assert not agrees(_compare(expected, actual))
    assert agrees(_compare(expected, actual, step=1 / 256))


def test_the_scale_of_nearly_equal_samples_is_their_size():
    assert scale_of(np.array([[10.0], [10.0]])) == 0.5
    assert scale_of(np.array([[-1.0], [1.0]])) == 1.0
    assert scale_of(np.zeros((2, 1))) == 0.0
    assert agrees(_compare([[10.0]], [[10.04]]))
    assert not agrees(_compare([[10.0]], [[10.06]]))


def test_agreement_counts_rows_with_the_same_top_class():
    assert _compare([[0.0, 1.0], [1.0, 0.0]], [[0.2, 0.3], [0.1, 0.4]]).agreement == 0.5


def test_whole_numbers_either_agree_or_not():
    found = _compare([1, 2, 3, 4], [1, 2, 3, 5])
    assert (found.rms_error, found.bound) == (0.25, 0.1)
    assert not agrees(found)


def test_nan_in_the_file_is_an_infinite_error():
    found = _compare([[1.0], [2.0]], [[1.0], [np.nan]])
    assert found.max_error == np.inf
    assert found.correlation == 0.0
    assert not agrees(found)


def test_nan_in_the_model_is_an_error():
    with pytest.raises(
        DataError, match="the Keras model gives NaN .* real samples as calibration="
    ):
        _compare([[np.nan]], [[1.0]])


def test_constants_correlate_when_they_are_both_constant():
    assert _compare([[2.0], [2.0]], [[2.0], [2.0]]).correlation == 1.0
    assert _compare([[2.0], [2.0]], [[2.0], [3.0]]).correlation == 0.0


def test_agreement_of_integers_counts_equal_numbers():
    found = parity("y", np.array([1, 2, 3, 4]), np.array([1, 2, 0, 4]), data="random", fraction=0.5)
    assert (found.rms_error, found.agreement) == (0.25, 0.75)


def test_a_file_is_refused_for_its_worst_output_and_then_the_first_layer_is_searched():
    near = parity("near", np.zeros((2, 1)), np.zeros((2, 1)), data="random", fraction=0.1)
    off = parity("off", np.array([[0.0], [2.0]]), np.ones((2, 1)), data="random", fraction=0.5)
    far = parity("far", np.array([[0.0], [2.0]]), np.ones((2, 1)), data="random", fraction=0.1)
    asked = []
    check_agreement([near], "the file", "do this", lambda: asked.append("") or "")
    assert asked == []
    with pytest.raises(ConversionError) as caught:
        check_agreement([near, off, far], "the file", "do this", lambda: "; it begins here")
    assert str(caught.value) == (
        "the file disagrees with the model: output 'far' differs by 1 (root mean square; allowed "
        "0.1), correlation 0.0000, on 2 random samples; it begins here; do this, or accept it with "
        "bound="
    )
