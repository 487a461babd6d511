"""Models of all kinds in one scheme: names, batches, recurrence, what cannot be converted."""

import keras
import numpy as np
import pytest

from tfprune.deploy.convert_one import convert_one
from tfprune.deploy.converter.options import Options
from tfprune.deploy.qat.quantize_aware import quantize_aware
from tfprune.errors import ConversionError
from tfprune.runtime import flatbuffer
from tfprune.runtime.artifact import Artifact
from tfprune.runtime.litert import Runner

L = keras.layers


def convert(model, scheme: str = "float32", **options) -> Artifact:
    return convert_one(model, scheme, Options(**options))


@pytest.mark.slow
def test_the_result_is_that_of_to_tflite(convnet, images, int8_file):
    found = convert(convnet, "int8", calibration=images)
    assert (found.bytes, found.report) == (int8_file.bytes, int8_file.report)


def test_dict_inputs_and_outputs_keep_their_names_and_order():
    zeta, alpha = keras.Input((4,), name="zeta"), keras.Input((4,), name="Alpha-1")
    total = L.Add()([zeta, alpha])
    model = keras.Model(
        {"zeta": zeta, "Alpha-1": alpha}, {"b": L.Dense(2)(zeta), "a": L.Dense(3)(total)}
    )
    artifact = convert(model)
    runner = Runner(artifact)
    rng = np.random.default_rng(0)
    x = {"Alpha-1": rng.normal(size=(5, 4)), "zeta": rng.normal(size=(5, 4))}

    assert [spec.name for spec in runner.inputs] == ["zeta", "Alpha-1"]
    assert [spec.name for spec in runner.outputs] == ["b", "a"]
    expected = model.predict(x, verbose=0)
    for name, value in runner(x).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5)


def test_names_may_have_any_characters():
    inputs = {"file": keras.Input((3,), name="file"), "data": keras.Input((2,), name="data")}
    outputs = {"job / out": L.Dense(2)(inputs["file"]), "file": L.Dense(1)(inputs["data"])}
    rng = np.random.default_rng(0)
    x = {"data": rng.normal(size=(9, 2)), "file": rng.normal(size=(9, 3))}
    for scheme in ("float32", "int8"):
        report = convert(keras.Model(inputs, outputs), scheme=scheme, calibration=x).report
        assert [spec.name for spec in report.inputs] == ["file", "data"]
        assert [spec.name for spec in report.outputs] == ["job / out", "file"]


def test_lists_of_inputs_and_outputs_keep_their_order():
    second, first = keras.Input((3,), name="second"), keras.Input((2,), name="first")
    joined = L.Concatenate()([second, first])
    model = keras.Model(
        [second, first], [L.Dense(2, name="y")(joined), L.Dense(1, name="x")(first)]
    )
    runner = Runner(convert(model))
    data = [np.ones((2, 3), "float32"), np.full((2, 2), 2.0, "float32")]

    assert [spec.name for spec in runner.inputs] == ["second", "first"]
    got, expected = runner(data), model.predict(data, verbose=0)
    assert list(got) == ["y", "x"]
    np.testing.assert_allclose(got["y"], expected[0], atol=1e-5)
    np.testing.assert_allclose(got["x"], expected[1], atol=1e-5)


def test_a_tensor_that_is_two_outputs_has_a_name_for_each():
    x = keras.Input((6,))
    y = L.Dense(8, name="y")(x)
    data = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
    for outputs in ([y, L.Dense(3, name="z")(y), y], {"b": y, "a": y}):
        model = keras.Model(x, outputs)
        expected = keras.tree.flatten(model(data))
        for options, error in (({}, 1e-5), ({"scheme": "int8", "calibration": data}, 0.1)):
            got = Runner(convert(model, **options)).run_named(data)
            names = ["y", "z", "y_1"] if isinstance(outputs, list) else ["b", "a"]
            assert list(got) == names
            for value, wanted in zip(got.values(), expected, strict=True):
                np.testing.assert_allclose(value, wanted, atol=error)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = L.Embedding(20, 4)
        self.head = L.Dense(2)

    def call(self, tokens, training=None):
        features = keras.ops.mean(self.embedding(tokens), axis=1)
        return {"features": features, "logits": self.head(features)}


