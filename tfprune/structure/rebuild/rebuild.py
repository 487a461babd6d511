"""Rebuilding the model that a cut leaves: the operations of its graph, with sliced weights."""

from collections.abc import Callable, Mapping
from typing import Any

from tfprune.graph.graph import Call
from tfprune.graph.rebuild import Edits, Rebuilt
from tfprune.graph.rebuild import rebuild as rebuild_graph
from tfprune.structure.ids.ids import Keep
from tfprune.structure.rebuild.cut import Cut
from tfprune.structure.rebuild.weights import sliced


class _Removal(Edits):
    """The kept sizes in configs and arguments, and the operations that go."""

    def __init__(
        self, cut: Cut, dtype: str | None, after: Mapping[int, Callable[[Any], Any]]
    ) -> None:
        super().__init__(dtype)
        self.flow, self.keep = cut.left.flow, Keep(cut.kept_mask)
        self.drop, self.changes = cut.drop, after

    def config(self, op: Any, config: dict[str, Any]) -> dict[str, Any]:
        site = self.flow.sites.get(id(op))
        for path, change in site.edits.items() if site is not None else ():
            _set(config, path, change(self.keep))
        return config

    def is_dropped(self, op: Any) -> bool:
        return id(op) in self.drop

    def is_called_as_is(self, call: Call) -> bool:
        return not self.changes and id(call) not in self.flow.rewrites

    def call(self, call: Call, op: Any, args: Any, kwargs: Any) -> Any:
        change = self.flow.rewrites.get(id(call))
        if change is not None:
            args, kwargs = change(self.keep, args, kwargs)
        return op(*args, **kwargs)

    def after(self, call: Call, made: Any) -> Any:
        return self.changes[id(call)](made) if id(call) in self.changes else made


def rebuild(
    cut: Cut, *, dtype: str | None = None, after: Mapping[int, Callable[[Any], Any]] | None = None
) -> Rebuilt:
    """Return an ordinary Keras model without what a cut removes, and its operations.

    Args:
        cut: What to remove.
        dtype: A dtype policy for every layer, instead of its own.
        after: By the `id` of a call, a function to apply to its output.

    Raises:
        ModelError: A layer cannot be made from its config, or an input is unused and Keras is too
            old for that.
    """
    kept = sliced(cut.left, cut.weights, Keep(cut.kept_mask))
    return rebuild_graph(cut.left.graph, kept, _Removal(cut, dtype, after or {}), cut.weights)


def _set(config: Any, path: tuple[str | int, ...], value: Any) -> None:
    for key in path[:-1]:
        config = config[key]
    config[path[-1]] = value
