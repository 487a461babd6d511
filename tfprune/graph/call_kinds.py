"""What the layers and operations of Keras compute, by the names of their classes.

Each name has one kind. Rules that hold for a kind, such as how channels move, what an operation
costs, or which tensors an int8 file rounds, take the names from here.
"""

from typing import Any

import keras

KINDS: dict[str, str] = {
    # Each number by itself.
    "elementwise": """
        Absolute Fabs Negative Sign Square Sqrt Cbrt Reciprocal Rsqrt Exp Exp2 Expm1 Log Log1p Log2
        Log10 Sin Cos Tan Sinh Cosh Tanh Arcsin Arccos Arctan Arcsinh Arccosh Arctanh Erf Erfc Floor
        Ceil Round Trunc Cast SaturateCast StopGradient Relu Relu6 ReLU Sigmoid SparseSigmoid
        Softplus Softsign SoftShrink SparsePlus Silu Squareplus LogSigmoid LeakyRelu HardSigmoid
        HardSilu Elu Selu Gelu Celu TanhShrink HardTanh HardShrink Threshold LogicalNot Isnan Isinf
        Isfinite NanToNum ZerosLike OnesLike FullLike Copy ConvertToTensor""",
    # The same, within the range of the input.
    "limit": "Clip",
    # The numbers of several tensors at one place.
    "combination": """
        Add Subtract Multiply Divide DivideNoNan TrueDivide FloorDivide Fmax Fmin Power Mod Fmod
        Arctan2 Hypot Logaddexp Equal NotEqual Greater GreaterEqual Less LessEqual LogicalAnd
        LogicalOr LogicalXor""",
    # One of several tensors, place by place.
    "choice": "Where",
    # The largest or smallest of several tensors, place by place.
    "extreme": "Maximum Minimum",
    # Tensors side by side.
    "join": "Concatenate Stack",
    # The numbers of the input, or some of them, elsewhere; with zeros around; unchanged.
    "movement": """
        InputLayer Flatten Reshape Permute RepeatVector ZeroPadding#D Cropping#D UpSampling1D
        UpSampling3D Transpose Swapaxes Moveaxis ExpandDims Squeeze GetItem Split Tile Repeat
        BroadcastTo Identity Dropout SpatialDropout#D GaussianDropout GaussianNoise AlphaDropout""",
    # Rows of a weight.
    "lookup": "Embedding",
    # The largest or smallest numbers of the input.
    "selection": """
        MaxPooling#D GlobalMaxPooling#D AdaptiveMaxPooling#D MaxPool AdaptiveMaxPool Max Min Amax
        Amin""",
    # Numbers between those of the input.
    "blend": "AveragePooling#D AveragePool UpSampling2D Flip",
    # The numbers of the input, with given ones around.
    "padding": "Pad",
    # Sums and means of the input.
    "reduction": "Mean Sum GlobalAveragePooling#D",
    # Sums of products of two tensors.
    "product": "Matmul Einsum Dot Tensordot Inner Outer Vdot",
}


def spelled(names: str) -> tuple[str, ...]:
    """Return names from a text, in which "#D" stands for 1D, 2D and 3D.

    Example:
        >>> spelled("Dense Conv#D")
        ('Dense', 'Conv1D', 'Conv2D', 'Conv3D')
    """
    each = ((name, "123" if "#" in name else "1") for name in names.split())
    return tuple(name.replace("#", number) for name, numbers in each for number in numbers)


def layers_named(names: str) -> tuple[type, ...]:
    """Return the layer classes of Keras with the names of `spelled`."""
    return tuple(getattr(keras.layers, name) for name in spelled(names))


_KIND_OF = {name: kind for kind, names in KINDS.items() for name in spelled(names)}


def names_of(*kinds: str) -> tuple[str, ...]:
    """Return the names of all layers and operations of some kinds.

    Example:
        >>> names_of("choice", "extreme")
        ('Where', 'Maximum', 'Minimum')
    """
    return tuple(name for kind in kinds for name in spelled(KINDS[kind]))


def kind_of(operation: Any) -> str:
    """Return the kind of a layer or operation of Keras; "" for others and for no kind.

    Example:
        >>> import keras
        >>> kind_of(keras.layers.Flatten())
        'movement'
    """
    kind = type(operation)
    return _KIND_OF.get(kind.__name__, "") if kind.__module__.startswith("keras.") else ""
