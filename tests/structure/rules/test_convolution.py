import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

import tfprune


def bn_relu(x):
    return kl.ReLU()(kl.BatchNormalization()(x))


def test_a_plain_chain_loses_filters_rows_and_normalizations(check, sizes) -> None:
    x = inputs = keras.Input((8, 8, 3))
    x = bn_relu(kl.Conv2D(16, 3, name="first")(x))
    x = bn_relu(kl.Conv2D(12, 3, name="second")(x))
    outputs = kl.Dense(4, activation="softmax")(kl.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs)
    assert sizes(model) == {"first": 16, "second": 12}
    small, _ = check(model, ratios=(0.5,))
    # kernels, biases, four statistics for each channel, the classifier
    assert small.count_params() == (27 * 8 + 8 + 32) + (9 * 8 * 6 + 6 + 24) + (6 * 4 + 4)


def test_a_silenced_channel_is_not_one_with_a_zeroed_filter(check) -> None:
    """Through BatchNormalization's beta a zeroed filter still speaks."""
    inputs = keras.Input((4, 4, 2))
    x = kl.BatchNormalization(beta_initializer="ones")(kl.Conv2D(8, 1)(inputs))
    model = keras.Model(inputs, kl.Conv2D(2, 1)(x))
    check(model)


@pytest.mark.slow
def test_one_and_three_dimensions(check, sizes) -> None:
    x = inputs = keras.Input((10, 3))
    x = bn_relu(kl.Conv1D(8, 3, name="one")(x))
    x = kl.SeparableConv1D(6, 3, name="separable")(x)
    x = kl.DepthwiseConv1D(3)(x)
    x = kl.Conv1DTranspose(4, 3, name="transposed")(x)
    model = keras.Model(inputs, kl.Dense(2)(kl.GlobalMaxPooling1D()(x)))
    assert sizes(model) == {"one": 8, "separable": 6, "transposed": 4}
    check(model)
    x = inputs = keras.Input((5, 5, 5, 2))
    x = kl.Conv3D(6, 3, name="one")(x)
    x = kl.UpSampling3D()(kl.MaxPooling3D()(kl.ZeroPadding3D()(x)))
    x = kl.Conv3DTranspose(4, 2, name="two")(x)
    check(keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling3D()(x))))


def test_depthwise_with_a_multiplier_goes_along_with_its_input(check, sizes) -> None:
    x = inputs = keras.Input((8, 8, 3))
    x = kl.Conv2D(6, 1, name="point")(x)
    x = kl.DepthwiseConv2D(3, depth_multiplier=3)(x)
    x = kl.BatchNormalization()(x)
    model = keras.Model(inputs, kl.Conv2D(5, 1, name="out")(x))
    assert sizes(model) == {"point": 6}
    small, _ = check(model, ratios=(0.5,))
    assert small.get_layer("out").kernel.shape == (1, 1, 9, 5)


def test_depthwise_of_the_input_itself(check) -> None:
    inputs = keras.Input((8, 8, 3))
    x = kl.DepthwiseConv2D(3, depth_multiplier=2)(inputs)
    x = kl.Conv2D(3, 3, groups=3)(inputs) + kl.Conv2D(3, 3, name="a")(inputs) + x[..., :3]
    x = kl.Conv2D(8, 1, name="free")(x)
    check(keras.Model(inputs, kl.Conv2D(2, 1)(x)))


def test_groups_of_channels_that_stay_lose_filters_alike(check, sizes) -> None:
    """A group for each channel of the input, with several filters in each."""
    inputs = keras.Input((10, 10, 4))
    x = kl.Conv2D(16, 3, groups=4, name="grouped")(inputs)
    model = keras.Model(inputs, kl.Conv2D(8, 1)(kl.ReLU()(x)))
    assert sizes(model) == {"grouped": 16}
    small, _ = check(model, ratios=(0.5,))
    assert (small.get_layer("grouped").groups, small.get_layer("grouped").filters) == (4, 8)


def test_what_convolves_channels_that_stay_is_named() -> None:
    x = inputs = keras.Input((8, 8, 4))
    x = kl.Conv2D(4, 3, groups=4, name="spelt")(x)
    x = kl.DepthwiseConv2D(3, depth_multiplier=2, name="depth")(inputs)[..., :4] + x[..., :4]
    x = kl.Conv2D(4, 1, groups=4, name="single")(kl.Conv2D(8, 3, padding="same", name="free")(x))
    found = tfprune.units(keras.Model(inputs, kl.Conv2D(2, 1, name="out")(x)))
    assert [group.name for group in found] == ["free"]
    assert [(line.layer, line.size, line.reason) for line in found.frozen] == [
        ("spelt", 4, "spelt has a single filter in each of its groups"),
        ("depth", 8, "depth outputs its input channels, which are frozen"),
        ("single", 4, "single has a single filter in each of its groups"),
        ("out", 2, "it is an output of the model"),
    ]


