"""What each SQL function calls: the steps, and nothing else."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pgml_transform import call, catalog, deployments, memory, policy, result, server, settings, task
from pgml_transform.engine import Engine
from pgml_transform.errors import InvalidInput, PgmlError


@server.outcome
def transform(task_text: str, args_text: str, inputs: list[str | None], cache: bool) -> str:
    """The answers for the inputs, as JSON."""
    caller = server.caller()
    wanted = task.parse(task_text)
    asked = call.parse(args_text, wanted.calling)
    policy.check_task(wanted, caller.policy)
    policy.check_arguments(asked.arguments)
    if any(isinstance(text, list) for text in inputs):
        raise InvalidInput("inputs has more than one dimension", hint="write one array of texts: ARRAY['...', '...']")
    if not any(text is not None for text in inputs):
        return result.to_json(inputs)
    outputs = _engine().run(wanted, asked, inputs, caller.settings, cache)
    with _engine().limited(caller.settings, "making JSON of the answers")():
        return result.to_json(outputs)


@server.outcome
def load(task_text: str) -> str:
    """Load without running; the row of pgml.deployments, as JSON."""
    caller = server.caller()
    wanted = task.parse(task_text)
    policy.check_task(wanted, caller.policy)
    row = asdict(_engine().load(wanted, caller.settings).row)
    return result.to_json({**_row(os.getpid(), row), "device_map": row["device_map"]})


@server.outcome
def unload(model: str | None) -> str:
    """How many pipelines this backend let go."""
    return result.to_json(_engine().unload(model))


@server.outcome
def explain(task_text: str) -> str:
    """Where the task would go and what it needs, as JSON; loads nothing."""
    caller = server.caller()
    wanted = task.parse(task_text)
    policy.check_task(wanted, caller.policy)
    found, place = _engine().place(wanted, caller.settings)
    return result.to_json(
        {
            "task": wanted.task,
            "model": wanted.model,
            "revision": found.revision,
            "device": place.device,
            "device_map": place.device_map and json.loads(place.device_map),
            "dtype": place.dtype,
            "quantization": found.quantization or place.quantization_name,
            "parameters": found.floating,
            "weights_bytes": place.weights,
            "needed_bytes": place.needed,
            "free_bytes": place.budget,
            "warning": place.warning,
            "loaded": (wanted, place) in _engine().cache,
        }
    )


@server.outcome
def clear_gpu_cache(memory_usage: float | None) -> str:
    """Whether memory was given back: always for None, else if a GPU is used to at least that share (0 to 1)."""
    return result.to_json(memory.clear_gpu_cache(memory_usage))


@server.outcome
def check_setting(name: str, value: str | None) -> str:
    """The setting's own name, once the value is known to be one of its type."""
    found = settings.find(name)
    if value is not None:
        settings.parse(found, value)
    return result.to_json(found.name)


def setting_rows() -> list[dict[str, Any]]:
    """The rows of pgml.settings."""
    return server.setting_rows()


def task_rows() -> list[tuple[str, str, str, str]]:
    """The rows of pgml.tasks()."""
    return [(one.name, one.input, one.default_model, one.description) for one in catalog.TASKS]


def doctor_rows() -> list[dict[str, Any]]:
    """The rows of pgml.doctor()."""
    from pgml_transform import doctor  # no other call needs what it imports

    try:
        settings_now, first = server.caller().settings, []
    except PgmlError as error:
        settings_now = settings.Settings()
        first = [doctor.Check("settings", ok=False, detail=error.message, hint=error.hint)]
    return [asdict(check) for check in [*first, *doctor.examine(settings_now, server.preloaded_libraries())]]


def deployment_rows() -> list[dict[str, Any]]:
    """The rows of pgml.deployments, of all backends."""
    return [_row(pid, row) for pid, row in deployments.read(server.alive_backends())]


def _row(pid: int, row: dict[str, Any]) -> dict[str, Any]:
    """A deployment with its times in ISO 8601, as SQL reads them, and the process that holds it."""
    times = {
        name: row[name] and datetime.fromtimestamp(row[name], UTC).isoformat() for name in ("loaded_at", "last_used_at")
    }
    device_map = None if row["device_map"] is None else json.dumps(row["device_map"])
    return {"pid": pid, **row, **times, "device_map": device_map}


@functools.cache
def _engine() -> Engine:
    """This backend's engine, made with its first call that needs one."""
    deployments.sweep()
    board = deployments.Board(os.getpid(), server.backend_start())
    return Engine(board, server.notice, server.warning, server.safe_point)
