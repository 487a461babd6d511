import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

import tfprune
from tfprune.structure.groups.grouping import components


def test_lenet_flattens_scattered_rows(check, sizes) -> None:
    x = inputs = keras.Input((12, 12, 1))
    x = kl.MaxPooling2D()(kl.Conv2D(6, 3, activation="relu", name="c1")(x))
    x = kl.MaxPooling2D()(kl.Conv2D(8, 2, activation="relu", name="c2")(x))
    x = kl.Dense(12, activation="relu", name="d1")(kl.Flatten()(x))
    model = keras.Model(inputs, kl.Dense(3, activation="softmax")(x))
    assert sizes(model) == {"c1": 6, "c2": 8, "d1": 12}
    small, _ = check(model)
    assert small.get_layer("d1").kernel.shape == (2 * 2 * 2, 3)


def test_flatten_added_to_a_dense_vector(check, sizes) -> None:
    inputs = keras.Input((4, 4, 3))
    a = kl.Flatten()(kl.Conv2D(6, 1, name="conv")(inputs))
    b = kl.Dense(4 * 4 * 6, name="wide")(kl.Flatten()(inputs))
    model = keras.Model(inputs, kl.Dense(2)(kl.Add()([a, b])))
    assert sizes(model) == {"conv": 6}
    small, _ = check(model, ratios=(0.75, 0.25, 0.5))
    assert small.get_layer("wide").units == 48


def test_channels_first_flatten_turns_them_last(check) -> None:
    x = inputs = keras.Input((5, 5, 3))
    x = kl.Permute((3, 1, 2))(kl.Conv2D(8, 2, name="conv")(x))
    x = kl.Flatten(data_format="channels_first")(x)
    check(keras.Model(inputs, kl.Dense(2)(x)))


def test_channel_shuffle_by_layers_and_by_ops(check, sizes) -> None:
    x = inputs = keras.Input((4, 4, 3))
    x = kl.Conv2D(12, 1, name="a")(x)
    x = kl.Reshape((4, 4, 3, 4))(x)
    x = kl.Permute((1, 2, 4, 3))(x)
    x = kl.Reshape((4, 4, 12))(x)
    x = kl.DepthwiseConv2D(3, padding="same")(x)
    x = ops.reshape(x, (-1, 4, 4, 2, 6))
    x = ops.transpose(x, (0, 1, 2, 4, 3))
    x = ops.reshape(x, (-1, 4, 4, 12))
    x = kl.Conv2D(8, 1, name="b")(x)
    model = keras.Model(inputs, kl.Conv2D(2, 1)(x))
    assert set(sizes(model)) == {"a", "b"}
    check(model)


def test_reshape_with_minus_one_and_sequences_of_unknown_length(check) -> None:
    x = inputs = keras.Input((None, 6))
    x = kl.Dense(8, name="a")(x)
    x = kl.Reshape((-1, 2, 4))(x)
    x = kl.Reshape((-1, 8))(x)
    x = kl.Dense(6, name="b")(x)
    check(keras.Model(inputs, kl.Dense(2)(x)))


def test_windows_that_are_made_of_an_image_and_put_together_again(check, sizes) -> None:
    """As in Swin Transformer: the batch counts windows for a while."""
    x = inputs = keras.Input((8, 8, 3))
    x = kl.Dense(12, name="embed")(x)
    y = ops.reshape(x, (-1, 2, 4, 2, 4, 12))
    y = ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, 16, 12))
    y = kl.Dense(10, activation="relu", name="hidden")(y)
    y = kl.Dense(12, name="back")(y)
    y = ops.reshape(y, (-1, 2, 2, 4, 4, 12))
    y = ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, 8, 8, 12))
    model = keras.Model(inputs, kl.Dense(2)(x + y))
    assert sizes(model) == {"embed": 12, "hidden": 10}
    check(model)


