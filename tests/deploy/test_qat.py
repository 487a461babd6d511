"""Training that knows it will be quantised."""

import keras
import numpy as np
import pytest

from tfprune.deploy import flatbuffer
from tfprune.deploy.inspect import inspect
from tfprune.deploy.qat import is_quantize_aware, quantize_aware, strip_quantization
from tfprune.deploy.qat_layers import ActivationRange
from tfprune.deploy.runtime import Runner
from tfprune.deploy.tflite import to_tflite
from tfprune.errors import ConversionError, FilterError, ModelError, OptionError

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

    artefact = to_tflite(aware, scheme="int8")
    assert artefact.report.outputs[0].name == "logits"
    assert artefact.report.notes == ()
    trained = aware.predict(x, verbose=0)
    got = Runner(artefact)(x)
    # The scale of the file is that of the range: no number is further off than a step or two.
    high = (
        aware.get_layer("logits_range").high.numpy() - aware.get_layer("logits_range").low.numpy()
    )
    assert artefact.report.outputs[0].scale == pytest.approx(high / 255, rel=1e-4)
    assert np.abs(got - trained).max() < 2.01 * artefact.report.outputs[0].scale
    assert np.mean(got.argmax(1) == trained.argmax(1)) > 0.99
    assert np.corrcoef(got.ravel(), trained.ravel())[0, 1] > 0.999
    assert abs(np.mean(got.argmax(1) == y) - np.mean(trained.argmax(1) == y)) < 0.01
    row = next(row for row in inspect(artefact).tensors if row.shape == (3, 288))
    assert row.zeros is not None
    assert row.zeros >= _zeros(residual)
    # The integers of the file are those that training rounded to.
    raw = strip_quantization(aware).get_layer("logits").get_weights()[0]
    scale = np.abs(raw).max() / 127
    rounded = aware.get_layer("logits").kernel.numpy()
    np.testing.assert_allclose(rounded, np.round(raw / scale) * scale, atol=1e-5)


_SLOPES = keras.initializers.RandomUniform(-0.1, 0.4, seed=0)
# What stands between the input and a last layer of two units, by the rule it needs.
_STACKS = {
    "Conv2DTranspose": ((6, 6, 3), lambda: [
        L.Conv2DTranspose(4, 3, strides=2, padding="same", use_bias=False, name="ruled"),
        L.BatchNormalization(name="norm"), L.ReLU()]),
    # Without a bias the converter makes no ReLU a part of it.
    "Conv2DTranspose, no bias": ((6, 6, 3), lambda: [
        L.Conv2DTranspose(4, (3, 2), use_bias=False, activation="relu", name="ruled")]),
    "Conv2DTranspose, ReLU6": ((6, 6, 3), lambda: [
        L.Conv2DTranspose(4, 3, strides=3, output_padding=1, use_bias=False, name="ruled"),
        L.ReLU(6.0)]),
    "Conv1DTranspose": ((6, 3), lambda: [
        L.Conv1DTranspose(4, 3, strides=2, name="ruled"), L.BatchNormalization(name="norm")]),
    "Conv1DTranspose, gelu": ((6, 3), lambda: [
        L.Conv1DTranspose(4, 3, use_bias=False, activation="gelu", name="ruled")]),
    "SeparableConv1D": ((9, 3), lambda: [
        L.SeparableConv1D(4, 3, strides=2, depth_multiplier=2, name="ruled"),
        L.BatchNormalization(name="norm"), L.ReLU()]),
    "SeparableConv1D, dilated": ((9, 3), lambda: [
        L.SeparableConv1D(4, 3, dilation_rate=2, padding="same", use_bias=False, name="ruled")]),
    "SeparableConv2D": ((6, 6, 3), lambda: [
        L.SeparableConv2D(4, 3, padding="same", use_bias=False, name="ruled"),
        L.BatchNormalization(name="norm"), L.ReLU()]),
    "DepthwiseConv1D": ((9, 3), lambda: [
        L.DepthwiseConv1D(3, strides=2, depth_multiplier=2, use_bias=False, name="ruled"),
        L.BatchNormalization(name="norm"), L.ReLU()]),
    "DepthwiseConv1D, dilated": ((9, 3), lambda: [
        L.DepthwiseConv1D(
            3, dilation_rate=2, use_bias=False, activation="gelu", name="ruled")]),
    "PReLU": ((6, 6, 3), lambda: [
        L.Conv2D(4, 3, name="before"), L.BatchNormalization(name="norm"),
        L.PReLU(_SLOPES, shared_axes=[1, 2], name="ruled")]),
    "PReLU, of every place": ((6, 3), lambda: [
        L.PReLU(_SLOPES, name="ruled"), L.ReLU()]),
}  # fmt: skip


