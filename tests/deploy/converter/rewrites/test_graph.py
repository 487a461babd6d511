"""The graph of a SavedModel, changed on disk."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import function_pb2, types_pb2

from tfprune.deploy.converter.rewrites.graph import (
    Expression,
    constant,
    constant_value,
    functions_of,
    replace_outputs,
)


@pytest.fixture
def folder(tmp_path):
    module = tf.Module()
    module.double = tf.function(lambda x: x * 2.0, [tf.TensorSpec((3,), name="x")])
    tf.saved_model.save(module, str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_what_is_changed_in_the_block_is_on_disk_after_it(folder) -> None:
    with functions_of(folder) as functions:
        for node in [node for function in functions for node in function.node_def]:
            if node.op == "Mul":
                node.op = "Sub"
    double = tf.saved_model.load(str(folder)).double
    np.testing.assert_array_equal(double(tf.constant([5.0, 6.0, 7.0])), [3.0, 4.0, 5.0])


def test_a_block_that_fails_leaves_the_file_as_it_was(folder) -> None:
    before = (folder / "saved_model.pb").read_bytes()

    def fail() -> None:
        with functions_of(folder) as functions:
            functions[0].node_def[0].op = "Sub"
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()
    assert (folder / "saved_model.pb").read_bytes() == before


def test_a_constant_is_named_as_an_input() -> None:
    with tf.Graph().as_default() as graph:
        tf.constant(0)
    function = SimpleNamespace(node_def=graph.as_graph_def().node)
    assert constant(function, "two", [2, 3], types_pb2.DT_INT32) == "two:output:0"
    made = function.node_def[-1]
    assert (made.op, made.name) == ("Const", "two")
    np.testing.assert_array_equal(tf.make_ndarray(made.attr["value"].tensor), [2, 3])


def test_an_expression_takes_the_place_of_a_node():
    function = function_pb2.FunctionDef()
    function.node_def.add(name="act", op="Elu", input=["x"]).attr["T"].type = 1
    function.node_def.add(name="after", op="Neg", input=["act:activations:0"])
    function.ret["y"] = "act:activations:0"
    expression = Expression(function, function.node_def[0])
    twice = expression.add(expression.relu("x"), expression.relu("x"))
    replace_outputs(function, {"act:activations:0": twice})
    assert function.node_def[1].input == [twice]
    assert function.ret["y"] == twice
    names = [node.name for node in function.node_def]
    assert len(names) == len(set(names))
    by_name = {node.name: node for node in function.node_def}
    number = expression.number(2.5)
    assert constant_value({node.name: node for node in function.node_def}, number) == 2.5
    assert constant_value(by_name, "act:activations:0") is None
