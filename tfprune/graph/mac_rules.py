"""What each Keras operation costs in multiply-accumulates: one small rule for each."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from tfprune.keras_support.attention_steps import projections_of

Cost = Callable[..., int]
Rule = Callable[[Any, "Tensors", Cost], int]

_RULES: dict[type, Rule] = {}
_KERAS_RULES: dict[str, Rule] = {}


class Tensors:
    """The tensors of one call: those that go in, in their order, and those that come out."""

    def __init__(self, args: Any, kwargs: Any, outputs: Any) -> None:
        self.inputs = [x for x in keras.tree.flatten((args, kwargs)) if hasattr(x, "shape")]
        self.outputs = keras.tree.flatten(outputs)

    @property
    def x(self) -> tuple[int, ...]:
        """Return the shape of the first input."""
        return tuple(self.inputs[0].shape)

    @property
    def y(self) -> tuple[int, ...]:
        """Return the shape of the first output."""
        return tuple(self.outputs[0].shape)

    @property
    def kernel(self) -> tuple[int, ...]:
        """Return the shape of the second input."""
        return tuple(self.inputs[1].shape)


def register_macs(cls: type) -> Callable[[Rule], Rule]:
    """Return a decorator that gives a layer class of your own its rule.

    The rule takes the layer, the tensors of the call, and a function that costs an operation
    inside, and returns multiply-accumulates.

    Example:
        >>> class Scale(keras.layers.Layer):
        ...     def call(self, x):
        ...         return x * 2.0
        >>> @register_macs(Scale)
        ... def _(op, tensors, cost):
        ...     return math.prod(tensors.y)
    """

    def store(rule: Rule) -> Rule:
        _RULES[cls] = rule
        return rule

    return store


def rule_of(cls: type) -> Rule | None:
    """Return the rule of a class, or of the class that its `call` comes from; None without one."""
    for base in cls.__mro__:
        if base in _RULES:
            return _RULES[base]
        if base.__module__.partition(".")[0] == "keras" and base.__name__ in _KERAS_RULES:
            return _KERAS_RULES[base.__name__]
        if "call" in vars(base):
            return None
    return None


def _keras(*names: str) -> Callable[[Rule], Rule]:
    def store(rule: Rule) -> Rule:
        _KERAS_RULES.update(dict.fromkeys(names, rule))
        return rule

    return store


def FREE(op: Any, tensors: Tensors, cost: Cost) -> int:
    """Cost nothing: the operation moves data or works element by element."""
    return 0


# Convolutions: every number of the output is a sum over the kernel.


@_keras("Conv1D", "Conv2D", "Conv3D")
def _conv(op: Any, tensors: Tensors, cost: Cost) -> int:
    channels = tensors.x[1 if op.data_format == "channels_first" else -1]
    return math.prod(tensors.y) * math.prod(op.kernel_size) * channels // op.groups


@_keras("DepthwiseConv1D", "DepthwiseConv2D")
def _depthwise(op: Any, tensors: Tensors, cost: Cost) -> int:
    return math.prod(tensors.y) * math.prod(op.kernel_size)


@_keras("SeparableConv1D", "SeparableConv2D")
def _separable(op: Any, tensors: Tensors, cost: Cost) -> int:
    channels = tensors.x[1 if op.data_format == "channels_first" else -1]
    positions = math.prod(tensors.y) // op.filters
    wide = channels * op.depth_multiplier
    return positions * wide * (math.prod(op.kernel_size) + op.filters)


@_keras("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def _conv_transpose(op: Any, tensors: Tensors, cost: Cost) -> int:
    # Every number of the input is spread over the kernel; what falls off the edge is computed too.
    return math.prod(tensors.x) * math.prod(op.kernel_size) * op.filters


@_keras("Conv")
def _conv_op(op: Any, tensors: Tensors, cost: Cost) -> int:
    return math.prod(tensors.y) * math.prod(tensors.kernel[:-1])


@_keras("DepthwiseConv")
def _depthwise_op(op: Any, tensors: Tensors, cost: Cost) -> int:
    return math.prod(tensors.y) * math.prod(tensors.kernel[:-2])


@_keras("SeparableConv")
def _separable_op(op: Any, tensors: Tensors, cost: Cost) -> int:
    pointwise = tuple(tensors.inputs[2].shape)
    positions = math.prod(tensors.y) // pointwise[-1]
    return positions * (math.prod(tensors.kernel) + math.prod(pointwise))


@_keras("ConvTranspose")
def _conv_transpose_op(op: Any, tensors: Tensors, cost: Cost) -> int:
    return math.prod(tensors.x) // tensors.kernel[-1] * math.prod(tensors.kernel)


# Matrix products.


@_keras("Dense", "TernaryDense")
def _dense(op: Any, tensors: Tensors, cost: Cost) -> int:
    return math.prod(tensors.y) * tensors.x[-1]


@_keras("EinsumDense")
def _einsum_dense(op: Any, tensors: Tensors, cost: Cost) -> int:
    return einsum_macs(op.equation, [tensors.x, tuple(op.kernel.shape)])


@_keras("ReversibleEmbedding")
def _reversible_embedding(op: Any, tensors: Tensors, cost: Cost) -> int:
    # Looking up is free; the way back is a product with the whole table.
    backwards = tensors.y[-1] == op.input_dim and tensors.x[-1:] == (op.output_dim,)
    return math.prod(tensors.y) * op.output_dim if backwards else 0


@_keras("Matmul")
def _matmul(op: Any, tensors: Tensors, cost: Cost) -> int:
    return math.prod(tensors.y) * tensors.x[-1]


@_keras("Dot")
def _dot(op: Any, tensors: Tensors, cost: Cost) -> int:
    # The merging layer keeps the batch; the op of the same name contracts without one.
    batch = tensors.y[0] if isinstance(op, keras.layers.Layer) else 1
    return _contraction(tensors, batch)


@_keras("Tensordot", "Inner", "Vdot", "Outer")
def _tensordot(op: Any, tensors: Tensors, cost: Cost) -> int:
    return _contraction(tensors, 1)


def _contraction(tensors: Tensors, batch: int) -> int:
    """Cost a product of two tensors by their sizes alone.

    With sides a and b kept and c contracted the sizes are batch·a·c, batch·b·c and batch·a·b, so
    that c² is their quotient over the batch.
    """
    if () in (tensors.x, tensors.kernel):
        return 0
    kept = math.prod(tensors.y)
    squared = math.prod(tensors.x) * math.prod(tensors.kernel) // (kept * batch)
    return kept * math.isqrt(squared)


@_keras("Einsum")
def _einsum(op: Any, tensors: Tensors, cost: Cost) -> int:
    return einsum_macs(op.subscripts, [tuple(x.shape) for x in tensors.inputs])


def einsum_macs(equation: str, shapes: Sequence[Sequence[int]]) -> int:
    """Return what an einsum costs, two operands at a time in the cheapest order.

    Example:
        >>> einsum_macs("ij,jk->ik", [(2, 3), (3, 4)])
        24
        >>> einsum_macs("...ab->...", [(7, 2, 3)])
        0
    """
    equation = equation.replace(" ", "")
    if len(shapes) < 2:
        return 0
    if len(shapes) == 2:
        return math.prod(dict(_labels(equation, shapes)).values())
    path = np.einsum_path(
        equation, *(np.broadcast_to(0.0, shape) for shape in shapes), optimize="optimal"
    )[0]
    terms, result = equation.split("->")
    operands = [
        dict(_labels(f"{term}->{term}", [shape]))
        for term, shape in zip(terms.split(","), shapes, strict=True)
    ]
    wanted = dict(_labels(f"{terms}->{result}", shapes))
    kept = {label for label in wanted if label in result or label.startswith("...")}
    total = 0
    for step in path[1:]:
        taken = [operands.pop(index) for index in sorted(step, reverse=True)]
        together = {label: size for operand in taken for label, size in operand.items()}
        total += math.prod(together.values()) if len(taken) > 1 else 0
        needed = kept.union(*operands)
        operands.append({label: size for label, size in together.items() if label in needed})
    return total


def einsum_shape(equation: str, shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the shape of what an einsum gives.

    Example:
        >>> einsum_shape("...ab,bc->...ac", [(7, 2, 3), (3, 5)])
        (7, 2, 5)
    """
    equation = equation.replace(" ", "")
    sizes = dict(_labels(equation, shapes))
    before, dots, after = equation.partition("->")[2].partition("...")
    # They count from the end.
    middle = sorted((label for label in sizes if label.startswith("...")), reverse=True)
    return tuple(sizes[label] for label in (*before, *(middle if dots else ()), *after))


