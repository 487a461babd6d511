"""Named, interchangeable entries: scores, patterns, layer rules, devices."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from tfprune.errors import OptionError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """A mapping from unique names to entries; an unknown name is an error that lists the known.

    Args:
        kind: What the entries are, for error messages: "score", "device".

    Example:
        >>> scores = Registry("score")
        >>> @scores.register("magnitude")
        ... def magnitude(weight):
        ...     return abs(weight)
        >>> scores["magnitude"](-3)
        3
        >>> "taylor" in scores
        False
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that stores what it decorates under `name`."""
        if name in self._entries:
            raise OptionError(f"{self.kind} {name!r} is registered already; choose another name")

        def store(entry: T) -> T:
            self._entries[name] = entry
            return entry

        return store

    def __getitem__(self, name: str) -> T:
        if not isinstance(name, str) or name not in self._entries:
            raise OptionError(f"unknown {self.kind} {name!r}. {nearest(str(name), self._entries)}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
