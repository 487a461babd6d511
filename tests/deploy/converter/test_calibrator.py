"""The ranges that the calibrator finds, beside those of the tensors."""

import keras
import numpy as np
import pytest

import tfprune
from tfprune.deploy.converter.calibrator import with_outputs, without_outputs
from tfprune.runtime import flatbuffer

L = keras.layers
X = np.random.default_rng(0).normal(size=(32, 6, 6, 3)).astype("float32")


def after_activation(activation: str) -> keras.Model:
    """Return a convolution whose activation is normalized: ten times as large, by its variance."""
    norm = L.BatchNormalization()
    layers = [L.Conv2D(4, 3, activation=activation, name="conv"), norm, L.Conv2D(2, 1)]
    model = keras.Sequential([keras.Input((6, 6, 3)), *layers])
    norm.moving_variance.assign([0.01] * 4)
    return model


def residual() -> keras.Model:
    """Return a sum of a small and a large tensor."""
    inputs = keras.Input((6, 6, 3))
    large = L.Conv2D(4, 1, kernel_initializer=keras.initializers.RandomNormal(stddev=9.0))(inputs)
    small = L.Conv2D(4, 3, padding="same", name="conv")(large * 0.01)
    return keras.Model(inputs, L.Conv2D(2, 1)(L.add([small, large])))


MODELS = {
    "relu": lambda: after_activation("relu"),
    "gelu": lambda: after_activation("gelu"),
    "hard_silu": lambda: after_activation("hard_silu"),
    "residual": residual,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_tensor_that_is_computed_with_in_place_keeps_its_own_range(name: str) -> None:
    """Where addition and multiplication write their result over it, its range stays."""
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    layer = keras.Model(model.inputs[0], model.get_layer("conv").output)
    data = tfprune.to_tflite(model, scheme="int8", calibration=X, bound=1.0).bytes
    # The output of GELU and HARD_SWISH is another tensor than that of the convolution.
    operation = {"gelu": "GELU", "hard_silu": "HARD_SWISH"}.get(name)
    graph = flatbuffer.parse(data).subgraphs[0]
    found = [
        graph.tensors[op.outputs[0]].scales[0]
        for op in graph.ops
        if op.name == (operation or "CONV_2D")
    ]
    values = np.asarray(layer(X))
    wanted = (max(values.max(), 0.0) - min(values.min(), 0.0)) / 255
    assert any(abs(scale / wanted - 1) < 0.02 for scale in found), (found, wanted)


def test_a_normalized_activation_loses_no_bits() -> None:
    keras.utils.set_random_seed(0)
    artifact = tfprune.to_tflite(after_activation("relu"), scheme="int8", calibration=X)
    (found,) = artifact.report.parity
    assert found.rms_error < 0.02 * found.spread  # 0.05 with the range of the normalized numbers


def test_files_of_16_bits_have_no_more_outputs_than_the_model() -> None:
    artifact = tfprune.to_tflite(residual(), scheme="int16x8", calibration=X)
    assert len(artifact.report.outputs) == 1
    assert len(flatbuffer.parse(artifact.bytes).subgraphs[0].outputs) == 1


def test_outputs_are_added_and_taken_off(float_file) -> None:
    data = float_file.bytes
    outputs = flatbuffer.parse(data).subgraphs[0].outputs
    more = flatbuffer.parse(with_outputs(data)).subgraphs[0].outputs
    assert more[: len(outputs)] == outputs
    back = without_outputs(with_outputs(data), len(outputs))
    assert flatbuffer.parse(back).subgraphs[0].outputs == outputs
