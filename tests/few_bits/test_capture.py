from typing import Any

import keras
import numpy as np
import pytest

from tfprune.few_bits.capture import layer_inputs, survey_calls, watched

L = keras.layers


def rng_input(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def test_the_inputs_are_those_of_the_graph_and_a_shared_layer_has_one_for_each_call() -> None:
    shared = L.Dense(4, name="shared")
    x = keras.Input((4,))
    once = shared(x)
    model = keras.Model(x, L.Dense(2, name="head")(shared(once)))
    batch = rng_input(3, 4)
    calls = survey_calls(model, batch, [model.get_layer("head"), shared])
    assert calls[id(shared)].count == 2
    assert calls[id(shared)].order < calls[id(model.get_layer("head"))].order
    first, second = layer_inputs(model, batch, shared, 2)
    assert np.array_equal(first, batch)
    assert np.allclose(second, keras.Model(x, once)(batch))


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.inner = keras.Sequential([L.Dense(4, activation="relu"), L.Dense(3)])
        self.late = L.Dense(2)
        self.ran_late = 0

    def call(self, x: Any, training: bool = False) -> Any:
        y = self.inner(x)
        self.ran_late += 1
        return self.late(y)


def test_inside_of_subclassed_and_nested_models_and_no_further_than_needed() -> None:
    model = Subclassed()
    batch = rng_input(5, 6)
    model(batch)
    last = model.inner.layers[-1]
    ran = model.ran_late
    (inputs,) = layer_inputs(model, batch, last, 1)
    assert np.allclose(inputs, model.inner.layers[0](batch))
    assert model.ran_late == ran


def test_call_is_restored_after_an_error() -> None:
    layer = L.Dense(2)
    layer(rng_input(1, 3))
    own = L.Dense(2)
    own(rng_input(1, 3))
    mine = own.call
    own.call = mine

    def refuse(_: Any, tensor: Any) -> None:
        raise KeyError("no")

    with pytest.raises(KeyError), watched([layer, own], refuse):
        layer(rng_input(1, 3))
    assert "call" not in vars(layer)
    assert vars(own)["call"] is mine
    assert layer(rng_input(1, 3)).shape == (1, 2)


class Looping(L.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.inner = L.Dense(3)

    def build(self, shape: Any) -> None:
        self.inner.build((shape[0], shape[2]))

    def call(self, x: Any) -> Any:
        return keras.ops.vectorized_map(self.inner, x)


def test_an_input_inside_a_compiled_loop_is_known_to_be_hidden() -> None:
    x = keras.Input((4, 3))
    looping = Looping()
    model = keras.Model(x, looping(x))
    calls = survey_calls(model, rng_input(2, 4, 3), [looping.inner])
    assert calls[id(looping.inner)].hidden


def test_layers_inside_attention_are_recorded() -> None:
    x = keras.Input((5, 8))
    attention = L.MultiHeadAttention(2, 4)
    model = keras.Model(x, attention(x, x))
    layers = [layer for layer in attention._flatten_layers() if isinstance(layer, L.EinsumDense)]
    calls = survey_calls(model, rng_input(2, 5, 8), layers)
    assert len(layers) == 4
    assert all(calls[id(layer)].count == 1 and not calls[id(layer)].hidden for layer in layers)
