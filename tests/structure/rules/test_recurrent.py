import keras
import pytest
from keras import layers as kl

import tfprune


def words(length=6):
    ids = keras.Input((length,), dtype="int32")
    return ids, kl.Embedding(13, 8, name="words")(ids)


@pytest.mark.parametrize("kind", [kl.SimpleRNN, kl.LSTM, kl.GRU])
@pytest.mark.parametrize("use_bias", [True, False])
def test_stacked(check, sizes, kind, use_bias) -> None:
    ids, x = words()
    x = kind(10, return_sequences=True, use_bias=use_bias, name="one")(x)
    x = kind(6, use_bias=use_bias, name="two")(x)
    model = keras.Model(ids, kl.Dense(2)(x))
    assert sizes(model) == {"words": 8, "one": 10, "two": 6}
    check(model)


def test_gru_that_resets_before(check) -> None:
    ids, x = words()
    check(keras.Model(ids, kl.Dense(2)(kl.GRU(6, reset_after=False)(x))), ratios=(0.5,))


def test_bidirectional_side_by_side_keeps_both_equally_wide(check, sizes) -> None:
    ids, x = words()
    x = kl.Bidirectional(kl.LSTM(6, return_sequences=True), name="both")(x)
    x = kl.Bidirectional(kl.GRU(4), name="last")(x)
    model = keras.Model(ids, kl.Dense(2)(x))
    assert sizes(model)["both"] == 12
    small, _ = check(model, ratios=(0.75, 0.25, 0.5))
    both = small.get_layer("both")
    assert (both.forward_layer.units, both.backward_layer.units) == (3, 3)


@pytest.mark.parametrize("mode", ["sum", "mul", "ave"])
def test_bidirectional_added(check, mode) -> None:
    ids, x = words()
    x = kl.Bidirectional(kl.LSTM(6), merge_mode=mode)(x)
    check(keras.Model(ids, kl.Dense(2)(x)))


def test_bidirectional_of_two_kinds(check) -> None:
    ids, x = words()
    x = kl.Bidirectional(kl.LSTM(6), backward_layer=kl.GRU(6, go_backwards=True), name="b")(x)
    check(keras.Model(ids, kl.Dense(2)(x)), ratios=(0.5,))


def test_states_handed_on(check, sizes) -> None:
    ids, x = words()
    _, h, c = kl.LSTM(6, return_state=True, name="encoder")(x)
    y = kl.LSTM(6, name="decoder")(x, initial_state=[h, c])
    model = keras.Model(ids, kl.Dense(2)(y))
    assert sizes(model) == {"words": 8, "encoder": 6}
    check(model, ratios=(0.5,))


def test_masked_sequences(check) -> None:
    ids = keras.Input((6,), dtype="int32")
    x = kl.Embedding(13, 8, mask_zero=True)(ids)
    x = kl.LSTM(6, return_sequences=True)(x)
    check(keras.Model(ids, kl.Dense(2)(kl.GRU(4)(x))), ratios=(0.5,))


def test_time_distributed(check, sizes) -> None:
    x = inputs = keras.Input((3, 8, 8, 2))
    x = kl.TimeDistributed(kl.Conv2D(6, 3), name="td")(x)
    x = kl.TimeDistributed(kl.BatchNormalization())(x)
    x = kl.TimeDistributed(kl.Flatten())(x)
    x = kl.TimeDistributed(kl.Dense(8, activation="relu"), name="td2")(x)
    model = keras.Model(inputs, kl.Dense(2)(kl.LSTM(4, name="lstm")(x)))
    assert set(sizes(model).values()) == {6, 8, 4}
    check(model, ratios=(0.5,))


def test_a_wrapped_model_stays_and_is_named() -> None:
    inner = keras.Sequential([keras.Input((4,)), kl.Dense(6), kl.Dense(3)], name="inner")
    inputs = keras.Input((5, 4))
    x = kl.TimeDistributed(inner, name="td")(kl.Dense(4)(inputs))
    found = tfprune.units(keras.Model(inputs, kl.Dense(2)(x)))
    assert any("td wraps inner" in line.reason for line in found.frozen)
