"""Calls in a config on missing tensors, for which tf_keras would wait forever."""

from collections.abc import Iterator
from typing import Any


def dangling_calls(config: Any) -> Iterator[str]:
    """Yield the layers whose calls need the output of a missing call, or their own output."""
    if isinstance(config, list):
        for item in config:
            yield from dangling_calls(item)
    elif isinstance(config, dict):
        if isinstance(config.get("layers"), list):
            yield from _dangling([one for one in config["layers"] if isinstance(one, dict)])
        for value in config.values():
            yield from dangling_calls(value)


def _dangling(layers: list[dict[str, Any]]) -> list[str]:
    calls = {
        one["name"]: one["inbound_nodes"]
        for one in layers
        if isinstance(one.get("name"), str) and isinstance(one.get("inbound_nodes"), list)
    }
    made = dict.fromkeys(calls, 0)

    def ready(name: str, number: int) -> bool:
        # An inner model counts its calls from one, others from zero.
        count = len(calls[name])
        return number <= count and made[name] >= min(number + 1, count)

    waiting = [name for name in calls if calls[name]]
    while waiting:
        before = sum(made.values())
        for name in waiting:
            while made[name] < len(calls[name]) and all(
                ready(*needed) for needed in _references(calls[name][made[name]], calls)
            ):
                made[name] += 1
        waiting = [name for name in waiting if made[name] < len(calls[name])]
        if sum(made.values()) == before:
            break
    return waiting


def _references(value: Any, calls: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the layer, and the number of its call, of each tensor in the arguments."""
    if isinstance(value, dict):
        value = value.get("keras_history", list(value.values()))
    if not isinstance(value, list):
        return
    named = len(value) in (3, 4) and isinstance(value[0], str) and value[0] in calls
    if named and type(value[1]) is int and type(value[2]) is int:
        yield value[0], value[1]
        value = value[3:]
    for item in value:
        yield from _references(item, calls)
