"""Products with all that the converter fuses into them: dilations, a bias, a ReLU.

TensorFlow moves the pixels of a dilated convolution apart and together again, and convolves a
sequence as an image of one row. The converter knows these forms in models without ranges only.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfprune.deploy.converter.rewrites.graph import (
    Expression,
    constant_value,
    node_of,
    note_sizes,
    replace_outputs,
)
from tfprune.deploy.converter.rewrites.sizes import output_sizes, sizes_of

PRODUCTS = frozenset({
    "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Conv2D", "Conv2DBackpropInput", "Conv3D",
    "Conv3DBackpropInputV2", "DepthwiseConv2dNative", "Einsum", "MatMul",
})  # fmt: skip
SUMS = frozenset({"Add", "AddV2", "BiasAdd"})
RELUS = frozenset({"Relu", "Relu6"})
_CONVOLUTIONS = {"Conv2D": b"NHWC", "DepthwiseConv2dNative": b"NHWC", "Conv3D": b"NDHWC"}
_RANGE = "FakeQuantWithMinMaxVars"
# The name of the one output.
_OUTPUTS = {
    "Add": "z", "AddV2": "z", "BiasAdd": "output", "Relu": "activations", "Relu6": "activations",
    _RANGE: "outputs",
}  # fmt: skip
# They may stand between a product and what is fused into it.
REARRANGES = frozenset({"BatchToSpaceND", "Identity", "Reshape", "Squeeze"})


def dilate_convolutions(function: Any) -> None:
    """Convolve with dilations, instead of moving pixels apart and together again.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    by_name, sizes = {node.name: node for node in function.node_def}, sizes_of(function)
    renamed = {}
    for node in [node for node in function.node_def if node.op == "BatchToSpaceND"]:
        product = _behind(by_name, node.input[0])
        if product is None or product.op not in _CONVOLUTIONS:
            continue
        apart = _behind(by_name, product.input[0])
        if apart is None or apart.op != "SpaceToBatchND":
            continue
        rates, pads = (constant_value(by_name, name) for name in apart.input[1:3])
        given, made, kernel = sizes(apart.input[0]), output_sizes(node), sizes(product.input[1])
        if rates is None or pads is None or given is None or made is None or kernel is None:
            continue
        if min(*given[1:], *made[1:], *kernel) < 1 or max(product.attr["strides"].list.i) > 1:
            continue
        # A sequence is an image of one row.
        row = [1] * (len(made) == 3)
        old, new = [*row, *given[1:-1]], [*row, *made[1:-1]]
        axes = len(new)
        rate = [*row, *rates.tolist(), *[1] * axes][:axes]
        before = [*[0] * len(row), *pads[:, 0].tolist(), *[0] * axes][:axes]
        reach = [(size - 1) * step for size, step in zip(kernel, rate, strict=False)]
        # Zeros before and after each axis, as many as the results need.
        sides = [[before[i], new[i] + reach[i] - old[i] - before[i]] for i in range(axes)]
        same = sides == [[both // 2, both - both // 2] for both in reach]
        e, image = Expression(function, node), apart.input[0]
        if row:
            image = e.reshape(image, [-1, *old, given[-1]])
            e.note_sizes([-1, *old, given[-1]])
        if not same and np.any(sides):
            image = e.pad(image, [[0, 0], *sides, [0, 0]])
            e.note_sizes(
                [-1, *map(sum, zip(old, *zip(*sides, strict=True), strict=True)), given[-1]]
            )
        value = e.node(
            product.op, "output", image, product.input[1], strides=[1] * (axes + 2),
            dilations=[1, *rate, 1], padding=b"SAME" if same else b"VALID",
            data_format=_CONVOLUTIONS[product.op],
        )  # fmt: skip
        e.note_sizes([-1, *new, made[-1]])
        if row:
            value = e.reshape(value, [-1, *made[1:]])
            e.note_sizes(made)
        renamed[f"{node.name}:output:0"] = value
    replace_outputs(function, renamed)


def add_before_moving(function: Any) -> None:
    """Add a bias and apply a ReLU before what a product computes is moved to its place.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    by_name, sizes = {node.name: node for node in function.node_def}, sizes_of(function)
    readers = Counter(name for node in function.node_def for name in node.input)
    readers.update(function.ret.values())
    # The kind of the product that a sum or ReLU is fused into.
    fused: dict[str, str] = {}
    made_sizes: dict[str, list[int]] = {}
    for node in [node for node in function.node_def if node.op in _OUTPUTS]:
        for place in range(2 if node.op in SUMS else 1):
            end = start = node.input[place]
            last, source = None, node_of(by_name, end)
            while source is not None and source.op in REARRANGES and readers[start] == 1:
                last, start = source, source.input[0]
                source = node_of(by_name, start)
            if last is None or source is None or readers[start] != 1:
                continue
            shape = made_sizes.get(start) or sizes(start)
            if not shape:
                continue
            channels = shape[-1]
            product = source.op if source.op in PRODUCTS else fused.get(source.name)
            if product is None or channels < 1 or (sizes(end) or [0])[-1] != channels:
                continue
            if node.op == _RANGE and product != "Conv2DBackpropInput":
                continue  # only a ReLU behind a transposed one needs its range there
            if node.op in SUMS:
                bias = sizes(node.input[1 - place])
                # Its last axis, if it is as long as the channels, is theirs.
                if not bias or max(bias) > channels or bias[-1] != max(bias) or -1 in bias:
                    continue
                if len(bias) > len(sizes(end) or ()):
                    continue  # the sum has another shape than what is moved
                e = Expression(function, node)
                value = e.add(start, e.reshape(node.input[1 - place], [bias[-1]]))
            else:
                made = function.node_def.add()
                made.CopyFrom(node)
                made.name, made.input[0] = f"{node.name}_before", start
                value = f"{made.name}:{_OUTPUTS[node.op]}:0"
            made = function.node_def[-1]
            note_sizes(made, shape)
            by_name[made.name], last.input[0] = made, value
            fused[made.name], made_sizes[value] = product, shape
            old = f"{node.name}:{_OUTPUTS[node.op]}:0"
            readers[value], readers[end] = 1, readers[old]
            replace_outputs(function, {old: end})
            break


def _behind(by_name: Mapping[str, Any], name: str) -> Any:
    """Return the node that an input comes from, perhaps with another rank, or ranged again."""
    node = node_of(by_name, name)
    while node is not None and node.op in ("ExpandDims", "Identity", "Squeeze", _RANGE):
        node = node_of(by_name, node.input[0])
    return node
