"""pgml.deployments: what every backend holds, seen from any other."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from fix_server import Connect, Connection, is_alive, one
from psycopg.types.json import Jsonb

QWEN = {"task": "text-generation", "model": "Qwen/Qwen2.5-0.5B"}
LONG = {"do_sample": False, "max_new_tokens": 2000, "min_new_tokens": 2000}


def rows_of(watcher: Connection, pid: int) -> list[dict[str, Any]]:
    """What another session sees of a backend."""
    cursor = watcher.execute("SELECT * FROM pgml.deployments WHERE pid = %s", [pid])
    names = [column.name for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def seen(watcher: Connection, pid: int, condition: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """The rows of a backend as soon as they meet the condition; fails after half a minute."""
    rows: list[dict[str, Any]] = []

    def look() -> bool:
        rows[:] = rows_of(watcher, pid)
        return condition(rows)

    wait_until(look)
    return rows


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again and again; fails after half a minute."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not happen within 30 s"


class Background:
    """A query that runs in another thread."""

    def __init__(self, connection: Connection, query: str, parameters: list[Any]) -> None:
        self.error: psycopg.Error | None = None
        self._run = (connection, query, parameters)
        self._thread = threading.Thread(target=self._execute)
        self._thread.start()

    def _execute(self) -> None:
        connection, query, parameters = self._run
        try:
            connection.execute(query, parameters)
        except psycopg.Error as error:
            self.error = error

    def join(self) -> psycopg.Error | None:
        """Wait for its end; its error."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.error


def test_a_row_has_all_that_is_promised(connect: Connect) -> None:
    """The columns, and what they say of a pipeline that ran once."""
    worker, watcher = connect(), connect()
    worker.execute("SELECT pgml.transform('text-classification', ARRAY['I love it', NULL, 'I hate it'])")

    (row,) = rows_of(watcher, worker.info.backend_pid)

    assert list(row) == [
        *("pid", "usename", "datname", "task", "model", "revision", "engine", "device", "device_map", "dtype"),
        *("quantization", "parameters", "host_bytes", "gpu_bytes", "state", "progress", "loaded_at", "load_seconds"),
        *("last_used_at", "calls", "inputs", "tokens_in", "tokens_out", "busy_seconds", "errors", "last_error"),
    ]
    assert row["usename"] == one(watcher, "SELECT current_user")
    assert row["datname"] == worker.info.dbname
    assert (row["task"], row["engine"], row["device"]) == ("text-classification", "backend", "cpu")
    assert row["model"] == "distilbert/distilbert-base-uncased-finetuned-sst-2-english"
    assert len(row["revision"]) == 40
    assert row["revision"].startswith("714eb0f")
    assert (row["dtype"], row["quantization"], row["device_map"]) == ("float32", "none", None)
    assert (row["state"], row["progress"], row["calls"], row["inputs"]) == ("idle", 1.0, 1, 3)
    assert (row["tokens_in"] > 6, row["tokens_out"], row["gpu_bytes"]) == (True, 0, 0)
    assert row["host_bytes"] >= 4 * row["parameters"] > 0
    assert (row["errors"], row["last_error"]) == (0, None)
    assert row["loaded_at"] <= row["last_used_at"]
    assert row["load_seconds"] > 0
    assert row["busy_seconds"] > 0


def test_load_answers_the_row(connect: Connect) -> None:
    """What pgml.load answers is the row of the view, as an object."""
    worker = connect()

    answer = one(worker, 'SELECT pgml.load(\'{"task": "text-classification"}\')')

    row = one(worker, "SELECT to_jsonb(d) FROM pgml.deployments AS d WHERE pid = pg_backend_pid()")
    assert set(answer) == set(row)
    times = {"loaded_at", "last_used_at"}
    assert {key: value for key, value in answer.items() if key not in times} == {
        key: value for key, value in row.items() if key not in times
    }


def test_tokens_are_counted(connect: Connect) -> None:
    """tokens_in counts the prompts', tokens_out what was written."""
    worker, watcher = connect(), connect()
    query = "SELECT pgml.transform(%s::jsonb, %s::jsonb, ARRAY['hello', 'hello'])"

    worker.execute(query, [Jsonb(QWEN), Jsonb({"do_sample": False, "max_new_tokens": 3})])

    (row,) = rows_of(watcher, worker.info.backend_pid)
    assert (row["tokens_in"], row["tokens_out"]) == (2, 6)


