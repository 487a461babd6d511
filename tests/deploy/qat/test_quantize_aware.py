"""Training that knows it will be quantized."""

from collections import Counter

import keras
import numpy as np
import pytest

from tfprune.deploy.qat.layer_map import QUANTIZED
from tfprune.deploy.qat.quantize_aware import (
    float_layers,
    is_quantize_aware,
    quantize_aware,
    strip_quantization,
)
from tfprune.deploy.qat.rounding.ranges import ActivationRange
from tfprune.deploy.tflite import to_tflite
from tfprune.deploy.verify.operations import float_operations
from tfprune.errors import FilterError, ModelError, OptionError
from tfprune.runtime import flatbuffer
from tfprune.runtime.inspect import inspect
from tfprune.runtime.litert import Runner

L = keras.layers


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Images of 6×6 in three kinds: bright above, below, or left."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    x = rng.normal(0, 0.5, (300, 6, 6, 1)).astype("float32")
    x[y == 0, :3] += 1
    x[y == 1, 3:] += 1
    x[y == 2, :, :3] += 1
    return x, y


@pytest.fixture(scope="module")
def residual(data) -> keras.Model:
    """A trained residual net with BatchNorms, its Dense kernel pruned to 70 %."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1))
    h = L.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    h = L.ReLU(6.0)(L.BatchNormalization(name="stem_norm")(h))
    x = L.DepthwiseConv2D(3, padding="same", name="depthwise")(h)
    x = L.BatchNormalization(name="depthwise_norm")(x)
    h = L.ReLU(name="joined")(L.Add(name="add")([h, x]))
    model = keras.Model(inputs, L.Dense(3, name="logits")(L.Flatten()(h)))
    _fit(model, data, 3)
    kernel = model.get_layer("logits").kernel
    weights = kernel.numpy()
    kernel.assign(weights * (np.abs(weights) >= np.quantile(np.abs(weights), 0.7)))
    return model


def _fit(model, data, epochs):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(*data, epochs=epochs, verbose=0)


def _zeros(model) -> int:
    return int((model.get_layer("logits").get_weights()[0] == 0).sum())


def test_folding_changes_no_output(residual, data):
    aware = quantize_aware(residual)
    assert not any("norm" in layer.name and "range" not in layer.name for layer in aware.layers)
    np.testing.assert_allclose(strip_quantization(aware)(data[0]), residual(data[0]), atol=1e-4)


def test_ranges_stand_where_the_file_has_tensors(residual):
    ranges = [layer.name for layer in quantize_aware(residual).layers
              if isinstance(layer, ActivationRange)]  # fmt: skip
    # Behind the input, the ReLU of the stem, the norm that no ReLU follows, the ReLU of the sum,
    # the logits.
    assert ranges[0] == residual.inputs[0].name + "_range"
    assert ranges[1].startswith("re_lu")
    assert ranges[2:] == ["depthwise_norm_range", "joined_range", "logits_range"]


def test_the_file_is_what_was_trained_and_zeros_stay(residual, data):
    x, y = data
    aware = quantize_aware(residual)
    _fit(aware, data, 3)
    assert is_quantize_aware(aware)
    assert _zeros(strip_quantization(aware)) == _zeros(residual)

    artifact = to_tflite(aware, scheme="int8")
    assert artifact.report.outputs[0].name == "logits"
    assert artifact.report.notes == ()
    trained = aware.predict(x, verbose=0)
    got = Runner(artifact)(x)
    # The scale of the file is that of the range: no number is further off than a step or two.
    high = (
        aware.get_layer("logits_range").high.numpy() - aware.get_layer("logits_range").low.numpy()
    )
    assert artifact.report.outputs[0].scale == pytest.approx(high / 255, rel=1e-4)
    assert np.abs(got - trained).max() < 2.01 * artifact.report.outputs[0].scale
    assert np.mean(got.argmax(1) == trained.argmax(1)) > 0.99
    assert np.corrcoef(got.ravel(), trained.ravel())[0, 1] > 0.999
    assert abs(np.mean(got.argmax(1) == y) - np.mean(trained.argmax(1) == y)) < 0.01
    row = next(row for row in inspect(artifact).tensors if row.shape == (3, 288))
    assert row.zeros is not None
    assert row.zeros >= _zeros(residual)
    # The integers of the file are those that training rounded to.
    raw = strip_quantization(aware).get_layer("logits").get_weights()[0]
    scale = np.abs(raw).max() / 127
    rounded = aware.get_layer("logits").kernel.numpy()
    np.testing.assert_allclose(rounded, np.round(raw / scale) * scale, atol=1e-5)


def test_without_keep_zeros_they_come_back(residual, data):
    aware = quantize_aware(residual, keep_zeros=False)
    _fit(aware, data, 1)
    assert _zeros(strip_quantization(aware)) < _zeros(residual) / 2


def test_the_model_given_is_left_as_it_is(residual, data):
    before = [weight.copy() for weight in residual.get_weights()]
    _fit(quantize_aware(residual), data, 1)
    for old, new in zip(before, residual.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_float_file_of_it_has_no_rounding(residual, data):
    aware = quantize_aware(residual)
    artifact = to_tflite(aware)
    np.testing.assert_allclose(Runner(artifact)(data[0][:9]), residual(data[0][:9]), atol=1e-4)


def test_it_trains_in_16_bit_floats():
    keras.utils.set_random_seed(0)
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        inputs = keras.Input((6, 6, 3))
        h = L.Conv2DTranspose(4, 3, strides=2, use_bias=False)(inputs)
        slopes = keras.initializers.Constant(0.2)
        h = L.PReLU(slopes, shared_axes=[1, 2])(L.BatchNormalization()(h))
        h = L.SeparableConv2D(6, 3, activation="tanh", name="separable")(h)
        model = keras.Model(inputs, L.Dense(2, dtype="float32")(h))
        kernel = model.get_layer("separable").pointwise_kernel
        kernel.assign(kernel.numpy() * (np.arange(6) != 2))  # a channel of zeros
        x = np.random.default_rng(0).normal(size=(100, 6, 6, 3)).astype("float32")
        aware = quantize_aware(model)
        aware.compile(keras.optimizers.Adam(1e-3), "mse")
        aware.fit(x, model.predict(x, verbose=0), epochs=2, verbose=0)
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    artifact = to_tflite(aware, scheme="int8")
    got, trained = Runner(artifact)(x), aware.predict(x, verbose=0)
    assert np.corrcoef(got.ravel(), trained.ravel())[0, 1] > 0.995


# What of the residual net is rounded, by `only` and `skip`, and what of its file is integer.
PARTS = {
    "only the last": ({"only": ["logits"]}, ["FULLY_CONNECTED"]),
    "all but the last": ({"skip": "logits"}, ["ADD", "CONV_2D", "DEPTHWISE_CONV_2D"]),
    "one branch": ({"only": ["stem", "re_lu"]}, ["CONV_2D"]),
    "a join of floats": ({"only": ["add", "joined"]}, ["ADD"]),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.slow
def test_what_is_chosen_is_rounded_in_training_and_in_the_file_alike(residual, data, part):
    chosen, integer = PARTS[part]
    aware = quantize_aware(residual, **chosen)
    np.testing.assert_allclose(strip_quantization(aware)(data[0]), residual(data[0]), atol=1e-4)
    aware(data[0], training=True)
    artifact = to_tflite(aware, scheme="int8", io="float32")
    assert artifact.report.notes[0].startswith("as in training, these compute in floats: ")
    contents = flatbuffer.parse(artifact.bytes)
    rounded = Counter(op.name for op in contents.ops()) - Counter(float_operations(contents))
    assert sorted(set(rounded) - {"QUANTIZE", "DEQUANTIZE", "RESHAPE"}) == integer
    trained = aware.predict(data[0], verbose=0)
    got = Runner(artifact)(data[0])
    assert np.corrcoef(got.ravel(), trained.ravel())[0, 1] > 0.9999


def test_a_layer_with_layers_stands_for_all_inside_it(tmp_path):
    inner = keras.Sequential([keras.Input((6,)), L.Dense(6, name="a"), L.Dense(6, name="b")],
                             name="inner")  # fmt: skip
    inputs = keras.Input((6,))
    model = keras.Model(inputs, L.Dense(2, name="last")(inner(inputs)))
    aware = quantize_aware(model, skip="inner")
    assert type(aware.get_layer("last")) is QUANTIZED[L.Dense]
    assert type(aware.get_layer("a")) is L.Dense
    assert float_layers(aware) == ("a", "b")
    aware(np.ones((2, 6)), training=True)
    aware.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert float_layers(loaded) == ("a", "b")
    with pytest.raises(FilterError, match=r"skip: 'las_' matches nothing.*Did you mean last"):
        quantize_aware(model, skip="las_")
    with pytest.raises(OptionError, match="no layer of the model is left to be rounded"):
        quantize_aware(model, only="last", skip="last")


def test_before_training_it_has_to_be_calibrated(residual, data):
    aware = quantize_aware(residual)
    with pytest.raises(OptionError, match="calibration: scheme 'int8' needs samples"):
        to_tflite(aware, scheme="int8")
    assert to_tflite(aware, scheme="int8", calibration=data[0]).report.notes == ()


def test_other_models_are_refused(residual):
    with pytest.raises(ModelError, match="quantization-aware already"):
        quantize_aware(quantize_aware(residual))
    with pytest.raises(ModelError, match=r"Received str; for a tf_keras model"):
        quantize_aware("model")


@pytest.mark.parametrize("wrong", [None, "model.keras", keras.Model])
def test_what_is_no_model_has_no_rounding_to_take_off(wrong):
    with pytest.raises(ModelError, match="expected a keras.Model or tf_keras.Model. Received"):
        strip_quantization(wrong)
