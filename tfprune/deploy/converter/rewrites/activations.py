"""Activation functions made of operations whose ranges 8 bits hold.

The runtime has no integer kernel for ELU, and the converter writes others with exp(x), which for
large x takes all steps of an 8-bit range. Here exp only sees numbers below zero.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from tfprune.deploy.converter.rewrites.graph import Expression, constant_value, replace_outputs

# As in TensorFlow's Selu.
_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_ALPHA = 1.6732632423543772848170429916717


def _elu(e: Expression, x: str) -> str:
    return e.add(e.relu(x), _below_zero(e, x))


def _selu(e: Expression, x: str) -> str:
    above = e.multiply(e.relu(x), e.number(_SELU_SCALE))
    return e.add(above, e.multiply(_below_zero(e, x), e.number(_SELU_SCALE * _SELU_ALPHA)))


def _softplus(e: Expression, x: str) -> str:
    less = e.exp(e.negate(e.absolute(x)))
    return e.add(e.relu(x), e.log(e.add(less, e.number(1.0))))


def _below_zero(e: Expression, x: str) -> str:
    """Return exp(min(x, 0)) - 1."""
    return e.subtract(e.exp(e.negate(e.relu(e.negate(x)))), e.number(1.0))


_FORMS: dict[str, Callable[[Expression, str], str]] = {
    "Elu": _elu,
    "Selu": _selu,
    "Softplus": _softplus,
}


def split_at_zero(function: Any) -> None:
    """Write ELU, SELU and softplus as a sum of a part above zero and one of small range.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    renamed = {}
    for node in [node for node in function.node_def if node.op in _FORMS]:
        e = Expression(function, node)
        renamed[f"{node.name}:activations:0"] = _FORMS[node.op](e, node.input[0])
    replace_outputs(function, renamed)


def limit_apart(function: Any) -> None:
    """Write a limit of a tensor that others read too with a ReLU.

    The converter gives the input and the output of an 8-bit minimum one range: all readers of the
    input would get it limited.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    import tensorflow as tf

    by_name = {node.name: node for node in function.node_def}
    readers = Counter(name for node in function.node_def for name in node.input)
    readers.update(function.ret.values())
    renamed = {}
    for node in [node for node in function.node_def if node.op in ("Minimum", "Maximum")]:
        limits = [constant_value(by_name, name) for name in node.input[:2]]
        place = next((i for i, value in enumerate(limits) if value is not None), None)
        floats = tf.as_dtype(node.attr["T"].type).is_floating
        if place is None or not floats or readers[node.input[1 - place]] == 1:
            continue
        e, x, limit = Expression(function, node), node.input[1 - place], node.input[place]
        if not np.any(limits[place]):
            limited = e.relu(x) if node.op == "Maximum" else e.negate(e.relu(e.negate(x)))
        elif node.op == "Maximum":
            limited = e.add(limit, e.relu(e.subtract(x, limit)))
        else:
            limited = e.subtract(limit, e.relu(e.subtract(limit, x)))
        renamed[f"{node.name}:z:0"] = limited
    replace_outputs(function, renamed)


def select_scalar_zeros(function: Any) -> None:
    """Select a zero instead of a tensor of zeros, for which there is no integer kernel.

    Args:
        function: A `FunctionDef`, changed in place.
    """
    by_name = {node.name: node for node in function.node_def}
    for node in [node for node in function.node_def if node.op == "SelectV2"]:
        for place in (1, 2):
            zeros = by_name.get(node.input[place].partition(":")[0])
            if zeros is not None and zeros.op == "ZerosLike":
                node.input[place] = Expression(function, node).number(0.0)
