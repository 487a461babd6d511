"""Names and order of an ONNX graph depend on its structure alone."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tfprune.deploy.onnx.names import rename


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
        nodes[3].domain = ""
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


def test_open_sizes_inside_of_a_node_are_counted_with_those_outside() -> None:
    def graph_of(count: int):
        step = helper.make_graph(
            [helper.make_node("Identity", ["keep"], ["keep_out"]),
             helper.make_node("Add", ["state", "x"], ["state_out"])],
            "body",
            [helper.make_tensor_value_info("i", TensorProto.INT64, []),
             helper.make_tensor_value_info("keep", TensorProto.BOOL, []),
             helper.make_tensor_value_info("state", TensorProto.FLOAT, [f"unk__{count}", 2])],
            [helper.make_tensor_value_info("keep_out", TensorProto.BOOL, []),
             helper.make_tensor_value_info("state_out", TensorProto.FLOAT, [f"unk__{count}", 2])],
        )  # fmt: skip
        return helper.make_graph(
            [helper.make_node("Loop", ["times", "", "x"], ["y"], body=step)],
            "main",
            [helper.make_tensor_value_info("times", TensorProto.INT64, []),
             helper.make_tensor_value_info("x", TensorProto.FLOAT, [f"unk__{count + 9}", 2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"unk__{count}", 2])],
        )  # fmt: skip

    one, two = graph_of(243), graph_of(490)
    for graph in (one, two):
        rename(graph, {"times", "x", "y"})
    assert one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)
    (body,) = (attribute.g for attribute in one.node[0].attribute)
    shapes = [entry.type.tensor_type.shape.dim[0] for entry in (body.input[2], body.output[1])]
    assert [size.dim_param for size in shapes] == ["size_1", "size_1"]


@pytest.mark.parametrize("names", [["one", "two", "one"], ["two", "one", "one"]])
@pytest.mark.parametrize("within", [False, True])
def test_of_equal_outputs_the_first_is_the_one_that_is_computed(names, within) -> None:
    def graph_of(computed: str, copy: str):
        nodes = [
            helper.make_node("Neg", ["x"], [computed], name="n__7"),
            helper.make_node("Identity", [computed], [copy], name="i__8"),
            helper.make_node("Add", [names[0], names[1]], ["y"], name="a__9"),
            helper.make_node("Abs", [names[2]], ["z"], name="a__10"),
        ]
        tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])
                   for name in ("one", "two", "y", "z", "x", "a", "b", "c", "d")]  # fmt: skip
        if not within:
            return helper.make_graph(nodes, "main", [tensors[4]], tensors[:4])
        body = helper.make_graph(nodes, "body", [], tensors[:4])
        node = helper.make_node("If", ["flag"], ["a", "b", "c", "d"], then_branch=body,
                                else_branch=body)  # fmt: skip
        flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
        return helper.make_graph([node], "main", [flag, tensors[4]], tensors[5:])

    one, two = graph_of("one", "two"), graph_of("two", "one")
    for graph in (one, two):
        rename(graph, {*"abcdxyz", "flag", "one", "two"})
    assert one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)
    graph = one.node[0].attribute[0].g if within else one
    assert [node.op_type for node in graph.node] == ["Neg", "Identity", "Add", "Abs"]
    neg, identity, add, _ = graph.node
    assert [entry.name for entry in graph.output][:2] == [neg.output[0], identity.output[0]]
    assert list(add.input) == [neg.output[0]] * 2
