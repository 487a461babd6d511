import warnings

import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import FilterError, ModelError, OptionError


def net(activation="relu"):
    inputs = keras.Input((8, 8, 3))
    x = kl.ReLU()(kl.BatchNormalization(name="bn")(kl.Conv2D(8, 3, name="a")(inputs)))
    x = kl.Conv2D(6, 3, activation=activation, name="b")(x)
    x = x + kl.Conv2D(6, 1, name="c")(x)
    return keras.Model(inputs, kl.Dense(2, name="out")(kl.GlobalAveragePooling2D()(x)))


DATA = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("float32")


def test_gates_are_after_the_normalization_and_change_no_output_while_open() -> None:
    model = net()
    with pytest.warns(UserWarning, match=r"no gate for b \(b and c make it together\)"):
        gated = tfprune.add_gates(model, kind="hard")
    names = [layer.name for layer in gated.layers]
    assert names[names.index("bn") + 1] == "a_gate"
    assert [name for name in names if name.endswith("_gate")] == ["a_gate"]
    np.testing.assert_allclose(gated(DATA), model(DATA), atol=1e-6)


def test_gates_that_nothing_closes_are_a_warning() -> None:
    model = keras.Sequential([keras.Input((4,)), kl.Dense(8, name="h"), kl.Dense(2)])
    with pytest.warns(UserWarning, match="gates of kind 'hard_concrete' do not close"):
        tfprune.add_gates(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tfprune.add_gates(model, penalty=0.1)


def test_only_and_skip() -> None:
    with pytest.raises(FilterError, match="matches nothing"):
        tfprune.add_gates(net(), only="nothing")
    gated = tfprune.add_gates(net(), penalty=1.0, only="a")
    assert [layer.name for layer in gated.layers if layer.name.endswith("_gate")] == ["a_gate"]
    with pytest.raises(ModelError, match=r"no place for a gate: b \(b and c make it together\)"):
        tfprune.add_gates(net(), skip="a")
    with pytest.raises(OptionError, match="unknown 'soft'"):
        tfprune.add_gates(net(), kind="soft")


def test_gates_added_twice_have_different_names() -> None:
    model = keras.Sequential([keras.Input((4,)), kl.Dense(8, name="h"), kl.Dense(2)])
    twice = tfprune.add_gates(tfprune.add_gates(model, kind="hard"), kind="hard")
    assert {layer.name for layer in twice.layers} >= {"h_gate", "h_gate_2"}


def test_layers_without_a_gate_are_named() -> None:
    x = inputs = keras.Input((4, 8))
    x = kl.Dense(6, name="plain")(x)
    y = kl.Dense(6, name="residual")(x)
    x = kl.Add()([x, y])
    inner = keras.Sequential([keras.Input((6,)), kl.Dense(5, name="low"), kl.Dense(3)], name="in")
    x = kl.TimeDistributed(inner, name="td")(kl.MultiHeadAttention(2, 3, name="mha")(x, x))
    model = keras.Model(inputs, kl.Dense(2)(x))
    with pytest.warns(UserWarning, match="no gate for") as caught:
        gated = tfprune.add_gates(model, kind="hard")
    (message,) = (str(one.message) for one in caught if "no gate" in str(one.message))
    assert "plain (plain and residual make it together)" in message
    assert "mha.num_heads (its units are heads; place a HeadGate by hand)" in message
    assert "td.low (it is not the last axis of the output of td)" in message
    gates = [layer.name for layer in gated.layers if isinstance(layer, tfprune.layers.ChannelGate)]
    assert gates == ["mha_gate", "td_gate"]
    with pytest.raises(ModelError, match=r"no place for a gate: td\.low"):
        tfprune.add_gates(model, only="td.low")
