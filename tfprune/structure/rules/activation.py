"""Activation functions: which act on each number alone, and which mix the channels."""

from typing import Any

import keras

from tfprune.graph.read import Call
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.rule_registry import is_foreign
from tfprune.structure.ids.site import Axes
from tfprune.structure.rules.foreign import acts_alone
from tfprune.utils.keras_internals import to_snake_case

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
