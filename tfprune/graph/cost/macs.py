"""Multiply-accumulates of a Keras 3 model, operation by operation.

Counted are the multiplications of contractions: convolutions, matrix products, attention,
recurrence. Bias additions, activations, normalization and pooling are left out, as is usual, since
their cost is that of moving data. An operation that has no rule is looked into; where that fails it
is named, never taken for free.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

from tfprune.errors import ModelError, OptionError, type_name
from tfprune.graph.cost.mac_rules import (
    FREE,
    AxesOf,
    Products,
    Tensors,
    einsum_shape,
    rule_of,
    shape_of,
)
from tfprune.graph.graph import Call
from tfprune.graph.read import is_function, read_function
from tfprune.graph.rebuild import execute
from tfprune.graph.tracing.trace import ONE_AT_A_TIME
from tfprune.keras_support.internals import all_layers, note_calls, takes_training
from tfprune.utils.text_table import grid

Shape = Sequence[int | None]

# What tracing a layer's call may raise when it does something that symbols cannot follow.
UNTRACEABLE = (
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class OperationMacs:
    """What one call of one operation costs.

    Attributes:
        name: The operation, after the names of the models and layers that it is inside of.
        kind: Its class.
        macs: Multiply-accumulates.
    """

    name: str
    kind: str
    macs: int


@dataclass(frozen=True)
class Macs:
    """What one call of a model costs.

    Attributes:
        total: Multiply-accumulates; an open batch counts as 1.
        operations: One entry for each call of an operation that costs something; a shared layer
            has one for each of its calls.
        unknown: What has no rule and could not be looked into, with the reason. Its cost is missing
            in `total`.
    """

    total: int
    operations: tuple[OperationMacs, ...]
    unknown: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.total:,} multiply-accumulates"]
        if self.operations:
            rows = [
                (
                    entry.name,
                    entry.kind,
                    f"{entry.macs:,}",
                    f"{100 * entry.macs / self.total:.1f} %",
                )
                for entry in self.operations
            ]
            lines.append(grid(("operation", "kind", "macs", "share"), rows))
        lines += [f"not counted: {name}" for name in self.unknown]
        return "\n".join(lines)


def macs(model: keras.layers.Layer, input_shape: Shape | Mapping[str, Shape] | None = None) -> Macs:
    """Return the multiply-accumulates of one call of a model.

    Args:
        model: A Keras 3 model or layer. One that is neither functional nor sequential needs
            `input_shape`.
        input_shape: The shape of the input without its batch, where the model leaves it open; for
            several inputs a dict from their names.

    Raises:
        ModelError: It is no Keras 3 model, is not built, or cannot be called on that shape.
        OptionError: A shape is open and none is given, or the names do not fit.

    Example:
        >>> dense = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> macs(dense).total
        32
    """
    if not isinstance(model, keras.layers.Layer):
        raise ModelError(
            f"macs: expected a Keras 3 model. Received {type_name(model)}; "
            "a tf_keras model goes through tfprune.to_keras3 first"
        )
    if not model.built:
        raise ModelError(f"{model.name}: is not built; call it on data once")
    walk = _Walk()
    inputs = _inputs(model, input_shape)
    try:
        if is_function(model):
            walk.graph(model, inputs, "")
        else:
            walk.visit(model, (inputs[0],), {}, model.name)
    except UNTRACEABLE as error:
        shapes = ", ".join(str(tensor.shape) for tensor in inputs)
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{model.name}: cannot be called on the shape {shapes}: {reason}"
        ) from error
    return walk.counted()


def products_of_call(
    op: Any, args: Any, kwargs: Any, outputs: Any, name: str, axes: AxesOf = shape_of
) -> tuple[Products, list[str]]:
    """Return the products that make up the cost of one call, and what could not be counted.

    Args:
        op: A layer or operation of Keras 3.
        args: What it is called with: symbolic tensors.
        kwargs: What it is called with by name.
        outputs: What it gives.
        name: How to call it.
        axes: Gives the sizes of the axes of a tensor or weight, which the products are made of.
    """
    walk = _Walk(axes)
    try:
        walk.charge(op, args, kwargs, lambda: outputs, name)
    except UNTRACEABLE as error:
        walk.unknown.append(_named(op, name, error))
    return walk.products, walk.unknown


def is_free(op: Any) -> bool:
    """Tell whether an operation multiplies nothing, whatever it is called on."""
    return rule_of(type(op)) is FREE


def _named(op: Any, name: str, error: Exception) -> str:
    """Say what could not be counted, and why."""
    reason = f"its call does what symbols cannot follow ({type(error).__name__})"
    if isinstance(error, NotImplementedError):
        reason = " ".join(str(error).split())[:200]
    return f"{name} ({type_name(op)}): {reason}"


def _inputs(model: Any, given: Any) -> list[Any]:
    """Return the model's inputs with all sizes known."""
    if not is_function(model):
        if given is None or isinstance(given, Mapping):
            raise OptionError(f"{model.name}: is no functional model; give input_shape=(...)")
        return [keras.KerasTensor((1, *given))]
    known = list(model.inputs)
    if given is None:
        shapes = [tensor.shape[1:] for tensor in known]
    elif isinstance(given, Mapping):
        names = [tensor.name for tensor in known]
        if sorted(names) != sorted(given):
            raise OptionError(
                f"input_shape: expected the inputs {', '.join(names)}. "
                f"Received {', '.join(map(str, given))}"
            )
        shapes = [tuple(given[name]) for name in names]
    elif len(known) == 1:
        shapes = [tuple(given)]
    else:
        raise OptionError(
            f"input_shape: the model has {len(known)} inputs; give a dict from their names: "
            f"{', '.join(tensor.name for tensor in known)}"
        )
    for tensor, shape in zip(known, shapes, strict=True):
        declared = tensor.shape[1:]
        if len(shape) != len(declared) or any(
            want not in (None, side) for want, side in zip(declared, shape, strict=True)
        ):
            raise OptionError(
                f"{model.name}: input {tensor.name!r} has the shape {declared}. "
                f"Received {tuple(shape)}"
            )
        if None in shape:
            raise OptionError(
                f"{model.name}: input {tensor.name!r} has the open shape {tuple(shape)}; "
                "give input_shape=(...) without the batch"
            )
    return [
        keras.KerasTensor((tensor.shape[0] or 1, *shape), tensor.dtype)
        for tensor, shape in zip(known, shapes, strict=True)
    ]