def _labels(equation: str, shapes: Sequence[Sequence[int]]) -> Iterator[tuple[str, int]]:
    """Yield the labels of the operands with sizes; an ellipsis counts its axes from the end."""
    for term, shape in zip(equation.split("->")[0].split(","), shapes, strict=True):
        before, dots, after = term.partition("...")
        yield from zip(before, shape, strict=False)
        if dots:
            middle = shape[len(before) : len(shape) - len(after)]
            yield from ((f"...{len(middle) - index}", size) for index, size in enumerate(middle))
            yield from zip(after, shape[len(shape) - len(after) :], strict=True)


# Attention.


@_keras("DotProductAttention")
def _dot_product_attention(op: Any, tensors: Tensors, cost: Cost) -> int:
    batch, queries, heads, width = tensors.x
    keys, depth = tensors.kernel[1], tuple(tensors.inputs[2].shape)[-1]
    return batch * heads * queries * keys * (width + depth)


@_keras("Attention", "AdditiveAttention")
def _attention(op: Any, tensors: Tensors, cost: Cost) -> int:
    # Inputs are query, value and perhaps key; the key is the value where it is not given.
    batch, queries, width = tensors.x
    _, keys, depth = tensors.kernel
    return batch * queries * keys * (width + depth)


@_keras("MultiHeadAttention", "GroupedQueryAttention")
def _projected_attention(op: Any, tensors: Tensors, cost: Cost) -> int:
    # Inputs are query and value, and a key that has as many places as the value.
    query, value = tensors.x, tensors.kernel
    dense = projections_of(op)
    at_query = [dense.query, dense.output] + ([] if dense.gate is None else [dense.gate])
    projected = math.prod(query[:-1]) * sum(_size(one) for one in at_query)
    projected += math.prod(value[:-1]) * (_size(dense.key) + _size(dense.value))
    axes = getattr(op, "attention_axes", None) or range(1, len(value) - 1)
    pairs = math.prod(query[:-1]) * math.prod(value[axis] for axis in axes)
    heads, width = dense.query.kernel.shape[-2:]
    return projected + pairs * heads * (width + dense.value.kernel.shape[-1])


