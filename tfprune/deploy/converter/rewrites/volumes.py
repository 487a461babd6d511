"""Operations on volumes as operations on images.

The runtime has no 3-D pooling, and its 3-D convolution has only float weights and is slow.
"""

from collections.abc import Sequence
from typing import Any

from tfprune.deploy.converter.rewrites.graph import Expression
from tfprune.deploy.converter.rewrites.sizes import output_sizes, sizes_of

_POOLS = {"MaxPool3D": "MaxPool", "AvgPool3D": "AvgPool"}


def pool_volumes(function: Any) -> None:
    """Pool over height and width, and then over depth.

    The largest number of a box is the largest of its rows' largest. A mean is the mean of means of
    equally many numbers; at a border, where there are fewer, they are fewer by the same factor.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    sizes = sizes_of(function)
    for node in [node for node in function.node_def if node.op in _POOLS]:
        given, made = sizes(node.input[0]), output_sizes(node)
        if given is None or made is None or not _known(node, given, made):
            continue
        (depth, height, width, channels), (new_depth, *area, _) = given[1:], made[1:]
        window, strides = (list(node.attr[key].list.i)[1:4] for key in ("ksize", "strides"))
        e, padding = Expression(function, node), node.attr["padding"].s
        pool = {"padding": padding, "data_format": b"NHWC"}
        flat = e.reshape(node.input[0], [-1, height, width, channels])
        if window[1:] != [1, 1] or strides[1:] != [1, 1]:
            flat = e.node(
                _POOLS[node.op], "output", flat,
                ksize=[1, *window[1:], 1], strides=[1, *strides[1:], 1], **pool,
            )  # fmt: skip
        rows = e.reshape(flat, [-1, depth, area[0] * area[1], channels])
        if window[0] != 1 or strides[0] != 1:
            rows = e.node(
                _POOLS[node.op], "output", rows,
                ksize=[1, window[0], 1, 1], strides=[1, strides[0], 1, 1], **pool,
            )  # fmt: skip
        e.become_reshape(rows, [-1, new_depth, *area, channels])


def convolve_volumes(function: Any) -> None:
    """Convolve volumes as images whose channels are those of all slices that a result depends on.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    sizes = sizes_of(function)
    for node in [node for node in function.node_def if node.op == "Conv3D"]:
        given, made, kernel = sizes(node.input[0]), output_sizes(node), sizes(node.input[1])
        if given is None or made is None or kernel is None or not _known(node, given, made):
            continue
        if kernel[3] != given[4]:
            continue  # The kernel is one of groups of channels.
        e = Expression(function, node)
        strides = list(node.attr["strides"].list.i)
        dilations = list(node.attr["dilations"].list.i) or [1] * 5
        images = _images(e, node, given, kernel[0])
        weights = e.transpose(node.input[1], [1, 2, 0, 3, 4])
        weights = e.reshape(weights, [*kernel[1:3], kernel[0] * kernel[3], kernel[4]])
        made_images = e.node(
            "Conv2D", "output", images, weights,
            strides=[1, *strides[2:4], 1], dilations=[1, *dilations[2:4], 1],
            padding=node.attr["padding"].s, data_format=b"NHWC",
        )  # fmt: skip
        e.note_sizes([-1, *made[2:]])
        e.become_reshape(made_images, [-1, *made[1:]])


def _known(node: Any, *sizes: Sequence[int] | None) -> bool:
    """Return whether channels are the last axis, and all sizes but the batch's are known."""
    last = "data_format" not in node.attr or node.attr["data_format"].s == b"NDHWC"
    return last and all(one is not None and len(one) == 5 and min(one[1:]) > 0 for one in sizes)


def _images(e: Expression, node: Any, given: Sequence[int], kernel: int) -> str:
    """Return an image for each depth of the result: the slices it depends on, side by side."""
    depth, strides = given[1], node.attr["strides"].list.i[1]
    dilations = node.attr["dilations"].list.i
    dilation = dilations[1] if dilations else 1
    reach = (kernel - 1) * dilation + 1
    count, before = (depth - reach) // strides + 1, 0
    volumes = node.input[0]
    if node.attr["padding"].s == b"SAME":
        count = -(-depth // strides)
        missing = max((count - 1) * strides + reach - depth, 0)
        before = missing // 2
        volumes = e.pad(volumes, [[0, 0], [before, missing - before], [0, 0], [0, 0], [0, 0]])
    if kernel == strides == 1:
        return e.reshape(volumes, [-1, *given[2:]])
    places = [start * strides + k * dilation for start in range(count) for k in range(kernel)]
    taken = e.gather(volumes, places, axis=1)
    apart = e.reshape(taken, [-1, kernel, *given[2:]])
    return e.reshape(e.transpose(apart, [0, 2, 3, 1, 4]), [-1, *given[2:4], kernel * given[4]])