def test_depthwise_spelt_as_grouped(check, sizes) -> None:
    x = inputs = keras.Input((8, 8, 3))
    x = kl.Conv2D(6, 1, name="point")(x)
    x = kl.Conv2D(6, 3, groups=6, name="same")(x)
    x = kl.Conv2D(12, 3, groups=6, name="twice")(x)
    model = keras.Model(inputs, kl.Conv2D(5, 1)(x))
    assert sizes(model) == {"point": 6}
    small, _ = check(model, ratios=(0.5,))
    assert (small.get_layer("twice").groups, small.get_layer("twice").filters) == (3, 6)


def test_grouped_chains_keep_equal_counts_in_each_group(check) -> None:
    x = inputs = keras.Input((8, 8, 3))
    x = bn_relu(kl.Conv2D(16, 3, name="plain")(x))
    x = bn_relu(kl.Conv2D(32, 3, groups=4, name="four")(x))
    x = bn_relu(kl.Conv2D(16, 3, groups=2, padding="same", name="two")(x))
    model = keras.Model(inputs, kl.Conv2D(5, 1)(x))
    small, _ = check(model)
    assert small.get_layer("four").filters == 8
    assert small.get_layer("four").kernel.shape == (3, 3, 1, 8)
    found = {group.name: group.block_count for group in tfprune.units(model)}
    assert found == {"plain": 4, "four": 4, "two": 2}


def test_a_grouped_convolution_chooses_in_each_group_by_itself() -> None:
    inputs = keras.Input((4, 4, 2))
    x = kl.Conv2D(8, 1, use_bias=False, name="made")(inputs)
    outputs = kl.Conv2D(4, 1, groups=2, use_bias=False)(x)
    model = keras.Model(inputs, outputs)
    kernel = np.zeros((1, 1, 2, 8), "float32")
    kernel[..., :] = [1, 5, 6, 7, 8, 2, 9, 3]
    model.get_layer("made").set_weights([kernel])
    model.layers[-1].set_weights([np.ones((1, 1, 4, 4), "float32")])
    _, report = tfprune.shrink(
        model, {"channels": 0.5}, ranking="uniform", round_to=1, importance="l1", only="made"
    )
    assert report.plan.removals[0].positions == (0, 1, 5, 7)


def test_concatenations_that_blocks_cut_across(check) -> None:
    """Groups of six channels over parts of ten and eight: one constraint over two layers."""
    inputs = keras.Input((6, 6, 3))
    a = kl.Conv2D(10, 1, name="a")(inputs)
    b = kl.Conv2D(8, 1, name="b")(inputs)
    x = kl.Conv2D(6, 3, groups=3, name="grouped")(kl.Concatenate()([a, b]))
    check(keras.Model(inputs, kl.Conv2D(2, 1)(x)))


def test_separable(check, sizes) -> None:
    x = inputs = keras.Input((8, 8, 3))
    x = bn_relu(kl.SeparableConv2D(8, 3, depth_multiplier=2, name="one")(x))
    x = bn_relu(kl.SeparableConv2D(6, 3, depth_multiplier=3, name="two")(x))
    model = keras.Model(inputs, kl.Conv2D(2, 1)(x))
    assert sizes(model) == {"one": 8, "two": 6}
    check(model)


def test_transposed_in_a_generator(check, sizes) -> None:
    """Dense → Reshape → Conv2DTranspose: a channel is 16 units of the Dense layer."""
    x = inputs = keras.Input((5,))
    x = kl.Dense(4 * 4 * 8, name="seed")(x)
    x = bn_relu(kl.Reshape((4, 4, 8))(x))
    x = bn_relu(kl.Conv2DTranspose(6, 3, strides=2, padding="same", name="up")(x))
    outputs = kl.Conv2DTranspose(1, 3, strides=2, padding="same", activation="tanh")(x)
    model = keras.Model(inputs, outputs)
    assert sizes(model) == {"seed": 8, "up": 6}
    small, _ = check(model, ratios=(0.75, 0.25, 0.5))
    assert small.get_layer("seed").units == 4 * 4 * 4