@pytest.fixture(scope="module", params=_STACKS)
def ruled(request) -> tuple[keras.Model, keras.Model, np.ndarray]:
    """A model with a third of its kernels zero, what was trained of it, and the data."""
    keras.utils.set_random_seed(0)
    shape, stack = _STACKS[request.param]
    model = keras.Sequential([keras.Input(shape), *stack(), L.Dense(2, name="last")])
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "kernel" in weight.name:
            weight.assign(weight.numpy() * (rng.random(weight.shape) > 0.33))
        elif "gamma" in weight.name or "variance" in weight.name:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    x = rng.normal(size=(256, *shape)).astype("float32")
    aware = quantize_aware(model)
    aware.compile(keras.optimizers.Adam(1e-3), "mse")
    aware.fit(x, model.predict(x, verbose=0), epochs=2, verbose=0)
    return model, aware, x


def test_folding_behind_new_rules_changes_no_output(ruled):
    model, _, x = ruled
    plain = strip_quantization(quantize_aware(model))
    assert "norm" not in [layer.name for layer in plain.layers]
    np.testing.assert_allclose(plain(x), model(x), atol=1e-5)


def test_the_file_has_the_weights_that_were_trained(ruled):
    model, aware, x = ruled
    # Operations that stay float would be an error here.
    artefact = to_tflite(aware, scheme="int8")
    assert artefact.report.notes == ()
    trained, got = aware.predict(x, verbose=0), Runner(artefact)(x)
    step = artefact.report.outputs[0].scale
    assert np.abs(got - trained).max() < 2.01 * step
    assert np.mean(np.abs(got - trained) > 0.01 * step) < 0.1

    plain = strip_quantization(aware)
    assert [type(layer) for layer in plain.layers[1:]] == [
        type(layer) for layer in model.layers if layer.name != "norm"
    ]
    stored = list(_stored(artefact))
    for layer in plain.layers:
        for weight in layer.weights:
            values = weight.numpy()
            if "kernel" in weight.name:
                kernel = getattr(model.get_layer(layer.name), weight.name).numpy()
                np.testing.assert_array_equal(values[kernel == 0], 0)
            elif weight.name != "alpha":
                continue
            rows, steps = _rounded(layer, weight.name, values)
            assert any(
                integers.shape == rows.shape
                and np.array_equal(integers, rows)
                # The scale of a channel of zeros is free.
                and np.allclose(scales[steps > 0], steps[steps > 0], rtol=1e-5)
                for integers, scales in stored
            ), (layer.name, weight.name)


def _rounded(layer, name, values) -> tuple[np.ndarray, np.ndarray]:
    """Return a row of integers and the scale for each channel, or for all."""
    if name == "depthwise_kernel" or isinstance(layer, L.DepthwiseConv1D):
        rows = values.reshape(-1, values.shape[-2] * values.shape[-1]).T
    elif name == "alpha":
        rows = values.reshape(1, -1)
    else:
        channels = -2 if "Transpose" in type(layer).__name__ else -1
        rows = np.moveaxis(values, channels, 0).reshape(values.shape[channels], -1)
    each = not isinstance(layer, L.Dense)
    steps = np.abs(rows).max(1 if each else None, keepdims=True) / 127
    return np.round(rows / np.where(steps > 0, steps, 1)), steps.ravel()


