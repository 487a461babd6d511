"""The registry of rules for layer classes and operations."""

from collections.abc import Callable
from typing import Any, Protocol

import keras

from tfprune.errors import OptionError, type_name
from tfprune.graph.call_kinds import spelled
from tfprune.graph.graph import Call
from tfprune.graph.rebuild import is_foreign
from tfprune.keras_support.internals import is_keras_operation
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import Axes


class Rule(Protocol):
    """A function that propagates ids through one kind of operation.

    It reads the ids of the inputs with `flow.axes`, binds weight axes with
    `flow.site(call.op).bind`, makes ids with `site.make`, and returns the ids of each axis of
    the output: a tuple, or a list of tuples for several outputs.
    """

    def __call__(self, flow: Flow, call: Call) -> Axes | list[Axes]:
        """Propagate the ids through one call."""


_LAYERS: dict[type, Rule] = {}
_OPS: dict[str, Rule] = {}
# Rules of elementwise operations.
_ELEMENTWISE: list[Rule] = []


def register(kind: type) -> Callable[[Rule], Rule]:
    """Return a decorator that registers a function as the rule of a layer class.

    Raises:
        OptionError: The class is not a layer class, or already has a rule.
    """
    if not (isinstance(kind, type) and issubclass(kind, keras.Layer)):
        raise OptionError(f"rules.register: expected a class of layers. Received {type_name(kind)}")
    if kind in _LAYERS:
        raise OptionError(f"rules.register: {kind.__name__} already has a rule")

    def store(rule: Rule) -> Rule:
        if not callable(rule):
            raise OptionError(
                f"rules.register: expected a function of the flow and a call as the rule of "
                f"{kind.__name__}. Received {rule!r}"
            )
        _LAYERS[kind] = rule
        return rule

    return store


def forget(kind: type) -> None:
    """Remove the rule of a layer class."""
    del _LAYERS[kind]


def newer(names: str) -> tuple[type, ...]:
    """Return the Keras layer classes with these names that this Keras is not too old for."""
    found = (getattr(keras.layers, name, None) for name in spelled(names))
    return tuple(kind for kind in found if kind is not None)


def layers(*kinds: type) -> Callable[[Rule], Rule]:
    """Return a decorator that registers a function as the rule of several layer classes."""

    def store(rule: Rule) -> Rule:
        for kind in kinds:
            register(kind)(rule)
        return rule

    return store


def ops(*names: str, elementwise: bool = False) -> Callable[[Rule], Rule]:
    """Return a decorator that registers a rule of Keras operations, by their class names.

    `elementwise`: each element of the output depends only on the inputs at its position.
    """

    def store(rule: Rule) -> Rule:
        if elementwise:
            _ELEMENTWISE.append(rule)
        for name in names:
            if name in _OPS:
                raise OptionError(f"the operation {name} already has a rule")
            _OPS[name] = rule
        return rule

    return store


def find(op: Any) -> Rule | None:
    """Return the rule of an operation, or None.

    A subclass has its parent's rule only if it does not override `call` and `build`.
    """
    kind = type(op)
    if kind is keras.layers.Activation and is_foreign(op.activation):
        return None  # It is traced, and the operations of the function have rules.
    if not isinstance(op, keras.Layer):
        return _OPS.get(kind.__name__) if is_keras_operation(kind) else None
    for parent in kind.__mro__:
        rule = _LAYERS.get(parent)
        if rule is not None:
            same = all(getattr(kind, name) is getattr(parent, name) for name in ("call", "build"))
            return rule if same else None
    return None


def is_elementwise(op: Any) -> bool:
    """Return whether an operation is elementwise and not a layer."""
    return not isinstance(op, keras.Layer) and find(op) in _ELEMENTWISE


def known_layers() -> list[type]:
    """Return the layer classes that have a rule."""
    return list(_LAYERS)


def stop(flow: Flow, call: Call, why: str) -> Any:
    """Freeze all channels of a call's inputs and outputs, with the reason."""
    for ref in call.inputs:
        flow.freeze_axes(flow.axes(ref), f"{call.path} {why}")
    flow.keep_whole(call, f"{call.path} {why}")
    fixed = [(None,) * len(flow.shape(ref)) for ref in call.outputs]
    return fixed[0] if len(fixed) == 1 else fixed
