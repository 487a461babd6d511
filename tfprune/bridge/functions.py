"""Functions in a graph, by the other generation's name: `tf.nn.relu(x)` is `keras.ops.relu(x)`.

`tf_keras` notes TensorFlow's functions, Keras 3 its own. A pair says what the arguments of one are
called in the other; what they may hold is nearly always the same.
"""

import inspect
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tfprune.bridge.graphs import flatten, given_to, map_structure, operation_of
from tfprune.bridge.layer_configs import Side
from tfprune.errors import ModelError, type_name
from tfprune.keras_support.internals import maker_of

Values = dict[str, Any]


@dataclass(frozen=True)
class Function:
    """A function that both generations have.

    Args:
        keras: Its name in `keras.ops`.
        tf: Its name in `tf`.
        names: Its arguments, name in `keras.ops` → name in `tf`.
        also: Other names under which `tf_keras` notes it.
        to_tf: Changes values for `tf`, while they have the names of `keras.ops`.
        from_tf: Changes values of `tf` for `keras.ops`, once they have its names.
    """

    keras: str
    tf: str
    names: dict[str, str]
    also: tuple[str, ...] = ()
    to_tf: Callable[[Values], Values] = lambda values: values
    from_tf: Callable[[Values], Values] = lambda values: values


def call(node: Any, source: Side, find: Callable[[Any], Any]) -> Any:
    """Call the other generation's function as a node calls its own; return the result.

    Args:
        node: The node.
        source: The generation it is of.
        find: From a tensor of the source to its counterpart; other values it returns as they are.

    Raises:
        ModelError: There is no such function, or it does not take one of the arguments.
    """
    operation = operation_of(node)
    if source.name == "keras":
        function = _known(_BY_CLASS, type(operation).__name__, operation)
        config = {key: value for key, value in operation.get_config().items() if key != "name"}
        given = config | _bound(operation.call, *given_to(node))
        if "xs" in given and "xs" not in function.names:
            # What older Keras calls the tensors of a stack.
            given["x"] = given.pop("xs")
        values = _renamed(given, {name: name for name in function.names}, operation)
        values = function.to_tf(map_structure(find, values))
        return _place(_in_tf(function), {function.names[k]: v for k, v in values.items()},
                      function.names.values())  # fmt: skip
    function = _known(_BY_SYMBOL, getattr(operation, "symbol", ""), operation)
    given = _bound(operation.function, *given_to(node))
    values = _renamed(given, {theirs: ours for ours, theirs in function.names.items()}, operation)
    values = function.from_tf(map_structure(find, values))
    result = _place(_in_keras(function), values, function.names)
    # The name that Keras chose may be that of a layer to come.
    maker_of(flatten(result)[0]).name = operation.name.replace("/", "_")
    return result


def _known(table: dict[str, Function], symbol: str, operation: Any) -> Function:
    if symbol not in table:
        raise ModelError(
            f"{operation.name!r} ({type_name(operation)}), {symbol}, is a function that has no "
            "counterpart here: replace it by a layer (Rescaling, Add, Multiply, Reshape, "
            "Concatenate, Activation …)"
        )
    return table[symbol]


def _bound(function: Callable[..., Any], args: Any, kwargs: Any) -> Values:
    """Return the arguments of a call by name, defaults too: the other generation's may differ."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return {name: value for name, value in bound.arguments.items() if name != "name"}


def _renamed(given: Values, names: dict[str, str], operation: Any) -> Values:
    values = {}
    for name, value in given.items():
        if value is None or isinstance(value, dict):
            continue
        if name in names:
            values[names[name]] = value
        elif name not in _IDLE or value != _IDLE[name]:
            raise ModelError(
                f"{operation.name!r} ({type_name(operation)}): the other generation's function "
                f"does not take {name}={value!r}; replace it by a layer"
            )
    return values


# What only one generation's function takes, where it changes nothing.
_IDLE = {"a_is_sparse": False, "adjoint_a": False, "adjoint_b": False, "alpha": 1.0,
         "b_is_sparse": False, "beta": 1.0, "conjugate": False, "decimals": 0, "grad_a": False,
         "grad_b": False}  # fmt: skip


def _place(function: Callable[..., Any], values: Values, order: Iterable[str]) -> Any:
    """Call by place as far as the arguments are there, by name from then on."""
    placed: list[Any] = []
    for name in order:
        if name not in values:
            break
        value = values.pop(name)
        placed += value if name in ("operands", "inputs") else [value]
    return function(*placed, **values)


def _in_tf(function: Function) -> Callable[..., Any]:
    import tensorflow as tf

    return operator.getitem if function is _SLICE else operator.attrgetter(function.tf)(tf)


def _in_keras(function: Function) -> Callable[..., Any]:
    import keras

    return operator.getitem if function is _SLICE else getattr(keras.ops, function.keras)


def _slices_from_tf(values: Values) -> Values:
    def plain(entry: Any) -> Any:
        return slice(entry["start"], entry["stop"], entry["step"]) if _is_slice(entry) else entry

    key = values["key"]
    entries = key if isinstance(key, (list, tuple)) else (key,)
    return values | {"key": tuple(map(plain, entries))}


def _is_slice(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.keys() == {"start", "stop", "step"}


def _sections_to_tf(values: Values) -> Values:
    """Give sizes in the place of positions; the last is what remains."""
    positions = values["indices_or_sections"]
    if isinstance(positions, int):
        return values
    sizes = [end - start for start, end in pairwise([0, *positions])]
    return values | {"indices_or_sections": [*sizes, -1]}


def _sections_from_tf(values: Values) -> Values:
    sizes = values["indices_or_sections"]
    if np.ndim(sizes) == 0:
        return values | {"indices_or_sections": int(sizes)}
    if min(sizes[:-1], default=0) < 0:
        raise ModelError(f"split: only the last size may be -1 to come over. Received {sizes}.")
    return values | {"indices_or_sections": [int(end) for end in np.cumsum(sizes[:-1])]}


def _turned(values: Values) -> Values:
    """Turn the factors of a product first: Keras's takes them as they are."""
    import keras

    for factor, flag in (("x1", "transpose_a"), ("x2", "transpose_b")):
        if values.pop(flag, False):
            axes = list(range(len(values[factor].shape)))
            turned = [*axes[:-2], axes[-1], axes[-2]]
            values[factor] = keras.ops.transpose(values[factor], turned)
            made = maker_of(values[factor])
            made.name = f"turned_{made.name}"
    return values


def _of_one_type(values: Values) -> Values:
    """Make whole numbers real beside real tensors: TensorFlow does not mix the two."""
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


_SLICE = Function("get_item", "__operators__.getitem", {"x": "tensor", "key": "slice_spec"},
                  from_tf=_slices_from_tf)  # fmt: skip
_X, _PAIR = {"x": "x"}, {"x1": "x", "x2": "y"}
_ALONG = {"x": "input_tensor", "axis": "axis", "keepdims": "keepdims"}

FUNCTIONS = (
    _SLICE,
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
"""All pairs. Keras calls the class of an operation as the function, without the underscores."""

_BY_CLASS = {function.keras.title().replace("_", ""): function for function in FUNCTIONS}
_BY_SYMBOL = {name: function for function in FUNCTIONS for name in (function.tf, *function.also)}
SYMBOLS = frozenset(_BY_SYMBOL)
"""Every name under which `tf_keras` notes one of them."""
