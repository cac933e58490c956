"""Cancel, timeout and termination: PostgreSQL's own errors, and a session that goes on."""

from __future__ import annotations

import threading

import psycopg
import pytest
from fix_server import Connect, Connection, one

LONG = """
    SELECT pgml.transform('{"task": "text-generation", "model": "Qwen/Qwen2.5-0.5B"}'::jsonb,
                          '{"do_sample": false, "max_new_tokens": 5000, "min_new_tokens": 5000}'::jsonb,
                          ARRAY['hello'])
"""
SHORT = "SELECT pgml.transform('text-classification', ARRAY['I love it'])"
LOAD = """SELECT pgml.load('{"task": "text-generation", "model": "Qwen/Qwen2.5-0.5B"}')"""


def goes_on(connection: Connection) -> bool:
    """Whether the session still answers rightly."""
    return bool(one(connection, SHORT)[0]["label"] == "POSITIVE")


def test_statement_timeout_while_generating(connection: Connection) -> None:
    """PostgreSQL's own error, and the pipeline stays."""
    connection.execute(LOAD)
    connection.execute("SET statement_timeout = '300ms'")

    with pytest.raises(psycopg.errors.QueryCanceled, match="canceling statement due to statement timeout"):
        connection.execute(LONG)

    connection.execute("RESET statement_timeout")
    assert goes_on(connection)
    assert one(connection, "SELECT count(*) FROM pgml.deployments WHERE pid = pg_backend_pid() AND state = 'idle'") == 2


def test_statement_timeout_while_importing(connection: Connection) -> None:
    """A first call that is stopped in the middle of its imports leaves a backend that works."""
    connection.execute("SET statement_timeout = '500ms'")

    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute(SHORT)

    connection.execute("RESET statement_timeout")
    assert one(connection, "SELECT count(*) FROM pgml.deployments WHERE pid = pg_backend_pid()") == 0
    assert goes_on(connection)


def test_cancel(connect: Connect) -> None:
    """pg_cancel_backend from another session, and Ctrl-C in psql, which is the same."""
    worker, other = connect(), connect()
    worker.execute(LOAD)
    pid = worker.info.backend_pid
    running = "SELECT count(*) FROM pgml.deployments WHERE pid = %s AND state = 'running'"

    def cancel_when_running() -> None:
        while one(other, running, pid) == 0:
            pass
        other.execute("SELECT pg_cancel_backend(%s)", [pid])

    thread = threading.Thread(target=cancel_when_running)
    thread.start()
    with pytest.raises(psycopg.errors.QueryCanceled, match="canceling statement due to user request"):
        worker.execute(LONG)
    thread.join()

    assert goes_on(worker)


def test_terminate(connect: Connect) -> None:
    """pg_terminate_backend ends the backend in the middle of a generation, and the server stays up."""
    worker, other = connect(), connect()
    worker.execute(LOAD)
    pid = worker.info.backend_pid

    def terminate_when_running() -> None:
        while one(other, "SELECT count(*) FROM pgml.deployments WHERE pid = %s AND state = 'running'", pid) == 0:
            pass
        other.execute("SELECT pg_terminate_backend(%s)", [pid])

    thread = threading.Thread(target=terminate_when_running)
    thread.start()
    with pytest.raises(psycopg.errors.AdminShutdown):
        worker.execute(LONG)
    thread.join()

    assert goes_on(other)


def test_a_cancel_is_no_error_to_catch(connection: Connection) -> None:
    """EXCEPTION WHEN OTHERS in PL/pgSQL does not swallow it, as it does not swallow the server's own."""
    connection.execute(LOAD)
    connection.execute("SET statement_timeout = '300ms'")

    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute(f"DO $$ BEGIN PERFORM ({LONG}); EXCEPTION WHEN OTHERS THEN NULL; END $$")


def test_an_error_can_be_caught(warm: Connection) -> None:
    """PL/pgSQL catches ours by its SQLSTATE, and the transaction goes on."""
    with warm.transaction():
        warm.execute(
            """
            DO $$ BEGIN
                PERFORM pgml.transform('nonsense', ARRAY['x']);
            EXCEPTION WHEN feature_not_supported THEN
                PERFORM set_config('pgml_test.caught', SQLERRM, false);
            END $$
            """
        )
        assert one(warm, "SELECT current_setting('pgml_test.caught')") == 'pgml.UnknownTask: unknown task "nonsense"'
        assert goes_on(warm)
