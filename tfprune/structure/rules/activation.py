"""Activation functions: which are elementwise, and which mix the channels."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.graph.graph import Call, Ref
from tfprune.graph.read import read
from tfprune.graph.rebuild import is_foreign
from tfprune.keras_support.internals import to_snake_case
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import Axes
from tfprune.structure.ids.rule_registry import is_elementwise

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
    """Propagate ids through the activation of a layer."""
    if activation is None or is_pointwise(activation):
        return axes
    name, trusted = _name(activation)
    if trusted and name in MIXING:
        return mix(flow, call, axes, -1, f"{name} over these channels")
    flow.freeze_axes(axes, f"{call.path} has an activation without a rule ({name})")
    return axes


def is_pointwise(activation: Any) -> bool:
    """Return whether an activation is elementwise."""
    name, trusted = _name(activation)
    return (trusted and name in POINTWISE) or (
        is_foreign(activation) and is_elementwise_function(activation)
    )


def is_elementwise_function(function: Callable[[Any], Any]) -> bool:
    """Return whether a function is elementwise.

    It is traced on a symbolic tensor: it may use only elementwise operations of Keras, and
    scalars as constants.

    Example:
        >>> import keras
        >>> is_elementwise_function(lambda x: x * keras.ops.sigmoid(1.702 * x))
        True
        >>> is_elementwise_function(lambda x: x - keras.ops.mean(x, axis=-1, keepdims=True))
        False
    """
    start = keras.Input(batch_shape=(3, 5))
    try:
        model = keras.Model(start, function(start))
    except Exception:  # noqa: BLE001 — user code may raise anything
        return False
    graph = read(model, lambda op: True)
    if not isinstance(graph.outputs, Ref) or graph.shape(graph.outputs) != (3, 5):
        return False
    return all(
        is_elementwise(call.op) and not any(map(_is_array, tree.flatten((call.args, call.kwargs))))
        for call in graph.calls
    )


def _is_array(leaf: Any) -> bool:
    """Return whether an argument is neither a tensor of the graph nor a scalar."""
    return isinstance(leaf, keras.Variable) or (not isinstance(leaf, Ref) and np.ndim(leaf) > 0)


def _name(activation: Any) -> tuple[str, bool]:
    """Return the name of an activation, and whether Keras or TensorFlow defines it."""
    name = getattr(activation, "__name__", type(activation).__name__)
    home = getattr(activation, "__module__", "") or ""
    if isinstance(activation, keras.Layer) and not activation.weights:
        home = type(activation).__module__
        name = to_snake_case(type(activation).__name__)
        name = {"re_lu": "relu", "leaky_re_lu": "leaky_relu"}.get(name, name)
    return name, home.startswith(("keras.", "tensorflow."))


def mix(flow: Flow, call: Call, axes: Axes, axis: int, why: str) -> Axes:
    """Record that each output of a call depends on all positions of an axis; return the axes."""
    ids = axes[axis]
    if ids is not None:
        flow.change(ids, f"{call.path}: {why}")
        flow.gather(call, ids)
    return axes
