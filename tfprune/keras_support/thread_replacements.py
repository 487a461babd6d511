"""Functions of other packages replaced for one thread, while the others go on with the plain ones.

What is put in the place of a function asks which thread calls it. It stands there as long as any
thread has a replacement; were it ever left behind, it would do what the plain function does.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

Function = Callable[..., Any]

_LOCK = threading.Lock()


class _Place:
    """An attribute that some threads have replaced at the moment."""

    def __init__(self, owner: Any, name: str) -> None:
        self.stored = vars(owner)[name]  # a property itself, not what it gives
        self.plain: Function = getattr(self.stored, "fget", self.stored)
        self.users = 0
        self._threads = threading.local()

    @property
    def stack(self) -> list[Function]:
        """The replacements of this thread, the last of which is in force."""
        if not hasattr(self._threads, "stack"):
            self._threads.stack = []
        stack: list[Function] = self._threads.stack
        return stack

    def switch(self) -> Any:
        """Return what calls the replacement of the thread that it is called in."""

        @functools.wraps(self.plain)
        def call(*args: Any, **kwargs: Any) -> Any:
            stack = self.stack
            return (stack[-1] if stack else self.plain)(*args, **kwargs)

        return property(call) if isinstance(self.stored, property) else call


_PLACES: dict[tuple[int, str], _Place] = {}


@contextlib.contextmanager
def replaced(owner: Any, name: str, make: Callable[[Function], Function]) -> Iterator[None]:
    """While it is entered, a function is another one in this thread, and the same in all others.

    Args:
        owner: The module or class that holds it itself.
        name: Its name there: of a function, or of a property, whose getter is replaced.
        make: Gives the replacement, from the function that it stands for.

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
                setattr(owner, name, place.stored)
                del _PLACES[key]
