"""The cache of a backend: one entry a task, bounded, and its memory really given back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from fix_server import Connect, Connection, memory_of, one
from psycopg.types.json import Jsonb

SMALL = "Qwen/Qwen2.5-0.5B"
CLASSIFY = {"task": "text-classification"}


def load(connection: Connection, **keywords: Any) -> dict[str, Any]:
    """pgml.load's answer."""
    row = one(connection, "SELECT pgml.load(%s)", Jsonb(keywords))
    assert isinstance(row, dict)
    return row


def models(connection: Connection) -> list[str]:
    """The models that this backend holds."""
    query = "SELECT model FROM pgml.deployments WHERE pid = pg_backend_pid() AND state <> 'failed' ORDER BY loaded_at"
    return [row[0] for row in connection.execute(query)]


def test_two_spellings_hit_one_entry(connection: Connection) -> None:
    """However a task is spelt, and with whatever token, its pipeline is loaded once."""
    spellings: list[dict[str, Any]] = [
        {"task": "text-generation", "model": SMALL},
        {"model": SMALL, "task": "text-generation", "device_map": "auto"},
        {"task": "text-generation", "model": SMALL, "device": "cpu"},
        {"task": "text-generation", "model": SMALL, "device": -1, "revision": None},
        {"task": "text-generation", "model": SMALL, "token": "hf_secret"},
        {"task": "text-generation", "model": SMALL, "model_kwargs": {}},
    ]

    rows = [load(connection, **keywords) for keywords in spellings]

    assert len({row["loaded_at"] for row in rows}) == 1
    assert models(connection) == [SMALL]


def test_what_is_another_pipeline_is_loaded_anew(connection: Connection) -> None:
    """Another dtype, quantization or task of one model are pipelines of their own."""
    load(connection, task="text-generation", model=SMALL, dtype="float32")
    load(connection, task="text-generation", model=SMALL, dtype="bfloat16")
    load(connection, task="feature-extraction", model=SMALL)

    assert len(models(connection)) == 3


def test_the_notice_comes_once(connection: Connection, notices: Callable[[Connection], list[str]]) -> None:
    """What was decided is said at the load, and not again."""
    said = notices(connection)

    for _ in range(2):
        connection.execute("SELECT pgml.transform('text-classification', ARRAY['I love it'])")

    assert len(said) == 1
    assert said[0].startswith(
        "NOTICE: loaded distilbert/distilbert-base-uncased-finetuned-sst-2-english (the task's default) for "
        "text-classification: device cpu, dtype float32, quantization none, "
    )


@pytest.mark.usefixtures("database")
def test_the_least_recently_used_leaves(connect: Connect) -> None:
    """Past the set count the pipeline that was used longest ago goes."""
    connection = connect()
    connection.execute("SELECT pgml.configure('max_pipelines', '2')")

    load(connection, **CLASSIFY)
    load(connection, task="fill-mask")
    load(connection, **CLASSIFY)
    load(connection, task="token-classification")

    assert set(models(connection)) == {
        "distilbert/distilbert-base-uncased-finetuned-sst-2-english",
        "dbmdz/bert-large-cased-finetuned-conll03-english",
    }


@pytest.mark.usefixtures("database")
def test_room_is_made_for_the_next_model(connect: Connect) -> None:
    """A model that fits only without the others takes their place."""
    connection = connect()
    connection.execute("SELECT pgml.configure('memory_limit', '200MB')")
    minilm = "sentence-transformers/all-MiniLM-L6-v2"
    load(connection, **CLASSIFY)
    load(connection, task="feature-extraction", model=minilm)
    assert len(models(connection)) == 2

    load(connection, task="feature-extraction", model=minilm, attn_implementation="eager")

    assert models(connection) == [minilm]


def test_an_evicted_models_memory_is_given_back(connection: Connection) -> None:
    """The process's own figures fall by the size of the model that it let go."""
    pid = one(connection, "SELECT pg_backend_pid()")
    task = {"task": "feature-extraction", "model": "sentence-transformers/all-MiniLM-L6-v2"}
    # Another dtype than the file's is a copy in the process's own memory; the first load also imports the libraries.
    load(connection, **task, dtype="float64")
    connection.execute("SELECT pgml.unload()")
    before = memory_of(pid)

    row = load(connection, **task, dtype="float64")
    held = memory_of(pid)
    assert one(connection, "SELECT pgml.unload(%s)", task["model"]) == 1
    after = memory_of(pid)

    assert row["host_bytes"] > 170_000_000
    assert held - before > 0.9 * row["host_bytes"]
    assert after - before < 0.05 * row["host_bytes"]


def test_a_failed_load_leaves_nothing_behind(connection: Connection) -> None:
    """No entry, no memory, only a row that says that it failed; and the next load is not hindered."""
    pid = one(connection, "SELECT pg_backend_pid()")
    load(connection, **CLASSIFY)
    before = memory_of(pid)

    for _ in range(3):
        with pytest.raises(psycopg.errors.UndefinedFile):
            load(connection, task="text-classification", model="distilbert/distilroberta-base", subfolder="nowhere")
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            load(connection, task="text-classification", model="distilbert/distilroberta-base", nonsense=1)

    failed = connection.execute(
        "SELECT model, last_error FROM pgml.deployments WHERE pid = pg_backend_pid() AND state = 'failed'"
    ).fetchall()
    assert failed == [
        (
            "distilbert/distilroberta-base",
            'InvalidArgument: task "text-classification" takes no argument "nonsense"',
        )
    ]
    assert len(models(connection)) == 1
    assert memory_of(pid) - before < 30_000_000


def test_unload(connection: Connection) -> None:
    """Unload answers how many pipelines went: of one model, or all."""
    load(connection, task="text-generation", model=SMALL)
    load(connection, task="feature-extraction", model=SMALL)
    load(connection, **CLASSIFY)

    assert one(connection, "SELECT pgml.unload('no/such-model')") == 0
    assert one(connection, "SELECT pgml.unload(%s)", SMALL) == 2
    assert one(connection, "SELECT pgml.unload()") == 1
    assert models(connection) == []


def test_a_rollback_keeps_the_pipeline(connection: Connection) -> None:
    """The cache is the backend's, not the transaction's."""
    with connection.transaction(force_rollback=True):
        load(connection, **CLASSIFY)

    assert len(models(connection)) == 1


def test_clear_gpu_cache(connection: Connection) -> None:
    """It answers whether it did something, and leaves the pipelines where they are."""
    load(connection, **CLASSIFY)

    assert one(connection, "SELECT pgml.clear_gpu_cache()") is True
    assert one(connection, "SELECT pgml.clear_gpu_cache(memory_usage => 0.5)") is False
    assert len(models(connection)) == 1
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="memory_usage is 7"):
        connection.execute("SELECT pgml.clear_gpu_cache(7)")
