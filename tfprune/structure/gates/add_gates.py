"""Adding gates to the layers that make units."""

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from tfprune.errors import ModelError
from tfprune.graph.graph import Call
from tfprune.graph.inputs import InputShape
from tfprune.keras_support.models import carry_compile
from tfprune.structure.gates.layers import ChannelGate, Kind
from tfprune.structure.groups.grouping import Group
from tfprune.structure.groups.units import Units, units
from tfprune.structure.ids.ids import CHANNELS, WIDTH
from tfprune.structure.rebuild.cut import uncut
from tfprune.structure.rebuild.rebuild import rebuild
from tfprune.structure.select.ranking import check_filters, names_of
from tfprune.utils.filters import Filters, as_filters
from tfprune.utils.filters import choose as select


def add_gates(
    model: keras.Model,
    *,
    kind: Kind = "hard_concrete",
    penalty: float = 0.0,
    only: Filters[Group] = (),
    skip: Filters[Group] = (),
    input_shape: InputShape | None = None,
) -> keras.Model:
    """Return a copy of a model with a `ChannelGate` after each layer that makes removable units.

    A gate is placed after the BatchNormalization that follows its layer, if there is one, so that
    the output of a closed gate is zero. Units that several layers make together (residual
    streams) are not gated, since no single gate could close them; a warning names the groups
    without a gate. Train the result, then call `shrink(model, "gates")`.

    Args:
        model: A built Keras 3 model.
        kind: "hard", "l1" or "hard_concrete"; see `ChannelGate`.
        penalty: The weight of the gates' penalty in the loss. How soon they close depends on
            the optimizer as well: a step of Adam moves a gate by about the learning rate, and
            closing takes a change of 4.6 for "hard_concrete", of 1 for "l1".
        only: Names or regular expressions of layers (or predicates of a `Group`): gates are added
            to these only.
        skip: Layers or groups without a gate, in the same forms.
        input_shape: The input shape, for a subclassed model that was never called.

    Returns:
        A new model with the weights and the compilation of `model`. With kinds "hard" and "l1" it
        computes the same as `model` until gates close.

    Raises:
        FilterError: A name in `only` or `skip` matches nothing.
        ModelError: No gate can be placed.
        OptionError: The kind or penalty is not valid.

    Example:
        >>> import keras
        >>> import tfprune
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="hidden"),
        ...                           keras.layers.Dense(2)])
        >>> gated = tfprune.add_gates(model, kind="hard")
        >>> [layer.name for layer in gated.layers][2]
        'hidden_gate'
    """
    ChannelGate(kind, penalty)
    found = units(model, input_shape=input_shape)
    only, skip = as_filters("only", only), as_filters("skip", skip)
    check_filters(found, "only", only)
    check_filters(found, "skip", skip)
    wanted = select(found.groups, names_of, only, skip)
    after: dict[int, Callable[[Any], Any]] = {}
    taken = {call.op.name for call in found.graph.calls}
    without: list[str] = []
    for group in itertools.compress(found.groups, wanted):
        call = _call_to_gate(found, group)
        if isinstance(call, str):
            without.append(f"{group.name} ({call})")
            continue
        names = (f"{call.op.name}_gate{suffix}" for suffix in _suffixes())
        name = next(name for name in names if name not in taken)
        taken.add(name)
        after[id(_place(found, call))] = _gate(kind, penalty, name)
    if not after:
        raise ModelError(
            f"add_gates: model {model.name!r} has no place for a gate: "
            f"{'; '.join(without) or 'it has no prunable units'}"
        )
    if without:
        warnings.warn(f"add_gates: no gate for {'; '.join(without)}", UserWarning, stacklevel=2)
    if not penalty and kind != "hard":
        warnings.warn(
            f"add_gates: gates of kind {kind!r} do not close while penalty= is 0: raise it until "
            "training closes some (0.1 to 3 for a single classification loss)",
            UserWarning,
            stacklevel=2,
        )
    gated, _ = rebuild(uncut(found), after=after)
    carry_compile(model, gated)
    return gated


def _gate(kind: Kind, penalty: float, name: str) -> Callable[[Any], Any]:
    return lambda tensor: ChannelGate(kind, penalty, name=name)(tensor)


def _suffixes() -> Iterator[str]:
    yield ""
    yield from (f"_{number}" for number in itertools.count(2))


def _call_to_gate(found: Units, group: Group) -> Call | str:
    """Return the call whose output is exactly a group's units, or why there is none."""
    if len(group.producers) > 1:
        return f"{' and '.join(group.layers)} make it together"
    (producer,) = group.producers
    if group.kind not in (CHANNELS, WIDTH):
        return f"its units are {group.kind}; place a HeadGate by hand"
    calls = [call for call in found.graph.calls if call.op is producer.op]
    if len(calls) > 1:
        return f"{producer.op.name} is called {len(calls)} times"
    axes = found.flow.axes(calls[0].outputs[0])
    made = np.arange(producer.start, producer.stop)
    if len(calls[0].outputs) > 1 or axes[-1] is None or not np.array_equal(axes[-1], made):
        return f"it is not the last axis of the output of {producer.op.name}"
    return calls[0]


def _place(found: Units, call: Call) -> Call:
    """Return the call after which the gate is placed."""
    reader = found.graph.only_reader(*call.outputs)
    linear = getattr(call.op, "activation", None) is keras.activations.linear
    if reader and linear and isinstance(reader.op, keras.layers.BatchNormalization):
        return reader
    return call
