"""The functions that both generations have, with the names of their arguments in each."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tfprune.errors import ModelError

Values = dict[str, Any]


@dataclass(frozen=True)
class Function:
    """A function that both generations have.

    Args:
        keras: Its name in `keras.ops`.
        tf: Its name in `tf`.
        names: Its arguments, name in `keras.ops` → name in `tf`.
        also: Other names under which `tf_keras` records it.
        to_tf: Converts arguments for `tf`, before they are renamed.
        from_tf: Converts arguments of `tf` for `keras.ops`, after they are renamed.
    """

    keras: str
    tf: str
    names: dict[str, str]
    also: tuple[str, ...] = ()
    to_tf: Callable[[Values], Values] = lambda values: values
    from_tf: Callable[[Values], Values] = lambda values: values


def _slices_from_tf(values: Values) -> Values:
    def plain(entry: Any) -> Any:
        return slice(entry["start"], entry["stop"], entry["step"]) if _is_slice(entry) else entry

    key = values["key"]
    entries = key if isinstance(key, (list, tuple)) else (key,)
    return values | {"key": tuple(map(plain, entries))}


def _is_slice(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.keys() == {"start", "stop", "step"}


def _sections_to_tf(values: Values) -> Values:
    """Replace positions by sizes; the last is the rest."""
    positions = values["indices_or_sections"]
    if isinstance(positions, int):
        return values
    sizes = [end - start for start, end in pairwise([0, *positions])]
    return values | {"indices_or_sections": [*sizes, -1]}


def _sections_from_tf(values: Values) -> Values:
    import numpy as np

    sizes = values["indices_or_sections"]
    if np.ndim(sizes) == 0:
        return values | {"indices_or_sections": int(sizes)}
    if min(sizes[:-1], default=0) < 0:
        raise ModelError(f"split: only the last size may be -1. Received {sizes}.")
    return values | {"indices_or_sections": [int(end) for end in np.cumsum(sizes[:-1])]}


def _turned(values: Values) -> Values:
    """Transpose the factors of a product first: Keras's matmul has no such option."""
    import keras

    from tfprune.bridge.graphs import name_maker

    for factor, flag in (("x1", "transpose_a"), ("x2", "transpose_b")):
        if values.pop(flag, False):
            axes = list(range(len(values[factor].shape)))
            turned = [*axes[:-2], axes[-1], axes[-2]]
            values[factor] = keras.ops.transpose(values[factor], turned)
            name_maker(values[factor], "turned_{}".format)
    return values


def _of_one_type(values: Values) -> Values:
    """Convert integers next to float tensors to floats: TensorFlow does not mix the two."""
    types = [str(getattr(value, "dtype", "")) for value in values.values()]
    if not any("float" in name for name in types):
        return values
    return {name: float(v) if type(v) is int else v for name, v in values.items()}


def _padding_from_tf(values: Values) -> Values:
    mode = values["mode"].lower()
    return {k: v for k, v in values.items() if k != "constant_values" or mode == "constant"} | {
        "mode": mode
    }


def _type_from_tf(values: Values) -> Values:
    import tensorflow as tf

    return values | {"dtype": tf.as_dtype(values["dtype"]).name}


SLICE = Function("get_item", "__operators__.getitem", {"x": "tensor", "key": "slice_spec"},
                  from_tf=_slices_from_tf)  # fmt: skip

_X, _PAIR = {"x": "x"}, {"x1": "x", "x2": "y"}

_ALONG = {"x": "input_tensor", "axis": "axis", "keepdims": "keepdims"}

