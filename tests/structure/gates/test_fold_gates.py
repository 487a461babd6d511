import re

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
def test_open_gates_are_multiplied_into_the_layer_after(activation) -> None:
    model = gated(activation)
    small, report = tfprune.shrink(model, "gates")
    assert report.error <= 1e-5
    assert [layer.name for layer in small.layers if layer.name == "g"] == []
    assert small.get_layer("a").units == 4
    assert report.notes == ()


@pytest.mark.parametrize("largest", [False, True])
def test_gates_are_folded_through_pooling_into_all_readers(largest: bool) -> None:
    pool, ends = (
        (kl.MaxPooling2D, kl.GlobalMaxPooling2D) if largest
        else (kl.AveragePooling2D, kl.GlobalAveragePooling2D)
    )  # fmt: skip
    inputs = keras.Input((8, 8, 3))
    x = kl.Conv2D(6, 3, activation="gelu", name="a")(inputs)
    x = pool(2)(tfprune.layers.ChannelGate("l1", name="g")(x))
    y = ends()(kl.Conv2DTranspose(5, 3)(x))
    z = kl.Dense(5)(kl.Flatten()(kl.Dropout(0.5)(x)))
    model = keras.Model(inputs, [y, z])
    model.get_layer("g").gate.assign([0.0, 0.5, 2.0, 1.0, 0.0, 3.0])
    small, report = tfprune.shrink(model, "gates")
    assert report.error <= 1e-5
    assert "g" not in [layer.name for layer in small.layers]
    # Of negative gates the largest becomes the smallest.
    model.get_layer("g").gate.assign([0.0, 0.5, -2.0, 1.0, 0.0, 3.0])
    small, report = tfprune.shrink(model, "gates")
    assert report.error <= 1e-5
    assert ("g" in [layer.name for layer in small.layers]) is largest


@pytest.mark.parametrize("after", [lambda x: x, kl.LayerNormalization(), kl.Activation("tanh")])
def test_a_gate_that_cannot_be_folded_is_kept_and_named(after) -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(6, activation="gelu", name="a")(inputs)
    x = after(tfprune.layers.ChannelGate("l1", name="g")(x))
    model = keras.Model(inputs, [x, kl.Dense(2)(x)])
    model.get_layer("g").gate.assign([0.5, 0.5, 2.0, 1.0, 0.0, 3.0])
    small, report = tfprune.shrink(model, "gates")
    assert report.error <= 1e-5
    assert "g" in [layer.name for layer in small.layers]
    assert any("g kept" in note for note in report.notes)


def test_gates_behind_an_operation_that_is_no_layer() -> None:
    """A head gate is after an operation, which has no weights to fold it into."""
    inputs = keras.Input((5, 6))
    x = kl.EinsumDense("btd,dhk->bthk", output_shape=(None, 3, 4), name="up")(inputs)
    x = tfprune.layers.HeadGate("l1", name="g")(keras.ops.tanh(x))
    x = kl.EinsumDense("bthk,hkd->btd", output_shape=(None, 2), name="down")(x)
    model = keras.Model(inputs, x)
    model.get_layer("g").gate.assign([0.5, 0.0, 2.0])
    small, report = tfprune.shrink(model, "gates")
    assert report.error <= 1e-5
    assert small.get_layer("up").kernel.shape == (6, 2, 4)
    assert "g" not in [layer.name for layer in small.layers]


@pytest.mark.parametrize(("kind", "how"), [("l1", "raise penalty="), ("hard", r"close\(\) them")])
def test_a_note_says_that_no_gate_is_closed(kind: str, how: str) -> None:
    model = keras.Sequential(
        [keras.Input((4,)), kl.Dense(8), tfprune.layers.ChannelGate(kind), kl.Dense(2)]
    )
    _, report = tfprune.shrink(model, "gates")
    (note,) = report.notes
    assert re.search(f"no gate is closed: they are between 1 and 1; {how}", note)


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


def test_a_model_without_gates_is_refused() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(3)(inputs)))
    with pytest.raises(ModelError, match=r"has no gates: place some with tfprune.add_gates"):
        tfprune.shrink(model, "gates")
    small, report = tfprune.shrink(model, "zeros")
    assert report.plan.removals == ()
    assert any(note.startswith("no unit is closed:") for note in report.notes)
    np.testing.assert_array_equal(small(np.ones((1, 4))), model(np.ones((1, 4))))


def test_a_gate_is_not_folded_into_an_output_of_the_model() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(3, name="a")(inputs)
    y = tfprune.layers.ChannelGate("l1", name="g")(x)
    model = keras.Model(inputs, [x, kl.Dense(2)(keras.ops.tanh(y))])
    model.get_layer("g").gate.assign([0.5, 2.0, 1.0])
    small, report = tfprune.shrink(model, "gates")
    assert report.error <= 1e-6
    assert "g" in [layer.name for layer in small.layers]


def test_a_model_that_computes_nan_is_refused_with_the_layer_named() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(3, name="a")(inputs)))
    model.get_layer("a").bias.assign([0, np.nan, 0])
    with pytest.raises(ModelError, match=r"layer 'a' has such weights; .* pass verify=False"):
        tfprune.shrink(model, "zeros")
