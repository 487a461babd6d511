"""What a copy of a model takes along: how it is compiled, and what is in no weight."""

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

import tfprune
from tfprune.errors import ModelError
from tfprune.keras_support.cloning import carry_compile, compile_options, uncompiled
from tfprune.keras_support.internals import layers_below

X = np.random.default_rng(0).normal(2, 3, (64, 8)).astype("float32")


def my_loss(labels, outputs):
    return ops.mean((labels - outputs) ** 2)


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.5 ** ops.cast(step, "float32")

    def get_config(self):
        return {}


class Error(keras.metrics.MeanSquaredError):
    pass


def net(*before) -> keras.Model:
    x = inputs = keras.Input((8,))
    for layer in before:
        x = layer(x)
    return keras.Model(inputs, kl.Dense(2)(kl.Dense(16, activation="relu", name="h")(x)))


COPIES = {
    "shrink": lambda model: tfprune.shrink(model, {"channels": 0.5})[0],
    "shrink unproven": lambda model: tfprune.shrink(model, {"channels": 0.5}, verify=False)[0],
    "add_gates": lambda model: tfprune.add_gates(model, penalty=0.1),
    "quantize_aware": tfprune.quantize_aware,
    "make_sparse_ready": lambda model: tfprune.make_sparse_ready(model)[0],
}


@pytest.mark.parametrize("name", COPIES)
def test_losses_metrics_and_rates_of_ones_own_are_carried_over(name: str) -> None:
    """They are registered nowhere; a copy was once made of their names."""
    model = net()
    error = Error("mine")
    model.compile(keras.optimizers.Adam(Halving()), my_loss, metrics=[error, "mae"])
    copy = COPIES[name](model)
    assert copy.loss is my_loss
    assert isinstance(copy.optimizer._learning_rate, Halving)
    assert copy.optimizer is not model.optimizer
    copy.fit(X, np.zeros((64, 2)), batch_size=32, verbose=0)
    assert copy.optimizer.iterations == 2
    assert model.optimizer.iterations == 0
    assert float(error.result()) == 0
    assert model.compiled


def test_what_cannot_be_made_again_is_named() -> None:
    class Stubborn(keras.metrics.Metric):
        def __init__(self, factor):
            super().__init__()

        def update_state(self, *args, **kwargs):
            """Count nothing."""

        def result(self):
            return 0.0

    model = net()
    model.compile("adam", "mse", metrics=[Stubborn(2)])
    with pytest.raises(ModelError, match="Stubborn, which the model is compiled with, cannot be"):
        carry_compile(model, net())
    with pytest.raises(ModelError, match="Stubborn"):
        tfprune.shrink(model, {"channels": 0.5})


def test_a_model_that_is_not_compiled_gives_one_that_is_not() -> None:
    model, twin = net(), net()
    assert compile_options(model) == {}
    carry_compile(model, twin)
    assert not twin.compiled
    model.compile("adam", "mse")
    with uncompiled(model):
        assert compile_options(model) == {}
    assert compile_options(model)["loss"] == "mse"


@pytest.mark.parametrize("name", ["shrink", "shrink unproven", "add_gates", "quantize_aware"])
def test_an_adapted_normalization_still_normalizes(name: str) -> None:
    """Its constants are made of its weights, and were once left as those of a fresh layer."""
    norm = kl.Normalization()
    norm.adapt(X)
    model = net(norm)
    options = {"add_gates": {"kind": "hard"}}.get(name, {})
    copy = tfprune.add_gates(model, **options) if options else COPIES[name](model)
    (old,), (new,) = (
        [layer for layer in layers_below(each) if isinstance(layer, kl.Normalization)]
        for each in (model, copy)
    )
    np.testing.assert_allclose(new(X), old(X), rtol=1e-6)
    assert abs(float(ops.mean(new(X)))) < 1e-4


def test_a_quantized_file_of_a_model_that_normalizes_agrees_with_it() -> None:
    norm = kl.Normalization()
    norm.adapt(X)
    model = net(norm)
    aware = tfprune.quantize_aware(model)
    spread = float(np.std(model.predict(X, verbose=0)))
    aware.compile(keras.optimizers.Adam(1e-5), "mse")
    aware.fit(X, model.predict(X, verbose=0), epochs=2, verbose=0)
    assert np.abs(aware.predict(X, verbose=0) - model.predict(X, verbose=0)).max() < 0.2 * spread
    plain = tfprune.strip_quantization(aware)
    assert np.abs(plain.predict(X, verbose=0) - model.predict(X, verbose=0)).max() < 0.2 * spread


def test_a_vocabulary_that_was_learned_is_taken_along() -> None:
    import tensorflow as tf

    words = kl.StringLookup()
    words.adapt(["a", "b", "c"])
    inputs = keras.Input((1,), dtype="string")
    x = kl.Flatten()(kl.Embedding(5, 16)(words(inputs)))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(16, name="h")(x)))
    text = tf.constant([["a"], ["c"], ["unheard"]])
    copy = tfprune.add_gates(model, kind="hard")
    np.testing.assert_allclose(copy(text), model(text), rtol=1e-6)
    small, report = tfprune.shrink(model, {"channels": 0.5})
    assert report.error <= 1e-5
    assert small.get_layer("h").units == 8
    assert small(text).shape == (3, 2)
