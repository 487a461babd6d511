"""What trains in the place of each layer, against the file that it becomes."""

import keras
import numpy as np
import pytest

from tfprune.deploy.qat.layer_map import QUANTIZED
from tfprune.deploy.qat.quantize_aware import quantize_aware, strip_quantization
from tfprune.deploy.qat.rounding.ranges import ActivationRange
from tfprune.deploy.tflite import to_tflite
from tfprune.runtime import flatbuffer
from tfprune.runtime.litert import Runner

L = keras.layers


_SIMPLE = [kind for kind in QUANTIZED if kind not in (
    L.EinsumDense, L.Embedding, L.MultiHeadAttention, L.LayerNormalization)]  # fmt: skip


@pytest.mark.parametrize("kind", _SIMPLE, ids=lambda kind: kind.__name__)
def test_every_layer_is_saved_and_loaded(kind, tmp_path):
    shape = (6,) if kind is L.Dense else (8, 4) if "1D" in kind.__name__ else (8, 8, 4)
    plain = (L.BatchNormalization, L.PReLU)
    options = {"units": 3} if kind is L.Dense else {} if kind in plain else {"kernel_size": 3}
    plain = (*plain, L.Dense, L.DepthwiseConv1D, L.DepthwiseConv2D)
    options |= {} if kind in plain else {"filters": 3}
    model = keras.Sequential([keras.Input(shape), QUANTIZED[kind](**options), ActivationRange()])
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    model(x, training=True)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(x), model(x))


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
    "BatchNormalization behind an activation": ((6, 6, 3), lambda: [
        L.Conv2D(4, 3, activation="relu", name="before"), L.BatchNormalization(name="ruled")]),
    "BatchNormalization behind a depthwise activation": ((6, 6, 3), lambda: [
        L.DepthwiseConv2D(3, activation="relu6", name="before"),
        L.BatchNormalization(name="ruled"), L.ReLU()]),
    "BatchNormalization behind a dense activation": ((9,), lambda: [
        L.Dense(12, activation="tanh", name="before"), L.BatchNormalization(name="ruled")]),
    "BatchNormalization of the input": ((6, 6, 3), lambda: [
        L.BatchNormalization(name="ruled"), L.Activation("relu")]),
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


@pytest.mark.slow
def test_folding_behind_new_rules_changes_no_output(ruled):
    model, _, x = ruled
    plain = strip_quantization(quantize_aware(model))
    assert "norm" not in [layer.name for layer in plain.layers]
    np.testing.assert_allclose(plain(x), model(x), atol=1e-5)


@pytest.mark.slow
def test_the_file_has_the_weights_that_were_trained(ruled):
    model, aware, x = ruled
    # Operations that stay float would be an error here.
    artifact = to_tflite(aware, scheme="int8")
    assert artifact.report.notes == ()
    trained, got = aware.predict(x, verbose=0), Runner(artifact)(x)
    step = artifact.report.outputs[0].scale
    assert np.abs(got - trained).max() < 2.01 * step
    assert np.mean(np.abs(got - trained) > 0.01 * step) < 0.1

    plain = strip_quantization(aware)
    assert [type(layer) for layer in plain.layers[1:]] == [
        type(layer) for layer in model.layers if layer.name != "norm"
    ]
    stored = list(_stored(artifact))
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
    if name == "depthwise_kernel" or isinstance(layer, L.DepthwiseConv1D | L.DepthwiseConv2D):
        rows = values.reshape(-1, values.shape[-2] * values.shape[-1]).T
    elif name == "alpha":
        rows = values.reshape(1, -1)
    else:
        channels = -2 if "Transpose" in type(layer).__name__ else -1
        rows = np.moveaxis(values, channels, 0).reshape(values.shape[channels], -1)
    each = not isinstance(layer, L.Dense)
    steps = np.abs(rows).max(1 if each else None, keepdims=True) / 127
    return np.round(rows / np.where(steps > 0, steps, 1)), steps.ravel()


def _stored(artifact):
    """Yield rows of integers and the scales of each tensor of weights, in both orders of axes."""
    contents = flatbuffer.parse(artifact.bytes)
    for tensor in contents.subgraphs[0].tensors:
        raw = contents.raw(tensor)
        if tensor.dtype != "int8" or not len(raw):
            continue
        integers, scales = np.frombuffer(raw, np.int8), np.array(tensor.scales)
        assert set(tensor.zero_points) == {0}
        yield integers.reshape(tensor.shape[0], -1), scales
        yield integers.reshape(-1, tensor.shape[-1]).T, scales
        yield integers.reshape(1, -1), scales


@pytest.mark.slow
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