def test_channels_first(check, sizes) -> None:
    """Convolution in this format needs a GPU kernel, so the proof is on what has one."""
    x = inputs = keras.Input((3, 8, 8))
    x = kl.Permute((2, 3, 1))(x)
    x = kl.Conv2D(8, 3, name="conv")(x)
    x = kl.Permute((3, 1, 2))(x)
    x = kl.BatchNormalization(axis=1)(x)
    x = kl.GlobalAveragePooling2D(data_format="channels_first")(x)
    model = keras.Model(inputs, kl.Dense(3)(x))
    assert sizes(model) == {"conv": 8}
    check(model)


def first_and_last():
    """The same network with its channels before and after space."""
    models = []
    for first in (True, False):
        where = "channels_first" if first else "channels_last"
        axis = 1 if first else -1
        keras.utils.set_random_seed(3)
        x = inputs = keras.Input((3, 8, 8) if first else (8, 8, 3))
        x = kl.Conv2D(8, 3, data_format=where, name="a")(x)
        x = kl.ReLU()(kl.BatchNormalization(axis=axis, name="bn")(x))
        x = kl.DepthwiseConv2D(3, depth_multiplier=2, data_format=where, name="depthwise")(x)
        x = kl.MaxPooling2D(data_format=where)(x)
        y = kl.Conv2D(6, 1, data_format=where, name="b")(x)
        z = kl.Conv2DTranspose(6, 1, data_format=where, name="c")(x)
        x = kl.Concatenate(axis=axis)([y + z, y])
        x = kl.SeparableConv2D(4, 1, data_format=where, name="d")(x)
        x = kl.Flatten(data_format=where)(x)
        models.append(keras.Model(inputs, kl.Dense(2, name="out")(x), name="net"))
    models[1].set_weights(models[0].get_weights())
    return models


@pytest.mark.parametrize("share", [0.75, 0.5, 0.25])
def test_channels_first_is_cut_as_its_twin_with_channels_last_is(share) -> None:
    """A CPU has no kernels for all of it: the twin is what the proof is run on."""
    first, last = first_and_last()
    found, twin = tfprune.units(first), tfprune.units(last)
    assert [(g.name, len(g.units)) for g in found] == [(g.name, len(g.units)) for g in twin]
    small, report = tfprune.shrink(
        first, {"channels": share}, ranking="uniform", round_to=1, verify=False
    )
    other, proven = tfprune.shrink(last, report.plan)
    assert proven.error <= 1e-4
    assert small.count_params() == other.count_params() < first.count_params()
    assert small.get_layer("bn").axis == 1
    for one, two in zip(small.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_an_activation_that_is_not_known_freezes_and_is_named() -> None:
    inputs = keras.Input((8, 8, 3))
    x = kl.Conv2D(8, 3, activation=lambda x: x[..., ::-1], name="odd")(inputs)
    found = tfprune.units(keras.Model(inputs, kl.Conv2D(2, 1)(x)))
    assert len(found) == 0
    assert "odd has an activation without a rule" in found.frozen[0].reason


def test_a_softmax_over_channels_is_not_exact(check) -> None:
    inputs = keras.Input((6, 6, 3))
    x = kl.Conv2D(8, 1, activation="softmax", name="soft")(inputs)
    _, report = check(keras.Model(inputs, kl.Conv2D(2, 1)(x)), exact=False)
    assert "softmax over these channels" in report.reasons[0]


class Computed(keras.layers.Layer):
    """A convolution whose kernel is normalized in each call."""

    def __init__(self, kind, filters, **kwargs):
        super().__init__(**kwargs)
        self.kind, self.filters = kind, filters

    def build(self, shape):
        ends = {"conv": (shape[-1], self.filters), "conv_transpose": (self.filters, shape[-1])}
        self.k = self.add_weight(shape=(3, 3, *ends.get(self.kind, (shape[-1], 1))), name="k")

    def call(self, x):
        kernel = self.k / ops.sqrt(ops.sum(self.k * self.k, axis=(0, 1), keepdims=True) + 1e-6)
        return getattr(ops, self.kind)(x, kernel, 1, padding="same", data_format="channels_last")


@pytest.mark.parametrize("kind", ["conv", "depthwise_conv", "conv_transpose"])
def test_channels_of_kernels_that_are_computed_are_removed(kind):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    x = keras.layers.Activation("relu")(Computed(kind, 8)(x))
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1)(x))
    small, report = tfprune.shrink(model, {"macs": 0.5}, round_to=1)
    assert report.after.macs <= 0.5 * report.before.macs
    assert report.error < 1e-5
    assert small.output_shape == model.output_shape
