"""Operations that the runtime has no kernel for."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfprune.deploy.tflite import to_tflite
from tfprune.runtime.litert import Runner

L = keras.layers


@pytest.mark.parametrize("find", [ops.argmax, ops.argmin])
@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_a_model_may_give_the_place_of_its_largest_number(find, scheme):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12,))
    scores = L.Dense(9)(inputs)
    model = keras.Model(inputs, {"class": find(scores, -1), "scores": scores})
    x = np.random.default_rng(0).normal(size=(60, 12)).astype("float32")
    artifact = to_tflite(
        model, scheme=scheme, calibration=x, allow_float=["ARG_MAX", "ARG_MIN"], bound=0.5
    )
    assert "BITCAST" not in artifact.report.ops
    got = Runner(artifact)(x)
    assert np.mean(got["class"] == np.asarray(model(x)["class"])) > 0.9
    np.testing.assert_array_equal(got["class"], np.asarray(find(got["scores"], -1)))


def test_a_shape_that_was_made_sure_of_is_trusted():
    class Sure(L.Layer):
        def call(self, x):
            return tf.ensure_shape(x, (None, 4)) * 2.0

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Sure()(inputs))
    x = np.arange(8, dtype="float32").reshape(2, 4)
    np.testing.assert_array_equal(Runner(to_tflite(model))(x), 2 * x)


@pytest.mark.parametrize("mode", ["multi_hot", "count"])
def test_categories_are_encoded(mode):
    inputs = keras.Input((4,), dtype="int32")
    model = keras.Model(inputs, L.CategoryEncoding(6, output_mode=mode)(inputs))
    x = np.array([[0, 1, 1, 5], [2, 2, 2, 2], [5, 4, 3, 0]], "int32")
    got = Runner(to_tflite(model, calibration=x))(x)
    np.testing.assert_array_equal(got, np.asarray(model(x)))


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_axes_are_rolled(scheme):
    inputs = keras.Input((6, 5, 4))
    model = keras.Model(inputs, ops.roll(ops.roll(inputs, shift=[-2, 1], axis=[1, 2]), 3, axis=-1))
    x = np.random.default_rng(0).normal(size=(40, 6, 5, 4)).astype("float32")
    artifact = to_tflite(model, scheme=scheme, calibration=x)
    assert artifact.report.parity[0].correlation > 0.999


def test_a_category_of_one_input_is_encoded_in_an_integer_file():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((1,), dtype="int32")
    model = keras.Model(inputs, L.Dense(3)(L.CategoryEncoding(8, output_mode="one_hot")(inputs)))
    x = np.random.default_rng(0).integers(0, 8, (60, 1)).astype("int32")
    (found,) = to_tflite(model, scheme="int8", calibration=x).report.parity
    assert found.correlation > 0.999


@pytest.mark.parametrize("encode", ["one_hot", "multi_hot"])
def test_categories_are_encoded_in_integer_files(encode):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), dtype="int32")
    h = (
        L.Flatten()(ops.one_hot(inputs, 10))
        if encode == "one_hot"
        else L.CategoryEncoding(10, output_mode="multi_hot")(inputs)
    )
    model = keras.Model(inputs, L.Dense(16)(h))
    x = np.random.default_rng(0).integers(0, 10, (60, 4)).astype("int32")
    (found,) = to_tflite(model, scheme="int8", calibration=x).report.parity
    assert found.correlation > 0.999


@pytest.mark.parametrize(
    "layer",
    [L.GroupNormalization(4), L.RMSNormalization(), L.UnitNormalization(), ops.square],
    ids=["GroupNormalization", "RMSNormalization", "UnitNormalization", "square"],
)
def test_squares_are_integer_in_integer_files(layer):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 16))
    model = keras.Model(inputs, layer(L.Conv2D(16, 3)(inputs)))
    x = np.random.default_rng(0).normal(size=(60, 6, 6, 16)).astype("float32")
    (found,) = to_tflite(model, scheme="int8", calibration=x).report.parity
    assert found.correlation > 0.995
