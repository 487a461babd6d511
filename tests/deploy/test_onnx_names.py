"""Names and order of an ONNX graph depend on its structure alone."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tfprune.deploy.onnx_names import rename


def graph_with(numbers: list[int], swapped: bool):
    """Return y = (x·w + b) + (x·w2), with names and an order that an earlier conversion left."""
    first, second, bias, total = (f"StatefulPartitionedCall/net/op__{n}:0" for n in numbers)
    nodes = [
        helper.make_node("MatMul", ["x", "w__3"], [first],
                         name="StatefulPartitionedCall/net/dense/MatMul"),
        helper.make_node("MatMul", ["x", f"einsum{10**11 + numbers[0]}"], [second],
                         name=f"einsum{10**11 + numbers[0]}_MatMul"),
        helper.make_node("Add", [first, "b"], [bias], name=f"Add__{numbers[2]}"),
        helper.make_node("Add", [bias, second], [total], name=f"Add__{numbers[3]}"),
        helper.make_node("Neg", [total], ["y"], name=f"Neg__{numbers[1]}"),
        helper.make_node("Neg", [total], ["dead"], name="dead"),
    ]  # fmt: skip
    if swapped:
        nodes[:2] = nodes[1::-1]
    return helper.make_graph(
        nodes, f"tf2onnx__{numbers[0]}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [f"unk__{numbers[0]}", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"unk__{numbers[1]}", 2])],
        [numpy_helper.from_array(np.eye(2, dtype=np.float32), name)
         for name in ("w__3", f"einsum{10**11 + numbers[0]}", "b")],
    )  # fmt: skip


def test_two_conversions_end_with_the_same_graph() -> None:
    one, two = graph_with([4, 5, 6, 7], False), graph_with([40, 51, 62, 73], True)
    for graph in (one, two):
        rename(graph, {"x", "y"})
    assert one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)


def test_names_tell_the_layer_and_the_place() -> None:
    graph = graph_with([4, 5, 6, 7], False)
    rename(graph, {"x", "y"})
    assert [node.name for node in graph.node] == [
        "net/dense/MatMul", "Add", "MatMul", "Add_1", "Neg"
    ]  # fmt: skip
    assert sorted(tensor.name for tensor in graph.initializer) == [
        "Add.B", "MatMul.B", "net/dense/MatMul.B"
    ]  # fmt: skip
    assert [entry.name for entry in (*graph.input, *graph.output)] == ["x", "y"]
    assert list(graph.node[3].input) == ["Add:0", "MatMul:0"]


def test_a_graph_inside_of_a_node_keeps_what_it_reads_from_outside() -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["outer__9:0", "outer__9:0"], ["inside__2:0"], name="a__1")],
        "body__5", [], [helper.make_tensor_value_info("inside__2:0", TensorProto.FLOAT, None)],
    )  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("If", ["flag"], ["y"], name="If__8",
                             then_branch=inner, else_branch=inner),
            helper.make_node("Neg", ["x"], ["outer__9:0"], name="outer__9"),
        ],
        "main",
        [helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
         helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )  # fmt: skip
    rename(graph, {"flag", "x", "y"})
    assert [node.op_type for node in graph.node] == ["Neg", "If"]
    branches = [attribute.g for attribute in graph.node[1].attribute]
    assert [list(branch.node[0].input) for branch in branches] == [["Neg:0", "Neg:0"]] * 2
    assert [branch.output[0].name for branch in branches] == [
        branch.node[0].output[0] for branch in branches
    ]
