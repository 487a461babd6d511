"""Rounding of the operations of a call, on numbers small enough to check by eye."""

import keras
import numpy as np
from keras import ops

from tfprune.deploy.qat.rounded_call import QuantisedCall, packed
from tfprune.deploy.qat.rounding.ranges import traced_for_the_converter
from tfprune.deploy.qat.step_rounding import never_trivial

L = keras.layers


def _call(function, *arrays):
    made = QuantisedCall(L.Lambda(function))
    tensors = [keras.KerasTensor((None, *array.shape[1:])) for array in arrays]
    tensors, rest = packed([tensors if len(tensors) > 1 else tensors[0]], {})
    made.prepare(tensors, rest)
    return made


def _set(made, index, low, high):
    for variable, value in zip(made.ranges[index].weights, (low, high, 1.0), strict=True):
        variable.assign(value)


def test_a_tensor_inside_is_rounded_to_256_values_of_its_range():
    x = np.array([[0.104, 0.106, 9.0]], "float32")
    made = _call(lambda x: ops.square(x * 1.0) * 1.0, x)
    np.testing.assert_allclose(made([x]), np.square(x), rtol=1e-6)  # nothing seen yet
    made([np.array([[2.55, 0.0, 0.0]], "float32")], training=True)
    _set(made, 0, 0.0, 2.55)
    _set(made, 1, 0.0, 25.5)
    np.testing.assert_allclose(made([x]), [[0.0, 0.0, 6.5]], atol=1e-5)


def test_a_difference_of_five_axes_is_rounded_before_its_square():
    x = np.ones((1, 2, 1, 1, 2), "float32")
    plain = _call(lambda x: ops.moments(x, -1)[1], x[..., 0, 0, :])
    apart = _call(lambda x: ops.moments(x, -1)[1], x)
    assert len(apart.stored) == len(plain.stored) + 1


def test_hidden_scores_are_a_little_below_the_others():
    x = np.array([[1.0, -1.0, 1.0, 1.0]], "float32")
    scores = np.array([[0.5, 7.0, -0.5, 0.25]], "float32")
    made = _call(lambda x: ops.where(x[0] > 0, x[1] * 1.0, -1e9) * 1.0, x, scores)
    made([x, scores], training=True)
    hidden = float(np.asarray(made([x, scores]))[0, 1])
    assert -13.0 < hidden < -12.0
    np.testing.assert_allclose(
        np.asarray(made([x, scores]))[0, [0, 2, 3]], scores[0, [0, 2, 3]], atol=0.05
    )


def test_a_weight_of_zeros_or_ones_is_not_dropped_by_the_converter():
    values = np.array([0.0, 1.0, -3.0], "float32")
    found = np.asarray(never_trivial(ops.convert_to_tensor(values)))
    assert not np.isin(found, [0.0, 1.0]).any()
    np.testing.assert_allclose(found, values, rtol=1e-6, atol=1e-20)


def test_a_moved_tensor_repeats_its_range_for_the_converter():
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    made = _call(lambda x: ops.exp(ops.reshape(ops.exp(x), (-1, 1))) * 1.0, x)
    made([x], training=True)
    with traced_for_the_converter():
        np.testing.assert_allclose(made([x]), made([x]), atol=1e-6)
    assert len(made.ranges) == 2
