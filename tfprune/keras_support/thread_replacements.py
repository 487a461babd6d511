"""Replacing functions of other packages in one thread only.

A function is replaced by a switch that calls the replacement of the current thread, or else the
original. The switch is removed when no thread has a replacement.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

Function = Callable[..., Any]

_LOCK = threading.Lock()


class _Place:
    """An attribute that some threads have currently replaced."""

    def __init__(self, owner: Any, name: str) -> None:
        self.inherited = name not in vars(owner)
        # A property itself, not its value.
        self.stored = getattr(owner, name) if self.inherited else vars(owner)[name]
        self.plain: Function = getattr(self.stored, "fget", self.stored)
        self.users = 0
        self._threads = threading.local()

    @property
    def stack(self) -> list[Function]:
        """The replacements of this thread, the last of which is active."""
        if not hasattr(self._threads, "stack"):
            self._threads.stack = []
        stack: list[Function] = self._threads.stack
        return stack

    def switch(self) -> Any:
        """Return a function or property that calls the replacement of the current thread."""

        @functools.wraps(self.plain)
        def call(*args: Any, **kwargs: Any) -> Any:
            stack = self.stack
            return (stack[-1] if stack else self.plain)(*args, **kwargs)

        return property(call) if isinstance(self.stored, property) else call


_PLACES: dict[tuple[int, str], _Place] = {}


@contextlib.contextmanager
def replaced(owner: Any, name: str, make: Callable[[Function], Function]) -> Iterator[None]:
    """Replace a function while entered, in this thread only.

    Args:
        owner: The module or class that defines it.
        name: The name of the function, or of a property, whose getter is replaced.
        make: Returns the replacement, given the original function.

    Example:
        >>> import math
        >>> with replaced(math, "sqrt", lambda plain: lambda x: -plain(x)):
        ...     math.sqrt(4)
        -2.0
        >>> math.sqrt(4)
        2.0
    """
    key = (id(owner), name)
    with _LOCK:
        if key not in _PLACES:
            place = _Place(owner, name)
            setattr(owner, name, place.switch())
            _PLACES[key] = place
        place = _PLACES[key]
        place.users += 1
    stack = place.stack
    depth = len(stack)
    try:
        stack.append(make(stack[-1] if stack else place.plain))
        yield
    finally:
        del stack[depth:]
        with _LOCK:
            place.users -= 1
            if not place.users:
                if place.inherited:
                    delattr(owner, name)
                else:
                    setattr(owner, name, place.stored)
                del _PLACES[key]