def _size(dense: Any) -> int:
    return math.prod(dense.kernel.shape)


# Recurrence: the cost of one step, times the steps.


@_keras("RNN", "LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
def _recurrent(op: Any, tensors: Tensors, cost: Cost) -> int:
    batch, steps, *shape = tensors.x
    step = keras.KerasTensor((batch, *shape))
    sizes = op.cell.state_size
    if isinstance(op, keras.layers.RNN) and hasattr(op.cell, "kernel_size"):
        # A state of a convolutional cell has the shape of its output.
        state = tensors.y if not op.return_sequences else (batch, *tensors.y[2:])
        states = [keras.KerasTensor(state)] * 2
    else:
        flat = keras.tree.flatten(sizes)
        states = [keras.KerasTensor((batch, int(size))) for size in flat]
        if hasattr(op.cell, "cells"):
            states = keras.tree.pack_sequence_as(sizes, states)
    return steps * cost(op.cell, step, states)


@_keras("LSTMCell", "GRUCell", "SimpleRNNCell")
def _cell(op: Any, tensors: Tensors, cost: Cost) -> int:
    batch, width = tensors.x
    return batch * (width * op.kernel.shape[-1] + op.units * op.recurrent_kernel.shape[-1])


@_keras("ConvLSTMCell")
def _conv_cell(op: Any, tensors: Tensors, cost: Cost) -> int:
    positions = math.prod(tensors.y) // op.filters
    return positions * (math.prod(op.kernel.shape) + math.prod(op.recurrent_kernel.shape))


@_keras("StackedRNNCells")
def _stacked(op: Any, tensors: Tensors, cost: Cost) -> int:
    total, width = 0, tensors.x
    for cell in op.cells:
        states = [
            keras.KerasTensor((width[0], int(size))) for size in keras.tree.flatten(cell.state_size)
        ]
        total += cost(cell, keras.KerasTensor(width), states)
        width = (width[0], int(cell.output_size))
    return total


@_keras("Bidirectional")
def _bidirectional(op: Any, tensors: Tensors, cost: Cost) -> int:
    x = tensors.inputs[0]
    return cost(op.forward_layer, x) + cost(op.backward_layer, x)


@_keras("TimeDistributed")
def _time_distributed(op: Any, tensors: Tensors, cost: Cost) -> int:
    batch, steps, *shape = tensors.x
    return steps * cost(op.layer, keras.KerasTensor((batch, *shape), tensors.inputs[0].dtype))


@_keras("SpectralNormalization")
def _wrapper(op: Any, tensors: Tensors, cost: Cost) -> int:
    # The norm is estimated in training only; the file has a plain kernel.
    return cost(op.layer, tensors.inputs[0])


_FREE_LAYERS = """
Activation ELU LeakyReLU PReLU ReLU Softmax Identity Masking Embedding InputLayer
BatchNormalization GroupNormalization LayerNormalization RMSNormalization UnitNormalization
MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D
GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GlobalAveragePooling1D
GlobalAveragePooling2D GlobalAveragePooling3D AdaptiveAveragePooling1D AdaptiveAveragePooling2D
AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D
Add Average Concatenate Maximum Minimum Multiply Subtract
Cropping1D Cropping2D Cropping3D Flatten Permute RepeatVector Reshape UpSampling1D UpSampling2D
UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise SpatialDropout1D
SpatialDropout2D SpatialDropout3D
Normalization Rescaling Resizing CenterCrop MaxNumBoundingBoxes
ContrastLimitedAdaptiveHistogramEqualization CategoryEncoding Discretization Hashing HashedCrossing
IntegerLookup StringLookup
RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop
RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue
RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation
RandomSharpness RandomShear RandomTranslation RandomZoom RandAugment AugMix AutoContrast CutMix
MixUp Mosaic Equalization Solarization
LayerScale StochasticDepth CustomScaleLayer
"""

_FREE_OPS = """
Absolute Fabs Add All Any Amax Amin Append Arange Arccos Arccosh Arcsin Arcsinh Arctan Arctan2
Arctanh Argmax Argmin Argpartition Argsort Array ArraySplit Average BitwiseAnd BitwiseInvert
BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor BroadcastTo Cast Cbrt Ceil Celu
Clip Concatenate Conjugate ConvertToTensor Copy Cos Cosh CountNonzero Cumprod Cumsum Deg2rad
DepthToSpace Diag Diagflat Diagonal Diff Digitize Divide DivideNoNan Dsplit Dstack Elu EmptyLike
Equal Erf Erfc Erfinv Exp Exp2 ExpandDims Expm1 ExtractPatches Flip Fliplr Flipud Floor FloorDivide
Fmax Fmin Fmod Fold Full FullLike Gelu GetItem Glu Greater GreaterEqual HardShrink HardSigmoid
HardSilu HardTanh Heaviside Hsplit Hstack Hypot IsIn Isclose Isfinite Isinf Isnan Isneginf Isposinf
Isreal Kron LayerNorm Ldexp LeakyRelu LeftShift Less LessEqual Linspace Log Log10 Log1p Log2
LogSigmoid LogSoftmax Logaddexp Logaddexp2 LogicalAnd LogicalNot LogicalOr LogicalXor Logsumexp Max
MaxPool AveragePool AdaptiveAveragePool AdaptiveMaxPool Maximum Mean Median Meshgrid Min Minimum Mod
Moments Moveaxis MultiHot Multiply NanToNum Ndim Negative Nextafter Norm Normalize NotEqual OneHot
OnesLike Pad PadImages CropImages Power Prod Ptp RGBToGrayscale RMSNorm Rad2deg Ravel Real
Reciprocal Relu Relu6 Repeat Reshape Resize RightShift Roll Rot90 Round Rsqrt SaturateCast Scatter
ScatterUpdate SegmentReduction Select Selu Sigmoid Sign Signbit Silu Sin Sinc Sinh Size Slice
SliceUpdate SoftShrink Softmax Softplus Softsign Sort SpaceToDepth SparsePlus SparseSigmoid
Sparsemax Split Sqrt Square Squareplus Squeeze Stack Std StopGradient Subtract Sum Swapaxes Switch
Take TakeAlongAxis Tan Tanh TanhShrink Threshold Tile TopK Trace Transpose Tril Triu TrueDivide
Trunc Unfold Unique Unstack UnravelIndex Var View ViewAsComplex ViewAsReal Vsplit Vstack Where
ZerosLike BatchNorm
"""

for _name in (_FREE_LAYERS + _FREE_OPS).split():
    _KERAS_RULES.setdefault(_name, FREE)
