"""Shared values in the optimizer's step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfprune.clustering.cluster import cluster, shared_values_of


def dense(kernel: np.ndarray) -> keras.layers.Dense:
    layer = keras.layers.Dense(kernel.shape[1], use_bias=False)
    layer.build((None, kernel.shape[0]))
    layer.kernel.assign(kernel)
    return layer


def step(layer: keras.layers.Layer, change: np.ndarray) -> None:
    """Change a kernel as an optimizer does."""
    layer.kernel.assign_add(change)
    layer.kernel.assign(layer.kernel.constraint(layer.kernel))


def test_a_centroid_is_the_mean_of_what_its_weights_would_be() -> None:
    layer = dense(np.array([[0.0, 0.2, 1.0, 1.2]]))
    cluster(layer, 2, init="kmeans++", keep_zeros=False)
    np.testing.assert_allclose(layer.kernel, [[0.1, 0.1, 1.1, 1.1]], atol=1e-6)
    step(layer, np.array([[0.1, 0.3, 0.0, 0.0]]))
    np.testing.assert_allclose(layer.kernel, [[0.3, 0.3, 1.1, 1.1]], atol=1e-6)


def test_a_weight_changes_to_the_centroid_that_it_has_come_nearer_to() -> None:
    layer = dense(np.array([[0.0, 0.0, 0.2, 1.0, 1.2]]))
    cluster(layer, 2, keep_zeros=False)
    for _ in range(4):
        step(layer, np.array([[0.0, 0.0, 0.2, 0.0, 0.0]]))
    np.testing.assert_allclose(layer.kernel, [[0, 0, 3.2 / 3, 3.2 / 3, 3.2 / 3]], atol=1e-6)


def test_zeros_stay_and_no_sign_of_them() -> None:
    layer = dense(np.array([[0.0, 0.1, 0.5, 0.6, -0.5, -0.6]]))
    cluster(layer, 3)
    for _ in range(3):
        step(layer, np.array([[-0.5, 0.0, 0.1, 0.1, 0.0, 0.0]]))
    kernel = np.array(layer.kernel)
    assert kernel[0, 0] == 0
    assert not np.signbit(kernel[kernel == 0]).any()
    assert np.unique(kernel).size == 3


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_trained_kernel_has_no_more_values_than_asked(
    jit_compile: bool, per_channel: bool
) -> None:
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Conv2D(4, 3), keras.layers.Flatten(),
         keras.layers.Dense(3)]
    )  # fmt: skip
    cluster(model, 4, per_channel=per_channel)
    before = [np.array(weight) for weight in model.weights]
    model.compile("adam", "mse", jit_compile=jit_compile)
    model.fit(np.random.rand(32, 6, 6, 1), np.random.rand(32, 3), epochs=2, verbose=0)
    assert [held.values() for held in shared_values_of(model)] == [4, 4]
    for weight, old in zip(model.weights, before, strict=True):
        assert (np.array(weight) != old).any()


def test_half_precision_weights_share_values() -> None:
    layer = keras.layers.Dense(8, use_bias=False, dtype="float16")
    layer.build((None, 8))
    cluster(layer, 4)
    layer.kernel.assign(layer.kernel.constraint(layer.kernel))
    assert np.unique(np.array(tf.cast(layer.kernel.value, "float32"))).size == 4
