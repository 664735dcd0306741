"""Signals that stop a run between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading

import pytest
from conftest import Child

from lookonce.train.stopping import SIGNALS, StopOnSignal

# What a test sends itself the process that runs tests would hear too, so a process of its own does.
PROGRAM = """
import signal, sys, time
from lookonce.train.stopping import StopOnSignal

def send(name):
    signal.raise_signal(signal.Signals[name])
    time.sleep(0.01)

"""


def said(child: Child, body: str, *arguments: str) -> str:
    """What a program prints."""
    ended = child("-c", PROGRAM + body, *arguments)
    assert (ended.code, ended.err) == (0, "")
    return ended.out


@pytest.mark.parametrize(("first", "second"), [("SIGINT", "SIGINT"), ("SIGTERM", "SIGTERM"), ("SIGTERM", "SIGINT")])
def test_the_first_signal_only_asks_and_the_second_interrupts(child: Child, first: str, second: str) -> None:
    body = """
with StopOnSignal() as stop:
    print(stop.asked)
    send(sys.argv[1])
    print(stop.asked)
    try:
        send(sys.argv[2])
    except KeyboardInterrupt:
        print("interrupted")
"""
    assert said(child, body, first, second).split() == ["False", "True", "interrupted"]


def test_one_in_another_does_not_lose_the_outer_ones_handler(child: Child) -> None:
    body = """
with StopOnSignal() as outer:
    with StopOnSignal() as inner:
        send("SIGINT")
    print(inner.asked, outer.asked)
    send("SIGINT")
    print(outer.asked)
"""
    assert said(child, body).split() == ["True", "False", "True"]


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
