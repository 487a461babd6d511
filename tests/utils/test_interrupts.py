"""Ctrl-C is handled wherever it comes."""

import contextlib
import os
import signal
import threading

import pytest

from tfprune.utils.interrupts import Terminated, handle_interrupts


class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(1000))  # Here Python raises it, where nobody can catch it.


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_swallowed_by_a_finalizer_is_raised_at_the_next_check() -> None:
    before = signal.getsignal(signal.SIGINT)
    with handle_interrupts() as check:
        check()
        thing = Finalized()
        del thing
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is before


def test_other_interrupts_are_raised_at_once() -> None:
    with handle_interrupts(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_converted_by_a_library_is_raised_as_an_interrupt() -> None:
    def convert() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise TypeError("Failed to convert elements to Tensor") from None

    with pytest.raises(KeyboardInterrupt), handle_interrupts():
        convert()
    with pytest.raises(TypeError, match="of its own"), handle_interrupts():
        raise TypeError("of its own")


def test_other_threads_handle_no_signals() -> None:
    found = []

    def work() -> None:
        with handle_interrupts() as check:
            check()
            found.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_is_handled_like_ctrl_c(number) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # nohup ignores SIGHUP
    try:
        with pytest.raises(KeyboardInterrupt) as caught, handle_interrupts(), handle_interrupts():
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert isinstance(caught.value, Terminated)
    assert caught.value.number == number
    assert str(caught.value) == signal.Signals(number).name


def test_a_missed_interrupt_is_raised_at_the_next_check_of_every_block() -> None:
    with handle_interrupts() as outer, handle_interrupts() as inner:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        for check in (inner, outer):
            with pytest.raises(Terminated):
                check()


def test_handlers_of_the_caller_and_ignored_signals_are_not_changed() -> None:
    told: list[int] = []

    def handle(number: int, frame: object) -> None:
        told.append(number)

    before = signal.signal(signal.SIGTERM, handle), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handle_interrupts() as check:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            check()
        assert told == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGHUP, before[1])


def test_sigterm_is_handled_where_ctrl_c_is_ignored() -> None:
    """As in what a shell starts with `&`."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(Terminated), handle_interrupts():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
