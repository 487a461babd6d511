from typing import Any

import keras
import numpy as np
import pytest

from tfprune.few_bits.learn import layers_to_round, round_in_turn

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 8, 8, 3)).astype("float32")
# Neighboring pixels are alike, as in photographs.
X = (X + np.roll(X, 1, axis=1) + np.roll(X, 1, axis=2)) * [1.0, 2.0, 0.5] + 1.0
METHODS = ("nearest", "learned")


def assign(variable: Any, value: Any) -> None:
    variable.assign(value)


def net() -> Any:
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3))
    h = L.BatchNormalization(name="norm")(L.Conv2D(8, 3, use_bias=False, name="stem")(x))
    h = L.DepthwiseConv2D(3, activation="relu", name="depthwise")(L.ReLU()(h))
    h = L.Conv2D(12, 1, activation="relu", name="point")(h)
    model = keras.Model(x, L.Dense(5, name="head")(L.Flatten()(h)))
    rng = np.random.default_rng(1)
    for variable in model.get_layer("norm").weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


def outputs(model: Any) -> Any:
    return model(X, training=False).numpy()


def error(model: Any, wanted: Any) -> float:
    return float(np.sqrt(np.mean((outputs(model) - wanted) ** 2)) / wanted.std())


def bits_of(model: Any, bits: int) -> dict[str, int]:
    return dict.fromkeys(layers_to_round(model), bits)


@pytest.mark.parametrize("bits", [4, 8])
def test_chosen_together_is_nearer_than_each_to_the_nearest(bits: int) -> None:
    errors = {}
    for method in METHODS:
        model = net()
        wanted = outputs(model)
        rows = round_in_turn(model, X, bits_of(model, bits), assign, method=method)
        assert [row.path.split("/")[0] for row in rows] == ["stem", "depthwise", "point", "head"]
        assert all(row.bias_moved and row.bits == bits for row in rows)
        errors[method] = error(model, wanted)
    assert errors["learned"] < 0.7 * errors["nearest"]
    assert errors["nearest"] < (0.5 if bits == 4 else 0.03)


@pytest.mark.parametrize("method", METHODS)
def test_weights_are_multiples_of_a_step_for_each_output(method: Any) -> None:
    model = net()
    round_in_turn(model, X, bits_of(model, 4), assign, method=method)
    kernel = model.get_layer("head").kernel.numpy()
    for column in kernel.T:
        assert np.unique(np.abs(column).round(6)).size <= 8
    kernel = model.get_layer("depthwise").kernel.numpy().reshape(9, 8)
    for column in kernel.T:
        assert np.unique(np.abs(column).round(6)).size <= 8


@pytest.mark.parametrize("method", METHODS)
def test_biases_correct_the_means(method: Any) -> None:
    corrected, plain = net(), net()
    wanted = outputs(plain).mean(axis=0)
    round_in_turn(corrected, X, bits_of(corrected, 4), assign, method=method)
    kernels = {kernel.path for kernel, _ in layers_to_round(plain).values()}

    def assign_kernels(variable: Any, value: Any) -> None:
        if variable.path in kernels:
            variable.assign(value)

    round_in_turn(plain, X, bits_of(plain, 4), assign_kernels, method=method)
    # The last layer's mean on all samples is exact.
    assert np.abs(outputs(corrected).mean(axis=0) - wanted).max() < 1e-4
    assert np.abs(outputs(plain).mean(axis=0) - wanted).max() > 1e-2
    moved = corrected.get_layer("norm").moving_mean.numpy()
    assert not np.array_equal(moved, plain.get_layer("norm").moving_mean.numpy())


def test_zeros_stay_and_other_layers_are_left() -> None:
    model = net()
    kernel = model.get_layer("point").kernel
    kernel.assign(np.where(RNG.random(kernel.shape) < 0.5, 0, kernel.numpy()))
    zeros, head = kernel.numpy() == 0, model.get_layer("head").kernel.numpy()
    bits = {path: 4 for path in layers_to_round(model) if not path.startswith("head")}
    round_in_turn(model, X, bits, assign)
    assert not kernel.numpy()[zeros].any()
    assert np.array_equal(model.get_layer("head").kernel, head)


def test_attention_and_a_layer_that_is_called_twice() -> None:
    keras.utils.set_random_seed(0)
    x = keras.Input((5, 6))
    shared = L.Dense(6, name="shared")
    h = L.MultiHeadAttention(2, 3, name="attention")(x, x)
    model = keras.Model(x, shared(shared(h)))
    samples = RNG.standard_normal((80, 5, 6)).astype("float32")
    wanted = model(samples).numpy()
    rows = round_in_turn(model, samples, bits_of(model, 8), assign)
    assert len(rows) == 5
    assert np.abs(model(samples).numpy() - wanted).max() < 0.1 * wanted.std()
