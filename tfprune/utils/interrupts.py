"""Ctrl-C and termination signals, handled even where a library swallows the exception."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_TERMINATING = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that a system, scheduler or closing terminal sends before it kills a process."""


class Terminated(KeyboardInterrupt):
    """A signal received the process to end; cleanup is the same as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def handle_interrupts() -> Iterator[Callable[[], None]]:
    """End a `with` block on Ctrl-C, and yield a function that raises it if it was swallowed.

    A KeyboardInterrupt raised inside a finalizer is printed and ignored by Python. TensorFlow,
    interrupted while it converts a number, raises a TypeError instead. A signal such as SIGTERM
    raises `Terminated`, unless the caller handles or ignores that signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    received: list[KeyboardInterrupt] = []

    def check() -> None:
        if received:
            raise received[0]

    before = _replace_handlers(received)
    try:
        yield check
    except Exception as error:
        if received:
            raise received[0] from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Handler:
    """A signal handler that also calls the handlers of the enclosing blocks."""

    def __init__(self, received: list[KeyboardInterrupt], outer: Any) -> None:
        self.received = received
        self.outer = outer

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.received.append(Terminated(number))
        if isinstance(self.outer, _Handler):
            self.outer(number, frame)
        raise self.received[0]


def _replace_handlers(received: list[KeyboardInterrupt]) -> dict[int, Any]:
    """Record signals in `received`, and return the previous handlers."""
    before: dict[int, Any] = {}
    ctrl_c = signal.getsignal(signal.SIGINT)
    if callable(ctrl_c):

        def note(number: int, frame: FrameType | None) -> None:
            received.append(KeyboardInterrupt())
            ctrl_c(number, frame)

        before[signal.SIGINT] = ctrl_c
        signal.signal(signal.SIGINT, note)
    for number in _TERMINATING:
        handler = signal.getsignal(number)
        if handler is signal.SIG_DFL or isinstance(handler, _Handler):
            before[number] = handler
            signal.signal(number, _Handler(received, handler))
    return before
