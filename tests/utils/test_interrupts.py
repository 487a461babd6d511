"""Ctrl-C that is heeded, wherever it comes."""

import os
import signal
import threading

import pytest

from tfprune.utils.interrupts import heeded_interrupts


class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(1000))  # Here Python raises it, where nobody can catch it.


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_a_finalizer_swallowed_is_raised_at_the_next_check() -> None:
    before = signal.getsignal(signal.SIGINT)
    with heeded_interrupts() as check:
        check()
        thing = Finalized()
        del thing
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is before


def test_any_other_is_raised_at_once() -> None:
    with heeded_interrupts(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_what_a_library_makes_of_one_is_one_again() -> None:
    def convert() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise TypeError("Failed to convert elements to Tensor") from None

    with pytest.raises(KeyboardInterrupt), heeded_interrupts():
        convert()
    with pytest.raises(TypeError, match="of its own"), heeded_interrupts():
        raise TypeError("of its own")


def test_other_threads_have_no_signals_to_heed() -> None:
    found = []

    def work() -> None:
        with heeded_interrupts() as check:
            check()
            found.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]
