"""Calls in a config that wait for a tensor which never comes: tf_keras waits for ever."""

from collections.abc import Iterator
from typing import Any


def unmade_calls(config: Any) -> Iterator[str]:
    """Name the layers whose calls need the output of a call that is not there, or of their own."""
    if isinstance(config, list):
        for item in config:
            yield from unmade_calls(item)
    elif isinstance(config, dict):
        if isinstance(config.get("layers"), list):
            yield from _unmade([one for one in config["layers"] if isinstance(one, dict)])
        for value in config.values():
            yield from unmade_calls(value)


def _unmade(layers: list[dict[str, Any]]) -> list[str]:
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
    """Give the layer and the number of its call that each tensor in the arguments comes from."""
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