class _Walk:
    """One pass through the graph of a model, with the costs found on the way."""

    def __init__(self, axes: AxesOf = shape_of) -> None:
        self.axes = axes
        self.costs: list[tuple[str, str, Products]] = []
        self.unknown: list[str] = []

    @property
    def products(self) -> Products:
        """Return what all calls multiply."""
        return [product for _, _, products in self.costs for product in products]

    def counted(self) -> Macs:
        """Return what was found."""
        operations = tuple(
            OperationMacs(name, kind, sum(map(math.prod, products)))
            for name, kind, products in self.costs
        )
        return Macs(sum(entry.macs for entry in operations), operations, tuple(self.unknown))

    def graph(self, function: Any, inputs: list[Any], inside: str) -> Any:
        """Take the cost of the calls in a function down and return what it gives."""

        def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return self.visit(call.op, args, kwargs, f"{inside}{call.path}")

        return execute(read_function(function), inputs, run)

    def visit(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
        """Take the cost of one call down and return what the call gives."""
        if rule_of(type(op)) is None:
            return self._look_into(op, args, kwargs, name)
        outputs = output_spec(op, args, kwargs)
        self.charge(op, args, kwargs, lambda: outputs, name)
        return outputs

    def charge(
        self, op: Any, args: Any, kwargs: Any, outputs: Callable[[], Any], name: str
    ) -> None:
        """Take the cost of one call down; its outputs are worked out where a rule asks."""
        kind = rule_of(type(op))
        if kind is None:
            self._look_into(op, args, kwargs, name)
        elif kind is not FREE:
            found = kind(op, Tensors(args, kwargs, outputs, self.axes), self._inner_cost)
            products = found if isinstance(found, list) else [(found,)]
            self.costs.append((name, type(op).__name__, products))

    def _inner_cost(self, op: Any, *args: Any) -> Products:
        """Return the cost of an operation inside of another, such as the cell of an RNN."""
        inner = _Walk(self.axes)
        if is_function(op):
            inner.graph(op, keras.tree.flatten(args), f"{op.name}/{op.name}/")
        else:
            outputs = partial(output_spec, op, args, {})
            inner.charge(op, args, {}, outputs, f"{op.name}/{op.name}")
        self.unknown += inner.unknown
        return inner.products

    def _look_into(self, op: Any, args: Any, kwargs: Any, name: str) -> Any:
        """Cost a layer without a rule by what its `call` does, as far as symbols can follow it."""
        try:
            traced, inputs = _trace(op, args, kwargs)
        except UNTRACEABLE as error:
            self.unknown.append(_named(op, name, error))
            return output_spec(op, args, kwargs)
        return self.graph(traced, inputs, f"{name}/")


def output_spec(op: Any, args: Any, kwargs: Any) -> Any:
    """Return symbols of what a call gives, with every size that those of its inputs tell.

    Raises:
        ValueError: The operation cannot take inputs of these sizes, says Keras.
    """
    inputs = [leaf for leaf in keras.tree.flatten((args, kwargs)) if hasattr(leaf, "shape")]
    if type(op).__name__ == "DotProductAttention":
        # Keras takes the values to be as wide as the queries.
        query, _, value = inputs[:3]
        return keras.KerasTensor((*query.shape[:-1], value.shape[-1]), query.dtype)
    outputs = op.compute_output_spec(*args, **kwargs)
    _check_window(op, outputs)
    if isinstance(op, keras.layers.EinsumDense):
        # It says None for an axis that it passes on, or the size that it was built with.
        told = einsum_shape(op.equation, [inputs[0].shape, op.kernel.shape])
        return keras.KerasTensor(told, outputs.dtype)
    if _is_open(keras.tree.flatten(outputs)) and not _is_open(inputs):
        return keras.Operation.compute_output_spec(op, *args, **kwargs)
    return outputs


def _is_open(tensors: Iterable[Any]) -> bool:
    return any(None in tensor.shape for tensor in tensors)


def _check_window(op: Any, outputs: Any) -> None:
    """Refuse an input that is smaller than a window of Keras; older Keras takes it.

    Raises:
        ValueError: A convolution or pooling gives an output without a single number.
    """
    windowed = any(
        base.__module__.partition(".")[0] == "keras" and ("Conv" in name or "Pool" in name)
        for base in type(op).__mro__
        for name in [base.__name__]
    )
    for output in keras.tree.flatten(outputs) if windowed else ():
        if 0 in output.shape:
            raise ValueError(f"{op.name} would give {output.shape}: its window is larger than that")


def _trace(op: Any, args: Any, kwargs: Any) -> tuple[Any, list[Any]]:
    """Return the graph of a layer's call and the tensors to feed it with.

    Raises:
        One of UNTRACEABLE: The call does something that symbols cannot follow.
    """
    if not isinstance(op, keras.layers.Layer):
        raise NotImplementedError("no rule for this operation")
    inputs: list[Any] = []
    symbols: list[Any] = []

    def symbol(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return value
        inputs.append(value)
        symbols.append(keras.KerasTensor(value.shape, value.dtype))
        return symbols[-1]

    args, kwargs = keras.tree.map_structure(symbol, (args, kwargs))
    if takes_training(op):
        kwargs = {**kwargs, "training": False}
    with ONE_AT_A_TIME:
        forget = note_calls(all_layers(op))
        try:
            graph = keras.Function(symbols, op.call(*args, **kwargs))
        finally:
            # The trace leaves nodes on the layers inside, which are nothing to the user's model.
            forget()
    return graph, inputs
