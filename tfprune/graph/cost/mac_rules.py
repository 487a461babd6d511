"""What each Keras operation costs in multiply-accumulates: one small rule for each.

A rule names the axes whose sizes it multiplies. So what a layer costs is said once: `tfprune.macs`
multiplies the sizes, and `shrink` follows the ids along the same axes.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from tfprune.graph.call_kinds import KINDS, names_of, spelled
from tfprune.graph.tracing.masks import MaskOf, WithMask
from tfprune.graph.tracing.weight import Constant, Weight
from tfprune.keras_support.attention_steps import projections_of
from tfprune.keras_support.internals import tensor_of_sizes

Shape = tuple[Any, ...]
Product = tuple[Any, ...]
Products = list[Product]
AxesOf = Callable[[Any], Shape]
Cost = Callable[..., Products]
Rule = Callable[[Any, "Tensors", Cost], "Products | int"]

_RULES: dict[type, Rule] = {}
_KERAS_RULES: dict[str, Rule] = {}


def shape_of(tensor: Any) -> Shape:
    """Return the sizes of the axes of a tensor or weight."""
    return tuple(tensor.shape)


class Tensors:
    """The tensors of one call: those that go in, in their order, and those that come out.

    `axes` gives the sizes of the axes of any of them, or of a weight. These are whole numbers that
    may know more of their axis than its size, so a rule passes them on as they are. `outputs` is
    a function, since working them out takes time and only some rules ask.
    """

    def __init__(
        self, args: Any, kwargs: Any, outputs: Callable[[], Any], axes: AxesOf = shape_of
    ) -> None:
        self.args, self.kwargs, self.axes = args, kwargs, axes
        self.inputs = [x for x in keras.tree.flatten((args, kwargs)) if hasattr(x, "shape")]
        self.outputs = outputs

    @property
    def x(self) -> Shape:
        """Return the sizes of the first input."""
        return self.axes(self.inputs[0])

    @property
    def y(self) -> Shape:
        """Return the sizes of the first output."""
        return self.axes(keras.tree.flatten(self.outputs())[0])

    @property
    def second(self) -> Shape:
        """Return the sizes of the second input."""
        return self.axes(self.inputs[1])

    def argument(self, name: str, position: int) -> Any:
        """Return an argument by its name or its position, None where it is not given."""
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[position] if len(self.args) > position else None


def register_macs(cls: type) -> Callable[[Rule], Rule]:
    """Return a decorator that gives a layer class of your own its rule.

    The rule takes the layer, the tensors of the call, and a function that costs an operation
    inside. It returns the products that make up the multiply-accumulates, each as a tuple of
    sizes; a number will do, but `shrink` cannot tell what it hangs on.

    Example:
        >>> class Scale(keras.layers.Layer):
        ...     def call(self, x):
        ...         return x * 2.0
        >>> @register_macs(Scale)
        ... def _(op, tensors, cost):
        ...     return [tensors.y]
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


def _keras(names: str) -> Callable[[Rule], Rule]:
    def store(rule: Rule) -> Rule:
        _KERAS_RULES.update(dict.fromkeys(spelled(names), rule))
        return rule

    return store


def FREE(op: Any, tensors: Tensors, cost: Cost) -> Products:
    """Cost nothing: the operation moves data or works element by element."""
    return []


# Convolutions: at every position, each number of the kernels is multiplied once.


def _kernels(op: Any, tensors: Tensors) -> list[Shape]:
    """Return the sizes of a layer's kernels, or of the inputs that an operation has for them."""
    names = ("kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel")
    held = [getattr(op, name) for name in names if hasattr(op, name)]
    return [tensors.axes(kernel) for kernel in held or tensors.inputs[1:]]


def _at_positions(op: Any, sizes: Shape, kernels: Iterable[Shape]) -> Products:
    """Multiply kernels with all axes of a tensor but its channels."""
    first = getattr(op, "data_format", None) == "channels_first"
    positions = (sizes[0], *sizes[2:]) if first else sizes[:-1]
    return [(*positions, *kernel) for kernel in kernels]


