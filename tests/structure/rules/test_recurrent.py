import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.structure.select.cost_meter import Meter


def words(length=6):
    ids = keras.Input((length,), dtype="int32")
    return ids, kl.Embedding(13, 8, name="words")(ids)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize("mode", ["concat", "sum", None])
def test_states_of_both_directions_handed_on(check, sizes, mode) -> None:
    ids, x = words()
    both = kl.Bidirectional(kl.LSTM(6, return_state=True), merge_mode=mode, name="encoder")
    *_, fh, fc, bh, bc = both(x)
    y = kl.Bidirectional(kl.LSTM(6, return_sequences=True), name="decoder")(
        x, initial_state=[fh, fc, bh, bc]
    )
    h, c = kl.Concatenate()([fh, bh]), kl.Concatenate()([fc, bc])
    y = kl.LSTM(12, name="last")(y, initial_state=[h, c])
    model = keras.Model(ids, kl.Dense(2)(y))
    assert sizes(model) == {"words": 8, "encoder": 6 if mode == "sum" else 12}
    check(model, ratios=(0.5,))


def test_an_activation_that_is_a_layer_in_a_cell(check, sizes) -> None:
    ids, x = words()
    x = kl.SimpleRNN(6, activation=kl.LeakyReLU(), name="rnn")(x)
    model = keras.Model(ids, kl.Dense(2)(x))
    assert sizes(model) == {"words": 8, "rnn": 6}
    check(model, ratios=(0.5,))


def test_an_activation_that_mixes_units_stays_whatever_it_is_called() -> None:
    def relu(x):
        return x - keras.ops.mean(x, axis=-1, keepdims=True)

    ids, x = words()
    x = kl.SimpleRNN(6, activation=relu, name="rnn")(x)
    found = tfprune.units(keras.Model(ids, kl.Dense(2)(x)))
    assert "rnn" not in [group.name for group in found]


def test_masked_sequences(check) -> None:
    ids = keras.Input((6,), dtype="int32")
    x = kl.Embedding(13, 8, mask_zero=True)(ids)
    x = kl.LSTM(6, return_sequences=True)(x)
    check(keras.Model(ids, kl.Dense(2)(kl.GRU(4)(x))), ratios=(0.5,))


@pytest.mark.parametrize("cell", [kl.SimpleRNNCell, kl.LSTMCell, kl.GRUCell])
def test_one_cell_in_a_loop(check, sizes, cell) -> None:
    ids, x = words()
    model = keras.Model(ids, kl.Dense(2)(kl.RNN(cell(6), name="loop")(x)))
    assert sizes(model) == {"words": 8, "loop": 6}
    check(model, ratios=(0.5,))


def test_a_stack_of_cells(check, sizes) -> None:
    ids, x = words()
    cells = [kl.LSTMCell(10, name="low"), kl.GRUCell(6, name="high")]
    x = kl.RNN(cells, return_sequences=True, name="stack")(x)
    model = keras.Model(ids, kl.Dense(2)(kl.LSTM(4, name="last")(x)))
    assert sizes(model) == {"words": 8, "stack.low": 10, "stack.high": 6, "last": 4}
    small, _ = check(model)
    stack = small.get_layer("stack").cell
    assert [cell.units for cell in stack.cells] == [2, 2]
    small, _ = check(model, ratios=(0.5,), only=["stack.low"])
    assert [cell.units for cell in small.get_layer("stack").cell.cells] == [5, 6]


def test_the_states_of_a_stack(check, sizes) -> None:
    ids, x = words()
    _, (h, c), g = kl.RNN([kl.LSTMCell(8), kl.GRUCell(6)], return_state=True, name="a")(x)
    y = kl.RNN([kl.LSTMCell(8), kl.GRUCell(6)], name="b")(x, initial_state=[[h, c], g])
    model = keras.Model(ids, kl.Dense(2)(y))
    assert sorted(sizes(model).values()) == [6, 8, 8]
    check(model, ratios=(0.5,))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["concat", "sum", None])
