import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import ModelError


def gated(activation, between=None, kind="l1"):
    inputs = keras.Input((4,))
    x = kl.Dense(6, activation=activation, name="a")(inputs)
    x = between(x) if between else x
    x = tfprune.layers.ChannelGate(kind, name="g")(x)
    model = keras.Model(inputs, kl.Dense(2)(x))
    model.get_layer("g").gate.assign([0.0, 0.5, 2.0, 1.0, 0.0, 3.0])
    return model


@pytest.mark.parametrize("between", [None, lambda x: kl.BatchNormalization()(x)])
@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_open_gates_are_multiplied_into_the_layer_before(activation, between) -> None:
    model = gated(activation, between)
    small, report = tfprune.shrink(model, "gates")
    assert report.error <= 1e-5
    assert small.get_layer("a").units == 4
    assert "g" not in [layer.name for layer in small.layers]
    assert report.notes == ()
    assert report.after.params == small.count_params()


@pytest.mark.parametrize("activation", ["gelu", "tanh"])
def test_a_gate_that_cannot_be_folded_stays_and_is_named(activation) -> None:
    small, report = tfprune.shrink(gated(activation), "gates")
    assert report.error <= 1e-5
    assert small.get_layer("g").gate.shape == (4,)
    assert any("g stays" in note for note in report.notes)


def test_gates_in_a_sequential(tmp_path) -> None:
    model = keras.Sequential(
        [keras.Input((4,)), kl.Dense(8, name="a"), tfprune.layers.ChannelGate(name="g"),
         kl.ReLU(), kl.Dense(2)]
    )  # fmt: skip
    model.get_layer("g").close([2, 3])
    small, _ = tfprune.shrink(model, "gates")
    assert [type(layer).__name__ for layer in small.layers] == ["Dense", "ReLU", "Dense"]
    assert small.get_layer("a").units == 6


def test_heads_of_a_hand_made_attention() -> None:
    inputs = keras.Input((5, 6))
    x = kl.EinsumDense("btd,dhk->bthk", output_shape=(None, 3, 4), bias_axes="hk", name="up")(
        inputs
    )
    x = tfprune.layers.HeadGate(name="g")(x)
    x = kl.EinsumDense("bthk,hkd->btd", output_shape=(None, 2), bias_axes="d", name="down")(x)
    model = keras.Model(inputs, x)
    model.get_layer("g").close([1])
    small, report = tfprune.shrink(model, "gates")
    assert report.error <= 1e-5
    assert small.get_layer("up").kernel.shape == (6, 2, 4)


def test_a_model_without_gates_is_said() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(3)(inputs)))
    with pytest.raises(ModelError, match=r"has no gates: place some with tfprune.add_gates"):
        tfprune.shrink(model, "gates")
    small, report = tfprune.shrink(model, "zeros")
    assert report.plan.removals == ()
    np.testing.assert_array_equal(small(np.ones((1, 4))), model(np.ones((1, 4))))


def test_a_gate_is_not_folded_into_what_the_model_shows() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(3, name="a")(inputs)
    y = tfprune.layers.ChannelGate("l1", name="g")(x)
    model = keras.Model(inputs, [x, kl.Dense(2)(y)])
    model.get_layer("g").gate.assign([0.5, 2.0, 1.0])
    small, report = tfprune.shrink(model, "gates")
    assert report.error <= 1e-6
    assert "g" in [layer.name for layer in small.layers]
