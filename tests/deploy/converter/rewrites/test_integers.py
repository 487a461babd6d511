"""Graphs that integers can compute with."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfprune.deploy.converter.export import export
from tfprune.deploy.converter.rewrites.rewrite import rewrite
from tfprune.deploy.tflite import to_tflite
from tfprune.graph.model_signature import interface
from tfprune.runtime import flatbuffer


def test_a_negation_becomes_a_multiplication_with_the_same_result(tmp_path):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.LayerNormalization()(-inputs))
    export(interface(model), tmp_path, batch=None)
    rewrite(tmp_path, "int8")
    serve = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]

    kinds = {node.op for f in serve.graph.as_graph_def().library.function for node in f.node_def}
    assert "Neg" not in kinds
    assert "Mul" in kinds
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    (got,) = serve(**{interface(model).inputs[0].name: tf.constant(x)}).values()
    np.testing.assert_allclose(got, model(x), atol=1e-6)


def test_the_negation_inside_of_exact_gelu_is_left_to_the_converter(tmp_path):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.activations.gelu(inputs))
    export(interface(model), tmp_path, batch=None)
    before = (tmp_path / "saved_model.pb").read_bytes()
    rewrite(tmp_path, "int8")
    saved = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    kinds = {node.op for f in saved.graph.as_graph_def().library.function for node in f.node_def}
    assert "Neg" in kinds
    assert b"Erfc" in before


@pytest.mark.parametrize("k", [keras, tf_keras])
@pytest.mark.parametrize(("scheme", "kept"), [("int8", True), ("int16x8", False)])
def test_a_prelu_is_one_operation_where_the_runtime_has_it(k, scheme, kept):
    k.utils.set_random_seed(0)
    inputs = k.Input((6, 6, 3))
    slopes = k.initializers.RandomUniform(-0.1, 0.4)
    outputs = k.layers.PReLU(slopes, shared_axes=[1, 2])(k.layers.Conv2D(4, 3)(inputs))
    x = np.random.default_rng(0).normal(size=(60, 6, 6, 3)).astype("float32")
    artifact = to_tflite(k.Model(inputs, -outputs), scheme=scheme, calibration=x)
    assert ("PRELU" in artifact.report.ops) == kept
    assert "NEG" not in artifact.report.ops
    assert artifact.report.parity[0].correlation > 0.999


def test_slopes_that_are_computed_are_no_prelu():
    inputs = keras.Input((6,))
    relu, slopes = keras.ops.relu, keras.layers.Dense(6)(inputs)
    model = keras.Model(inputs, relu(inputs) + (-slopes) * relu(-inputs))
    x = np.random.default_rng(0).normal(size=(60, 6)).astype("float32")
    artifact = to_tflite(model, scheme="int8", calibration=x)
    assert not {"PRELU", "NEG"} & set(artifact.report.ops)


def _attention(k, dropout=0.0):
    k.utils.set_random_seed(0)
    inputs = k.Input((8, 16))
    layer = k.layers.MultiHeadAttention(2, 8, dropout=dropout, kernel_initializer="he_normal")
    return k.Model(inputs, layer(inputs, inputs, use_causal_mask=True))


@pytest.mark.parametrize(("k", "dropout"), [(keras, 0.0), (keras, 0.1), (tf_keras, 0.0)])
def test_what_a_mask_hides_leaves_scores_their_steps(k, dropout):
    model = _attention(k, dropout)
    x = np.random.default_rng(0).normal(size=(60, 8, 16)).astype("float32") * 2
    artifact = to_tflite(model, scheme="int8", calibration=x)
    (found,) = artifact.report.parity
    assert found.correlation > 0.995
    graph = flatbuffer.parse(artifact.bytes).subgraphs[0]
    softmax = next(op for op in graph.ops if op.name == "SOFTMAX")
    # A step of the scores: with -1e9 among them it would be 4 million.
    assert graph.tensors[softmax.inputs[0]].scales[0] < 1
