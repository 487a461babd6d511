"""Ctrl-C that is heeded, wherever it comes."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def heeded_interrupts() -> Iterator[Callable[[], None]]:
    """Remember Ctrl-C for the length of a `with` block, and give what raises it again.

    Raised while a finalizer runs, and libraries run many, Python prints it and goes on.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: None
        return
    asked = False

    def note(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        before(number, frame)

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