def test_a_subclassed_model_is_called_with_the_calibration_data():
    model = Subclassed()
    tokens = np.arange(40).reshape(5, 8) % 20
    model(tokens)
    runner = Runner(convert(model, calibration=tokens.astype("int32")))

    assert [spec.dtype for spec in runner.inputs] == ["int32"]
    got, expected = runner(tokens), model(tokens)
    np.testing.assert_allclose(got["logits"], expected["logits"], atol=1e-5)
    np.testing.assert_allclose(got["features"], expected["features"], atol=1e-5)


def test_a_subclassed_model_takes_a_signature():
    model = Subclassed()
    model(np.zeros((1, 8), "int32"))
    signature = keras.InputSpec(shape=(None, 6), dtype="int32")
    assert convert(model, input_signature=signature).report.inputs[0].shape == (-1, 6)


def test_a_model_with_pruning_masks_is_converted_with_its_zeros():
    class Mask(keras.constraints.Constraint):
        def __call__(self, w):
            return w * keras.ops.cast(w > 0, w.dtype)

    model = keras.Sequential([keras.Input((64,)), L.Dense(32, use_bias=False, name="dense")])
    kernel = model.get_layer("dense").kernel
    kernel.constraint = Mask()
    kernel.assign(np.maximum(kernel.numpy(), 0))
    zeros = int((kernel.numpy() == 0).sum())
    data = convert(
        model, scheme="int8", calibration=np.random.default_rng(0).normal(size=(20, 64))
    ).bytes

    contents = flatbuffer.parse(data)
    weights = [t for t in contents.subgraphs[0].tensors if t.shape == (32, 64)]
    stored = np.frombuffer(contents.raw(weights[0]), np.int8)
    # Small weights may round to zero as well; none of the zeros may come back.
    assert zeros <= (stored == 0).sum() < zeros + 64


def test_a_mixed_float16_model_is_converted_in_full_precision_and_left_as_it_was():
    model = keras.Sequential(
        [keras.Input((6,)), L.Dense(8, dtype="mixed_float16"), L.Dense(2, dtype="mixed_float16")]
    )
    report = convert(model).report

    assert [layer.dtype_policy.name for layer in model.layers] == ["mixed_float16"] * 2
    assert report.notes == ("the model trains in 16-bit floats; the file computes in 32-bit ones",)
    assert set(report.ops) == {"FULLY_CONNECTED"}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["float32", "int8"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "SimpleRNN"])
def test_recurrent_models_get_a_fixed_batch_and_are_unrolled_for_integers(cell, scheme):
    inputs = keras.Input((6, 4))
    layer = getattr(L, cell)(5)
    model = keras.Model(inputs, L.Dense(2)(layer(inputs)))
    x = np.random.default_rng(0).normal(size=(12, 6, 4)).astype("float32")
    artifact = convert(model, scheme=scheme, calibration=x)

    assert artifact.report.inputs[0].shape == (1, 6, 4)
    assert "needs a fixed batch size" in artifact.report.notes[0]
    assert ("WHILE" in artifact.report.ops) == (scheme == "float32")
    assert layer.unroll is False
    np.testing.assert_allclose(
        Runner(artifact)(x), model.predict(x, verbose=0), atol=1e-5 if scheme == "float32" else 0.1
    )


def test_uint8_images_stay_uint8():
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    model = keras.Model(inputs, L.Dense(2)(L.Flatten()(L.Rescaling(1 / 255)(inputs))))
    x = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), "uint8")
    artifact = convert(model, scheme="int8", calibration=x)

    assert artifact.report.inputs[0].dtype == "uint8"
    assert artifact.report.parity[0].correlation > 0.99


def test_a_fixed_batch_is_kept_and_can_be_asked_for(convnet):
    assert convert(convnet, batch=3).report.inputs[0].shape == (3, 8, 8, 1)
    fixed = keras.Sequential([keras.Input((4,), batch_size=2), L.Dense(2)])
    artifact = convert(fixed)
    assert artifact.report.inputs[0].shape == (2, 4)
    assert Runner(artifact)(np.zeros((5, 4), "float32")).shape == (5, 2)


