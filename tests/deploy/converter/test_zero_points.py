"""Matrix products of integers that every runtime computes alike."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfprune.deploy.converter.zero_points import center_second_factors
from tfprune.deploy.tflite import to_tflite
from tfprune.runtime import flatbuffer
from tfprune.runtime.artifact import Artifact
from tfprune.runtime.litert import Runner

L = keras.layers


def _factors(data: bytes) -> list[flatbuffer.Tensor]:
    (graph,) = flatbuffer.parse(data).subgraphs
    return [graph.tensors[op.inputs[1]] for op in graph.ops if op.name == "BATCH_MATMUL"]


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 8, 16)).astype("float32") * 2


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Attention whose biases move keys and values far from zero."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 16))
    layer = L.MultiHeadAttention(2, 8, bias_initializer=keras.initializers.Constant(2.0))
    return keras.Model(inputs, layer(inputs, inputs))


@pytest.fixture(scope="module")
def artifact(model, x) -> Artifact:
    return to_tflite(model, scheme="int8", calibration=x)


def test_second_factors_are_rounded_about_zero(artifact):
    assert [(f.dtype, f.zero_points) for f in _factors(artifact.bytes)] == [("int8", (0,))] * 2
    assert artifact.report.notes == ()
    assert artifact.report.parity[0].correlation > 0.99
    assert center_second_factors(artifact.bytes) == (artifact.bytes, ())


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_tensorflow_computes_what_the_model_does(artifact, model, x):
    interpreter = tf.lite.Interpreter(model_content=artifact.bytes)
    run = interpreter.get_signature_runner()
    ((name, given),) = run.get_input_details().items()
    ((out, answer),) = run.get_output_details().items()
    (scale, zero), (step, shift) = given["quantization"], answer["quantization"]
    found = []
    for row in x:
        rounded = np.clip(np.round(row / scale) + zero, -128, 127).astype("int8")
        found.append((run(**{name: rounded[None]})[out].astype("float32") - shift) * step)
    expected = model.predict(x, verbose=0)
    error = np.sqrt(np.mean((np.concatenate(found) - expected) ** 2))
    assert error < 0.15 * expected.std()


def test_a_factor_in_fixed_steps_is_left_and_said(x):
    a, b = keras.Input((8, 16), name="a"), keras.Input((8, 16), name="b")
    model = keras.Model([a, b], ops.matmul(a, ops.transpose(b, (0, 2, 1))))
    samples = {"a": x, "b": x + 3}
    artifact = to_tflite(model, scheme="int8", calibration=samples, bound=10.0)
    assert any(factor.zero_points != (0,) for factor in _factors(artifact.bytes))
    (note,) = artifact.report.notes
    assert "TensorFlow 2.21" in note
    assert "BATCH_MATMUL" in note
    assert center_second_factors(artifact.bytes)[0] == artifact.bytes


def test_what_a_layer_with_a_bias_reads_keeps_its_steps(x):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 16))
    h = L.Dense(16, bias_initializer=keras.initializers.Constant(2.0))(inputs)
    product = ops.matmul(L.Dense(8)(inputs), ops.transpose(L.Dense(8)(h), (0, 2, 1)))
    other = ops.matmul(product, h)
    model = keras.Model(inputs, other)
    artifact = to_tflite(model, scheme="int8", calibration=x, bound=10.0)
    assert len(artifact.report.notes) == 1
    reference = Runner(artifact)
    assert reference(x).shape == (60, 8, 16)


def test_files_without_integers_stay_as_they_are(model):
    data = to_tflite(model).bytes
    assert center_second_factors(data) == (data, ())
