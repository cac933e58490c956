"""interrupts.py: an exception of ours, wherever Python is, when the server's flag is up."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from pathlib import Path

import pytest

from pgml_transform.interrupts import Interrupted, Watch


def spin_until(done: threading.Event) -> str:
    """Work that no flag of its own ends; bounded, so that a failing test ends."""
    for _ in range(50_000_000):
        if done.is_set():
            break
    return "done"


def test_work_that_nobody_interrupts_is_done() -> None:
    """The answer of the work is the answer of the watch."""
    watch = Watch(lambda: False)

    assert watch.run(lambda: 42) == 42
    assert watch.run(lambda: watch.run(lambda: 43)) == 43


def test_a_flag_interrupts_the_work() -> None:
    """The exception arrives in the middle of a loop, and the next work is done in peace."""
    pending = threading.Event()
    pending.set()
    watch = Watch(pending.is_set)

    with pytest.raises(Interrupted):
        watch.run(lambda: spin_until(threading.Event()))

    pending.clear()
    assert watch.run(lambda: spin_until(pending) and "done") == "done"


def test_a_library_that_swallows_it_gets_it_again() -> None:
    """As long as the flag is up the exception comes back."""
    watch = Watch(lambda: True)
    swallowed = []

    def stubborn() -> None:
        while len(swallowed) < 2:
            try:
                spin_until(threading.Event())
            except BaseException as error:  # noqa: BLE001 - as some libraries do
                swallowed.append(type(error))
        spin_until(threading.Event())

    with pytest.raises(Interrupted):
        watch.run(stubborn)
    assert swallowed == [Interrupted, Interrupted]


def test_an_import_is_let_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exception waits until the module is there as a whole."""
    (tmp_path / "slow_module.py").write_text("for _ in range(3_000_000): pass\nwhole = True\n")
    monkeypatch.syspath_prepend(tmp_path)

    def work() -> None:
        importlib.import_module("slow_module")
        spin_until(threading.Event())

    with pytest.raises(Interrupted):
        Watch(lambda: True).run(work)

    assert sys.modules.pop("slow_module").whole


def test_an_error_of_the_work_passes() -> None:
    """What the work raises by itself comes through."""
    with pytest.raises(ZeroDivisionError):
        Watch(lambda: False).run(lambda: 1 // 0)


def test_the_thread_takes_no_signals() -> None:
    """Every signal is blocked in the thread, and none is newly blocked in the caller."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    masks = []

    def is_pending() -> bool:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        seen.set()
        return False

    seen = threading.Event()
    Watch(is_pending).run(lambda: seen.wait(10))

    assert {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1} <= masks[0]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