def test_a_file_that_disagrees_is_not_returned():
    # One channel is 10,000 times the other, and only the other counts: 8 bits lose it.
    model = keras.Sequential(
        [keras.Input((2,)), L.Dense(2, use_bias=False), L.Dense(1, use_bias=False)]
    )
    model.set_weights([np.array([[1e4, 0.0], [0.0, 1.0]]), np.array([[0.0], [1.0]])])
    x = np.random.default_rng(0).normal(size=(40, 2))
    with pytest.raises(ConversionError, match=r"disagrees with the model: output .* correlation"):
        convert(model, scheme="int8", calibration=x)
    accepted = convert(model, scheme="int8", calibration=x, bound=2.0)
    assert accepted.report.parity[0].rms_error > 0.9 * accepted.report.parity[0].spread


def test_an_operation_left_float_in_an_integer_plan_is_named_unless_allowed(images):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.ops.erf(L.Dense(2)(L.Flatten()(inputs))))
    with pytest.raises(ConversionError, match="no operation for|exact GELU|Erf"):
        convert(model, scheme="int8", calibration=images)

    model = keras.Model(inputs, keras.ops.sin(L.Dense(2)(L.Flatten()(inputs))))
    with pytest.raises(ConversionError, match=r"SIN stayed float .* allow_float=\['SIN'\]"):
        convert(model, scheme="int8", calibration=images)
    report = convert(model, scheme="int8", calibration=images, allow_float=["SIN"]).report
    assert "SIN stays float (1 times), as allowed" in report.notes


def test_an_unknown_number_of_steps_cannot_be_unrolled_unless_it_is_fixed():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, L.Dense(3)(L.LSTM(8)(inputs)))
    x = np.random.default_rng(0).normal(size=(40, 6, 4))
    with pytest.raises(ConversionError, match="fix its length, such as input_shape=.* 'dynamic'"):
        convert(model, scheme="int8", calibration=x)
    assert convert(model, calibration=x).report.inputs[0].shape == (1, -1, 4)
    artifact = convert(model, scheme="int8", calibration=x, input_shape=(6, 4))
    assert artifact.report.inputs[0].shape == (1, 6, 4)
    assert model.input_shape == (None, None, 4)


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic", "int8", "int16x8"])
def test_the_sizes_of_images_can_be_fixed(scheme):
    """Keras itself cannot trace this layer with an open size."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    h = L.UpSampling2D(2, interpolation="bilinear")(L.Conv2D(8, 3, padding="same")(inputs))
    model = keras.Model(inputs, L.Dense(8)(L.GlobalAveragePooling2D()(h)))
    x = np.random.default_rng(0).normal(size=(40, 8, 8, 3))
    report = convert(model, scheme=scheme, calibration=x, input_shape=(8, 8, 3)).report
    assert report.inputs[0].shape == (-1, 8, 8, 3)


@pytest.mark.parametrize("trained", [False, True])
def test_tokens_that_a_model_takes_as_floats_stay_the_tokens_they_are(trained):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16,))
    model = keras.Model(inputs, L.Dense(4)(L.Flatten()(L.Embedding(300, 16)(inputs))))
    x = np.random.default_rng(0).integers(0, 300, (40, 16)).astype("float32")
    source = model
    if trained:
        source = quantize_aware(model)
        source.compile(keras.optimizers.SGD(0.0), "mse")
        source.fit(x, model.predict(x, verbose=0), verbose=0)
        plain, rounded = (one.predict(x, verbose=0).ravel() for one in (model, source))
        assert np.corrcoef(plain, rounded)[0, 1] > 0.999
    report = convert(source, scheme="int8", calibration=x).report
    assert report.inputs[0].dtype == "float32"
    assert report.parity[0].correlation > 0.999


@pytest.mark.parametrize("trained", [False, True])
def test_a_norm_of_one_number_is_its_shift(trained):
    """Its variance is 0: in integers, the kernel of the root ends the process."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 1))
    h = inputs + L.LayerNormalization(epsilon=1e-6)(L.Dense(1)(inputs))
    model = keras.Model(inputs, L.Dense(3)(L.Flatten()(h)))
    x = np.random.default_rng(0).normal(size=(40, 16, 1)).astype("float32")
    if trained:
        model = quantize_aware(model)
        model.compile(keras.optimizers.SGD(1e-6), "mse")
        model.fit(x, np.zeros((40, 3)), verbose=0)
    assert convert(model, scheme="int8", calibration=x).report.parity[0].correlation > 0.999


