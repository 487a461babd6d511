"""Finding tensors that are constant: zeros, or the same numbers for every sample.

This is derived from the weights and not from samples: a unit that is zero on some inputs may be
nonzero on others.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers as kl

from tfprune.graph.call_kinds import layers_named, names_of
from tfprune.graph.graph import Call, Graph, Ref
from tfprune.graph.rebuild import Weights
from tfprune.keras_support.attention_steps import projections_of
from tfprune.keras_support.internals import (
    CustomScaleLayer,
    LayerScale,
    StochasticDepth,
    is_keras_operation,
)
from tfprune.structure.gates.layers import ChannelGate
from tfprune.structure.rules.activation import POINTWISE
from tfprune.structure.rules.elementwise import PASSING, UNARY

Constant = np.ndarray
"""An array that broadcasts to the tensor without its batch."""

_PASSING = (*PASSING, kl.ActivityRegularization, StochasticDepth)
_PRODUCTS = layers_named(
    "Dense EinsumDense Conv#D Conv#DTranspose DepthwiseConv1D DepthwiseConv2D SeparableConv1D "
    "SeparableConv2D"
)
_NORMS = (kl.LayerNormalization, kl.GroupNormalization, kl.RMSNormalization)
_ATTENTION = (kl.MultiHeadAttention, kl.GroupQueryAttention)
# Operations that give zeros for zeros.
_MOVING = frozenset(names_of("movement", "selection", "join", "blend", "reduction"))


def find_constants(graph: Graph, weights: Weights) -> dict[int, Constant]:
    """Return the tensors of a graph that are the same for every input, by their index."""
    found: dict[int, Constant] = {}
    for call in graph.calls:
        rank = len(graph.values[call.outputs[0].index].shape)
        value = _Reading(call, rank, weights, found).value()
        if value is not None:
            found.update((ref.index, value) for ref in call.outputs)
    return found


def is_zero(value: Constant | None) -> bool:
    """Return whether a tensor is known to be zero everywhere."""
    return value is not None and not value.any()


class _Reading:
    """One call, with the known constants among its inputs."""

    def __init__(self, call: Call, rank: int, weights: Weights, found: dict[int, Constant]) -> None:
        self.call, self.op, self.rank = call, call.op, rank
        self.arrays = weights.get(id(call.op), [])
        self.found = found
        self.given = [found.get(ref.index) for ref in call.inputs]

    def weight(self, variable: Any) -> Any:
        """Return the array of one of the layer's variables, or None."""
        places = [known is variable for known in self.op.weights]
        return self.arrays[places.index(True)] if variable is not None and any(places) else None

    def value(self) -> Constant | None:
        op, first = self.op, (self.given or [None])[0]
        kind = type(op).__name__
        ours = is_keras_operation(type(op))
        if isinstance(op, _PRODUCTS):
            return self.product(first)
        if isinstance(op, kl.BatchNormalization):
            return self.batch_norm(first)
        if isinstance(op, _NORMS):
            return self.norm(first)
        if isinstance(op, (LayerScale, ChannelGate)):
            return self.scaled(first)
        if isinstance(op, _ATTENTION):
            return self.attention()
        if isinstance(op, _PASSING):
            return first
        if isinstance(op, kl.Activation):
            return self.activated(op.activation, first)
        if isinstance(op, (kl.ReLU, kl.ELU, kl.LeakyReLU)) or (ours and kind in UNARY):
            alone = first is not None and len(self.given) == 1
            return _numbers(op(first, *self.call.args[1:], **self.call.kwargs)) if alone else None
        if isinstance(op, CustomScaleLayer) and all(g is not None for g in self.given):
            return _numbers(self.given[0] + op.scale * self.given[1])
        if (isinstance(op, keras.Layer) or ours) and kind in _MOVING:
            return self.moved()
        if isinstance(op, (kl.Add, kl.Subtract, kl.Multiply)) or (
            ours and kind in ("Add", "Subtract", "Multiply")
        ):
            return self.joined(kind)
        return None

    def product(self, x: Constant | None) -> Constant | None:
        kernels = [
            array
            for variable, array in zip(self.op.weights, self.arrays, strict=True)
            if variable.name.endswith("kernel")
        ]
        if not is_zero(x) and all(kernel.any() for kernel in kernels):
            return None
        bias = self.weight(self.op.bias)
        value = np.zeros((), np.float32) if bias is None else bias
        if not isinstance(self.op, (kl.Dense, kl.EinsumDense)):
            first = self.op.data_format == "channels_first"
            value = _standing(value, 1 if first else -1, self.rank)
        return self.activated(self.op.activation, value)

    def batch_norm(self, x: Constant | None) -> Constant | None:
        op = self.op
        gamma = self.weight(getattr(op, "gamma", None))
        beta = self.weight(getattr(op, "beta", None))
        zero = gamma is not None and not gamma.any()
        if x is None and not zero:
            return None
        mean, variance = self.weight(op.moving_mean), self.weight(op.moving_variance)
        shift = np.zeros((), np.float32) if beta is None else beta
        if not zero:
            scale = (1.0 if gamma is None else gamma) / np.sqrt(variance + op.epsilon)
            flat = None if x is None else _along(x, op.axis, self.rank)
            if flat is None:
                return None
            shift = flat * scale + (shift - mean * scale)
        return _standing(shift, op.axis, self.rank)

    def norm(self, x: Constant | None) -> Constant | None:
        names = {variable.name: variable for variable in self.op.weights}
        gamma = self.weight(names.get("gamma", names.get("scale")))
        if not is_zero(x) and (gamma is None or gamma.any()):
            return None
        beta = self.weight(names.get("beta"))
        if beta is None:
            return np.zeros((), np.float32)
        axis = self.op.axis
        axes = [one % self.rank for one in ([axis] if isinstance(axis, int) else axis)]
        if axes != list(range(axes[0], axes[0] + beta.ndim)):
            return None
        return beta.reshape(*beta.shape, *[1] * (self.rank - axes[-1] - 1))

    def scaled(self, x: Constant | None) -> Constant | None:
        gate = isinstance(self.op, ChannelGate)
        factor = _numbers(self.op.values()) if gate else self.weight(self.op.gamma)
        factor = _standing(factor, self.op.axis if gate else -1, self.rank)
        if not factor.any():
            return np.zeros((), np.float32)
        return None if x is None else x * factor

    def attention(self) -> Constant | None:
        op = self.op
        projections = projections_of(op)
        out, value = projections.output, projections.value
        zero = not self.weight(value.kernel).any() and (
            value.bias is None or not self.weight(value.bias).any()
        )
        if len(self.call.outputs) > 1 or (self.weight(out.kernel).any() and not zero):
            return None
        return np.zeros((), np.float32) if out.bias is None else self.weight(out.bias)

    def moved(self) -> Constant | None:
        padded = getattr(self.op, "constant_values", 0)
        zeros = bool(self.given) and all(is_zero(value) for value in self.given) and not padded
        return np.zeros((), np.float32) if zeros else None

    def joined(self, kind: str) -> Constant | None:
        call, found = self.call, self.found
        layer = isinstance(call.op, keras.Layer)
        parts = call.args[0] if layer else (*call.args, *call.kwargs.values())
        known = [found.get(p.index) if isinstance(p, Ref) else _plain(p) for p in parts]
        if kind == "Multiply" and any(is_zero(value) for value in known):
            return np.zeros((), np.float32)
        if any(value is None for value in known):
            return None
        total = known[0]
        work: Callable = {"Add": np.add, "Subtract": np.subtract, "Multiply": np.multiply}[kind]
        for value in known[1:]:
            total = work(total, value)
        return np.asarray(total)

    def activated(self, activation: Any, x: Constant | None) -> Constant | None:
        if activation is None or x is None:
            return x
        name = getattr(activation, "__name__", "")
        home = getattr(activation, "__module__", "") or ""
        if name not in POINTWISE or not home.startswith("keras."):
            return None
        return _numbers(activation(keras.ops.convert_to_tensor(x)))


def _numbers(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def _plain(value: Any) -> np.ndarray | None:
    """Return a scalar argument as an array, or None; a larger array may include the batch."""
    array = np.asarray(value)
    return array if array.ndim == 0 and array.dtype.kind in "fi" else None


def _standing(vector: np.ndarray, axis: Any, rank: int) -> Constant:
    """Return a vector reshaped to lie along an axis of a tensor of `rank` axes."""
    axis = (axis if isinstance(axis, int) else axis[0]) % rank
    return vector if not vector.ndim else vector.reshape(-1, *[1] * (rank - 1 - axis))


def _along(value: Constant, axis: Any, rank: int) -> np.ndarray | None:
    """Return a constant as a vector along an axis, or None if it varies along others."""
    axis = (axis if isinstance(axis, int) else axis[0]) % rank
    if not value.ndim:
        return value
    at = value.ndim - (rank - axis)
    others = [size for position, size in enumerate(value.shape) if position != at]
    return value.reshape(-1) if at >= 0 and all(size == 1 for size in others) else None