@_keras("Conv#D Conv DepthwiseConv#D DepthwiseConv SeparableConv#D SeparableConv")
def _conv(op: Any, tensors: Tensors, cost: Cost) -> Products:
    return _at_positions(op, tensors.y, _kernels(op, tensors))


@_keras("Conv#DTranspose ConvTranspose")
def _conv_transpose(op: Any, tensors: Tensors, cost: Cost) -> Products:
    # Every number of the input is spread over the kernel; what falls off the edge is computed too.
    return _at_positions(op, tensors.x, _kernels(op, tensors))


# Matrix products.


@_keras("Dense")
def _dense(op: Any, tensors: Tensors, cost: Cost) -> Products:
    return [(*tensors.x[:-1], *tensors.axes(op.kernel))]


@_keras("EinsumDense")
def _einsum_dense(op: Any, tensors: Tensors, cost: Cost) -> Products:
    return einsum_products(op.equation, [tensors.x, tensors.axes(op.kernel)])


@_keras("ReversibleEmbedding")
def _reversible_embedding(op: Any, tensors: Tensors, cost: Cost) -> Products:
    # Looking up is free; the way back is a product with the whole table.
    return [(*tensors.y, tensors.x[-1])] if tensors.argument("reverse", 1) else []


@_keras("TernaryDense")
def _ternary_dense(op: Any, tensors: Tensors, cost: Cost) -> Products:
    # Nothing is asked about how it keeps its kernel.
    return [(*tensors.y, tensors.x[-1])]


@_keras("Matmul")
def _matmul(op: Any, tensors: Tensors, cost: Cost) -> Products:
    if len(tensors.second) < 2:
        return [(*tensors.y, tensors.x[-1])]
    return [(*tensors.y[:-1], *tensors.second[-2:])]


@_keras("Dot Tensordot Inner Outer Vdot")
def _contraction(op: Any, tensors: Tensors, cost: Cost) -> Products:
    # All of the first, times the axes of the second that do not run along with axes of the first.
    x, second = tensors.x, tensors.second
    if not x or not second:
        return []
    along = {axis % len(second) for axis in _along(op, len(second))}
    return [(*x, *(size for axis, size in enumerate(second) if axis not in along))]


def _along(op: Any, rank: int) -> Iterable[int]:
    kind, axes = type(op).__name__, getattr(op, "axes", None)
    if axes is None:
        return {"Inner": [-1], "Outer": [], "Vdot": range(rank), "Dot": [max(rank - 2, 0)]}[kind]
    if isinstance(op, keras.layers.Layer):
        return 0, axes if isinstance(axes, int) else axes[1]  # The batch is the first.
    second = range(axes) if isinstance(axes, int) else axes[1]
    return [second] if isinstance(second, int) else second


@_keras("Einsum")
def _einsum(op: Any, tensors: Tensors, cost: Cost) -> Products:
    return einsum_products(op.subscripts, [tensors.axes(x) for x in tensors.inputs])


def einsum_products(equation: str, shapes: Sequence[Sequence[Any]]) -> Products:
    """Return what an einsum multiplies, two operands at a time in the cheapest order.

    Example:
        >>> einsum_products("ij,jk->ik", [(2, 3), (3, 4)])
        [(2, 3, 4)]
        >>> einsum_products("...ab->...", [(7, 2, 3)])
        []
    """
    equation = equation.replace(" ", "")
    if len(shapes) < 2:
        return []
    if len(shapes) == 2:
        return [tuple(_labels(equation, shapes).values())]
    path = np.einsum_path(
        equation, *(np.broadcast_to(0.0, shape) for shape in shapes), optimize="optimal"
    )[0]
    terms, result = equation.split("->")
    operands = [
        _labels(f"{term}->{term}", [shape])
        for term, shape in zip(terms.split(","), shapes, strict=True)
    ]
    wanted = _labels(f"{terms}->{result}", shapes)
    kept = {label for label in wanted if label in result or label.startswith("...")}
    products: Products = []
    for step in path[1:]:
        taken = [operands.pop(index) for index in sorted(step, reverse=True)]
        together = {label: size for operand in taken for label, size in operand.items()}
        if len(taken) > 1:
            products.append(tuple(together.values()))
        needed = kept.union(*operands)
        operands.append({label: size for label, size in together.items() if label in needed})
    return products


