from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import OptionError
from tfprune.structure.gates.layers import KINDS, ChannelGate

ONES = np.ones((2, 4), "float32")


@pytest.mark.parametrize("kind", KINDS)
def test_the_output_of_a_closed_gate_is_exactly_zero(kind: str) -> None:
    gate = tfprune.layers.ChannelGate(kind)
    assert (np.asarray(gate(ONES)) > 0.9).all()
    gate.close([1, 3])
    np.testing.assert_array_equal(np.asarray(gate(ONES))[:, [1, 3]], 0)
    assert (np.asarray(gate(ONES))[:, [0, 2]] > 0.9).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_gate_saves_and_loads(kind: str, tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, tfprune.layers.ChannelGate(kind, 0.1, name="g")(inputs))
    model.get_layer("g").close([2])
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(ONES), model(ONES))
    assert loaded.get_layer("g").penalty == 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rate", "penalty"), [("l1", 0.01, 0.3), ("hard_concrete", 0.1, 3.0)]
)
def test_a_penalty_closes_gates_that_the_loss_does_not_need(kind, rate, penalty) -> None:
    """Only the first input matters; the penalty closes the gates of the others."""
    inputs = keras.Input((4,))
    gate = tfprune.layers.ChannelGate(kind, penalty, seed=1)
    head = kl.Dense(1, use_bias=False, kernel_initializer="ones", trainable=False)
    model = keras.Model(inputs, head(gate(inputs)))
    model.compile(keras.optimizers.Adam(rate), "mse")
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(256, 1)) * 3, np.zeros((256, 3))], 1).astype("float32")
    model.fit(x, x[:, :1], epochs=40, batch_size=64, verbose=0)
    values = np.asarray(gate.values())
    assert values[0] > 0.8
    np.testing.assert_array_equal(values[1:], 0)


@pytest.mark.parametrize("kind", ["l1", "hard_concrete"])
def test_gates_train_in_mixed_precision(kind: str) -> None:
    """The penalty must be of full precision: Keras adds it to the loss."""
    policy = keras.DTypePolicy("mixed_float16")
    gate = ChannelGate(kind, 0.1, dtype=policy)
    model = keras.Sequential([keras.Input((4,)), gate, kl.Dense(1, dtype=policy)])
    model.compile("adam", "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
    assert gate.gate.dtype == "float32"
    assert model(ONES).dtype == "float16"


def test_the_gradient_of_a_hard_gate_is_the_taylor_score() -> None:
    import tensorflow as tf

    gate = tfprune.layers.ChannelGate()
    x = np.array([[1.0, 2, 3, 4]], "float32")
    gate(x)
    assert gate.trainable_variables == []
    with tf.GradientTape() as tape:
        tape.watch(gate.gate.value)
        loss = tf.reduce_sum(gate(x) * [1.0, -1, 0, 2])
    np.testing.assert_allclose(tape.gradient(loss, gate.gate.value), [1, -2, 0, 8])


def test_heads_are_gated_on_the_axis_before_the_last() -> None:
    gate = tfprune.layers.HeadGate()
    x = np.ones((1, 5, 3, 2), "float32")
    gate(x)
    gate.close([1])
    np.testing.assert_array_equal(np.asarray(gate(x))[0, :, 1], 0)
    assert np.asarray(gate(x)).sum() == 5 * 2 * 2


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(OptionError, match="unknown 'harder'.*Did you mean hard"):
        tfprune.layers.ChannelGate("harder")
    with pytest.raises(OptionError, match="expected a number of at least 0"):
        tfprune.layers.ChannelGate(penalty=-1)


@pytest.mark.parametrize("positions", [[4], "ab", 2, [0.5]])
def test_positions_that_a_gate_does_not_have_are_refused(positions) -> None:
    gate = ChannelGate(name="gate")
    with pytest.raises(OptionError, match="is not built: call it on data first"):
        gate.close([0])
    gate(np.ones((1, 4), "float32"))
    with pytest.raises(OptionError, match="'gate': expected positions below 4 to close"):
        gate.close(positions)


@pytest.mark.parametrize("axis", [0, -2, 2, "a"])
def test_an_axis_that_cannot_be_gated_is_refused(axis) -> None:
    with pytest.raises(OptionError, match="is not an axis after the batch of"):
        ChannelGate(axis=axis).build((None, 4))


@pytest.mark.parametrize(
    "options", [{"penalty": True}, {"penalty": np.inf}, {"threshold": -1}, {"threshold": "x"}]
)
def test_numbers_of_a_gate_are_checked(options) -> None:
    with pytest.raises(OptionError, match="expected a number of at least 0"):
        ChannelGate("l1", **options)
