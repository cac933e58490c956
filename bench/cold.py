"""The first call in a new backend, against a new Python process that does the bare minimum."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import database
import measure
import psycopg
from report import Table

_MODEL = "distilbert/distilbert-base-uncased-finetuned-sst-2-english"
_FIRST = "SELECT pgml.transform('text-classification', ARRAY['x'])"
_BAD = "SELECT pgml.transform('no-such-task', ARRAY['x'])"
_NOTHING = "DO LANGUAGE plpython3u 'pass'"
_BARE = Path(__file__).with_name("bare.py")
_SHOWN_SECONDS = 0.001

# As little as `scripts/server` gives the server.
_ENVIRONMENT = ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")


def first_call(*, quick: bool) -> Table:
    """Seconds of the first answer, here and there."""
    rounds = 1 if quick else 15
    sides: dict[str, Callable[[], float]] = {
        "process": _bare_seconds,
        "backend": partial(_first, "SELECT bare_minimum(%s, %s)", sysconfig.get_path("purelib"), _MODEL),
        "call": partial(_first, _FIRST),
    }
    values = {name: series[1:] for name, series in measure.in_turns(sides, rounds + 1).items()}
    bare, inside, first = values["process"], values["backend"], values["call"]
    table = Table(
        "First call in a new backend",
        f"`{_FIRST}` on a new connection against a new Python process that does the bare minimum (bench/bare.py), "
        f"in s: median and quartiles of {rounds} rounds after one that warms the disk's cache; the ratio is taken "
        "within a round.",
        ("s", "median (quartiles)", "what it is"),
    )
    table.add("bare process", _text(bare), "start, import torch, DistilBERT and AutoTokenizer, load both, one forward")
    table.add("bare backend", _text(inside), "the same, without the start, by PL/Python in a new connection")
    table.add("first call", _text(first), "the first statement of a new connection")
    table.add("**first call / bare process**", _text(measure.ratios(first, bare)), "at most 1 is wanted")
    table.add("first call / bare backend", _text(measure.ratios(first, inside)), "what is ours of it")
    table.add("bare backend / bare process", _text(measure.ratios(inside, bare)), "what PL/Python's interpreter costs")
    table.add("first call - bare backend", _text(measure.differences(first, inside)), "")
    return table


def bad_task(*, quick: bool) -> Table:
    """Milliseconds until a misspelt task is refused, and PL/Python's own start."""
    rounds = 2 if quick else 31
    sides: dict[str, Callable[[], float]] = {
        "connect": _connect,
        "start": partial(_first, _NOTHING),
        "bad": partial(_first, _BAD),
    }
    values = {name: [one * 1000 for one in series[1:]] for name, series in measure.in_turns(sides, rounds + 1).items()}
    table = Table(
        "An unknown task in a new backend",
        f"The first statement of a new connection, in ms: median and quartiles of {rounds} rounds.",
        ("ms", "median (quartiles)", "what it is"),
    )
    table.add("connect", _text(values["connect"], 1), "a new connection and `SELECT 1`; not in the next lines")
    table.add("PL/Python's start", _text(values["start"], 1), f"`{_NOTHING}`")
    table.add("unknown task", _text(values["bad"], 1), f"`{_BAD}`")
    ours = measure.differences(values["bad"], values["start"])
    table.add("unknown task - start", _text(ours, 1), "what is ours")
    return table


def imports() -> Table:
    """The modules that a backend has imported after its first call, beyond the bare process's."""
    with database.connect() as connection:
        connection.execute(_FIRST)
        here = database.one(connection, "SELECT python_modules()")
    there = _bare_imports(here)
    seconds = dict(sorted(there["seconds"].items(), key=lambda pair: -pair[1]))
    extra = [name for name in here if name not in set(there["known"])]
    table = Table(
        "Imports of the first call",
        "Modules that the backend has after its first call and the bare process has not, by the time that each takes "
        "to import after the bare minimum, in the backend's order, with all that it brings along; one run.",
        ("module", "ms"),
    )
    shown = {name: one for name, one in seconds.items() if one >= _SHOWN_SECONDS}
    for name, one in shown.items():
        table.add(name, f"{one * 1000:.0f}")
    table.add(f"the {len(seconds) - len(shown)} others", f"{(sum(seconds.values()) - sum(shown.values())) * 1000:.0f}")
    tops = sorted({name.partition(".")[0] for name in extra} - {name.partition(".")[0] for name in there["known"]})
    table.add(f"packages that only the backend has: {', '.join(tops)}", "")
    table.add(f"modules in all: {len(here)} in the backend, {len(there['known'])} in the bare process", "")
    return table


def _connect() -> float:
    started = time.perf_counter()
    with database.connect() as connection:
        connection.execute("SELECT 1")
        return time.perf_counter() - started


def _first(statement: str, *parameters: str) -> float:
    """The seconds of a connection's first statement; that an unknown task is refused is as good as an answer."""
    with database.connect() as connection:
        return measure.seconds(partial(_execute, connection, statement, parameters))


def _execute(connection: database.Connection, statement: str, parameters: tuple[str, ...]) -> None:
    with contextlib.suppress(psycopg.errors.FeatureNotSupported):
        connection.execute(statement, parameters or None)


def _bare_seconds() -> float:
    """Until its answer is there: what a process does at its end is not counted."""
    started = time.perf_counter()
    with _bare() as process:
        _await_ready(process)
        found = time.perf_counter() - started
        process.communicate("")
    return found


def _bare_imports(names: list[str]) -> Any:
    with _bare() as process:
        _await_ready(process)
        return json.loads(process.communicate("\n".join(names))[0])


def _bare() -> subprocess.Popen[str]:
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment |= {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": os.environ.get("HOME", "/")}
    command = [sys.executable, "-I", str(_BARE), _MODEL]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)


def _await_ready(process: subprocess.Popen[str]) -> None:
    if process.stdout is None or process.stdout.readline() != "ready\n":
        raise RuntimeError("the bare process failed")


def _text(values: list[float], digits: int = 2) -> str:
    return measure.spread(values).text(digits)