def test_seen_while_loading_running_and_cancelled(connect: Connect) -> None:
    """Another session sees a pipeline load, run, and be idle again after the run was cancelled."""
    worker, watcher = connect(), connect()
    pid = worker.info.backend_pid
    query = "SELECT pgml.transform(%s::jsonb, %s::jsonb, ARRAY['hello'])"
    job = Background(worker, query, [Jsonb(QWEN), Jsonb(LONG)])

    (loading,) = seen(watcher, pid, bool)
    assert (loading["state"], loading["progress"] < 1, loading["loaded_at"]) == ("loading", True, None)
    assert (loading["model"], loading["device"]) == (QWEN["model"], "cpu")
    (running,) = seen(watcher, pid, lambda rows: bool(rows) and rows[0]["state"] == "running")
    assert running["loaded_at"] is not None
    watcher.execute("SELECT pg_cancel_backend(%s)", [pid])
    error = job.join()

    assert error is not None
    assert error.sqlstate == "57014", str(error)
    (idle,) = rows_of(watcher, pid)
    assert (idle["state"], idle["errors"], idle["last_error"]) == ("idle", 1, "Interrupted")


def test_a_backend_that_ends_leaves_no_row(connect: Connect) -> None:
    """Its row is gone with the connection."""
    worker, watcher = connect(), connect()
    worker.execute('SELECT pgml.load(\'{"task": "text-classification"}\')')
    pid = worker.info.backend_pid
    assert len(rows_of(watcher, pid)) == 1

    worker.close()

    assert seen(watcher, pid, lambda rows: not rows) == []


@pytest.mark.usefixtures("database")
def test_an_ordinary_role_sees_all_backends(connect: Connect) -> None:
    """The view shows other roles' backends, too."""
    owner = connect()
    owner.execute('SELECT pgml.load(\'{"task": "text-classification"}\')')
    owner.execute("DROP ROLE IF EXISTS pgml_test_reader")
    owner.execute("CREATE ROLE pgml_test_reader LOGIN")
    try:
        owner.execute("GRANT USAGE ON SCHEMA pgml TO pgml_test_reader")
        reader = connect(user="pgml_test_reader")

        (row,) = rows_of(reader, owner.info.backend_pid)

        assert (row["usename"], row["state"]) == (owner.info.user, "idle")
        reader.close()
    finally:
        owner.execute("DROP OWNED BY pgml_test_reader")
        owner.execute("DROP ROLE pgml_test_reader")


@pytest.mark.usefixtures("database")
def test_a_role_that_was_set_publishes_too(connect: Connect) -> None:
    """After SET ROLE a backend's own start is hidden from it; its row is shown all the same."""
    worker, watcher = connect(), connect()
    worker.execute("DROP ROLE IF EXISTS pgml_test_other")
    worker.execute("CREATE ROLE pgml_test_other")
    try:
        worker.execute("GRANT USAGE ON SCHEMA pgml TO pgml_test_other")
        worker.execute("SET ROLE pgml_test_other")
        worker.execute('SELECT pgml.load(\'{"task": "text-classification"}\')')

        assert len(rows_of(watcher, worker.info.backend_pid)) == 1
    finally:
        worker.execute("RESET ROLE")
        worker.execute("DROP OWNED BY pgml_test_other")
        worker.execute("DROP ROLE pgml_test_other")


def test_empty_after_sigkill(connect: Connect) -> None:
    """A backend that is killed with SIGKILL, which restarts the server, leaves no row."""
    worker, witness = connect(), connect()
    worker.execute('SELECT pgml.load(\'{"task": "text-classification"}\')')
    pid = worker.info.backend_pid
    assert len(rows_of(witness, pid)) == 1

    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(witness))  # the server ends every backend after the crash of one
    wait_until(lambda: _can_connect(connect))

    watcher = connect()
    assert rows_of(watcher, pid) == []
    assert one(watcher, "SELECT count(*) FROM pgml.deployments") == 0


def _can_connect(connect: Connect) -> bool:
    try:
        connect()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("secret", ["hf_planted_secret"])
def test_no_inputs_outputs_or_tokens_in_it(connect: Connect, secret: str) -> None:
    """What a caller sends and gets is not in the view, and the hub token neither."""
    worker, watcher = connect(), connect()
    query = "SELECT pgml.transform(%s::jsonb, %s::jsonb, ARRAY[%s])"
    worker.execute(query, [Jsonb({**QWEN, "token": secret}), Jsonb({"do_sample": False}), "confidential text"])
    with pytest.raises(psycopg.Error):
        worker.execute(query, [Jsonb({**QWEN, "token": secret}), Jsonb({"nonsense": secret}), "confidential text"])

    told = repr(rows_of(watcher, worker.info.backend_pid))

    assert secret not in told
    assert "confidential" not in told
