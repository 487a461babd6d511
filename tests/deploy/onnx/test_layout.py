"""Where the zeros of ONNX weights lie: files built by hand, weights checked by eye."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tfprune.deploy.onnx.layout import is_two_in_four, products

HOLED = np.array([[1, 0], [0, 2], [3, 4], [0, 0]], np.float32)  # 2:4 along axis 0, not along 1


def file_with(op: str, weights: np.ndarray, place: int, **attributes: int) -> bytes:
    """Return a file with one operation whose operand number `place` is constant."""
    operands = ["x", "x"]
    operands[place] = "w"
    node = helper.make_node(op, operands, ["y"], **attributes)
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    return helper.make_model(graph).SerializeToString()


@pytest.mark.parametrize(
    ("op", "weights", "place", "attributes", "axis", "fits"),
    [
        ("MatMul", HOLED, 1, {}, 0, True),  # x (n, 4) · w (4, 2)
        ("MatMul", HOLED.T, 1, {}, 0, False),
        ("MatMul", HOLED.T, 0, {}, 1, True),  # w (2, 4) · x (4, n)
        ("Gemm", HOLED, 1, {}, 0, True),
        ("Gemm", HOLED.T, 1, {"transB": 1}, 1, True),
        ("Conv", HOLED.T.reshape(2, 4, 1, 1), 1, {}, 1, True),
        ("Conv", HOLED.reshape(4, 2, 1, 1), 1, {}, 1, False),
    ],
)
def test_the_axis_that_is_summed_over(op, weights, place, attributes, axis, fits) -> None:
    (found,) = products(file_with(op, weights, place, **attributes))
    assert (found.name, found.op, found.shape) == ("w", op, weights.shape)
    assert (found.axis, found.two_in_four, found.sparsity) == (axis, fits, 0.5)


def test_other_operations_have_no_such_axis() -> None:
    assert products(file_with("Add", HOLED, 1)) == ()
    assert onnx.defs.has("Add")


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1]))
def test_keeping_the_two_largest_of_four_is_two_in_four(seed: int, axis: int) -> None:
    weights = np.random.default_rng(seed).normal(size=(8, 12))
    groups = np.moveaxis(weights, axis, -1)
    groups = groups.reshape(groups.shape[0], -1, 4)
    order = np.abs(groups).argsort(-1).argsort(-1)
    holed = np.moveaxis((groups * (order >= 2)).reshape(groups.shape[0], -1), -1, axis)
    assert is_two_in_four(holed, axis)
    assert not is_two_in_four(weights, axis)


def test_a_length_that_is_no_multiple_of_four_never_fits() -> None:
    assert not is_two_in_four(np.zeros((6, 8)), 0)
    assert is_two_in_four(np.zeros((6, 8)), 1)
