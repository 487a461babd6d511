"""Gates placed where units are made."""

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from tfprune.errors import ModelError
from tfprune.graph.read import Call, InputShape
from tfprune.keras_support.cloning import carry_compile
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
    """A copy of a model with a `ChannelGate` after each layer that makes removable units.

    A gate stands after the BatchNormalization that follows its layer, where there is one: there
    a closed gate is silent. Units that several layers make together (residual streams) are not
    gated, since no single gate could close them; a warning names what has none. Train the result,
    then `shrink(model, "gates")`.

    Args:
        model: A built Keras 3 model.
        kind: "hard", "l1" or "hard_concrete"; see `ChannelGate`.
        penalty: The weight of the gates' penalty in the loss. How soon they close depends on
            the optimizer as well: a step of Adam moves a gate by about the learning rate, and
            "hard_concrete" has 4.6 to go, "l1" 1.
        only: Names or regular expressions of layers (or predicates of a `Group`): no others.
        skip: Those that get none.
        input_shape: For a subclassed model that was never called.

    Returns:
        A new model with the weights of the old, compiled as it was; until gates close it computes
        the same for kinds "hard" and "l1".

    Raises:
        FilterError: A name in `only` or `skip` matches nothing.
        ModelError: There is no place for a gate.
        OptionError: The kind or penalty is not one that a gate takes.

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
            f"{'; '.join(without) or 'it has no units that could be removed'}"
        )
    if without:
        warnings.warn(f"add_gates: no gate for {'; '.join(without)}", UserWarning, stacklevel=2)
    if not penalty and kind != "hard":
        warnings.warn(
            f"add_gates: nothing closes gates of kind {kind!r} while penalty= is 0: raise it until "
            "training closes some (0.1 to 3 where there is a single classification loss)",
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
    """The call whose output is a group's units and nothing else. Or why there is none."""
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
        return f"it does not lie along the last axis of what {producer.op.name} gives"
    return calls[0]


def _place(found: Units, call: Call) -> Call:
    """The call after which the gate stands."""
    reader = found.graph.only_reader(*call.outputs)
    linear = getattr(call.op, "activation", None) is keras.activations.linear
    if reader and linear and isinstance(reader.op, keras.layers.BatchNormalization):
        return reader
    return call
