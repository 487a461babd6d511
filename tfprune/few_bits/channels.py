"""The channels of a model whose scale is free: one weight divides it, others multiply it back.

Between them every operation is positively homogeneous, f(s·x) = s·f(x) for s > 0, as ReLU is and
ReLU6 is not. Each channel of each tensor is a number; channels that must have one scale are joined.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import keras
import numpy as np
from keras import layers as kl
from keras import tree
from numpy.typing import NDArray

from tfprune.graph.call_kinds import layers_named
from tfprune.graph.flat import is_primitive
from tfprune.graph.graph import Call, Graph, Ref
from tfprune.graph.read import read
from tfprune.keras_support.attention_steps import projections_of
from tfprune.keras_support.internals import all_layers, is_keras_operation

Numbers = NDArray[np.intp]

Role = Literal["makes", "sums", "reads"]
"""A weight makes channels, or reads them: summed with others, or each by itself."""


@dataclass(frozen=True)
class Touch:
    """A weight that is divided (`makes`) or multiplied by the scale of channels.

    Attributes:
        variable: The weight.
        numbers: The channel of each position; broadcasts against the weight.
        role: What the weight does with the channels.
        ref: The tensor that is read; None inside an attention, and for channels that are made.
    """

    variable: Any
    numbers: Numbers
    role: Role
    ref: Ref | None = None


@dataclass
class Channels:
    """The channels of a graph, filled by one rule for each call."""

    graph: Graph
    size: int = 0
    touches: list[Touch] = field(default_factory=list)
    of: dict[int, Numbers | None] = field(default_factory=dict)
    _joined: list[tuple[Numbers, Numbers]] = field(default_factory=list)
    _fixed: list[Numbers] = field(default_factory=list)
    _owners: dict[int, Any] = field(default_factory=dict)

    def fresh(self, count: int) -> Numbers:
        """Return new channels."""
        self.size += count
        return np.arange(self.size - count, self.size)

    def numbers(self, leaf: Any) -> Numbers | None:
        """Return the channels along the last axis of a tensor, if there are any."""
        return self.of.get(leaf.index) if isinstance(leaf, Ref) else None

    def fix(self, numbers: Numbers | None) -> None:
        """Let channels keep their scale."""
        if numbers is not None:
            self._fixed.append(numbers.ravel())

    def join(self, first: Numbers | None, second: Numbers | None) -> Numbers | None:
        """Give two tensors the same scales, position by position."""
        if first is None or second is None or first.shape != second.shape:
            self.fix(first)
            self.fix(second)
            return None
        self._joined.append((first.ravel(), second.ravel()))
        return first

    def touch(
        self, op: Any, variable: Any, numbers: Numbers | None, role: Role, ref: Any = None
    ) -> None:
        """Record that a weight of an operation makes or reads channels."""
        if variable is None or numbers is None:
            return
        if self._owners.setdefault(id(variable), op) is not op:
            self.fix(numbers)
        for known in self.touches:
            if known.variable is variable and (known.role == "makes") == (role == "makes"):
                self.join(known.numbers, numbers)
        self.touches.append(Touch(variable, numbers, role, ref))

    def scaled(self, factors: NDArray) -> list[tuple[Any, NDArray]]:
        """Return the weights with scales divided and multiplied, for a scale of each channel."""
        values: dict[int, tuple[Any, NDArray]] = {}
        seen: set[tuple[int, bool]] = set()
        for touch in self.touches:
            makes, key = touch.role == "makes", id(touch.variable)
            if (key, makes) in seen:
                continue
            seen.add((key, makes))
            factor = factors[touch.numbers]
            _, value = values.get(key, (None, touch.variable.value.numpy()))
            values[key] = touch.variable, value / factor if makes else value * factor
        return [(variable, value) for variable, value in values.values()]

    def classes(self) -> tuple[Numbers, NDArray[np.bool_]]:
        """Return the number of the class that each channel is in, and which classes are free."""
        root = np.arange(self.size)
        while self._joined:
            before = root.copy()
            for first, second in self._joined:
                least = np.minimum(root[first], root[second])
                np.minimum.at(root, first, least)
                np.minimum.at(root, second, least)
            if np.array_equal(root, before):
                break
        free = np.ones(self.size, bool)
        for numbers in self._fixed:
            free[root[numbers]] = False
        # A range is that of a whole tensor: of some free and some fixed channels, none is scaled.
        grown = True
        while grown:
            grown = False
            for touch in self.touches:
                mine = root[touch.numbers].ravel()
                if free[mine].any() and not free[mine].all():
                    free[mine], grown = False, True
        return root, free


Rule = Callable[[Channels, Call], Numbers | None]


def read_channels(model: Any) -> Channels:
    """Return the channels of a model.

    Raises:
        ModelError: The model cannot be read.
    """
    graph = read(model, is_primitive)
    channels = Channels(graph)
    pinned: set[int] = set()
    for ref in tree.flatten(graph.inputs):
        channels.of[ref.index] = None
    for call in graph.calls:
        rule = _rule_of(call.op)
        if rule is not None and len(call.outputs) == 1:
            channels.of[call.outputs[0].index] = rule(channels, call)
            continue
        pinned.update(map(id, getattr(call.op, "weights", ())))
        for ref in call.inputs:
            channels.fix(channels.numbers(ref))
        channels.of.update((ref.index, None) for ref in call.outputs)
    for ref in tree.flatten(graph.outputs):
        channels.fix(channels.numbers(ref))
    for touch in channels.touches:
        if id(touch.variable) in pinned:
            channels.fix(touch.numbers)
    return channels


_HOMOGENEOUS = (None, keras.activations.linear, keras.activations.relu)


def _product(channels: Channels, call: Call) -> Numbers | None:
    """Sum over the channels of the input, and make those of the output."""
    op, ref = call.op, call.args[0] if call.args else None
    x = channels.numbers(ref)
    kernel = op.kernel
    if getattr(op, "groups", 1) != 1 or not _is_last(op):
        channels.fix(x)
    elif x is not None:
        channels.touch(op, kernel, x[:, None], "sums", ref)
    made = channels.fresh(kernel.shape[-1])
    channels.touch(op, kernel, made, "makes")
    channels.touch(op, op.bias, made, "makes")
    return _activated(channels, op, made)


def _depthwise(channels: Channels, call: Call) -> Numbers | None:
    op, ref = call.op, call.args[0] if call.args else None
    x = channels.numbers(ref)
    if not _is_last(op):
        channels.fix(x)
        x = None
    if x is not None:
        channels.touch(op, op.kernel, x[:, None], "reads", ref)
    made = channels.fresh(op.kernel.shape[-2] * op.kernel.shape[-1])
    channels.touch(op, op.kernel, made.reshape(op.kernel.shape[-2:]), "makes")
    channels.touch(op, op.bias, made, "makes")
    return _activated(channels, op, made)


def _activated(channels: Channels, op: Any, made: Numbers) -> Numbers | None:
    if op.activation in _HOMOGENEOUS and _is_last(op):
        return made
    channels.fix(made)
    return None


def _is_last(op: Any) -> bool:
    form = getattr(op, "data_format", "channels_last")
    return (form or keras.config.image_data_format()) == "channels_last"


def _batch_norm(channels: Channels, call: Call) -> Numbers | None:
    """Read the channels with the mean and gamma, and make new ones with gamma and beta."""
    op, ref = call.op, call.args[0] if call.args else None
    x = channels.numbers(ref)
    maker = channels.graph.producers().get(ref.index) if isinstance(ref, Ref) else None
    alone = isinstance(ref, Ref) and channels.graph.only_reader(ref) is call
    folded = alone and maker is not None and hasattr(maker.op, "kernel")
    axis = op.axis if isinstance(op.axis, int) else op.axis[0]
    last = axis in (-1, len(channels.graph.shape(call.outputs[0])) - 1)
    # What a file folds into the convolution before has no range of its own.
    if op.gamma is None or not last or folded:
        channels.fix(x)
    elif x is not None:
        channels.touch(op, op.moving_mean, x, "makes")
        channels.touch(op, op.gamma, x, "reads", ref)
    if op.gamma is None or not last:
        return None
    made = channels.fresh(op.gamma.shape[0])
    channels.touch(op, op.gamma, made, "makes")
    channels.touch(op, op.beta, made, "makes")
    return made


def _norm_of_channels(channels: Channels, call: Call) -> Numbers | None:
    """Make channels with gamma and beta; those of the input are mixed by the statistics."""
    op = call.op
    for ref in call.inputs:
        channels.fix(channels.numbers(ref))
    axes = [op.axis] if isinstance(op.axis, int) else list(op.axis)
    rank = len(channels.graph.shape(call.outputs[0]))
    gamma = getattr(op, "gamma", getattr(op, "scale", None))
    if gamma is None or isinstance(gamma, bool) or [a % rank for a in axes] != [rank - 1]:
        return None
    made = channels.fresh(gamma.shape[0])
    channels.touch(op, gamma, made, "makes")
    channels.touch(op, getattr(op, "beta", None), made, "makes")
    return made


def _attention(channels: Channels, call: Call) -> Numbers | None:
    """Read three tensors; what the heads make of the values, the last projection sums over."""
    op = call.op
    names = dict(zip(("query", "value", "key"), call.args, strict=False)) | call.kwargs
    inside = projections_of(op)
    given = [names.get("query"), names.get("value")]
    given.append(names["value"] if names.get("key") is None else names["key"])
    refs = {leaf for leaf in given if isinstance(leaf, Ref)}
    for ref in set(call.inputs) - refs:
        channels.fix(channels.numbers(ref))
    for leaf, part in zip(given, (inside.query, inside.value, inside.key), strict=True):
        x = channels.numbers(leaf)
        if inside.gate is not None:
            channels.fix(x)
        elif x is not None:
            channels.touch(part, part.kernel, x[:, None, None], "sums", leaf)
    if inside.gate is None and inside.value.kernel.shape[1:] == inside.output.kernel.shape[:2]:
        heads = channels.fresh(int(np.prod(inside.value.kernel.shape[1:])))
        heads = heads.reshape(inside.value.kernel.shape[1:])
        channels.touch(inside.value, inside.value.kernel, heads, "makes")
        channels.touch(inside.value, inside.value.bias, heads, "makes")
        channels.touch(inside.output, inside.output.kernel, heads[:, :, None], "sums")
    if len(inside.output.kernel.shape) != 3:
        return None
    made = channels.fresh(inside.output.kernel.shape[-1])
    channels.touch(inside.output, inside.output.kernel, made, "makes")
    channels.touch(inside.output, inside.output.bias, made, "makes")
    return made


def _same(channels: Channels, call: Call) -> Numbers | None:
    """Pass the channels of the only input, if they are those of the output."""
    first = call.inputs[0]
    x = channels.numbers(first)
    before, after = (channels.graph.shape(ref) for ref in (first, call.outputs[0]))
    if x is None or len(call.inputs) != 1 or not _is_last(call.op):
        for ref in call.inputs:
            channels.fix(channels.numbers(ref))
        return None
    if before[-1] == after[-1]:
        return x
    places = int(after[-1] or 0) // len(x)
    if len(after) == 2 and tuple(before[1:-1]) and places * len(x) == after[-1]:
        return np.tile(x, places)
    channels.fix(x)
    return None


def _relu(channels: Channels, call: Call) -> Numbers | None:
    op = call.op
    if isinstance(op, kl.Activation) and op.activation not in _HOMOGENEOUS:
        plain = False
    elif isinstance(op, kl.ReLU):
        plain = op.max_value is None and not op.threshold
    else:
        plain = True
    if plain:
        return _same(channels, call)
    channels.fix(channels.numbers(call.inputs[0]))
    return None


def _add(channels: Channels, call: Call) -> Numbers | None:
    """Join the channels of all terms; a constant has the scale that it has."""
    leaves = tree.flatten((call.args, call.kwargs))
    each = [channels.numbers(leaf) for leaf in leaves]
    result = each[0]
    for numbers in each[1:]:
        result = channels.join(result, numbers)
    return result


def _concatenate(channels: Channels, call: Call) -> Numbers | None:
    each = [channels.numbers(ref) for ref in call.inputs]
    rank = len(channels.graph.shape(call.outputs[0]))
    if any(one is None for one in each) or call.op.axis not in (-1, rank - 1):
        for one in each:
            channels.fix(one)
        return None
    return np.concatenate([one for one in each if one is not None])


_RULES: Sequence[tuple[tuple[type, ...], Rule]] = (
    ((kl.Dense, *layers_named("Conv#D")), _product),
    (layers_named("DepthwiseConv1D DepthwiseConv2D"), _depthwise),
    ((kl.BatchNormalization,), _batch_norm),
    (layers_named("LayerNormalization RMSNormalization"), _norm_of_channels),
    ((kl.MultiHeadAttention,), _attention),
    ((kl.ReLU, kl.LeakyReLU, kl.Activation), _relu),
    ((kl.Add,), _add),
    ((kl.Concatenate,), _concatenate),
    (
        layers_named(
            "Flatten Dropout SpatialDropout#D Identity MaxPooling#D AveragePooling#D ZeroPadding#D "
            "GlobalAveragePooling#D GlobalMaxPooling#D Cropping#D UpSampling#D"
        ),
        _same,
    ),
)
_OPERATIONS: dict[str, Rule] = {"Add": _add, "Relu": _same, "MaxPool": _same, "AveragePool": _same}


def _rule_of(op: Any) -> Rule | None:
    if not isinstance(op, keras.Layer):
        return _OPERATIONS.get(type(op).__name__) if is_keras_operation(type(op)) else None
    if any(getattr(layer, "lora_enabled", False) for layer in all_layers(op)):
        return None  # its kernel is a sum, which cannot be assigned
    for kinds, rule in _RULES:
        for kind in kinds:
            if isinstance(op, kind):
                return rule if type(op).call is kind.call else None  # type: ignore[attr-defined]
    return None
