"""Attention and layer normalization that train under rounding."""

import keras
import numpy as np
import pytest

from tfprune.deploy.qat.attention import QuantisedLayerNormalization
from tfprune.deploy.qat.quantize_aware import quantize_aware, strip_quantization
from tfprune.deploy.tflite import to_tflite
from tfprune.keras_support.attention_steps import projections_of
from tfprune.runtime import flatbuffer
from tfprune.runtime.inspect import inspect
from tfprune.runtime.litert import Runner

L = keras.layers


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Sequences in which the place of the largest first feature says what second one counts."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 6, 8)).astype("float32")
    place = x[:, :, 0].argmax(1)
    return x, (x[np.arange(1200), place, 1] > 0).astype("int32")


@pytest.fixture(scope="module")
def trained(data) -> keras.Model:
    """A block of a transformer, half of its kernels zero."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 8))
    h = L.Dense(16, name="embed")(inputs)
    attended = L.MultiHeadAttention(2, 8, dropout=0.1, name="attention")(h, h)
    h = L.LayerNormalization(name="norm")(h + attended)
    h = h + L.Dense(16, name="down")(L.Dense(32, activation="gelu", name="up")(h))
    outputs = L.Dense(2, name="logits")(L.GlobalAveragePooling1D()(h))
    model = keras.Model(inputs, outputs)
    _fit(model, data, 4, 5e-3)
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if weight.name == "kernel":
            weight.assign(weight.numpy() * (rng.random(weight.shape) > 0.5))
    return model


def _fit(model, data, epochs, rate):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(*data, epochs=epochs, verbose=0)


def _zeros(model) -> list[int]:
    return [int((w.numpy() == 0).sum()) for w in model.weights if w.name == "kernel"]


@pytest.mark.slow
def test_the_file_is_what_was_trained_and_zeros_stay(trained, data):
    x, y = data
    aware = quantize_aware(trained)
    _fit(aware, data, 3, 3e-3)
    stripped = strip_quantization(aware)
    assert _zeros(stripped) == _zeros(trained)
    names = [[layer.name for layer in model.layers[1:]] for model in (stripped, trained)]
    assert names[0] == names[1]

    artifact = to_tflite(aware, scheme="int8")
    assert artifact.report.notes == ()
    expected, got = aware.predict(x, verbose=0), Runner(artifact)(x)
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.998
    assert np.mean(got.argmax(1) == expected.argmax(1)) > 0.98
    assert abs(np.mean(got.argmax(1) == y) - np.mean(expected.argmax(1) == y)) < 0.01
    kernels = [row for row in inspect(artifact).tensors if row.used_by == ("FULLY_CONNECTED",)]
    kernels = [row for row in kernels if row.dtype == "int8"]
    assert len(kernels) == 8
    assert sum(row.zeros for row in kernels) >= sum(_zeros(trained))
    # Weights alone rounded, which runs faster here, is no further off than that.
    lighter = Runner(to_tflite(aware, scheme="dynamic", calibration=x))(x)
    assert np.corrcoef(lighter.ravel(), expected.ravel())[0, 1] > 0.998


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_second_factors_are_trained_as_the_file_rounds_them(shared):
    keras.utils.set_random_seed(0)
    queries = keras.Input((6, 8))
    keys = queries if shared else keras.Input((5, 4))
    # A bias moves all of them far from zero.
    layer = L.MultiHeadAttention(2, 8, bias_initializer=keras.initializers.Constant(1.0), name="m")
    model = keras.Model(queries if shared else [queries, keys], layer(queries, keys))
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(200, *i.shape[1:])).astype("float32") for i in model.inputs]
    x = x[0] if shared else x
    aware = quantize_aware(model)
    aware.compile("adam", "mse")
    aware.fit(x, model.predict(x, verbose=0), epochs=1, verbose=0)
    artifact = to_tflite(aware, scheme="int8")
    (graph,) = flatbuffer.parse(artifact.bytes).subgraphs
    factors = [graph.tensors[op.inputs[1]] for op in graph.ops if op.name == "BATCH_MATMUL"]
    ranges = [aware.get_layer("m").query_range, aware.get_layer("m").value_range]
    for factor, trained in zip(factors, ranges, strict=True):
        assert factor.zero_points == (0,)
        largest = max(-float(trained.low), float(trained.high))
        assert factor.scales == pytest.approx((largest / 127,), rel=1e-5)
    got, expected = Runner(artifact)(x), aware.predict(x, verbose=0)
    # Uneven in training, they would make it 0.4 steps.
    assert np.abs(got - expected).mean() < 0.05 * artifact.report.outputs[0].scale


def test_second_factors_of_products_outside_of_layers_are_found():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 16))
    options = {"bias_initializer": keras.initializers.Constant(1.0)}
    query, key = (L.Dense(8, name=name, **options)(inputs) for name in ("query", "key"))
    value = L.Dense(12, name="value", **options)(inputs)
    # Another layer with a bias reads it too: the file alone could not round it otherwise.
    read = L.Dense(4, name="read")(value)
    value = L.Permute((2, 1, 3), name="heads")(L.Reshape((8, 1, 12), name="split")(value))
    query = keras.ops.expand_dims(query, 1)
    key = keras.ops.expand_dims(keras.ops.transpose(key, (0, 2, 1)), 1)
    scores = keras.ops.softmax(keras.ops.matmul(query, key) * 0.3)
    context = keras.ops.einsum("bhqk,bhkd->bqhd", scores, value)
    outputs = L.Dense(3, name="last")(L.Reshape((8, 12))(context))
    model = keras.Model(inputs, L.Concatenate(name="both")([outputs, read]))
    x = np.random.default_rng(0).normal(0.5, 1.0, size=(200, 8, 16)).astype("float32")
    aware = quantize_aware(model)
    about_zero = {layer.name for layer in aware.layers if getattr(layer, "about_zero", False)}
    assert about_zero == {"value_range", "key_range"}
    aware.compile("adam", "mse")
    aware.fit(x, model.predict(x, verbose=0), epochs=1, verbose=0)
    artifact = to_tflite(aware, scheme="int8")
    assert artifact.report.notes == ()
    (graph,) = flatbuffer.parse(artifact.bytes).subgraphs
    factors = [graph.tensors[op.inputs[1]] for op in graph.ops if op.name == "BATCH_MATMUL"]
    assert [factor.zero_points for factor in factors] == [(0,)] * 2
    trained = aware.get_layer("value_range")
    largest = max(-float(trained.low), float(trained.high))
    assert factors[1].scales == pytest.approx((largest / 127,), rel=1e-5)


def test_it_trains_in_16_bit_floats(data):
    x, _ = data
    keras.utils.set_random_seed(0)
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        inputs = keras.Input((6, 8))
        h = L.MultiHeadAttention(2, 8)(inputs, inputs, use_causal_mask=True)
        h = L.LayerNormalization()(h + inputs)
        model = keras.Model(inputs, L.Dense(2, dtype="float32")(h))
        aware = quantize_aware(model)
        aware.compile("adam", "mse")
        aware.fit(x, model.predict(x, verbose=0), epochs=1, verbose=0)
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    got, expected = Runner(to_tflite(aware, scheme="int8"))(x), aware.predict(x, verbose=0)
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.99


def test_before_training_only_the_weights_are_rounded(trained, data):
    x = data[0][:50]
    aware = quantize_aware(trained)
    np.testing.assert_allclose(strip_quantization(aware)(x), trained(x), atol=1e-5)
    assert 0 < np.abs(aware(x) - trained(x)).max() < 0.1 * np.abs(trained(x)).max()
    for own, plain in zip(
        projections_of(aware.get_layer("attention")),
        projections_of(trained.get_layer("attention")),
        strict=True,
    ):
        assert 0 < np.abs(own.kernel - plain.kernel).max() < np.abs(plain.kernel).max() / 127


def test_it_is_saved_and_loaded(trained, data, tmp_path):
    aware = quantize_aware(trained)
    aware(data[0], training=True)
    aware.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(data[0][:9]), aware(data[0][:9]))
    assert _zeros(strip_quantization(loaded)) == _zeros(trained)


@pytest.mark.parametrize(("center", "scale", "axis"), [(True, True, -1), (False, False, (1, 2))])
def test_normalization_is_that_of_keras_within_rounding(center, scale, axis):
    plain = L.LayerNormalization(axis=axis, center=center, scale=scale, beta_initializer="normal")
    x = np.random.default_rng(0).normal(2.0, 3.0, size=(5, 4, 6)).astype("float32")
    expected = plain(x)
    own = QuantisedLayerNormalization.from_config(plain.get_config())
    own.build(x.shape)
    own.take(plain.get_weights(), keep_zeros=True)
    np.testing.assert_allclose(own(x), expected, atol=1e-5)
    own(x, training=True)
    assert 1e-4 < np.abs(own(x) - expected).max() < 0.1


def test_a_causal_mask_is_trained_and_stored(data):
    x, _ = data
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 8))
    layer = L.MultiHeadAttention(2, 8, kernel_initializer="he_normal")
    model = keras.Model(inputs, L.Dense(2)(layer(inputs, inputs, use_causal_mask=True)))
    aware = quantize_aware(model)
    np.testing.assert_allclose(aware(x[:50]), model(x[:50]), atol=0.1)
    aware.compile("adam", "mse")
    aware.fit(x, model.predict(x, verbose=0), epochs=1, verbose=0)
    got, expected = Runner(to_tflite(aware, scheme="int8"))(x), aware.predict(x, verbose=0)
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.998
    # The first element sees itself alone, whatever comes behind it.
    later = x.copy()
    later[:, 1:] += 1
    np.testing.assert_array_equal(aware(later[:50])[:, 0], aware(x[:50])[:, 0])


def test_tokens_and_their_table(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,), dtype="int32")
    h = L.Embedding(20, 16, name="table")(inputs)
    h = L.MultiHeadAttention(2, 8)(h, h)
    model = keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling1D()(h)))
    table = model.get_layer("table")
    table.set_weights([np.where(np.arange(320).reshape(20, 16) % 3, table.get_weights()[0], 0)])
    x = np.random.default_rng(0).integers(0, 20, (300, 6)).astype("int32")
    aware = quantize_aware(model)
    _fit(aware, (x, x[:, 0] % 3), 2, 1e-3)
    artifact = to_tflite(aware, scheme="int8")
    got, expected = Runner(artifact)(x), aware.predict(x, verbose=0)
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.995
    row = next(row for row in inspect(artifact).tensors if row.shape == (20, 16))
    assert row.dtype == "int8"
    assert row.zeros >= 107


def test_attention_over_two_axes_is_one_softmax(data):
    keras.utils.set_random_seed(0)
    x = data[0][:64].reshape(64, 2, 3, 8)
    inputs = keras.Input((2, 3, 8))
    attended = L.MultiHeadAttention(2, 8, attention_axes=(1, 2))(inputs, inputs)
    aware = quantize_aware(keras.Model(inputs, L.Dense(2)(attended)))
    aware.compile("adam", "mse")
    aware.fit(x, np.zeros((64, 2, 3, 2)), verbose=0)
    artifact = to_tflite(aware, scheme="int8", calibration=x)
    assert artifact.report.ops["SOFTMAX"] == 1
    assert artifact.report.parity[0].correlation > 0.99
