"""Conversion of functions in a graph: `tf.nn.relu(x)` is `keras.ops.relu(x)`.

`tf_keras` records TensorFlow's functions, Keras 3 its own. A pair maps the argument names of one to
the other; the values are nearly always the same.
"""

import inspect
import operator
from collections.abc import Callable, Iterable
from typing import Any

from tfprune.bridge.function_pairs import BY_CLASS, BY_SYMBOL, SLICE, Function, Values
from tfprune.bridge.graphs import flatten, map_structure, name_maker
from tfprune.bridge.layer_configs import Side
from tfprune.errors import ModelError, type_name
from tfprune.graph.graph import Call


def counterpart(call: Call, source: Side, find: Callable[[Any], Any]) -> Any:
    """Call the counterpart of a function, and return the result.

    `find` returns the counterpart of a tensor, and other values unchanged.

    Raises:
        ModelError: There is no counterpart, or it does not take one of the arguments.
    """
    operation = call.op
    if source.name == "keras":
        function = _known(BY_CLASS, type(operation).__name__, operation)
        config = {key: value for key, value in operation.get_config().items() if key != "name"}
        given = config | _bound(operation.call, call.args, call.kwargs)
        if "xs" in given and "xs" not in function.names:
            # The name in older versions of Keras.
            given["x"] = given.pop("xs")
        values = _renamed(given, {name: name for name in function.names}, operation)
        values = function.to_tf(map_structure(find, values))
        return _place(_in_tf(function), {function.names[k]: v for k, v in values.items()},
                      function.names.values())  # fmt: skip
    function = _known(BY_SYMBOL, getattr(operation, "symbol", ""), operation)
    given = _bound(operation.function, call.args, call.kwargs)
    values = _renamed(given, {theirs: ours for ours, theirs in function.names.items()}, operation)
    values = function.from_tf(map_structure(find, values))
    result = _place(_in_keras(function), values, function.names)
    # The name that Keras chose may be that of a later layer.
    name_maker(flatten(result)[0], lambda name: operation.name.replace("/", "_"))
    return result


def _known(table: dict[str, Function], symbol: str, operation: Any) -> Function:
    if symbol not in table:
        raise ModelError(
            f"{operation.name!r} ({type_name(operation)}), {symbol}, is a function without a "
            "counterpart: replace it by a layer (Rescaling, Add, Multiply, Reshape, "
            "Concatenate, Activation …)"
        )
    return table[symbol]


def _bound(function: Callable[..., Any], args: Any, kwargs: Any) -> Values:
    """Return the arguments of a call by name, including defaults, which may differ."""
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


# Arguments of only one generation, with the values at which they have no effect.
_IDLE = {"a_is_sparse": False, "adjoint_a": False, "adjoint_b": False, "alpha": 1.0,
         "b_is_sparse": False, "beta": 1.0, "conjugate": False, "decimals": 0, "grad_a": False,
         "grad_b": False}  # fmt: skip


def _place(function: Callable[..., Any], values: Values, order: Iterable[str]) -> Any:
    """Call with positional arguments as far as they are given, then by name."""
    placed: list[Any] = []
    for name in order:
        if name not in values:
            break
        value = values.pop(name)
        placed += value if name in ("operands", "inputs") else [value]
    return function(*placed, **values)


def _in_tf(function: Function) -> Callable[..., Any]:
    import tensorflow as tf

    return operator.getitem if function is SLICE else operator.attrgetter(function.tf)(tf)


def _in_keras(function: Function) -> Callable[..., Any]:
    import keras

    return operator.getitem if function is SLICE else getattr(keras.ops, function.keras)
