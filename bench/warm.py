"""A call of a cached model: through SQL, and the same pipeline in plain Python."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import database
import measure
from database import Connection
from report import Table

_TEXT = "The food was good, but we had to wait a long time for it."
_TRANSFORM = "SELECT pgml.transform(task => %s::jsonb, args => %s::jsonb, inputs => %s::text[])"

# What is timed in each round.
_PARTS = (
    ("plain Python", "`pipe([text])` in the client's process"),
    ("SQL", "`SELECT pgml.transform(...)`, its answer as Python objects"),
    ("empty array", "the same without a run: who calls, settings, policy, task; its round trip"),
    ("SELECT 1", "a round trip"),
    ("entry", "of SQL: `entry.transform` in the backend"),
    ("pipeline", "of that: the pipeline's own call"),
    ("JSON", "for comparison: the answer to JSON text and back in the client's process"),
)

# What follows from them: name, left, right, meaning.
_DERIVED = (
    ("**SQL - plain Python**", "SQL", "plain Python", "what SQL costs; at most 1 ms is wanted (last: 135 KB)"),
    ("pipeline - plain Python", "pipeline", "plain Python", "of that: the backend's slower run"),
    ("entry - pipeline", "entry", "pipeline", "of that: our Python around the pipeline"),
    ("SQL - entry", "SQL", "entry", "of that: PL/pgSQL, PL/Python, text to jsonb to text, round trip, client"),
)


@dataclass(frozen=True)
class Case:
    """One model and its call."""

    task: str
    model: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def wanted(self) -> str:
        """The task as SQL takes it."""
        return json.dumps({"task": self.task, "model": self.model})


CASES = (
    Case("text-classification", "distilbert/distilbert-base-uncased-finetuned-sst-2-english"),
    Case("text-generation", "Qwen/Qwen2.5-0.5B", {"do_sample": False, "max_new_tokens": 1}),
    Case("feature-extraction", "sentence-transformers/all-MiniLM-L6-v2"),
)


def table(*, quick: bool) -> Table:
    """Measure all models."""
    rounds, calls = (2, 2) if quick else (31, 20)
    with database.connect() as connection:
        database.one(connection, _TRANSFORM, CASES[0].wanted, "{}", [_TEXT])
        connection.execute("SELECT use_one_thread(), watch_inside()")
        found = [_measured(connection, case, rounds, calls) for case in CASES]
    result = Table(
        "Warm call",
        f"One input to a cached model over one warm connection, in ms: median and quartiles of {rounds} rounds, each "
        f"of which takes the median of {calls} calls of every line in turn; differences are taken within a round. "
        "torch has one thread on both sides: the idle threads of the one would spin on the cores of the other.",
        ("ms", *(case.task for case in CASES), "what it is"),
    )
    for name, meaning in _PARTS:
        result.add(name, *(_ms(values[name]) for values in found), meaning)
    for name, left, right, meaning in _DERIVED:
        cells = [_ms(measure.differences(values[left], values[right])) for values in found]
        result.add(name, *cells, meaning)
    return result


def _measured(connection: Connection, case: Case, rounds: int, calls: int) -> dict[str, list[float]]:
    """The seconds of each part in each round."""
    row = database.one(connection, "SELECT pgml.load(%s::jsonb)", case.wanted)
    plain, call = _plain(case, row), partial(_transform, connection, case)
    answer = call([_TEXT])
    _same(plain(), answer)
    blocks: dict[str, Callable[[], Any]] = {
        "plain Python": plain,
        "empty array": partial(call, []),
        "JSON": lambda: json.loads(json.dumps(answer)),
        "SELECT 1": partial(database.one, connection, "SELECT 1"),
    }
    sides: dict[str, Callable[[], Any]] = {
        name: partial(measure.typical_seconds, work, calls) for name, work in blocks.items()
    }
    sides["through SQL"] = partial(_through_sql, connection, partial(call, [_TEXT]), calls)
    values = measure.in_turns(sides, rounds + 1)
    through = values.pop("through SQL")
    values |= {name: [one[name] for one in through] for name in through[0]}
    return {name: series[1:] for name, series in values.items()}  # the first round warms up


def _through_sql(connection: Connection, work: Callable[[], Any], calls: int) -> dict[str, float]:
    """The typical seconds of a call, and of the parts of the same calls as the backend saw them."""
    connection.execute("SELECT forget_times()")
    found = {"SQL": measure.typical_seconds(work, calls)}
    for part in ("entry", "pipeline"):
        found[part] = statistics.median(database.one(connection, "SELECT times_inside(%s)", part))
    return found


def _transform(connection: Connection, case: Case, inputs: list[str]) -> Any:
    return database.one(connection, _TRANSFORM, case.wanted, json.dumps(case.arguments), inputs)


def _plain(case: Case, row: dict[str, Any]) -> Callable[[], Any]:
    """The pipeline as the server has it: same device, same dtype, one thread."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    pipe = transformers.pipeline(case.task, model=case.model, device=row["device"], dtype=row["dtype"])
    return lambda: pipe([_TEXT], **case.arguments)


def _same(plain: Any, answered: Any) -> None:
    """What is compared must do the same work: answers of one shape."""
    if _shape(plain) != _shape(answered):
        raise ValueError(f"SQL and plain Python answer differently: {str(answered)[:200]} and {str(plain)[:200]}")


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shape(inner) for inner in value]
    return "number" if isinstance(value, (int, float)) else value


def _ms(values: list[float]) -> str:
    return measure.spread([value * 1000 for value in values]).text()
