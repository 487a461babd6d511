"""Ctrl-C, and what else asks a process to end, heeded wherever it comes, whatever is made of it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What a system, a scheduler or a terminal that closes sends before it ends a process by force."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end by a signal: what Ctrl-C would tidy up is to be tidied up.

    Attributes:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def heeded_interrupts() -> Iterator[Callable[[], None]]:
    """Let Ctrl-C be what ends a `with` block, and give what raises it where it was passed over.

    Raised while a finalizer runs, and libraries run many, Python prints it and goes on. TensorFlow,
    interrupted while it converts a number, raises a TypeError in its place. A signal that asks the
    process to end, as SIGTERM does, raises `Terminated`, unless the caller handles it or has it
    ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    asked: list[KeyboardInterrupt] = []

    def check() -> None:
        if asked:
            raise asked[0]

    before = _replace_handlers(asked)
    try:
        yield check
    except Exception as error:
        if asked:
            raise asked[0] from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Ending:
    """A handler of ours: those of blocks that lie in each other are all told."""

    def __init__(self, asked: list[KeyboardInterrupt], outer: Any) -> None:
        self.asked = asked
        self.outer = outer

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.asked.append(Terminated(number))
        if isinstance(self.outer, _Ending):
            self.outer(number, frame)
        raise self.asked[0]


def _replace_handlers(asked: list[KeyboardInterrupt]) -> dict[int, Any]:
    """Let signals be noted in `asked`, and return the handlers there were."""
    before: dict[int, Any] = {}
    ctrl_c = signal.getsignal(signal.SIGINT)
    if callable(ctrl_c):

        def note(number: int, frame: FrameType | None) -> None:
            asked.append(KeyboardInterrupt())
            ctrl_c(number, frame)

        before[signal.SIGINT] = ctrl_c
        signal.signal(signal.SIGINT, note)
    for number in _ENDING:
        handler = signal.getsignal(number)
        if handler is signal.SIG_DFL or isinstance(handler, _Ending):
            before[number] = handler
            signal.signal(number, _Ending(asked, handler))
    return before