class AboutTheMean(keras.layers.Layer):
    """Takes the mean of the batch off each sample."""

    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


def test_a_model_whose_samples_depend_on_each_other_needs_a_batch():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, L.Dense(3)(AboutTheMean()(inputs)))
    x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
    with pytest.raises(ConversionError, match=r"alone in its batch: give .* with batch="):
        convert(model, calibration=x)
    assert convert(model, calibration=x, batch=8).report.inputs[0].shape == (8, 4)


def test_a_model_that_keeps_state_is_refused():
    inputs = keras.Input((4, 3), batch_size=1)
    model = keras.Model(inputs, L.LSTM(3, stateful=True)(inputs))
    with pytest.raises(ConversionError, match=r"keeps a state .* stateful=False"):
        convert(model)


def test_a_layer_that_fails_as_a_graph_is_one_line():
    class Branch(keras.layers.Layer):
        def call(self, x):
            return x if bool(keras.ops.sum(x) > 0) else -x

        def compute_output_shape(self, shape):
            return shape

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Branch()(L.Dense(3)(inputs)))
    with pytest.raises(ConversionError, match="cannot be traced for float32") as caught:
        convert(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["float16", "dynamic", "int8", "int16x8", "int4"])
def test_channels_of_zeros_are_converted(images, scheme, request):
    if scheme == "int4":
        request.getfixturevalue("quantizer")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), L.Conv2D(32, 3, activation="relu"), L.Flatten(), L.Dense(40)]
    )
    for layer in (model.layers[0], model.layers[2]):
        kernel = layer.kernel.numpy()
        kernel[..., ::4] = 0
        layer.kernel.assign(kernel)
    assert convert(model, scheme=scheme, calibration=images).report.parity[0].correlation > 0.97


def _attention(k, *, vocabulary: int | None = None):
    """Build a transformer block with exact GELU and LayerNormalization in Keras `k`."""
    layers = k.layers
    if vocabulary:
        inputs = k.Input((8,), dtype="int32")
        h = layers.Embedding(vocabulary, 16)(inputs)
    else:
        inputs = k.Input((8, 6))
        h = layers.Dense(16)(inputs)
    h = layers.LayerNormalization()(h + layers.MultiHeadAttention(2, 8)(h, h))
    h = layers.LayerNormalization()(h + layers.Dense(16)(layers.Dense(32, activation="gelu")(h)))
    return k.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(h)))


def test_attention_is_integer_throughout_in_int8():
    x = np.random.default_rng(0).normal(size=(20, 8, 6))
    report = convert(_attention(keras), scheme="int8", calibration=x).report
    assert report.parity[0].correlation > 0.99
    assert "NEG" not in report.ops
    assert "GELU" in report.ops


def test_sixteen_bit_activations_are_refused_where_no_kernel_is():
    x = np.random.default_rng(0).normal(size=(20, 8, 6))
    with pytest.raises(ConversionError, match=r"SQUARED_DIFFERENCE does not support .* 'dynamic'"):
        convert(_attention(keras), scheme="int16x8", calibration=x)


def test_a_kernel_that_crashes_the_process_is_one_error():
    import tf_keras

    tokens = np.random.default_rng(0).integers(0, 20, (20, 8))
    model = _attention(tf_keras, vocabulary=20)
    with pytest.raises(ConversionError, match=r"process died \(SIGABRT\).*use scheme 'dynamic'"):
        convert(model, scheme="int16x8", calibration=tokens)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["float32", "dynamic", "int8"])
def test_keras_2_models_are_converted_as_well(scheme):
    import tf_keras

    model = _attention(tf_keras, vocabulary=20)
    tokens = np.random.default_rng(0).integers(0, 20, (20, 8)).astype("int32")
    artifact = convert(model, scheme=scheme, calibration=tokens)
    assert artifact.report.parity[0].correlation > 0.99
    assert artifact.report.versions["tf_keras"]
    expected = model(tokens).numpy()
    assert np.corrcoef(Runner(artifact)(tokens).ravel(), expected.ravel())[0, 1] > 0.99
