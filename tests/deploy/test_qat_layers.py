"""Layers that train under rounding, on numbers small enough to check by eye."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfprune.deploy.qat import QUANTISED
from tfprune.deploy.qat_layers import (
    ActivationRange,
    QuantisedConv1D,
    QuantisedConv1DTranspose,
    QuantisedDense,
    QuantisedEinsumDense,
    QuantisedEmbedding,
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


def test_a_range_about_zero_has_zero_in_its_middle():
    layer = ActivationRange(about_zero=True)
    layer(np.array([[-0.5, 1.27]], "float32"), training=True)
    steps = np.asarray(layer(np.array([[-9.0, 0.0, 0.304, 9.0]], "float32"))) / 0.01
    np.testing.assert_allclose(steps[0], [-128, 0, 30, 127], atol=1e-4)
    assert ActivationRange.from_config(layer.get_config()).about_zero


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


def test_a_range_widens_at_once_and_narrows_slowly():
    layer = ActivationRange(momentum=0.9)
    x = np.array([[-1.0, 0.3, 2.0]], "float32")
    np.testing.assert_array_equal(layer(x), x)
    layer(x, training=True)
    assert [float(weight) for weight in (layer.low, layer.high, layer.seen)] == [-1.0, 2.0, 1.0]
    layer(x / 2, training=True)
    np.testing.assert_allclose([layer.low, layer.high], [-0.95, 1.9], rtol=1e-6)
    # 256 values between −0.95 and 1.9, one of them 0: steps of 2.85 / 255.
    steps = np.asarray(layer(np.array([[-9.0, 0.0, 0.3, 9.0]], "float32"))) / (2.85 / 255)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)
    np.testing.assert_allclose(steps[0], [-85, 0, 27, 170], atol=1e-4)


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


def test_tables_are_rounded_in_their_range():
    table = np.array([[-0.5, 0.0], [2.05, 0.304]], "float32")
    layer = QuantisedEmbedding(2, 2)
    layer.build()
    layer.take([table], keep_zeros=True)
    # Steps of 2.55 / 255.
    np.testing.assert_allclose(layer(np.array([1, 0])), [[2.05, 0.3], [-0.5, 0.0]], atol=1e-6)
    np.testing.assert_array_equal(layer.plain()[0], table)


_SIMPLE = [kind for kind in QUANTISED if kind not in (
    L.EinsumDense, L.Embedding, L.MultiHeadAttention, L.LayerNormalization)]  # fmt: skip


@pytest.mark.parametrize("kind", _SIMPLE, ids=lambda kind: kind.__name__)
def test_every_layer_is_saved_and_loaded(kind, tmp_path):
    shape = (6,) if kind is L.Dense else (8, 4) if "1D" in kind.__name__ else (8, 8, 4)
    options = {"units": 3} if kind is L.Dense else {} if kind is L.PReLU else {"kernel_size": 3}
    plain = (L.Dense, L.DepthwiseConv1D, L.DepthwiseConv2D, L.PReLU)
    options |= {} if kind in plain else {"filters": 3}
    model = keras.Sequential([keras.Input(shape), QUANTISED[kind](**options), ActivationRange()])
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    model(x, training=True)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(x), model(x))
