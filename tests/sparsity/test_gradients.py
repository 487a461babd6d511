import keras
import numpy as np
import pytest
import tensorflow as tf

from tfprune.errors import DataError, OptionError
from tfprune.sparsity.gradients import gradient_source

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def whole_gradient(model, data):
    variables = [
        layer.kernel.value for layer in (model.get_layer("hidden"), model.get_layer("head"))
    ]
    with tf.GradientTape() as tape:
        tape.watch(variables)
        loss = LOSS(data[1], model(data[0], training=False))
    return [g.numpy() for g in tape.gradient(loss, variables)]


def test_batches_of_any_size_give_the_gradient_over_all(model, data, monkeypatch) -> None:
    monkeypatch.setattr("tfprune.sparsity.gradients.BATCH_SIZE", 24)
    variables = [model.get_layer(name).kernel for name in ("hidden", "head")]
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(24)
    model.compile("sgd", LOSS)
    for source in (gradient_source(model, data, LOSS), gradient_source(model, dataset, None)):
        for _ in range(2):
            for got, want in zip(source(variables), whole_gradient(model, data), strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_a_frozen_kernel_has_a_gradient_too(model, data) -> None:
    model.trainable = False
    (gradient,) = gradient_source(model, data, LOSS)([model.get_layer("head").kernel])
    assert np.abs(gradient).max() > 0


def test_faults_are_named(model, data) -> None:
    variables = [model.get_layer("head").kernel]
    assert gradient_source(model, None, None) is None
    with pytest.raises(OptionError, match=r"pass loss=…, or compile"):
        gradient_source(model, data, None)(variables)
    with pytest.raises(OptionError, match="needs a whole model.*Received keras.Dense"):
        gradient_source(model.get_layer("head"), data, LOSS)
    with pytest.raises(DataError, match=r"needs labels: data=\(inputs, labels\)"):
        gradient_source(model, list(data), LOSS)(variables)  # batches, as in every other call
    with pytest.raises(DataError, match="Received 64 inputs, 3 labels"):
        gradient_source(model, (data[0], data[1][:3]), LOSS)(variables)
    with pytest.raises(DataError, match="prune data= is empty"):
        gradient_source(model, (data[0][:0], data[1][:0]), LOSS)(variables)


def test_several_outputs_and_weights_of_samples_count() -> None:
    """The compiled loss has several outputs, and samples have weights."""
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, name="hidden")(inputs)
    heads = [keras.layers.Dense(1, name=name)(hidden) for name in "ab"]
    model = keras.Model(inputs, dict(zip("ab", heads, strict=True)))
    model.compile("sgd", {"a": "mse", "b": "mae"}, loss_weights={"a": 1.0, "b": 0.5})
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 4)).astype("float32")
    labels = {name: rng.normal(size=(96, 1)).astype("float32") for name in "ab"}
    kernel = model.get_layer("hidden").kernel
    with tf.GradientTape() as tape:
        out = model(x)
        error = tf.reduce_mean((out["a"] - labels["a"]) ** 2)
        loss = error + 0.5 * tf.reduce_mean(tf.abs(out["b"] - labels["b"]))
    (got,) = gradient_source(model, (x, labels), None)([kernel])
    np.testing.assert_allclose(got, tape.gradient(loss, kernel.value), rtol=1e-4, atol=1e-6)
    single = keras.Model(inputs, heads[0])
    weights = (np.arange(96) < 32).astype("float32")
    (some,) = gradient_source(single, (x, labels["a"], weights), "mse")([kernel])
    (part,) = gradient_source(single, (x[:32], labels["a"][:32]), "mse")([kernel])
    np.testing.assert_allclose(some, part / 3, rtol=1e-4, atol=1e-6)
