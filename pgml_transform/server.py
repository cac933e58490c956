"""PostgreSQL as the core sees it: who calls, what is set, notices, interrupts, errors. The only module with plpy."""

from __future__ import annotations

import functools
import logging
import os
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import plpy

import pgml_transform
from pgml_transform import interrupts, memory, result, settings
from pgml_transform.errors import ModelFailed, NotInstalled, PgmlError
from pgml_transform.policy import Policy, Rule
from pgml_transform.settings import ANYBODY, SETTINGS, Settings

# One query a call: who calls, the administrator's tables, and the preferences SET in the session.
_PREFERENCES = [setting.name for setting in SETTINGS if setting.who == ANYBODY]
_CURRENT = [f"pg_catalog.current_setting('pgml.{name}', true)" for name in _PREFERENCES]
_CALLER = f"""
    SELECT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS superuser,
           (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'pgml_transform') AS version,
           ARRAY(SELECT ARRAY[name, value] FROM pgml.configuration) AS configured,
           ARRAY(SELECT ARRAY[pattern, trust_remote_code::text] FROM pgml.allowed_models ORDER BY pattern) AS rules,
           ARRAY[{", ".join(_CURRENT)}] AS preferences
"""


# A row of the type pgml.outcome.
Outcome = dict[str, str | None]

# The errors that can come from the middle of a load or a run.
_LEAVE_MEMORY = {"38000", "53200", "57014", "58P01"}


@dataclass(frozen=True)
class Caller:
    """What holds for one call."""

    settings: Settings
    policy: Policy


def caller() -> Caller:
    """Who calls, under which settings and policy."""
    row = plpy.execute(_plan())[0]
    if row["version"] != pgml_transform.__version__:
        raise NotInstalled(
            f"the extension in this database is version {row['version']}, its Python package "
            f"{pgml_transform.__version__}",
            hint="ALTER EXTENSION pgml_transform UPDATE, and connect anew",
        )
    configured = dict(row["configured"])
    # A setting that was SET and RESET is an empty string, one that was never SET is NULL.
    session = {name: value for name, value in zip(_PREFERENCES, row["preferences"], strict=True) if value}
    rules = tuple(Rule(pattern, remote == "true") for pattern, remote in row["rules"])
    return Caller(settings.in_force(configured, session), Policy(rules, row["superuser"]))


@functools.cache
def _plan() -> Any:
    return plpy.prepare(_CALLER)


def setting_rows() -> list[dict[str, Any]]:
    """The rows of pgml.settings."""
    row = plpy.execute(_plan())[0]
    configured, session = dict(row["configured"]), dict(zip(_PREFERENCES, row["preferences"], strict=True))
    rows = []
    for one in SETTINGS:
        value, source = settings.chosen(one, configured, session)
        rows.append({**vars(one), "value": value, "default_value": one.default, "source": source})
    return rows


def backend_start() -> int:
    """When this backend began, in microseconds since 1970, as pg_stat_activity has it."""
    return int(plpy.execute("SELECT pgml._backend_start() AS start")[0]["start"])


def alive_backends() -> dict[int, int]:
    """The process numbers of all backends, and when each began. Needs a role that may see all of pg_stat_activity."""
    rows = plpy.execute(
        "SELECT pid, (EXTRACT(epoch FROM backend_start) * 1000000)::bigint AS start FROM pg_catalog.pg_stat_activity"
        " WHERE backend_start IS NOT NULL"
    )
    return {row["pid"]: int(row["start"]) for row in rows}


def preloaded_libraries() -> str:
    """The setting shared_preload_libraries."""
    return str(plpy.execute("SELECT pg_catalog.current_setting('shared_preload_libraries') AS it")[0]["it"])


def notice(text: str) -> None:
    """A NOTICE to the client."""
    plpy.notice(text)


def warning(text: str) -> None:
    """A WARNING to the client and the log."""
    plpy.warning(text)


def safe_point() -> None:
    """Let the server act on what it waits for: a cancel, but also barriers and invalidations."""
    if interrupts.server_wants_attention():
        try:
            _let_server_in()
        except plpy.SPIError as error:
            raise interrupts.Interrupted from error  # no library on the way may take it for an error of the model


def _let_server_in() -> None:
    """Any statement will do: the server raises its own error if this one is to stop."""
    plpy.execute("SELECT 1")


def outcome(function: Callable[..., Any]) -> Callable[..., Outcome]:
    """Make a function answer pgml.outcome: its result, or the error that pgml._answer then raises.

    An error raised from PL/Python would carry a Python traceback to the client in its CONTEXT, whatever is done.
    """

    @functools.wraps(function)
    def call(*arguments: Any) -> Outcome:
        _take_over_logging()
        answer = attempt(*arguments)
        memory.lift()
        if answer["sqlstate"] in _LEAVE_MEMORY:
            memory.give_back()  # only now does nothing refer to the frames that held it
        return answer

    def attempt(*arguments: Any) -> Outcome:
        try:
            return _outcome(result=interrupts.WATCH.run(lambda: function(*arguments)))
        except interrupts.Interrupted as error:
            return _interrupted(error.__cause__)
        except plpy.SPIError as error:
            return _failure(error, str(error), error.sqlstate)
        except PgmlError as error:
            return _failure(error, f"pgml.{type(error).__name__}: {error}", error.sqlstate, error.detail, error.hint)
        except Exception as error:  # noqa: BLE001 - a fault of ours or a library's must not reach the client bare
            text = f"pgml.{ModelFailed.__name__}: {type(error).__name__}"
            return _failure(error, text, ModelFailed.sqlstate, str(error).strip().split("\n")[0])

    return call


def _interrupted(cause: BaseException | None) -> Outcome:
    """The server's own error, which it raised before or raises now."""
    try:
        if cause is not None:
            raise cause
        _let_server_in()
    except plpy.SPIError as error:
        return _outcome(sqlstate=error.sqlstate, message=str(error))
    return _outcome(sqlstate="57014", message="canceling statement due to user request")


def _failure(
    error: Exception, message: str, sqlstate: str, detail: str | None = None, hint: str | None = None
) -> Outcome:
    trace = "".join(traceback.format_exception(error))
    texts = {"message": message, "detail": detail, "hint": hint, "trace": trace}
    return _outcome(sqlstate=sqlstate, **{name: text and result.in_text(text) for name, text in texts.items()})


def _outcome(**fields: Any) -> Outcome:
    names = ("result", "sqlstate", "message", "detail", "hint", "trace")
    return {name: fields.get(name) for name in names}


class _ServerLog(logging.Handler):
    """What the libraries log, in the server's log, as DEBUG2: a LOG would bring the statement along, and its inputs."""

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() != _PID or not _in_main_thread():
            return  # plpy belongs to the backend's one thread
        plpy.debug(self.format(record))


_PID = os.getpid()


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()


@functools.cache
def _take_over_logging() -> None:
    """Once a backend: nothing of Python's goes to the server's stderr by itself."""
    handler = _ServerLog()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    logging.captureWarnings(True)
    warnings.simplefilter("ignore", DeprecationWarning)
