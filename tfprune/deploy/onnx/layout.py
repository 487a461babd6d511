"""Layout of the weights of an ONNX file, for kernels that skip two zeros in every four.

Sparse tensor cores multiply A·B along K, the axis that is summed over: of every four neighbors
along it at most two may differ from zero. That axis is the input axis of a Dense kernel, and the
input channels of a convolution.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Product:
    """A matrix product or convolution with constant weights.

    Attributes:
        name: Name of the weights in the file.
        op: "MatMul", "Gemm" or "Conv".
        shape: Shape of the weights.
        axis: The one that is summed over.
        sparsity: The fraction of zeros.
        two_in_four: Whether of every four neighbors along `axis` two or more are zero.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    axis: int
    sparsity: float
    two_in_four: bool


def products(data: bytes) -> tuple[Product, ...]:
    """Return the matrix products and convolutions of an ONNX file, in its order.

    The weights are read; nothing is run.

    Example:
        [found.two_in_four for found in products(Path("model.onnx").read_bytes())]
    """
    import onnx

    graph = onnx.ModelProto.FromString(data).graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    return tuple(
        _product(node.op_type, name, onnx.numpy_helper.to_array(weights[name]), axis)
        for node in graph.node
        for name, axis in _summed(node)
        if name in weights
    )


def _summed(node: Any) -> Iterator[tuple[str, int]]:
    """Yield the operands of a node that may be weights, each with the axis that is summed over."""
    if node.op_type == "MatMul":
        yield node.input[0], -1
        yield node.input[1], -2
    elif node.op_type == "Gemm":
        flags = {attribute.name: attribute.i for attribute in node.attribute}
        yield node.input[0], 0 if flags.get("transA") else 1
        yield node.input[1], 1 if flags.get("transB") else 0
    elif node.op_type == "Conv":
        yield node.input[1], 1


def _product(op: str, name: str, weights: np.ndarray, axis: int) -> Product:
    axis %= weights.ndim
    return Product(
        name=name,
        op=op,
        shape=weights.shape,
        axis=axis,
        sparsity=1.0 - np.count_nonzero(weights) / max(weights.size, 1),
        two_in_four=is_two_in_four(weights, axis),
    )


def is_two_in_four(weights: np.ndarray, axis: int) -> bool:
    """Return whether of every four neighbors along an axis at least two are zero.

    It is false for an axis whose length is not a multiple of four.

    Example:
        >>> is_two_in_four(np.array([[1, 0], [0, 2], [3, 4], [0, 0]]), axis=0)
        True
        >>> is_two_in_four(np.array([[1, 0], [5, 2], [3, 4], [0, 0]]), axis=0)
        False
    """
    rows = np.moveaxis(weights, axis, -1)
    if rows.shape[-1] % 4:
        return False
    alive = np.count_nonzero(rows.reshape(*rows.shape[:-1], -1, 4), axis=-1)
    return bool((alive <= 2).all())
