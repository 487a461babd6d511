"""For every operation with a rule: how it is called between two Dense layers.

Elementwise operations are called on tensors, as many as they need, and have a line only where they
need more. All others need a line here: it takes what `Dense(8, name="before")` gives for inputs of
shape (6, 4), or (6, 6, 4), and returns what `Dense(4, name="after")` reads.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.activations import activations
from keras.src.ops import core, image, linalg, math, nn, numpy

from tfprune.graph.tracing.weight import Weight

WIDTH = 8
LINE, IMAGE = (6, 4), (6, 6, 4)


@dataclass(frozen=True)
class Example:
    """How an operation is called.

    Attributes:
        call: Takes a tensor and returns one.
        shape: Of the model's input, without the batch.
        frozen: What the reason says where the units stay because of it; "" where half go.
    """

    call: Callable[[Any], Any]
    shape: tuple[int, ...] = LINE
    frozen: str = ""

    def model(self) -> keras.Model:
        """The model, built anew."""
        inputs = keras.Input(self.shape)
        x = self.call(keras.layers.Dense(WIDTH, name="before")(inputs))
        x = x if keras.backend.standardize_dtype(x.dtype) == "float32" else ops.cast(x, "float32")
        return keras.Model(inputs, keras.layers.Dense(4, name="after")(x))


def _computed(shape: tuple[int, ...], x: Any) -> Any:
    """A kernel that is computed from a weight."""
    return Weight(shape, initializer="random_normal")(x) * 2.0


def is_there(name: str) -> bool:
    """Whether this Keras has an operation of this class name."""
    return any(hasattr(part, name) for part in (activations, core, image, nn, numpy, linalg, math))


def function_of(name: str) -> Callable[..., Any]:
    """The function of `keras.ops` that makes an operation of this class.

    Example:
        >>> function_of("LogSoftmax") is keras.ops.log_softmax
        True
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return next(getattr(part, words) for part in (ops.image, ops.nn, ops) if hasattr(part, words))


def elementwise(name: str) -> Example:
    """An operation on as many tensors as it needs, of numbers between 0 and 1."""
    function = function_of(name)
    parameters = inspect.signature(function).parameters.values()
    count = sum(one.default is one.empty for one in parameters)
    return Example(lambda x: function(*[ops.sigmoid(x)] * count))


def _over(axis: int, *names: str, frozen: str = "") -> dict[str, Example]:
    """Operations that take an axis, over this one."""

    def call(name: str) -> Callable[[Any], Any]:
        return lambda x: function_of(name)(x, axis=axis)

    return {name: Example(call(name), frozen=frozen) for name in names}


def _number(x: Any) -> Any:
    return ops.cast(ops.max(x), "float32")