def test_permute_transpose_swap_and_move(check, sizes) -> None:
    """A mixer: the tokens of one branch are the channels of another."""
    x = inputs = keras.Input((6, 5))
    x = kl.Dense(8, name="width")(x)
    y = kl.Permute((2, 1))(x)
    y = kl.Dense(10, activation="gelu", name="tokens")(y)
    y = kl.Dense(6, name="back")(y)
    x = x + ops.transpose(y, (0, 2, 1))
    z = ops.swapaxes(x, 1, 2)
    z = ops.moveaxis(z, 1, -1)
    model = keras.Model(inputs, kl.Dense(3)(z))
    assert sizes(model) == {"width": 8, "tokens": 10}
    check(model)


@pytest.mark.skipif(not hasattr(ops.nn, "depth_to_space"), reason="this Keras has no such op")
def test_depth_to_space_and_back(check, sizes) -> None:
    x = inputs = keras.Input((4, 4, 3))
    x = kl.Conv2D(16, 1, name="fine")(x)
    x = ops.nn.depth_to_space(x, 2)
    x = kl.Conv2D(6, 1, name="mid")(x)
    x = ops.nn.space_to_depth(x, 2)
    model = keras.Model(inputs, kl.Conv2D(2, 1)(x))
    assert sizes(model) == {"fine": 4, "mid": 6}
    check(model)


def test_repeat_tile_flip_pad_stack_and_broadcast(check) -> None:
    x = inputs = keras.Input((6,))
    x = kl.Dense(8, name="a")(x)
    x = ops.repeat(x, 2, axis=-1)
    x = ops.tile(x, (1, 2))
    x = ops.flip(x, axis=-1)
    x = ops.pad(x, ((0, 0), (2, 1)))
    x = kl.Dense(10, name="b")(x)
    x = kl.RepeatVector(3)(x)
    x = ops.stack([x, ops.relu(x)], axis=1)
    x = ops.squeeze(ops.expand_dims(x, 1), 1)
    check(keras.Model(inputs, kl.Dense(2)(x)))


def test_two_removable_axes_in_one_are_kept_apart(check) -> None:
    x = inputs = keras.Input((5, 4))
    x = kl.EinsumDense("btd,dhk->bthk", output_shape=(None, 3, 4), name="split")(x)
    x = kl.Reshape((5, 12))(x)
    check(keras.Model(inputs, kl.Dense(2)(x)), ratios=(0.7, 0.4))


def test_what_depends_on_the_count_of_channels_stays() -> None:
    inputs = keras.Input((4, 4, 3))
    x = kl.Conv2D(8, 1, name="conv")(inputs)
    found = tfprune.units(keras.Model(inputs, ops.argmax(x, axis=-1)))
    assert len(found) == 0
    assert "depends on all positions" in found.frozen[0].reason


@pytest.mark.parametrize("seed", range(3))
def test_components_are_those_of_a_plain_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, 40, (2, 30))
    expected = list(range(40))
    for _ in range(40):
        for a, b in pairs.T:
            expected[a] = expected[b] = min(expected[a], expected[b])
    assert components(40, [(pairs[0], pairs[1])]).tolist() == expected


def test_windows_that_are_shifted(check, sizes) -> None:
    inputs = keras.Input((6, 6, 3))
    x = kl.Conv2D(8, 1, name="conv")(inputs)
    x = ops.roll(ops.roll(x, (-2, 1), axis=(1, 2)), 3, axis=1)
    model = keras.Model(inputs, kl.Conv2D(2, 1)(x))
    assert sizes(model) == {"conv": 8}
    check(model, ratios=(0.5,))


@pytest.mark.parametrize("axis", [-1, None])
def test_channels_that_go_round_stay(axis) -> None:
    inputs = keras.Input((6, 3))
    x = ops.roll(kl.Dense(8, name="a")(inputs), 2, axis=axis)
    found = tfprune.units(keras.Model(inputs, kl.Dense(2)(x)))
    assert "rolls" in found.frozen[0].reason
