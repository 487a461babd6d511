"""Weights that a model assigns when it is called."""

import keras
import numpy as np
import pytest

from tfprune import to_onnx, to_tflite
from tfprune.errors import ConversionError


class Masked(keras.layers.Layer):
    """A Dense layer whose kernel is masked in each call, as in autoregressive models."""

    def build(self, shape):
        self.dense = keras.layers.Dense(3)
        self.dense.build(shape)
        self.mask = np.tril(np.ones(self.dense.kernel.shape, "float32"))

    def call(self, x):
        self.dense.kernel.assign(self.dense.kernel * self.mask)
        return self.dense(x)


class Counting(keras.layers.Layer):
    """Adds the number of calls before."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, x):
        self.calls.assign(self.calls + 1.0)
        return x + self.calls


class Remembering(keras.layers.Layer):
    """Adds the mean of the last input."""

    def build(self, shape):
        self.last = self.add_weight(shape=(), initializer="zeros", trainable=False, name="last")

    def call(self, x):
        y = x + self.last
        self.last.assign(keras.ops.mean(x))
        return y


def model_of(layer):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)))
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(0).normal(size=variable.shape))
    return model


@pytest.mark.parametrize("write", [to_tflite, to_onnx])
def test_a_kernel_that_calls_mask_is_masked_in_the_file(write):
    model = model_of(Masked())
    before = [np.array(value) for value in model.weights]
    artifact = write(model)
    assert artifact.report.parity[0].max_error < 1e-5
    assert all(np.array_equal(a, b) for a, b in zip(before, model.weights, strict=True))


@pytest.mark.parametrize("layer", [Counting, Remembering])
@pytest.mark.parametrize("write", [to_tflite, to_onnx])
def test_a_weight_that_changes_from_call_to_call_is_refused(write, layer):
    with pytest.raises(ConversionError, match=r"keeps a state: .*(calls|last)"):
        write(model_of(layer()))