def _stored(artefact):
    """Yield rows of integers and the scales of each tensor of weights, in both orders of axes."""
    contents = flatbuffer.parse(artefact.bytes)
    for tensor in contents.subgraphs[0].tensors:
        raw = contents.raw(tensor)
        if tensor.dtype != "int8" or not len(raw):
            continue
        integers, scales = np.frombuffer(raw, np.int8), np.array(tensor.scales)
        assert set(tensor.zero_points) == {0}
        yield integers.reshape(tensor.shape[0], -1), scales
        yield integers.reshape(-1, tensor.shape[-1]).T, scales
        yield integers.reshape(1, -1), scales


def test_new_rules_are_saved_and_loaded(ruled, tmp_path):
    _, aware, x = ruled
    aware.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(x[:9]), aware(x[:9]))
    for old, new in zip(
        strip_quantization(aware).get_weights(),
        strip_quantization(loaded).get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(old, new)


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
    artefact = to_tflite(aware)
    np.testing.assert_allclose(Runner(artefact)(data[0][:9]), residual(data[0][:9]), atol=1e-4)


def test_what_has_no_rule_is_named_unless_skipped():
    inputs = keras.Input((6, 8))
    model = keras.Model(inputs, L.Dense(2)(L.LSTM(4, name="memory")(inputs)))
    with pytest.raises(ModelError, match=r"'memory' .* give skip=\['memory'\]"):
        quantize_aware(model)
    with pytest.raises(FilterError, match=r"skip: 'memori' matches nothing.*Did you mean memory"):
        quantize_aware(model, skip=["memori"])
    aware = quantize_aware(model, skip=["memory"])
    x = np.random.default_rng(0).normal(size=(20, 6, 8)).astype("float32")
    assert aware(x, training=True).shape == (20, 2)
    # What was not trained with a range gets one from data, and the report says so.
    with pytest.raises(ConversionError, match="stayed float in the int8 file"):
        to_tflite(aware, scheme="int8")
    note = to_tflite(aware, scheme="int8", calibration=x).report.notes[0]
    assert note.startswith("calibrated: training has seen no range for all of")


@pytest.mark.parametrize(
    "layer",
    [lambda: L.GRU(4, name="memory"), lambda: L.Bidirectional(L.LSTM(4), name="memory")],
    ids=["GRU", "Bidirectional"],
)
def test_a_recurrent_layer_is_refused_with_the_ways_out(layer):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 8))
    model = keras.Model(inputs, L.Dense(2)(layer()(inputs)))
    with pytest.raises(ModelError) as caught:
        quantize_aware(model)
    for words in ("no rule for a loop", "skip=['memory']", "scheme='int8'", "scheme='dynamic'"):
        assert words in str(caught.value)
    x = np.random.default_rng(0).normal(size=(40, 6, 8)).astype("float32")
    aware = quantize_aware(model, skip=["memory"])
    aware(x, training=True)
    for tried, scheme in ((aware, "int8"), (model, "int8"), (model, "dynamic")):
        artefact = to_tflite(tried, scheme=scheme, calibration=x)
        assert artefact.report.parity[0].correlation > 0.99


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "tanh"])
@pytest.mark.parametrize("how", ["layer", "argument", "function"])
def test_what_has_fixed_steps_in_the_file_is_trained_under_those(kind, how, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    inside = kind if how == "argument" else None
    h = L.Conv2DTranspose(4, 3, activation=inside, name="first")(inputs)
    if how != "argument":
        h = L.Activation(kind)(h) if how == "layer" else getattr(keras.ops, kind)(h)
    model = keras.Model(inputs, L.Conv2D(2, 1)(h))
    x = np.random.default_rng(0).normal(size=(60, 6, 6, 3)).astype("float32")
    aware = quantize_aware(model)
    aware(x, training=True)
    aware.save(tmp_path / "m.keras")
    aware = keras.models.load_model(tmp_path / "m.keras")
    artefact = to_tflite(aware, scheme="int8")
    # It would be rounded a second time, to the range that training has seen.
    assert "QUANTIZE" not in artefact.report.ops
    got, step = Runner(artefact)(x), artefact.report.outputs[0].scale
    assert np.mean(np.abs(got - aware(x)) > 0.01 * step) < 0.05


def test_it_trains_in_16_bit_floats():
    keras.utils.set_random_seed(0)
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        inputs = keras.Input((6, 6, 3))
        h = L.Conv2DTranspose(4, 3, strides=2, use_bias=False)(inputs)
        h = L.PReLU(_SLOPES, shared_axes=[1, 2])(L.BatchNormalization()(h))
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
    artefact = to_tflite(aware, scheme="int8")
    got, trained = Runner(artefact)(x), aware.predict(x, verbose=0)
    assert np.corrcoef(got.ravel(), trained.ravel())[0, 1] > 0.995


def test_what_only_rearranges_has_no_range_of_its_own():
    inputs = keras.Input((6, 8))
    h = keras.ops.transpose(L.Dense(4, name="first")(inputs), (0, 2, 1))
    h = keras.ops.swapaxes(keras.ops.expand_dims(h, 1), 2, 3)
    h = keras.ops.squeeze(keras.ops.moveaxis(h, 1, 2), 2)
    model = keras.Model(inputs, L.Dense(2, name="last")(h))
    x = np.random.default_rng(0).normal(size=(50, 6, 8)).astype("float32")
    aware = quantize_aware(model)
    # Two ranges of the same numbers would differ in the last digit, which the converter refuses.
    for start in range(0, 50, 10):
        aware(x[start : start + 10], training=True)
    ranges = [layer.name for layer in aware.layers if isinstance(layer, ActivationRange)]
    assert ranges[1:] == ["first_range", "last_range"]
    artefact = to_tflite(aware, scheme="int8")
    assert "QUANTIZE" not in artefact.report.ops
    step = artefact.report.outputs[0].scale
    assert np.abs(Runner(artefact)(x) - aware(x)).max() < 1.01 * step


def test_a_sequential_model_takes_its_input_as_before():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="tanh"), L.Dense(2)])
    x = np.random.default_rng(0).normal(size=(30, 4)).astype("float32")
    aware = quantize_aware(model)
    aware(x, training=True)
    np.testing.assert_allclose(aware(x), model(x), atol=0.1)
    np.testing.assert_allclose(Runner(to_tflite(aware, scheme="int8"))(x), aware(x), atol=0.05)


