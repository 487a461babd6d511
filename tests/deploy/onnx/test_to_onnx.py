"""ONNX files: equal to their model, the same on each conversion, 2:4 where kernels want it."""

import json

import keras
import numpy as np
import pytest

from tfprune.deploy.onnx.layout import products
from tfprune.deploy.onnx.to_onnx import to_onnx
from tfprune.deploy.qat.quantize_aware import quantize_aware
from tfprune.errors import ConversionError, DataError, ModelError, OptionError
from tfprune.runtime.artifact import ConversionReport
from tfprune.sparsity.pruning import prune, strip_pruning

L = keras.layers


def normalized() -> keras.Model:
    """Constants that the graph only captures: mean and variance of a Normalization."""
    x = inputs = keras.Input((6,), name="x")
    x = L.Normalization(mean=np.arange(6.0), variance=np.full(6, 4.0))(x)
    return keras.Model(inputs, L.Dense(3, name="y")(x))


def exact_gelu() -> keras.Model:
    x = inputs = keras.Input((6, 8), name="x")
    x = L.Dense(16, activation="gelu")(x)
    x = L.Add()([x, L.MultiHeadAttention(2, 4)(L.LayerNormalization()(x), x)])
    return keras.Model(inputs, L.Dense(3, name="y")(x))


def recurrent() -> keras.Model:
    x = inputs = keras.Input((6, 8), name="x")
    return keras.Model(inputs, L.Dense(3, name="y")(L.LSTM(5)(x)))


def several() -> keras.Model:
    """Inputs and outputs whose order is not that of their names."""
    zeta, alpha = keras.Input((6,), name="zeta"), keras.Input((3,), name="alpha")
    ids = keras.Input((4,), dtype="int32", name="ids")
    looked_up = L.Flatten()(L.Embedding(9, 2)(ids))
    x = L.Concatenate()([L.Dense(2)(zeta), alpha, looked_up])
    return keras.Model([zeta, alpha, ids], {"y": L.Dense(2)(x), "b": L.Dense(3)(x)})


@pytest.mark.parametrize("build", [normalized, exact_gelu, recurrent, several])
def test_a_file_gives_the_outputs_of_its_model_and_is_reproducible(build) -> None:
    keras.utils.set_random_seed(0)
    model = build()
    first, second = to_onnx(model), to_onnx(model)
    assert all(entry.correlation > 0.999999 for entry in first.report.parity)
    assert max(entry.max_error for entry in first.report.parity) < 1e-5
    assert [spec.name for spec in first.report.inputs] == [tensor.name for tensor in model.inputs]
    assert all(spec.shape[0] == -1 for spec in first.report.inputs)
    assert first.bytes == second.bytes
    assert first.report == second.report


def test_outputs_keep_the_names_and_the_order_of_the_model() -> None:
    assert [spec.name for spec in to_onnx(several()).report.outputs] == ["y", "b"]


def test_samples_are_those_that_are_given(convnet, images) -> None:
    (found,) = to_onnx(convnet, calibration=images).report.parity
    assert (found.data, found.samples) == ("calibration", 32)
    with pytest.raises(DataError, match="expected a batch of shape"):
        to_onnx(convnet, calibration=images[:, :4])


def test_file_and_report_are_written_beside_those_of_a_tflite(convnet, tmp_path) -> None:
    saved = to_onnx(convnet, tmp_path / "net.onnx", batch=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.onnx.json"]
    assert saved.path.read_bytes() == saved.bytes
    stored = ConversionReport.from_dict(json.loads((tmp_path / "net.onnx.json").read_text()))
    assert stored == saved.report
    assert stored.scheme == "onnx"
    assert stored.inputs[0].shape == (1, 8, 8, 1)
    assert set(stored.versions) >= {"tf2onnx", "onnx", "onnxruntime", "keras"}


@pytest.mark.parametrize("pattern", ["2:4", "unstructured"])
def test_two_zeros_in_four_are_stored_along_the_axis_that_is_summed_over(pattern) -> None:
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 16), name="x")
    x = L.Conv2D(32, 1, use_bias=False, name="pointwise")(x)
    x = L.BatchNormalization()(x)
    x = L.GlobalAveragePooling2D()(L.ReLU()(x))
    model = keras.Model(inputs, L.Dense(8, name="head")(L.Dense(24, name="hidden")(x)))
    prune(model, 0.5, pattern=pattern, only=["pointwise", "hidden", "head"])
    model = strip_pruning(model)
    file = to_onnx(model)
    found = products(file.bytes)
    kinds = [(entry.op, entry.shape, entry.axis) for entry in found]
    # A convolution is (out, in, height, width): K is `in`. A product is (in, out): K is `in`.
    assert kinds == [
        ("Conv", (32, 16, 1, 1), 1), ("MatMul", (32, 24), 0), ("MatMul", (24, 8), 0)
    ]  # fmt: skip
    assert [entry.sparsity for entry in found] == pytest.approx([0.5] * 3, abs=0.01)
    assert [entry.two_in_four for entry in found] == [pattern == "2:4"] * 3
    told = [note for note in file.report.notes if note.startswith("3 of 3 weights")]
    assert bool(told) == (pattern == "2:4")


