import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

import tfprune
from tfprune.errors import ModelError
from tfprune.graph.tracing.own_weights import as_tensors
from tfprune.graph.tracing.weight import Weight


class Patches(keras.layers.Layer):
    """Patches with a class token before them and a place for each, as vision models have them."""

    def build(self, shape):
        self.embed = kl.Conv2D(12, 2, strides=2, name="embed")
        self.embed.build(shape)
        normal = "random_normal"
        self.token = self.add_weight(shape=(1, 1, 12), initializer=normal, name="token")
        self.places = self.add_weight(shape=(1, 5, 12), initializer=normal, name="places")
        self.scale = self.add_weight(shape=(12,), initializer="ones", name="scale")
        self.shift = self.add_weight(shape=(), initializer="ones", name="shift")
        self.fixed = self.add_weight(shape=(12,), initializer="ones", trainable=False, name="fixed")

    def call(self, x):
        batch = ops.shape(x)[0]
        y = ops.reshape(self.embed(x), (batch, -1, 12))
        y = ops.concatenate([ops.tile(self.token, (batch, 1, 1)), y], axis=1) + self.places
        return y * self.scale + self.shift * 0.5 - self.fixed


def net():
    inputs = keras.Input((4, 4, 3))
    x = Patches(name="patches")(inputs)
    return keras.Model(inputs, kl.Dense(2)(kl.Dense(8, name="hidden")(x)))


def test_a_token_and_places_become_layers_that_are_saved_and_trained(check) -> None:
    model = net()
    small, report = check(model, exact=True, only="hidden")
    assert report.before.params == model.count_params()
    names = {layer.name for layer in small.layers if isinstance(layer, Weight)}
    assert names == {f"patches_{name}" for name in ("token", "places", "scale", "shift", "fixed")}
    before = {name: small.get_layer(name).get_weights()[0].copy() for name in names}
    small.compile("sgd", "mse")
    small.fit(np.ones((4, 4, 4, 3)), np.ones((4, 5, 2)), verbose=0)
    changed = {
        n for n in names if not np.array_equal(before[n], small.get_layer(n).get_weights()[0])
    }
    assert changed == names - {"patches_fixed"}


def test_all_that_is_added_to_patches_is_as_wide_as_they_are(check, sizes) -> None:
    assert sorted(sizes(net()).values()) == [8, 12]
    small, _ = check(net())
    assert small.get_layer("patches_places").weight.shape == (1, 5, 3)
    assert small.get_layer("embed").filters == 3


def test_the_layer_keeps_its_weights() -> None:
    layer = net().get_layer("patches")
    token, layers = layer.token, {}
    stand_in = as_tensors(layer, keras.Input((4, 4, 3)), layers, {})
    assert isinstance(stand_in.token, keras.KerasTensor)
    assert tuple(stand_in.token.shape) == (1, 1, 12)
    assert layers[id(layer.fixed)].fixed
    assert layers[id(token)].weight is token
    assert stand_in.embed is layer.embed
    assert layer.token is token
    assert len(layer.weights) == 7


class Listed(keras.layers.Layer):
    def build(self, shape):
        self.inner = kl.Dense(4, name="inner")
        self.inner.build(shape)
        self.scales = [self.add_weight(shape=(4,), name="first")]

    def call(self, x):
        return self.inner(x) * self.scales[0]


def test_weights_in_a_list_are_found(check, sizes) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(6, name="after")(Listed(name="l")(inputs))))
    assert sizes(model) == {"inner": 4, "after": 6}
    small, _ = check(model)
    assert small.get_layer("l_scales_0").weight.shape == (1,)


class Parameters:
    """An object that is no layer and holds a weight."""

    def __init__(self, weight):
        self.weight = weight


class Hidden(keras.layers.Layer):
    def build(self, shape):
        self.inner = kl.Dense(4)
        self.inner.build(shape)
        self.parameters = Parameters(self.add_weight(shape=(4,), name="scale"))

    def call(self, x):
        return self.inner(x) * self.parameters.weight


def test_a_weight_that_is_not_found_keeps_the_layer_whole() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(6, name="after")(Hidden(name="l")(inputs))))
    found = tfprune.units(model)
    assert [group.name for group in found] == ["after"]
    assert any("its weight scale is not an attribute" in note for note in found.graph.notes)
    with pytest.raises(ModelError, match="not an attribute"):
        as_tensors(model.get_layer("l"), inputs, {}, {})


class Kept(keras.layers.Layer):
    """It keeps a method of itself, which knows the layer and not what stands in for it."""

    def build(self, shape):
        self.inner = kl.Dense(4, name="inner")
        self.inner.build(shape)
        self.scale = self.add_weight(shape=(4,), initializer="random_normal", name="scale")
        self.finish = self.scaled

    def scaled(self, x):
        return x * self.scale

    def call(self, x):
        return self.finish(self.inner(x))


def test_a_weight_that_is_read_past_the_stand_in_is_noted(check) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(6, name="after")(Kept(name="kept")(inputs))))
    notes = [note for note in tfprune.units(model).graph.notes if "outside the call" in note]
    assert [note.split(" outside")[0] for note in notes] == ["kept reads kept.scale"]
    check(model)