def _block(h, filters, size=3):
    h = L.Conv2D(filters, size, padding="same", use_bias=False)(h)
    return L.ReLU()(L.BatchNormalization()(h))


def _unet(interpolation):
    inputs = keras.Input((8, 8, 3))
    skip = _block(inputs, 6)
    h = _block(L.MaxPooling2D()(skip), 8)
    h = L.UpSampling2D(interpolation=interpolation)(h)
    h = _block(L.Concatenate(name="joined")([h, skip]), 6)
    return keras.Model(inputs, L.Conv2D(2, 1, name="last")(h))


def _dense_block(inputs):
    h = _block(inputs, 6)
    for _ in range(3):
        h = L.Concatenate()([h, _block(h, 4)])
    return _block(h, 6, 1)


def _pair(inputs):
    wide = keras.initializers.RandomNormal(stddev=1.0, seed=0)
    return L.Conv2D(4, 3, name="a")(inputs), L.Conv2D(4, 3, name="b", kernel_initializer=wide)(
        inputs
    )


def _small(build):
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, L.Conv2D(2, 1, name="last")(build(inputs)))


# What joins tensors, or makes new ones under the scale of the old; the least share of the file's
# numbers that are those that were trained; how many tensors the file rounds a second time, after
# which fewer are the same.
_ALIKE = {
    "U-Net": (lambda: _unet("nearest"), 0.75, 1),
    "U-Net, bilinear": (lambda: _unet("bilinear"), 0.75, 1),
    # A stem that a convolution reads too is rounded again in front of the first join, none after.
    "DenseNet block": (lambda: _small(_dense_block), 0.95, 1),
    "inputs": (lambda: _small(lambda h: L.Concatenate()([h, L.Permute((2, 1, 3))(h)])), 0.99, 0),
    "concatenate, ReLU": (lambda: _small(
        lambda h: L.ReLU()(keras.ops.concatenate(_pair(h), -1))), 0.99, 0),
    "chain": (lambda: _small(lambda h: L.Concatenate()([L.Concatenate()(_pair(h)),
                                                        L.MaxPooling2D(3, 1)(h)])), 0.95, 1),
    "pooled": (lambda: _small(lambda h: L.Concatenate()([L.AveragePooling2D(3, 1)(t)
                                                         for t in _pair(h)])), 0.95, 0),
    "resized": (lambda: _small(lambda h: L.UpSampling2D(interpolation="bilinear")(_pair(h)[0])),
                0.9, 0),
    "Maximum": (lambda: _small(lambda h: L.Maximum()(_pair(h))), 0.99, 0),
    "Minimum, ReLU": (lambda: _small(lambda h: L.ReLU()(L.Minimum()(_pair(h)))), 0.99, 0),
    "stack": (lambda: _small(lambda h: L.Reshape((6, 6, 8))(keras.ops.stack(_pair(h), -1))),
              0.99, 0),
    "where": (lambda: _small(lambda h: keras.ops.where(h[:, :1, :1, :1] > 0, *_pair(h))), 0.99, 0),
    "slice, pad": (lambda: _small(lambda h: keras.ops.pad(
        _pair(h)[0][:, 1:4], [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=0.3)), 0.99, 0),
    "clip": (lambda: _small(lambda h: keras.ops.clip(_pair(h)[0], -0.5, 0.5)), 0.97, 0),
    "split, maximum of all": (lambda: _small(lambda h: keras.ops.max(keras.ops.concatenate(
        keras.ops.split(_pair(h)[1], 2, -1)[::-1], -1), 1, keepdims=True)), 0.99, 0),
}  # fmt: skip
_ONE_SCALE = (
    "AVERAGE_POOL_2D", "CONCATENATION", "MAXIMUM", "MINIMUM", "PACK", "PADV2", "RESIZE_BILINEAR",
    "SELECT_V2", "SPLIT", "STRIDED_SLICE",
)  # fmt: skip


@pytest.mark.parametrize("name", _ALIKE)
def test_tensors_of_one_scale_in_the_file_are_trained_under_one_range(name, tmp_path):
    keras.utils.set_random_seed(0)
    make, least, twice = _ALIKE[name]
    model = make()
    x = np.random.default_rng(0).normal(size=(96, 8, 8, 3)).astype("float32")
    aware = quantize_aware(model)
    aware.compile(keras.optimizers.Adam(1e-4), "mse")
    aware.fit(x, model.predict(x, verbose=0), epochs=1, verbose=0)
    aware.save(tmp_path / "m.keras")
    aware = keras.models.load_model(tmp_path / "m.keras")
    assert [layer.name for layer in strip_quantization(aware).layers[1:]] == [
        layer.name for layer in model.layers[1:] if "batch_norm" not in layer.name
    ]
    artefact = to_tflite(aware, scheme="int8")
    assert artefact.report.ops.get("QUANTIZE", 0) == twice
    trained = set()
    for layer in aware.layers:
        if isinstance(layer, ActivationRange):
            low, high, _ = layer.limits(np.zeros(1, "float32"), False)
            trained.add(float(high - low) / 255)
    (graph,) = flatbuffer.parse(artefact.bytes).subgraphs
    seen = 0
    for op in graph.ops:
        tensors = [graph.tensors[i] for i in (*op.inputs, *op.outputs)]
        scales = {(t.scales, t.zero_points) for t in tensors if t.dtype == "int8"}
        if op.name not in _ONE_SCALE or not scales:
            continue
        seen += 1
        ((scale, _),) = scales
        assert any(scale == pytest.approx((step,), rel=1e-5) for step in trained)
    assert seen
    steps = np.abs(Runner(artefact)(x) - aware.predict(x, verbose=0))
    steps /= artefact.report.outputs[0].scale
    assert np.mean(steps < 0.01) > least
    assert steps.mean() < 0.3


def _range_layers(model) -> list[str]:
    aware = quantize_aware(model)
    return [layer.name for layer in aware.layers if isinstance(layer, ActivationRange)][1:]


def test_an_input_of_a_join_that_others_read_has_its_own_range():
    def build(read, activation=None):
        inputs = keras.Input((8, 8, 3))
        first = L.Conv2D(4, 1, name="first", activation=activation)(inputs)
        second = L.Conv2D(4, 1, name="second")(inputs)
        joined = L.Concatenate(name="joined")([first, second])
        return keras.Model(inputs, [joined, *read(first)])

    assert _range_layers(build(lambda first: [])) == ["joined_range"]
    assert set(_range_layers(build(lambda first: [first]))) == {"first_range", "joined_range"}
    other = build(lambda first: [L.Conv2D(2, 1, name="other")(first)])
    assert set(_range_layers(other)) == {"first_range", "joined_range", "other_range"}
    # Its kernel has a scale of its own.
    assert set(_range_layers(build(lambda first: [], "sigmoid"))) == {"first_range", "joined_range"}


def test_joins_that_read_each_other_have_one_range_whatever_else_reads_them():
    inputs = keras.Input((8, 8, 3))
    h = L.Conv2D(4, 1, name="stem")(inputs)
    for i in range(3):
        h = L.Concatenate(name=f"join_{i}")([h, L.Conv2D(4, 1, name=f"conv_{i}")(h)])
    assert set(_range_layers(keras.Model(inputs, h))) == {"stem_range", "join_2_range"}


def test_tensors_of_one_range_narrow_it_together_as_slowly_as_one_does():
    inputs = keras.Input((4,))
    halves = [L.Dense(2, name=name)(inputs) for name in ("left", "right")]
    aware = quantize_aware(keras.Model(inputs, L.Concatenate(name="joined")(halves)))
    trained = aware.get_layer("joined_range")
    aware(np.ones((1, 4), "float32"), training=True)
    wide = float(trained.high - trained.low)
    aware(np.zeros((1, 4), "float32"), training=True)
    np.testing.assert_allclose(float(trained.high - trained.low), 0.99 * wide, rtol=1e-5)


def test_what_the_model_gives_out_is_no_part_of_what_reads_it():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    given = [L.Conv2D(4, 1, name=name)(inputs) for name in ("first", "second")]
    norm = L.BatchNormalization(gamma_initializer="random_normal", name="norm")
    model = keras.Model(inputs, [*given, L.ReLU()(given[0]), norm(given[1])])
    x = np.random.default_rng(0).normal(size=(50, 6, 6, 3)).astype("float32")
    aware = quantize_aware(model)
    # Folded into the convolution, the norm would change what that gives.
    for got, expected in zip(strip_quantization(aware)(x), model(x), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)
    assert {"first_range", "second_range"} <= set(_range_layers(model))


def test_before_training_it_has_to_be_calibrated(residual, data):
    aware = quantize_aware(residual)
    with pytest.raises(OptionError, match="calibration: scheme 'int8' needs samples"):
        to_tflite(aware, scheme="int8")
    assert to_tflite(aware, scheme="int8", calibration=data[0]).report.notes == ()


def test_an_equation_that_is_no_product_is_named():
    inputs = keras.Input((4, 8))
    model = keras.Model(inputs, L.EinsumDense("abc,bcd->abd", (4, 3), name="each")(inputs))
    with pytest.raises(ModelError, match="'each' .* share an axis that stays"):
        quantize_aware(model)


def test_other_models_are_refused(residual):
    with pytest.raises(ModelError, match="quantisation-aware already"):
        quantize_aware(quantize_aware(residual))
    with pytest.raises(ModelError, match=r"got str; a tf_keras model has its own"):
        quantize_aware("model")


@pytest.mark.parametrize("wrong", [None, "model.keras", keras.Model])
def test_what_is_no_model_has_no_rounding_to_take_off(wrong):
    with pytest.raises(ModelError, match="expected a keras.Model or tf_keras.Model, got"):
        strip_quantization(wrong)
