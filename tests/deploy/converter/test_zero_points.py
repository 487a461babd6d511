"""Matrix products of integers that every runtime computes alike."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfprune.deploy.converter.zero_points import centre_second_factors
from tfprune.deploy.tflite import to_tflite
from tfprune.runtime import flatbuffer
from tfprune.runtime.artifact import Artefact
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
def artefact(model, x) -> Artefact:
    return to_tflite(model, scheme="int8", calibration=x)


def test_second_factors_are_rounded_about_zero(artefact):
    assert [(f.dtype, f.zero_points) for f in _factors(artefact.bytes)] == [("int8", (0,))] * 2
    assert artefact.report.notes == ()
    assert artefact.report.parity[0].correlation > 0.99
    assert centre_second_factors(artefact.bytes) == (artefact.bytes, ())


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_tensorflow_computes_what_the_model_does(artefact, model, x):
    interpreter = tf.lite.Interpreter(model_content=artefact.bytes)
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
    artefact = to_tflite(model, scheme="int8", calibration=samples, bound=10.0)
    assert any(factor.zero_points != (0,) for factor in _factors(artefact.bytes))
    (note,) = artefact.report.notes
    assert "TensorFlow 2.21" in note
    assert "BATCH_MATMUL" in note
    assert centre_second_factors(artefact.bytes)[0] == artefact.bytes


def test_what_a_layer_with_a_bias_reads_keeps_its_steps(x):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 16))
    h = L.Dense(16, bias_initializer=keras.initializers.Constant(2.0))(inputs)
    product = ops.matmul(L.Dense(8)(inputs), ops.transpose(L.Dense(8)(h), (0, 2, 1)))
    other = ops.matmul(product, h)
    model = keras.Model(inputs, other)
    artefact = to_tflite(model, scheme="int8", calibration=x, bound=10.0)
    assert len(artefact.report.notes) == 1
    reference = Runner(artefact)
    assert reference(x).shape == (60, 8, 16)


def test_files_without_integers_stay_as_they_are(model):
    data = to_tflite(model).bytes
    assert centre_second_factors(data) == (data, ())
