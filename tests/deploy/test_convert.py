"""The conversion itself, as the child process does it."""

import keras
import numpy as np
import tensorflow as tf

from tfprune.deploy import flatbuffer
from tfprune.deploy.convert import convert_job, multiply_instead_of_negate
from tfprune.deploy.export import export, interface


def test_a_saved_model_becomes_a_file(convnet, float_file, tmp_path):
    export(interface(convnet), tmp_path / "saved", batch=None)
    options = {
        "quantise": False, "activations": "float", "float16": False, "sparse": False,
        "io": "float32", "samples": None, "batch": 1,
    }  # fmt: skip
    convert_job(str(tmp_path / "saved"), str(tmp_path / "m.tflite"), options)
    found = flatbuffer.parse((tmp_path / "m.tflite").read_bytes())
    assert [op.name for op in found.ops()] == [
        op.name for op in flatbuffer.parse(float_file.bytes).ops()
    ]


def test_a_negation_becomes_a_multiplication_with_the_same_result(tmp_path):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.LayerNormalization()(-inputs))
    export(interface(model), tmp_path, batch=None)
    multiply_instead_of_negate(tmp_path)
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
    multiply_instead_of_negate(tmp_path)
    saved = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    kinds = {node.op for f in saved.graph.as_graph_def().library.function for node in f.node_def}
    assert "Neg" in kinds
    assert b"Erfc" in before
