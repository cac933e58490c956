"""Cancel, timeout and termination while Python works.

PostgreSQL's signal handlers only set flags, and Python returns to the server too late to look at them. A daemon
thread reads the flags and raises `Interrupted` in the main thread, which then lets the server raise its own error.

An import is let end first: torch registers its operators while it is imported, and can't be imported a second time.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.02
# A library's `except:` can swallow the exception; it is raised again as long as the flag stands.
_AGAIN_AFTER_POLLS = 25
_IDLE_POLLS = 50


class Interrupted(BaseException):
    """The server wants this statement to stop. Not an Exception: libraries must not handle it."""


class Watch:
    """The thread and its target. One a process, made with the first call that needs it."""

    def __init__(self, is_pending: Callable[[], bool]) -> None:
        self._is_pending = is_pending
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._asleep = False
        self._fired = False
        self._target: int | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Callable[[], T]) -> T:
        """Do the work in this thread; raises Interrupted, wherever in it the flag came up. Nests."""
        if self._target is not None:
            return work()
        try:
            self._start()
            try:
                return work()
            finally:
                self._stop()
        except Interrupted:
            self._stop()  # the exception may have come in the middle of the other stop
            raise

    def _start(self) -> None:
        if self._thread is None:
            # A thread inherits the mask: with every signal blocked it takes none of the server's.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                self._thread = threading.Thread(target=self._watch, name="pgml-interrupts", daemon=True)
                self._thread.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._target = threading.get_ident()
        if self._asleep:
            self._wake.set()

    def _stop(self) -> None:
        with self._lock:
            self._target = None
            fired, self._fired = self._fired, False
        if fired:
            _let_arrive()

    def _watch(self) -> None:
        polls = idle = 0
        while True:
            pending = self._target is not None and self._is_pending() and not _is_importing(self._target)
            if pending and polls % _AGAIN_AFTER_POLLS == 0:
                with self._lock:
                    if self._target is not None:
                        self._fired = True
                        _raise_in(self._target, Interrupted)
            polls = polls + 1 if pending else 0
            idle = idle + 1 if self._target is None else 0
            # Between calls that follow each other it stays awake: waking a thread costs a call more than its polling.
            self._asleep = idle > _IDLE_POLLS
            self._wake.wait(None if self._asleep and self._target is None else _POLL_SECONDS)
            self._wake.clear()


def _is_importing(thread: int | None) -> bool:
    """Whether this thread is in the middle of an import."""
    frame = sys._current_frames().get(thread or 0)  # noqa: SLF001 - public for all but its name
    while frame is not None:
        if frame.f_code.co_name == "_find_and_load" and frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _let_arrive() -> None:
    """Take what was raised in this thread and has not arrived.

    Taking it back, with NULL for the exception, would leave CPython's eval breaker set for good, and every loop slower.
    """
    with contextlib.suppress(Interrupted):
        for _ in range(100):
            pass


def _raise_in(thread: int, exception: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(exception))


def _flag(name: str) -> Callable[[], bool]:
    """Reader of one of the server's global flags (globals.c); always false outside a server."""
    try:
        flag = ctypes.c_int.in_dll(ctypes.CDLL(None), name)
    except ValueError:
        return lambda: False
    return lambda: flag.value != 0


_cancel, _die = _flag("QueryCancelPending"), _flag("ProcDiePending")

# Set for these two and for what only wants an answer at a safe point (a barrier, catch-up of invalidations).
server_wants_attention = _flag("InterruptPending")

WATCH = Watch(lambda: _cancel() or _die())
