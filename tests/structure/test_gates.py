import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import FilterError, OptionError


def net(activation="relu"):
    inputs = keras.Input((8, 8, 3))
    x = kl.ReLU()(kl.BatchNormalization(name="bn")(kl.Conv2D(8, 3, name="a")(inputs)))
    x = kl.Conv2D(6, 3, activation=activation, name="b")(x)
    x = x + kl.Conv2D(6, 1, name="c")(x)
    return keras.Model(inputs, kl.Dense(2, name="out")(kl.GlobalAveragePooling2D()(x)))


DATA = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("float32")


def test_gates_stand_after_the_normalisation_and_change_nothing_while_open() -> None:
    model = net()
    gated = tfprune.add_gates(model, kind="hard")
    names = [layer.name for layer in gated.layers]
    assert names[names.index("bn") + 1] == "a_gate"
    assert [name for name in names if name.endswith("_gate")] == ["a_gate"]
    np.testing.assert_allclose(gated(DATA), model(DATA), atol=1e-6)


def test_only_and_skip() -> None:
    with pytest.raises(FilterError, match="matches nothing"):
        tfprune.add_gates(net(), only="nothing")
    gated = tfprune.add_gates(net(), skip="a")
    assert not [layer for layer in gated.layers if layer.name.endswith("_gate")]
    with pytest.raises(OptionError, match="unknown 'soft'"):
        tfprune.add_gates(net(), kind="soft")


def test_gates_upon_gates_have_names_of_their_own() -> None:
    model = keras.Sequential([keras.Input((4,)), kl.Dense(8, name="h"), kl.Dense(2)])
    twice = tfprune.add_gates(tfprune.add_gates(model, kind="hard"), kind="hard")
    assert {layer.name for layer in twice.layers} >= {"h_gate", "h_gate_2"}