EXAMPLES: Mapping[str, Example] = {
    "Arccosh": Example(lambda x: ops.arccosh(1.5 + ops.sigmoid(x))),
    "ReLU": Example(keras.activations.relu),
    "Clip": Example(lambda x: ops.clip(x, -1.0, 1.0)),
    "Cast": Example(lambda x: ops.cast(x, "float16")),
    "SaturateCast": Example(lambda x: ops.saturate_cast(x, "float16")),
    "FullLike": Example(lambda x: ops.full_like(x, 2.0) + x),
    "Threshold": Example(lambda x: ops.threshold(x, 0.1, 0.2)),
    "Where": Example(lambda x: ops.where(x > 0, x, -x)),
    **_over(1, "Softmax", "LogSoftmax", "Sparsemax", "Cumsum", "Cumprod", "Flip", "Norm",
            "Normalize", "Mean", "Sum", "Max", "Min", "Amax", "Amin", "Var", "Std", "Prod", "Any",
            "All"),
    "Logsumexp": Example(lambda x: ops.logsumexp(x, axis=(1,))),  # 3.10 takes no single axis
    **_over(-1, "Argmax", "Argmin", frozen="depends on all positions"),
    "Size": Example(lambda x: x * _number(ops.size(x)), frozen="depends on all positions"),
    "Ndim": Example(lambda x: x * _number(ops.ndim(x)), frozen="depends on all positions"),
    "Roll": Example(lambda x: ops.roll(x, 2, axis=1)),
    "Reshape": Example(lambda x: ops.reshape(x, (-1, 48))),
    "Transpose": Example(lambda x: ops.transpose(ops.transpose(x, (0, 2, 1)), (0, 2, 1))),
    "Swapaxes": Example(lambda x: ops.swapaxes(ops.swapaxes(x, 1, 2), 1, 2)),
    "Moveaxis": Example(lambda x: ops.moveaxis(ops.moveaxis(x, 1, 2), 1, 2)),
    "ExpandDims": Example(lambda x: ops.expand_dims(x, 1)),
    "Squeeze": Example(lambda x: ops.squeeze(ops.expand_dims(x, 1), 1)),
    "Repeat": Example(lambda x: ops.repeat(x, 2, axis=-1)),
    "Tile": Example(lambda x: ops.tile(x, (1, 1, 2))),
    "BroadcastTo": Example(lambda x: x + ops.broadcast_to(ops.mean(x, axis=(0, 1)), (1, 6, 8))),
    "DepthToSpace": Example(lambda x: ops.nn.depth_to_space(x, 2), IMAGE),
    "SpaceToDepth": Example(lambda x: ops.nn.space_to_depth(x, 2), IMAGE),
    "Matmul": Example(lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1)))),
    "Tensordot": Example(
        lambda x: ops.transpose(
            ops.tensordot(ops.transpose(x, (0, 2, 1)), np.ones((6, 2), "float32"), axes=1),
            (0, 2, 1),
        )
    ),
    "Conv": Example(lambda x: ops.conv(x, _computed((3, WIDTH, WIDTH), x), padding="same")),
    "DepthwiseConv": Example(
        lambda x: ops.depthwise_conv(x, _computed((3, 3, WIDTH, 1), x), padding="same"), IMAGE
    ),
    "Einsum": Example(lambda x: ops.einsum("bsd,btd->bst", x, x)),
    "DotProductAttention": Example(
        lambda x: ops.dot_product_attention(*[x[:, :, None]] * 3)[:, :, 0]
    ),
    "Concatenate": Example(lambda x: ops.concatenate([x, -x], axis=-1)),
    "Stack": Example(lambda x: ops.stack([x, -x], axis=1)),
    "Unstack": Example(lambda x: ops.unstack(x, axis=1)[2]),
    "Split": Example(lambda x: ops.split(x, 2, axis=1)[0]),
    "ArraySplit": Example(lambda x: ops.array_split(x, 4, axis=1)[1]),
    "Glu": Example(lambda x: ops.glu(x, axis=1)),
    "GetItem": Example(lambda x: x[:, 1:4]),
    "Pad": Example(lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 0)))),
    "Take": Example(lambda x: ops.take(x, [0, 2], axis=1)),
    "MaxPool": Example(lambda x: ops.max_pool(x, 2), IMAGE),
    "AveragePool": Example(lambda x: ops.average_pool(x, 2), IMAGE),
    # Keras 3.15 gives them one axis too many with channels last: when it does no more, half go.
    "AdaptiveMaxPool": Example(
        lambda x: ops.adaptive_max_pool(x, (2, 2)), IMAGE, "another output rank than"
    ),
    "AdaptiveAveragePool": Example(
        lambda x: ops.adaptive_average_pool(x, (2, 2)), IMAGE, "another output rank than"
    ),
    "Resize": Example(lambda x: ops.image.resize(x, (4, 4)), IMAGE),
    "CropImages": Example(
        lambda x: ops.image.crop_images(x, 1, 1, target_height=4, target_width=4), IMAGE
    ),
    "PadImages": Example(
        lambda x: ops.image.pad_images(x, 1, 1, target_height=9, target_width=9), IMAGE
    ),
    "ExtractPatches": Example(lambda x: ops.image.extract_patches(x, (2, 2)), IMAGE),
}  # fmt: skip
