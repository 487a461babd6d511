"""Ctrl-C that is heeded, wherever it comes and whatever is made of it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def heeded_interrupts() -> Iterator[Callable[[], None]]:
    """Let Ctrl-C be what ends a `with` block, and give what raises it where it was passed over.

    Raised while a finalizer runs, and libraries run many, Python prints it and goes on. TensorFlow,
    interrupted while it converts a number, raises a TypeError in its place.
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
    except Exception as error:
        if asked:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)
