"""Signals that stop a run between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
import time

import pytest

from lookonce.train.stopping import SIGNALS, StopOnSignal


def send(number: signal.Signals) -> None:
    """Send this process a signal, and give Python the time to hear it here."""
    signal.raise_signal(number)
    time.sleep(0.01)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_asks_and_the_second_interrupts(sent: signal.Signals) -> None:
    with StopOnSignal() as stop:
        assert not stop.asked
        send(sent)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            send(sent)
        assert stop.asked


def test_the_other_signal_counts_as_the_second() -> None:
    with StopOnSignal() as stop:
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert stop.asked


@pytest.mark.parametrize("problem", [None, KeyboardInterrupt, ValueError])
def test_afterwards_signals_do_what_they_did_before(problem: type[BaseException] | None) -> None:
    """Also when it ends by an error."""
    before = {each: signal.getsignal(each) for each in SIGNALS}
    expected = contextlib.nullcontext() if problem is None else pytest.raises(problem)
    with expected, StopOnSignal():
        assert all(signal.getsignal(each) != before[each] for each in SIGNALS)
        if problem is not None:
            raise problem
    assert {each: signal.getsignal(each) for each in SIGNALS} == before


def test_one_in_another_does_not_lose_the_outer_ones_handler() -> None:
    with StopOnSignal() as outer:
        with StopOnSignal() as inner:
            send(signal.SIGINT)
        assert (inner.asked, outer.asked) == (True, False)
        send(signal.SIGINT)
        assert outer.asked


def test_in_another_thread_it_leaves_signals_alone() -> None:
    """Python lets only the main thread handle them."""
    before, said = {each: signal.getsignal(each) for each in SIGNALS}, []

    def work() -> None:
        with StopOnSignal() as stop:
            said.append((stop.asked, {each: signal.getsignal(each) for each in SIGNALS}))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == [(False, before)]
