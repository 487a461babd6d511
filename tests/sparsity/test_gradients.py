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
    with pytest.raises(OptionError, match=r"give loss=…, or compile"):
        gradient_source(model, data, None)(variables)
    with pytest.raises(OptionError, match="is for a whole model.*Received keras.Dense"):
        gradient_source(model.get_layer("head"), data, LOSS)
    with pytest.raises(DataError, match="64 samples but 3 targets"):
        gradient_source(model, (data[0], data[1][:3]), LOSS)(variables)
    with pytest.raises(DataError, match="holds no sample"):
        gradient_source(model, (data[0][:0], data[1][:0]), LOSS)(variables)