FUNCTIONS = (
    SLICE,
    *(Function(name, f"math.{name}", _X) for name in
      ("exp", "log", "sqrt", "rsqrt", "square", "sign", "floor", "ceil", "round", "sin", "cos",
       "erf", "reciprocal")),
    Function("absolute", "math.abs", _X, ("__operators__.abs",)),
    Function("negative", "math.negative", _X, ("__operators__.neg",)),
    Function("logical_not", "math.logical_not", _X, ("__operators__.invert",)),
    Function("tanh", "math.tanh", _X, ("nn.tanh",)),
    Function("sigmoid", "math.sigmoid", _X, ("nn.sigmoid",)),
    *(Function(name, f"math.{name}", _PAIR, (f"__operators__.{sign}",), _of_one_type)
      for name, sign in
      (("add", "add"), ("subtract", "sub"), ("multiply", "mul"), ("greater", "gt"),
       ("greater_equal", "ge"), ("less", "lt"), ("less_equal", "le"), ("equal", "eq"),
       ("not_equal", "ne"), ("logical_and", "and"), ("logical_or", "or"))),
    Function("true_divide", "math.truediv", _PAIR, ("__operators__.truediv",), _of_one_type),
    Function("divide", "math.divide", _PAIR, (), _of_one_type),
    Function("power", "math.pow", _PAIR, ("__operators__.pow",), _of_one_type),
    Function("maximum", "math.maximum", _PAIR, (), _of_one_type),
    Function("minimum", "math.minimum", _PAIR, (), _of_one_type),
    *(Function(name, f"math.reduce_{name}", _ALONG) for name in
      ("mean", "sum", "max", "min", "prod")),
    *(Function(name, f"nn.{name}", {"x": "features"}) for name in
      ("relu", "relu6", "elu", "selu", "softplus", "softsign", "silu")),
    Function("gelu", "nn.gelu", {"x": "features", "approximate": "approximate"}),
    Function("leaky_relu", "nn.leaky_relu", {"x": "features", "negative_slope": "alpha"}),
    Function("softmax", "nn.softmax", {"x": "logits", "axis": "axis"}, ("nn.softmax_v2",)),
    Function("log_softmax", "nn.log_softmax", {"x": "logits", "axis": "axis"}),
    Function("clip", "clip_by_value",
             {"x": "t", "x_min": "clip_value_min", "x_max": "clip_value_max"}),
    Function("cast", "cast", {"x": "x", "dtype": "dtype"}, from_tf=_type_from_tf),
    Function("where", "where", {"condition": "condition", "x1": "x", "x2": "y"}),
    Function("matmul", "linalg.matmul",
             {"x1": "a", "x2": "b", "transpose_a": "transpose_a", "transpose_b": "transpose_b"},
             from_tf=_turned),
    Function("einsum", "einsum", {"subscripts": "equation", "operands": "inputs"}),
    Function("reshape", "reshape", {"x": "tensor", "newshape": "shape"}),
    Function("transpose", "transpose", {"x": "a", "axes": "perm"}, ("compat.v1.transpose",)),
    Function("expand_dims", "expand_dims", {"x": "input", "axis": "axis"}),
    Function("squeeze", "squeeze", {"x": "input", "axis": "axis"}, ("compat.v1.squeeze",)),
    Function("concatenate", "concat", {"xs": "values", "axis": "axis"}),
    Function("stack", "stack", {"x": "values", "axis": "axis"}),
    Function("split", "split",
             {"x": "value", "indices_or_sections": "num_or_size_splits", "axis": "axis"},
             to_tf=_sections_to_tf, from_tf=_sections_from_tf),
    Function("tile", "tile", {"x": "input", "repeats": "multiples"}),
    Function("repeat", "repeat", {"x": "input", "repeats": "repeats", "axis": "axis"}),
    Function("pad", "pad", {"x": "tensor", "pad_width": "paddings", "mode": "mode",
                            "constant_values": "constant_values"},
             ("compat.v1.pad",), from_tf=_padding_from_tf),
    Function("zeros_like", "zeros_like", {"x": "input"}),
    Function("ones_like", "ones_like", {"x": "input"}),
)  # fmt: skip
"""All pairs. Keras names the class of an operation like the function, without underscores."""

BY_CLASS = {function.keras.title().replace("_", ""): function for function in FUNCTIONS}

BY_SYMBOL = {name: function for function in FUNCTIONS for name in (function.tf, *function.also)}

SYMBOLS = frozenset(BY_SYMBOL)
"""Every name under which `tf_keras` records one of them."""
