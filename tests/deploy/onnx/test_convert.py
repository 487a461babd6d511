"""What is rewritten on the way to ONNX."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from tfprune.deploy.onnx.convert import put_in_order, split_complementary_error_function


def test_erfc_becomes_one_minus_erf_with_the_same_numbers() -> None:
    import tensorflow as tf

    x = np.linspace(-4, 4, 33).astype("float32")
    with tf.Graph().as_default() as graph:
        tf.raw_ops.Erfc(x=tf.compat.v1.placeholder(tf.float32, [33], "x"), name="y")
    definition = graph.as_graph_def()
    split_complementary_error_function(definition)
    assert sorted(node.op for node in definition.node) == ["Const", "Erf", "Placeholder", "Sub"]
    with tf.Graph().as_default() as rewritten:
        tf.import_graph_def(definition, name="")
        with tf.compat.v1.Session(graph=rewritten) as session:
            found = session.run("y:0", {"x:0": x})
    np.testing.assert_allclose(found, tf.math.erfc(x).numpy(), atol=5e-7)


def test_erfc_inside_of_a_function_is_rewritten_too() -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([3], tf.float32)])
    def inner(x):
        return tf.math.erfc(x)

    outer = tf.function(lambda x: inner(x), input_signature=[tf.TensorSpec([3], tf.float32)])
    definition = outer.get_concrete_function().graph.as_graph_def()
    split_complementary_error_function(definition)
    (function,) = definition.library.function
    assert "Erfc" not in {node.op for node in function.node_def}
    with tf.Graph().as_default() as rewritten:
        tf.import_graph_def(definition, name="")
        with tf.compat.v1.Session(graph=rewritten) as session:
            assert session.run("Identity:0", {"x:0": [0.0, 1.0, -9.0]}) == pytest.approx(
                [1.0, 0.1572992, 2.0]
            )


def test_inputs_and_outputs_are_put_in_the_models_order() -> None:
    def tensor(name: str):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])

    nodes = [helper.make_node("Neg", ["a"], ["p"]), helper.make_node("Neg", ["b"], ["q"])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [tensor("a"), tensor("b")], [tensor("p"), tensor("q")])
    )
    put_in_order(model, ["b", "a"], ["q", "p"])
    assert [entry.name for entry in (*model.graph.input, *model.graph.output)] == list("baqp")
    with pytest.raises(ValueError, match="the model"):
        put_in_order(model, ["b", "c"], ["q", "p"])
