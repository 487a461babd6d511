"""How each layer and operation propagates channel ids.

A rule is a plain function of the flow and a call. It returns the ids of each axis of the
call's output (a list of such tuples for several outputs), and records which axes of which
weights are indexed by which ids. An operation without a rule freezes all its channels.

Example:
    A custom layer that scales each channel:

    >>> import keras
    >>> import tfprune
    >>> class Scale(keras.layers.Layer):
    ...     def build(self, shape):
    ...         self.scale = self.add_weight(shape=(shape[-1],), name="scale")
    ...     def call(self, x):
    ...         return x * self.scale
    >>> @tfprune.rules.register(Scale)
    ... def scale(flow, call):
    ...     axes = flow.axes(call.args[0])
    ...     flow.site(call.op).bind(call.op.scale, 0, axes[-1])
    ...     return axes
"""

from tfprune.structure.ids.rule_registry import Rule, find, register
from tfprune.structure.rules import (
    attention,
    convolution,
    dense,
    elementwise,
    movement,
    normalization,
    recurrent,
    reduction,
    slicing,
    spatial,
    wrapper,
)

__all__ = [
    "Rule",
    "attention",
    "convolution",
    "dense",
    "elementwise",
    "find",
    "movement",
    "normalization",
    "recurrent",
    "reduction",
    "register",
    "slicing",
    "spatial",
    "wrapper",
]
