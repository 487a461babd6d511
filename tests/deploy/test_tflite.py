"""From a Keras model to a file that agrees with it."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from tfprune.deploy.tflite import to_tflite
from tfprune.errors import ConversionError, DataError, ModelError, OptionError
from tfprune.runtime.litert import Runner
from tfprune.runtime.schemes import SCHEMES

L = keras.layers


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic", "int8", "int16x8"])
def test_the_file_agrees_with_the_model_and_is_the_same_on_every_call(convnet, images, scheme):
    artefact = to_tflite(convnet, scheme=scheme, calibration=images)

    difference = Runner(artefact)(images) - convnet.predict(images, verbose=0)
    spread = convnet.predict(images, verbose=0).std()
    assert np.sqrt(np.mean(difference**2)) < SCHEMES[scheme].bound * spread
    assert to_tflite(convnet, scheme=scheme, calibration=images).bytes == artefact.bytes


def test_the_schemes_store_what_they_say(convnet, images, float_file, int8_file):
    half = to_tflite(convnet, scheme="float16").report
    assert half.raw_bytes < 0.7 * float_file.report.raw_bytes
    # 2,048 weights of the Dense layer and 72 of the convolution, in 4 bytes and in 1.
    assert float_file.report.raw_bytes - int8_file.report.raw_bytes > 0.8 * 3 * (2048 + 72)
    assert [spec.dtype for spec in int8_file.report.inputs] == ["int8"]
    assert [spec.dtype for spec in int8_file.report.outputs] == ["int8"]
    mixed = to_tflite(convnet, scheme="int8", io="float32", calibration=images).report
    assert [spec.dtype for spec in mixed.inputs + mixed.outputs] == ["float32", "float32"]
    assert {"QUANTIZE", "DEQUANTIZE"} <= set(mixed.ops)


def test_path_writes_the_file_and_its_report(convnet, tmp_path):
    artefact = to_tflite(convnet, tmp_path / "m.tflite")

    assert artefact.path == tmp_path / "m.tflite"
    assert artefact.path.read_bytes() == artefact.bytes
    report = json.loads((tmp_path / "m.json").read_text())
    assert report["raw_bytes"] == len(artefact.bytes)
    assert report["sha256"] == artefact.report.sha256
    assert report["versions"]["keras"] == keras.__version__


def test_dict_inputs_and_outputs_keep_their_names_and_order():
    zeta, alpha = keras.Input((4,), name="zeta"), keras.Input((4,), name="Alpha-1")
    total = L.Add()([zeta, alpha])
    model = keras.Model(
        {"zeta": zeta, "Alpha-1": alpha}, {"b": L.Dense(2)(zeta), "a": L.Dense(3)(total)}
    )
    artefact = to_tflite(model)
    runner = Runner(artefact)
    rng = np.random.default_rng(0)
    x = {"Alpha-1": rng.normal(size=(5, 4)), "zeta": rng.normal(size=(5, 4))}

    assert [spec.name for spec in runner.inputs] == ["zeta", "Alpha-1"]
    assert [spec.name for spec in runner.outputs] == ["b", "a"]
    expected = model.predict(x, verbose=0)
    for name, value in runner(x).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5)


def test_any_name_will_do():
    inputs = {"file": keras.Input((3,), name="file"), "data": keras.Input((2,), name="data")}
    outputs = {"job / out": L.Dense(2)(inputs["file"]), "file": L.Dense(1)(inputs["data"])}
    rng = np.random.default_rng(0)
    x = {"data": rng.normal(size=(9, 2)), "file": rng.normal(size=(9, 3))}
    for scheme in ("float32", "int8"):
        report = to_tflite(keras.Model(inputs, outputs), scheme=scheme, calibration=x).report
        assert [spec.name for spec in report.inputs] == ["file", "data"]
        assert [spec.name for spec in report.outputs] == ["job / out", "file"]


def test_lists_of_inputs_and_outputs_keep_their_order():
    second, first = keras.Input((3,), name="second"), keras.Input((2,), name="first")
    joined = L.Concatenate()([second, first])
    model = keras.Model(
        [second, first], [L.Dense(2, name="y")(joined), L.Dense(1, name="x")(first)]
    )
    runner = Runner(to_tflite(model))
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
            got = Runner(to_tflite(model, **options)).run_named(data)
            names = ["y", "z", "y_1"] if isinstance(outputs, list) else ["b", "a"]
            assert list(got) == names
            for value, wanted in zip(got.values(), expected, strict=True):
                np.testing.assert_allclose(value, wanted, atol=error)


class _Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = L.Embedding(20, 4)
        self.head = L.Dense(2)

    def call(self, tokens, training=None):
        features = keras.ops.mean(self.embedding(tokens), axis=1)
        return {"features": features, "logits": self.head(features)}


def test_a_subclassed_model_is_asked_with_the_calibration_data():
    model = _Subclassed()
    tokens = np.arange(40).reshape(5, 8) % 20
    model(tokens)
    runner = Runner(to_tflite(model, calibration=tokens.astype("int32")))

    assert [spec.dtype for spec in runner.inputs] == ["int32"]
    got, expected = runner(tokens), model(tokens)
    np.testing.assert_allclose(got["logits"], expected["logits"], atol=1e-5)
    np.testing.assert_allclose(got["features"], expected["features"], atol=1e-5)


def test_a_subclassed_model_takes_a_signature():
    model = _Subclassed()
    model(np.zeros((1, 8), "int32"))
    signature = keras.InputSpec(shape=(None, 6), dtype="int32")
    assert to_tflite(model, input_signature=signature).report.inputs[0].shape == (-1, 6)


def test_a_mask_constraint_does_not_disturb_and_zeros_stay():
    class Mask(keras.constraints.Constraint):
        def __call__(self, w):
            return w * keras.ops.cast(w > 0, w.dtype)

    model = keras.Sequential([keras.Input((64,)), L.Dense(32, use_bias=False, name="dense")])
    kernel = model.get_layer("dense").kernel
    kernel.constraint = Mask()
    kernel.assign(np.maximum(kernel.numpy(), 0))
    zeros = int((kernel.numpy() == 0).sum())
    data = to_tflite(
        model, scheme="int8", calibration=np.random.default_rng(0).normal(size=(20, 64))
    ).bytes

    from tfprune.runtime import flatbuffer

    contents = flatbuffer.parse(data)
    weights = [t for t in contents.subgraphs[0].tensors if t.shape == (32, 64)]
    stored = np.frombuffer(contents.raw(weights[0]), np.int8)
    # Small weights may round to zero as well; none of the zeros may come back.
    assert zeros <= (stored == 0).sum() < zeros + 64


def test_a_mixed_float16_model_is_converted_in_full_precision_and_left_as_it_was():
    model = keras.Sequential(
        [keras.Input((6,)), L.Dense(8, dtype="mixed_float16"), L.Dense(2, dtype="mixed_float16")]
    )
    report = to_tflite(model).report

    assert [layer.dtype_policy.name for layer in model.layers] == ["mixed_float16"] * 2
    assert report.notes == ("the model trains in 16-bit floats; the file computes in 32-bit ones",)
    assert set(report.ops) == {"FULLY_CONNECTED"}


@pytest.mark.parametrize("scheme", ["float32", "int8"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "SimpleRNN"])
def test_recurrent_models_get_a_fixed_batch_and_are_unrolled_for_integers(cell, scheme):
    inputs = keras.Input((6, 4))
    layer = getattr(L, cell)(5)
    model = keras.Model(inputs, L.Dense(2)(layer(inputs)))
    x = np.random.default_rng(0).normal(size=(12, 6, 4)).astype("float32")
    artefact = to_tflite(model, scheme=scheme, calibration=x)

    assert artefact.report.inputs[0].shape == (1, 6, 4)
    assert "needs it fixed" in artefact.report.notes[0]
    assert ("WHILE" in artefact.report.ops) == (scheme == "float32")
    assert layer.unroll is False
    np.testing.assert_allclose(
        Runner(artefact)(x), model.predict(x, verbose=0), atol=1e-5 if scheme == "float32" else 0.1
    )


def test_uint8_images_stay_uint8():
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    model = keras.Model(inputs, L.Dense(2)(L.Flatten()(L.Rescaling(1 / 255)(inputs))))
    x = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), "uint8")
    artefact = to_tflite(model, scheme="int8", calibration=x)

    assert artefact.report.inputs[0].dtype == "uint8"
    assert artefact.report.parity[0].correlation > 0.99


def test_a_fixed_batch_is_kept_and_can_be_asked_for(convnet):
    assert to_tflite(convnet, batch=3).report.inputs[0].shape == (3, 8, 8, 1)
    fixed = keras.Sequential([keras.Input((4,), batch_size=2), L.Dense(2)])
    artefact = to_tflite(fixed)
    assert artefact.report.inputs[0].shape == (2, 4)
    assert Runner(artefact)(np.zeros((5, 4), "float32")).shape == (5, 2)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"scheme": "int9"}, OptionError, "unknown scheme 'int9'. .*Did you mean int8"),
        ({"scheme": "int8"}, OptionError, "needs samples .* give calibration=x_train"),
        ({"scheme": "float16", "io": "int8"}, OptionError, "io: scheme 'float16' allows float32"),
        ({"batch": 0}, OptionError, "batch: expected a positive integer or None, got 0"),
        ({"bound": -1.0}, OptionError, "bound: expected a positive number"),
        ({"allow_float": ["SOFTMAXX"]}, OptionError, "unknown operation .*Did you mean SOFTMAX"),
        ({"allow_float": "SOFTMAX"}, OptionError, "expected a list of operation names"),
        ({"calibration": np.zeros((0, 8, 8, 1))}, DataError, "empty"),
        (
            {"calibration": np.zeros((5, 8, 8, 3))},
            DataError,
            r"expected a batch of shape \(None, 8, 8, 1\)",
        ),
    ],
)
def test_wrong_options_are_one_line_before_any_work(convnet, options, error, text):
    with pytest.raises(error, match=text) as caught:
        to_tflite(convnet, **options)
    assert "\n" not in str(caught.value)


def test_what_is_no_model_is_named():
    with pytest.raises(ModelError, match=r"expected a keras.Model or tf_keras.Model, got str"):
        to_tflite("model.keras")
    with pytest.raises(ModelError, match="is not built"):
        to_tflite(keras.Sequential([L.Dense(2)]))


def test_a_file_that_disagrees_is_not_handed_over():
    # One channel is 10,000 times the other, and only the other counts: 8 bits lose it.
    model = keras.Sequential(
        [keras.Input((2,)), L.Dense(2, use_bias=False), L.Dense(1, use_bias=False)]
    )
    model.set_weights([np.array([[1e4, 0.0], [0.0, 1.0]]), np.array([[0.0], [1.0]])])
    x = np.random.default_rng(0).normal(size=(40, 2))
    with pytest.raises(ConversionError, match=r"disagrees with the model: output .* correlation"):
        to_tflite(model, scheme="int8", calibration=x)
    accepted = to_tflite(model, scheme="int8", calibration=x, bound=2.0)
    assert accepted.report.parity[0].rms_error > 0.9 * accepted.report.parity[0].spread


def test_an_operation_left_float_in_an_integer_plan_is_named_unless_allowed(images):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.ops.erf(L.Dense(2)(L.Flatten()(inputs))))
    with pytest.raises(ConversionError, match="no operation for|exact GELU|Erf"):
        to_tflite(model, scheme="int8", calibration=images)

    model = keras.Model(inputs, keras.ops.sin(L.Dense(2)(L.Flatten()(inputs))))
    with pytest.raises(ConversionError, match=r"SIN stayed float .* allow_float=\['SIN'\]"):
        to_tflite(model, scheme="int8", calibration=images)
    report = to_tflite(model, scheme="int8", calibration=images, allow_float=["SIN"]).report
    assert "SIN stays float (1 times), as allowed" in report.notes


def test_a_time_limit_is_one_error(convnet):
    with pytest.raises(ConversionError, match=r"longer than its limit of 0\.001 s"):
        to_tflite(convnet, time_limit_s=0.001)


def test_an_unknown_number_of_steps_cannot_be_unrolled():
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, L.LSTM(3)(inputs))
    x = np.random.default_rng(0).normal(size=(8, 6, 4))
    with pytest.raises(ConversionError, match="fixed number of time steps, or use .* 'dynamic'"):
        to_tflite(model, scheme="int8", calibration=x)
    assert to_tflite(model, calibration=x).report.inputs[0].shape == (1, -1, 4)


def test_a_model_that_keeps_state_is_refused():
    inputs = keras.Input((4, 3), batch_size=1)
    model = keras.Model(inputs, L.LSTM(3, stateful=True)(inputs))
    with pytest.raises(ConversionError, match=r"keeps a state .* stateful=False"):
        to_tflite(model)


def test_a_layer_that_fails_as_a_graph_is_one_line():
    class Branch(keras.layers.Layer):
        def call(self, x):
            return x if bool(keras.ops.sum(x) > 0) else -x

        def compute_output_shape(self, shape):
            return shape

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Branch()(L.Dense(3)(inputs)))
    with pytest.raises(ConversionError, match="cannot be traced for float32") as caught:
        to_tflite(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["float16", "dynamic", "int8", "int16x8", "int4"])
def test_whole_channels_of_zeros_are_fine(images, scheme, request):
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
    assert to_tflite(model, scheme=scheme, calibration=images).report.parity[0].correlation > 0.97


def test_the_path_is_checked_before_the_work(convnet, tmp_path):
    with pytest.raises(OptionError, match="is a folder"):
        to_tflite(convnet, tmp_path)
    with pytest.raises(OptionError, match=r"expected a name in \.tflite"):
        to_tflite(convnet, tmp_path / "m.json")


@pytest.mark.slow
def test_two_processes_give_the_same_bytes():
    script = (
        "import keras, numpy as np\n"
        "from tfprune import to_tflite\n"
        "keras.utils.set_random_seed(0)\n"
        "m = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(8, 3),"
        " keras.layers.BatchNormalization(), keras.layers.Flatten(), keras.layers.Dense(40)])\n"
        "x = np.random.default_rng(0).normal(size=(20, 8, 8, 1))\n"
        "print([to_tflite(m, scheme=s, calibration=x).report.sha256"
        " for s in ('float32', 'dynamic', 'int8', 'int4')])\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert len(runs[0].stdout) > 4 * 64
    assert runs[0].stdout == runs[1].stdout


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
    report = to_tflite(_attention(keras), scheme="int8", calibration=x).report
    assert report.parity[0].correlation > 0.99
    assert "NEG" not in report.ops
    assert "GELU" in report.ops


def test_sixteen_bit_activations_are_refused_where_no_kernel_is():
    x = np.random.default_rng(0).normal(size=(20, 8, 6))
    with pytest.raises(ConversionError, match=r"SQUARED_DIFFERENCE does not take .* 'dynamic'"):
        to_tflite(_attention(keras), scheme="int16x8", calibration=x)


def test_a_kernel_that_kills_the_process_is_one_error():
    import tf_keras

    tokens = np.random.default_rng(0).integers(0, 20, (20, 8))
    model = _attention(tf_keras, vocabulary=20)
    with pytest.raises(ConversionError, match=r"process died \(SIGABRT\).*use scheme 'dynamic'"):
        to_tflite(model, scheme="int16x8", calibration=tokens)


@pytest.mark.parametrize("scheme", ["float32", "dynamic", "int8"])
def test_keras_2_models_are_converted_as_well(scheme):
    import tf_keras

    model = _attention(tf_keras, vocabulary=20)
    tokens = np.random.default_rng(0).integers(0, 20, (20, 8)).astype("int32")
    artefact = to_tflite(model, scheme=scheme, calibration=tokens)
    assert artefact.report.parity[0].correlation > 0.99
    assert artefact.report.versions["tf_keras"]
    expected = model(tokens).numpy()
    assert np.corrcoef(Runner(artefact)(tokens).ravel(), expected.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": None}, "unknown scheme None"),
        ({"scheme": ["int8"]}, r"unknown scheme \['int8'\]"),
        ({"layers": "h"}, "layers: expected a dict"),
        ({"allow_float": 3}, "allow_float: expected a list"),
        ({"time_limit_s": -1}, "time_limit_s: expected a positive number"),
        ({"scheme": "auto", "time_limit_s": "a"}, "time_limit_s: expected a positive number"),
        ({"input_signature": "x"}, "input_signature: expected shapes and types.* got 'x'"),
        ({"input_signature": [(3,)]}, r"input_signature: expected .* got \[\(3,\)\]"),
    ],
    ids=str,
)
def test_an_option_that_is_none_is_one_line(convnet, options, message):
    with pytest.raises(OptionError, match=message):
        to_tflite(convnet, **options)


def test_the_class_of_a_model_is_no_model():
    with pytest.raises(ModelError, match="expected a keras.Model or tf_keras.Model, got .*type"):
        to_tflite(keras.Model)
