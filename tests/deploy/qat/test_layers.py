"""Layers that train under rounding, on numbers small enough to check by eye."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfprune.deploy.qat.layers import (
    QuantisedConv1D,
    QuantisedConv1DTranspose,
    QuantisedDense,
    QuantisedEinsumDense,
    QuantisedPReLU,
    QuantisedSeparableConv1D,
)

L = keras.layers


def test_a_kernel_is_rounded_to_127ths_of_the_largest_weight_of_its_channel():
    layer = QuantisedConv1D(2, 3, use_bias=False)
    layer.build((None, 3, 1))
    kernel = np.array([[[1.27, 2.54]], [[0.014, 0.014]], [[-0.3, 0.0]]])
    layer.set_weights([kernel, np.ones((3, 1, 2))])
    # Steps of 0.01 in the first channel, of 0.02 in the second.
    expected = [[[1.27, 2.54]], [[0.01, 0.02]], [[-0.3, 0.0]]]
    np.testing.assert_allclose(layer.kernel, expected, atol=1e-6)


def test_a_transposed_kernel_has_a_scale_for_each_channel_of_its_output():
    layer = QuantisedConv1DTranspose(2, 1, use_bias=False)
    layer.build((None, 3, 2))
    layer.set_weights([np.array([[[1.27, 0.014], [2.54, 0.014]]]), np.ones((1, 2, 2))])
    np.testing.assert_allclose(layer.kernel, [[[1.27, 0.01], [2.54, 0.02]]], atol=1e-6)


def test_a_separable_convolution_rounds_both_kernels_and_what_is_between():
    layer = QuantisedSeparableConv1D(1, 1, use_bias=False)
    layer.build((None, 1, 2))
    depthwise, pointwise = np.array([[[1.27], [2.54]]]), np.array([[[1.27], [0.014]]])
    layer.take([depthwise, pointwise], keep_zeros=True)
    x = np.array([[[1.0, 0.104]]], "float32")
    np.testing.assert_allclose(layer(x), [[[1.27 * 1.27 + 0.104 * 2.54 * 0.01]]], atol=1e-6)
    for variable, value in zip((layer.between.low, layer.between.high), (0.0, 2.55), strict=True):
        variable.assign(value)
    layer.between.seen.assign(1)
    # Steps of 0.01 between the two.
    np.testing.assert_allclose(layer(x), [[[1.27 * 1.27 + 0.26 * 0.01]]], atol=1e-6)
    np.testing.assert_array_equal(layer.plain()[1], pointwise.astype("float32"))


def test_slopes_have_one_scale_and_may_leave_zero():
    layer = QuantisedPReLU()
    layer.build((None, 3))
    layer.take([np.array([0.127, 0.0, -0.0406])], keep_zeros=True)
    x = np.array([[-1.0, 5.0, -1.0]], "float32")
    np.testing.assert_allclose(layer(x), [[-0.127, 5.0, 0.041]], atol=1e-6)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(-np.abs(x)))
    np.testing.assert_allclose(tape.gradient(total, layer.alpha.value), [-1.0, -5.0, -1.0])


def test_a_dense_kernel_has_one_scale():
    layer = QuantisedDense(2, use_bias=False)
    layer.build((None, 2))
    layer.set_weights([np.array([[1.27, 2.54], [0.007, 0.012]]), np.ones((2, 2))])
    np.testing.assert_allclose(layer.kernel, [[1.28, 2.54], [0.0, 0.02]], atol=1e-6)


def test_the_gradient_passes_the_rounding_and_stops_at_the_mask():
    layer = QuantisedDense(1, use_bias=False)
    layer.build((None, 2))
    layer.set_weights([np.array([[0.5], [0.25]]), np.array([[1.0], [0.0]])])
    with tf.GradientTape() as tape:
        output = tf.reduce_sum(layer(np.array([[3.0, 5.0]], "float32")))
    gradient = tape.gradient(output, layer._kernel.value)
    np.testing.assert_allclose(gradient, [[3.0], [0.0]])
    np.testing.assert_allclose(output, 1.5)


def test_the_activation_reads_a_rounded_tensor():
    layer = QuantisedDense(1, use_bias=False, activation="tanh")
    layer.build((None, 1))
    layer.set_weights([np.array([[1.0]]), np.ones((1, 1)), *np.float32([-1.0, 1.55, 1.0])])
    # Steps of 2.55 / 255 before the hyperbolic tangent.
    np.testing.assert_allclose(layer(np.array([[0.204]], "float32")), [[np.tanh(0.2)]], atol=1e-6)


@pytest.mark.parametrize(
    ("equation", "shape", "bias"), [("abc,cde->abde", (2, 3), "de"), ("abcd,cde->abe", 5, "e"),
                                    ("abcd,cde->abe", 5, None), ("abc,dc->abd", 6, "d")],
)  # fmt: skip
def test_an_equation_gives_what_keras_gives(equation, shape, bias):
    inputs = (2, 4, 3, 7) if equation.startswith("abcd") else (2, 4, 7)
    shape = (4, *shape) if isinstance(shape, tuple) else (4, shape)
    plain = L.EinsumDense(equation, shape, bias_axes=bias, bias_initializer="uniform")
    x = np.random.default_rng(0).normal(size=inputs).astype("float32")
    expected = plain(x)
    layer = QuantisedEinsumDense.from_config(plain.get_config())
    layer.build(inputs)
    layer.take(plain.get_weights(), keep_zeros=False)
    largest = np.abs(plain.kernel).max()
    np.testing.assert_allclose(
        layer(x), expected, atol=largest / 127 / 2 * np.abs(x).sum((1, 2)).max()
    )
    np.testing.assert_array_equal(layer.plain()[0], plain.kernel)
