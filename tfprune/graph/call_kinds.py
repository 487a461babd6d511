"""What the layers and operations of Keras compute, by the names of their classes.

Each name has one kind. Rules that hold for a kind, such as how channels move, what an operation
costs, or which tensors an int8 file rounds, take the names from here.
"""

from typing import Any

_KINDS: dict[str, str] = {
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
        InputLayer Flatten Reshape Permute RepeatVector ZeroPadding1D ZeroPadding2D ZeroPadding3D
        Cropping1D Cropping2D Cropping3D UpSampling1D Transpose Swapaxes Moveaxis ExpandDims Squeeze
        GetItem Split Tile Repeat BroadcastTo UpSampling3D Identity Dropout SpatialDropout1D
        SpatialDropout2D SpatialDropout3D GaussianDropout GaussianNoise AlphaDropout""",
    # Rows of a weight.
    "lookup": "Embedding",
    # The largest or smallest numbers of the input.
    "selection": """
        MaxPooling1D MaxPooling2D MaxPooling3D GlobalMaxPooling1D GlobalMaxPooling2D
        GlobalMaxPooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D MaxPool
        AdaptiveMaxPool Max Min Amax Amin""",
    # Numbers between those of the input.
    "blend": """
        AveragePooling1D AveragePooling2D AveragePooling3D AveragePool UpSampling2D Flip""",
    # The numbers of the input, with given ones around.
    "padding": "Pad",
    # Sums and means of the input.
    "reduction": """
        Mean Sum GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D""",
    # Sums of products of two tensors.
    "product": "Matmul Einsum Dot Tensordot Inner Outer Vdot",
}

_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names.split()}


def names_of(*kinds: str) -> tuple[str, ...]:
    """Return the names of all layers and operations of some kinds.

    Example:
        >>> names_of("choice", "extreme")
        ('Where', 'Maximum', 'Minimum')
    """
    return tuple(name for kind in kinds for name in _KINDS[kind].split())


def kind_of(operation: Any) -> str:
    """Return the kind of a layer or operation of Keras; "" for others and for no kind.

    Example:
        >>> import keras
        >>> kind_of(keras.layers.Flatten())
        'movement'
    """
    kind = type(operation)
    return _KIND_OF.get(kind.__name__, "") if kind.__module__.startswith("keras.") else ""