def einsum_shape(equation: str, shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the shape of what an einsum gives.

    Example:
        >>> einsum_shape("...ab,bc->...ac", [(7, 2, 3), (3, 5)])
        (7, 2, 5)
    """
    equation = equation.replace(" ", "")
    sizes = _labels(equation, shapes)
    before, dots, after = equation.partition("->")[2].partition("...")
    # They count from the end.
    middle = sorted((label for label in sizes if label.startswith("...")), reverse=True)
    return tuple(sizes[label] for label in (*before, *(middle if dots else ()), *after))


def _labels(equation: str, shapes: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return the labels of the operands with sizes; an ellipsis counts its axes from the end."""
    sizes: dict[str, Any] = {}
    for term, shape in zip(equation.split("->")[0].split(","), shapes, strict=True):
        before, dots, after = term.partition("...")
        middle = len(shape) - len(before) - len(after) if dots else 0
        labels = [*before, *(f"...{middle - index}" for index in range(middle)), *after]
        for label, size in zip(labels, shape, strict=True):
            if sizes.get(label, 1) == 1:  # An axis of one is stretched.
                sizes[label] = size
    return sizes


# Attention.


@_keras("DotProductAttention")
def _dot_product_attention(op: Any, tensors: Tensors, cost: Cost) -> Products:
    # Inputs are query, key and value.
    batch, queries, heads, width = tensors.x
    keys, depth = tensors.second[1], tensors.axes(tensors.inputs[2])[-1]
    return [(batch, heads, queries, keys, wide) for wide in (width, depth)]


@_keras("Attention AdditiveAttention")
def _attention(op: Any, tensors: Tensors, cost: Cost) -> Products:
    # Inputs are query, value and perhaps key; the key is the value where it is not given.
    _, keys, depth = tensors.second
    return [(*tensors.x, keys), (*tensors.x[:-1], keys, depth)]


@_keras("MultiHeadAttention GroupedQueryAttention")
def _projected_attention(op: Any, tensors: Tensors, cost: Cost) -> Products:
    query, value = (tensors.axes(tensors.argument(*at)) for at in (("query", 0), ("value", 1)))
    dense = projections_of(op)
    # A key has as many places as the value.
    places = [(query, dense.query), (value, dense.key), (value, dense.value), (query, dense.output)]
    if dense.gate is not None:
        places.append((query, dense.gate))
    projected = [(*at[:-1], *tensors.axes(one.kernel)) for at, one in places]
    axes = getattr(op, "attention_axes", None) or range(1, len(value) - 1)
    *_, heads, width = tensors.axes(dense.query.kernel)
    pairs = (*query[:-1], *(value[axis] for axis in axes), heads)
    return [*projected, (*pairs, width), (*pairs, tensors.axes(dense.value.kernel)[-1])]


# Recurrence: the cost of one step, times the steps.


@_keras("RNN LSTM GRU SimpleRNN ConvLSTM#D")
def _recurrent(op: Any, tensors: Tensors, cost: Cost) -> Products:
    batch, steps, *shape = tensors.x
    sizes = op.cell.state_size
    if isinstance(op, keras.layers.RNN) and hasattr(op.cell, "kernel_size"):
        # A state of a convolutional cell has the shape of its output.
        state = tensors.y if not op.return_sequences else (batch, *tensors.y[2:])
        states = [tensor_of_sizes(state)] * 2
    else:
        flat = keras.tree.flatten(sizes)
        states = [tensor_of_sizes((batch, int(size))) for size in flat]
        if hasattr(op.cell, "cells"):
            states = keras.tree.pack_sequence_as(sizes, states)
    step = tensor_of_sizes((batch, *shape))
    return [(steps, *product) for product in cost(op.cell, step, states)]


@_keras("LSTMCell GRUCell SimpleRNNCell ConvLSTMCell")
def _cell(op: Any, tensors: Tensors, cost: Cost) -> Products:
    # The second input is a state, which has as many places as the output.
    return _at_positions(op, tensors.second, _kernels(op, tensors))


@_keras("StackedRNNCells")
def _stacked(op: Any, tensors: Tensors, cost: Cost) -> Products:
    batch, width = tensors.x
    products: Products = []
    for cell in op.cells:
        flat = keras.tree.flatten(cell.state_size)
        states = [tensor_of_sizes((batch, int(size))) for size in flat]
        products += cost(cell, tensor_of_sizes((batch, width)), states)
        width = int(cell.output_size)
    return products


@_keras("Bidirectional")
def _bidirectional(op: Any, tensors: Tensors, cost: Cost) -> Products:
    x = tensors.inputs[0]
    return [*cost(op.forward_layer, x), *cost(op.backward_layer, x)]


@_keras("TimeDistributed")
def _time_distributed(op: Any, tensors: Tensors, cost: Cost) -> Products:
    batch, steps, *shape = tensors.x
    inner = tensor_of_sizes((batch, *shape), tensors.inputs[0].dtype)
    return [(steps, *product) for product in cost(op.layer, inner)]


@_keras("SpectralNormalization")
def _wrapper(op: Any, tensors: Tensors, cost: Cost) -> Products:
    # The norm is estimated in training only; the file has a plain kernel.
    return cost(op.layer, tensors.inputs[0])


_OTHERS = """
Activation ELU LeakyReLU PReLU Softmax Masking BatchNormalization GroupNormalization
LayerNormalization RMSNormalization UnitNormalization AdaptiveAveragePooling#D Average
ActivityRegularization Normalization Rescaling Resizing CenterCrop MaxNumBoundingBoxes
ContrastLimitedAdaptiveHistogramEqualization CategoryEncoding Discretization Hashing HashedCrossing
IntegerLookup StringLookup RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast
RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale
RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation
RandomSharpness RandomShear RandomTranslation RandomZoom RandAugment AugMix AutoContrast CutMix
MixUp Mosaic Equalization Solarization LayerScale StochasticDepth CustomScaleLayer
All Any Append Arange Argmax Argmin Argpartition Argsort Array ArraySplit Average BitwiseAnd
BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor Conjugate
CountNonzero Cumprod Cumsum Deg2rad DepthToSpace Diag Diagflat Diagonal Diff Digitize Dsplit Dstack
EmptyLike Erfinv ExtractPatches Fliplr Flipud Fold Full Glu Heaviside Hsplit Hstack IsIn Isclose
Isneginf Isposinf Isreal Kron LayerNorm Ldexp LeftShift Linspace LogSoftmax Logaddexp2 Logsumexp
AdaptiveAveragePool Median Meshgrid Moments MultiHot Ndim Nextafter Norm Normalize OneHot PadImages
CropImages Prod Ptp RGBToGrayscale RMSNorm Rad2deg Ravel Real Resize RightShift Roll Rot90 Scatter
ScatterUpdate SegmentReduction Select Signbit Sinc Size Slice SliceUpdate Softmax Sort SpaceToDepth
Sparsemax Std Switch Take TakeAlongAxis TopK Trace Tril Triu Unfold Unique Unstack UnravelIndex Var
View ViewAsComplex ViewAsReal Vsplit Vstack BatchNorm
"""

_FREE = names_of(*(kind for kind in KINDS if kind != "product"))

for _name in (*_FREE, *spelled(_OTHERS)):
    _KERAS_RULES.setdefault(_name, FREE)
_RULES |= dict.fromkeys((Weight, Constant, MaskOf, WithMask), FREE)