def test_a_stack_of_cells_in_both_directions(check, mode) -> None:
    ids, x = words()
    loop = kl.RNN([kl.LSTMCell(8), kl.GRUCell(6)], return_sequences=True)
    y = kl.Bidirectional(loop, merge_mode=mode, name="both")(x)
    y = kl.Concatenate()(y) if mode is None else y
    small, _ = check(keras.Model(ids, kl.Dense(2)(kl.GRU(4)(y))))
    both = small.get_layer("both")
    for layer in (both.forward_layer, both.backward_layer):
        assert [cell.units for cell in layer.cell.cells] == [2, 2]


@keras.saving.register_keras_serializable("recurrent rules")
class Decay(keras.Layer):
    """A cell of a user's own."""

    state_size = output_size = 8

    def call(self, inputs, states):
        now = 0.5 * (inputs + states[0])
        return now, [now]


def test_a_cell_without_a_rule_stays_and_is_named() -> None:
    ids, x = words()
    found = tfprune.units(keras.Model(ids, kl.Dense(2)(kl.RNN(Decay(), name="loop")(x))))
    assert len(found) == 0
    assert any("Decay" in line.reason for line in found.frozen), str(found)


@pytest.mark.parametrize("both", [False, True])
def test_stateful(sizes, both) -> None:
    """Its state is part of no weight; a smaller layer begins with an empty one."""
    inputs = keras.Input(batch_shape=(2, 5, 4))
    layer = kl.LSTM(6, stateful=True, return_sequences=True)
    x = kl.Bidirectional(layer, name="s")(inputs) if both else layer(inputs)
    x = kl.GRU(4, stateful=True)(x)
    model = keras.Model(inputs, kl.Dense(2)(x))
    data = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    model(data)
    before = [state.numpy() for layer in model._flatten_layers()
              for state in getattr(layer, "states", None) or ()]  # fmt: skip
    assert any(state.any() for state in before)
    small, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert report.error <= 1e-4
    after = [state.numpy() for layer in model._flatten_layers()
             for state in getattr(layer, "states", None) or ()]  # fmt: skip
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    first, second = np.asarray(small(data)), np.asarray(small(data))
    assert abs(first - second).max() > 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gates_that_are_convolutions(check, sizes, rank) -> None:
    x = inputs = keras.Input((3, *(5,) * rank, 2))
    kind = {1: kl.ConvLSTM1D, 2: kl.ConvLSTM2D, 3: kl.ConvLSTM3D}[rank]
    x = kind(6, 3, padding="same", return_sequences=True, name="one")(x)
    x = kl.BatchNormalization()(x)
    x = kind(4, 2, strides=2, use_bias=False, name="two")(x)
    model = keras.Model(inputs, kl.Dense(2)(kl.Flatten()(x)))
    assert sizes(model) == {"one": 6, "two": 4}
    found = tfprune.units(model)
    assert Meter(found).macs(np.ones(found.flow.size, bool)) == tfprune.macs(model).total
    small, report = check(model)
    assert report.after.macs == tfprune.macs(small).total


def test_states_of_convolutions_are_handed_on(check, sizes) -> None:
    inputs = keras.Input((3, 6, 6, 2))
    _, h, c = kl.ConvLSTM2D(6, 3, padding="same", return_state=True, name="encoder")(inputs)
    x = kl.ConvLSTM2D(6, 3, padding="same", name="decoder")(inputs, initial_state=[h, c])
    model = keras.Model(inputs, kl.Conv2D(2, 1)(x))
    assert sizes(model) == {"encoder": 6}
    check(model)


@pytest.mark.parametrize("wrap", [lambda layer: layer, kl.Bidirectional])
def test_steps_are_no_units(wrap) -> None:
    inputs = keras.Input((6, 5))
    steps = kl.Permute((2, 1))(kl.Dense(16, name="steps")(inputs))
    model = keras.Model(inputs, kl.Dense(2)(wrap(kl.LSTM(16, name="lstm"))(steps)))
    found = tfprune.units(model)
    assert "steps: 16 kept" in str(found)
    small, report = tfprune.shrink(model, {"channels": 0.5})
    assert small.get_layer("steps").units == 16
    assert report.error <= 1e-4