def test_a_quantization_aware_model_is_converted_without_rounding(images) -> None:
    inputs = keras.Input((8, 8, 1), name="image")
    x = L.ReLU()(L.Conv2D(4, 3)(inputs))
    rounded = quantize_aware(keras.Model(inputs, L.Dense(3)(L.Flatten()(x))))
    rounded(images[:4], training=True)
    file = to_onnx(rounded)
    assert any(note.startswith("the rounding") for note in file.report.notes)
    assert "QuantizeLinear" not in file.report.ops


def test_an_operation_that_onnx_lacks_is_named() -> None:
    x = inputs = keras.Input((4,), name="x")

    class Digamma(L.Layer):
        def call(self, x):
            import tensorflow as tf

            return tf.math.digamma(tf.abs(x) + 1.0)

    with pytest.raises(ConversionError, match="ONNX has no operation for Digamma"):
        to_onnx(keras.Model(inputs, Digamma()(x)))


def test_a_file_that_disagrees_is_not_returned(tmp_path) -> None:
    keras.utils.set_random_seed(0)
    large = 1e3 * np.random.default_rng(0).normal(size=(8, 6, 8))
    with pytest.raises(ConversionError, match="disagrees with the model: output"):
        to_onnx(exact_gelu(), tmp_path / "a.onnx", bound=1e-12, calibration=large)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opset": 99}, "opset: expected 13 to 18. Received 99"),
        ({"batch": 0}, "batch: expected a positive integer"),
        ({"bound": 0}, "bound: expected a positive number"),
        ({"path": "/"}, "is a folder"),
    ],
)
def test_wrong_options_are_refused_before_any_work(convnet, options, message) -> None:
    with pytest.raises(OptionError, match=message):
        to_onnx(convnet, **options)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"expected a keras\.Model"):
        to_onnx([1, 2])


def test_without_the_extra_the_error_names_it(convnet, monkeypatch) -> None:
    from tfprune.utils import extras

    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"tf2onnx, onnx, onnxruntime: pip install 'tfprune\[onn"):
        to_onnx(convnet)


@pytest.mark.slow
def test_a_network_of_an_application_in_both_generations() -> None:
    import tf_keras

    image = np.random.default_rng(0).uniform(0, 255, (4, 96, 96, 3)).astype("float32")
    for library in (keras, tf_keras):
        library.utils.set_random_seed(0)
        model = library.applications.EfficientNetB0(weights=None, input_shape=(96, 96, 3))
        (found,) = to_onnx(model, calibration=image).report.parity
        assert found.rms_error < 1e-4 * found.spread + 1e-7


def test_a_model_may_give_the_place_of_its_largest_number():
    inputs = keras.Input((12,))
    scores = L.Dense(9)(inputs)
    places = [keras.ops.argmax(scores, -1), keras.ops.argmin(scores, -1)]
    assert {"ArgMax", "ArgMin"} <= set(to_onnx(keras.Model(inputs, places)).report.ops)


@pytest.mark.parametrize("kind", ["Conv1D", "Conv2D", "Conv3D"])
def test_grouped_convolutions_are_convolutions_with_groups(kind):
    keras.utils.set_random_seed(0)
    sides = [6] * int(kind[4])
    layer = getattr(keras.layers, kind)(6, 3, groups=2, padding="same")
    model = keras.Sequential([keras.Input((*sides, 4)), layer, keras.layers.Flatten()])
    report = to_onnx(model).report
    assert report.ops["Conv"] == 1
    assert report.parity[0].max_error < 1e-5
