import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

from tfprune.graph.flat import flat_model, is_primitive

X = np.random.default_rng(0).normal(size=(5, 8)).astype("float32")


class Residual(kl.Layer):
    def build(self, shape):
        self.inner = [kl.Dense(shape[-1], name="inner") for _ in range(2)]
        self.norm = kl.BatchNormalization()
        for layer in (*self.inner, self.norm):
            layer.build(shape)

    def call(self, x, training=None):
        y = self.norm(keras.activations.relu(self.inner[0](x)), training=training)
        return x + self.inner[1](y)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [Residual(), Residual()]
        self.body = keras.Sequential([keras.Input((8,)), kl.Dense(4), kl.ReLU()])
        self.scale = self.add_weight(shape=(4,), initializer="ones", name="scale")

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return ops.softmax(self.body(x) * self.scale)


def nested():
    inputs = keras.Input((8,))
    inner = keras.Sequential([keras.Input((8,)), kl.Dense(6), Residual()], name="inner")
    outer = keras.Model(inputs, kl.Dense(3)(inner(inputs)), name="outer")
    return keras.Sequential([keras.Input((8,)), outer, kl.Dense(2)])


def subclassed():
    model = Subclassed()
    model(X)
    return model


@pytest.mark.parametrize("make", [nested, subclassed])
def test_every_model_becomes_one_flat_functional_model(make, tmp_path) -> None:
    model = make()
    flat = flat_model(model)
    assert all(is_primitive(op) for op in flat.operations)
    np.testing.assert_allclose(flat(X), model(X), rtol=1e-5, atol=1e-6)
    assert flat.count_params() == model.count_params()
    assert len(flat.trainable_weights) == len(model.trainable_weights)
    flat.save(tmp_path / "flat.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "flat.keras")(X), flat(X))


def test_a_flat_model_is_returned_as_it_is() -> None:
    inputs = keras.Input((8,))
    model = keras.Model(inputs, ops.relu(kl.Dense(2)(inputs)))
    assert flat_model(model) is model


def test_the_original_is_neither_changed_nor_shared() -> None:
    model = nested()
    model.compile("sgd", "mse")
    before = [weight.copy() for weight in model.get_weights()]
    flat = flat_model(model)
    flat.compile("sgd", "mse")
    flat.fit(X, np.ones((5, 2)), verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


class InTraining(kl.Layer):
    def build(self, shape):
        self.inner = kl.Dense(4, name="inner")
        self.inner.build(shape)

    def call(self, x, training=None):
        y = self.inner(x)
        return y * 0.5 if training else y


def test_what_is_lost_of_training_is_a_warning() -> None:
    inputs = keras.Input((8,))
    model = keras.Model(inputs, InTraining(name="own")(inputs))
    with pytest.warns(UserWarning, match="own computes something else in training"):
        flat = flat_model(model)
    np.testing.assert_allclose(flat(X, training=True), model(X), rtol=1e-6)
