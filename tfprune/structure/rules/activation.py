"""Activation functions: which act on each number alone, and which mix the channels."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.graph.read import Call
from tfprune.keras_support.internals import maker_of, node_of, to_snake_case
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import Axes
from tfprune.structure.ids.rule_registry import is_elementwise, is_foreign

# fmt: off
POINTWISE = frozenset({
    "celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu",
    "hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "mish", "relu", "relu6",
    "selu", "sigmoid", "silu", "soft_shrink", "softplus", "softsign", "sparse_plus",
    "sparse_sigmoid", "squareplus", "swish", "tanh", "tanh_shrink", "threshold",
})
# fmt: on
MIXING = frozenset(["softmax", "log_softmax", "sparsemax"])


def activate(flow: Flow, call: Call, activation: Any, axes: Axes) -> Axes:
    """Carry ids through the activation of a layer."""
    if activation is None or is_pointwise(activation):
        return axes
    name, trusted = _name(activation)
    if trusted and name in MIXING:
        return mix(flow, call, axes, -1, f"{name} over these channels")
    flow.freeze_axes(axes, f"{call.path} has an activation without a rule ({name})")
    return axes


def is_pointwise(activation: Any) -> bool:
    """Tell whether an activation gives each number from that number alone."""
    name, trusted = _name(activation)
    return (trusted and name in POINTWISE) or (is_foreign(activation) and acts_alone(activation))


def acts_alone(function: Callable[[Any], Any]) -> bool:
    """Tell whether a function gives each number from that number alone.

    It is run on a symbolic tensor: all that it does must be elementwise operations of Keras, with
    no constants but numbers.

    Example:
        >>> import keras
        >>> acts_alone(lambda x: x * keras.ops.sigmoid(1.702 * x))
        True
        >>> acts_alone(lambda x: x - keras.ops.mean(x, axis=-1, keepdims=True))
        False
    """
    start = keras.KerasTensor((3, 5))
    try:
        end = function(start)
    except Exception:  # noqa: BLE001 — any code of the user's runs in here
        return False
    if not isinstance(end, keras.KerasTensor) or tuple(end.shape) != (3, 5):
        return False
    stack, seen = [end], set()
    while stack:
        here = stack.pop()
        if here is start or id(here) in seen:
            continue
        seen.add(id(here))
        operation = maker_of(here)
        if not is_elementwise(operation):
            return False
        given = node_of(here).arguments
        for leaf in tree.flatten((given.args, given.kwargs)):
            if isinstance(leaf, keras.KerasTensor):
                stack.append(leaf)
            elif isinstance(leaf, keras.Variable) or np.ndim(leaf) > 0:
                return False
    return True


def _name(activation: Any) -> tuple[str, bool]:
    """What an activation is called, and whether it is one of Keras's or TensorFlow's."""
    name = getattr(activation, "__name__", type(activation).__name__)
    home = getattr(activation, "__module__", "") or ""
    if isinstance(activation, keras.Layer) and not activation.weights:
        home = type(activation).__module__
        name = to_snake_case(type(activation).__name__)
        name = {"re_lu": "relu", "leaky_re_lu": "leaky_relu"}.get(name, name)
    return name, home.startswith(("keras.", "tensorflow."))


def mix(flow: Flow, call: Call, axes: Axes, axis: int, why: str) -> Axes:
    """An operation whose every output depends on all positions of an axis."""
    ids = axes[axis]
    if ids is not None:
        flow.change(ids, f"{call.path}: {why}")
        flow.gather(call, ids)
    return axes
