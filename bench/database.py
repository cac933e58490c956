"""A database of the measurements' own on the server of PGHOST, and what they ask a backend about itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

NAME = "pgml_bench"

Connection = psycopg.Connection[tuple[Any, ...]]

# bare_minimum does what bare.py does. The others look into a backend's own Python, once pgml.transform has put the
# extension's packages on its path.
_FUNCTIONS = """
CREATE FUNCTION python_modules() RETURNS text[] LANGUAGE plpython3u AS $$
import sys
return list(sys.modules)
$$;
CREATE FUNCTION bare_minimum(packages text, model text) RETURNS void LANGUAGE plpython3u AS $$
import sys
sys.path.insert(0, args[0])
import torch
from transformers import AutoTokenizer, DistilBertForSequenceClassification

loaded = DistilBertForSequenceClassification.from_pretrained(args[1])
tokenizer = AutoTokenizer.from_pretrained(args[1])
with torch.no_grad():
    loaded(**tokenizer(["x"], return_tensors="pt"))
$$;
CREATE FUNCTION use_one_thread() RETURNS void LANGUAGE plpython3u AS $$
import torch
torch.set_num_threads(1)
$$;
CREATE FUNCTION watch_inside() RETURNS void LANGUAGE plpython3u AS $$
import time
from pgml_transform import entry
from transformers import pipelines

GD["times"] = {"entry": [], "pipeline": []}

def timed(function, name):
    def call(*positional, **keywords):
        started = time.perf_counter()
        try:
            return function(*positional, **keywords)
        finally:
            GD["times"][name].append(time.perf_counter() - started)
    return call

entry.transform = timed(entry.transform, "entry")
pipelines.Pipeline.__call__ = timed(pipelines.Pipeline.__call__, "pipeline")
$$;
CREATE FUNCTION times_inside(part text) RETURNS float8[] LANGUAGE plpython3u AS $$
return GD["times"][args[0]]
$$;
CREATE FUNCTION forget_times() RETURNS void LANGUAGE plpython3u AS $$
for times in GD["times"].values():
    times.clear()
$$;
"""


@contextmanager
def made() -> Iterator[None]:
    """The database, with the extension in it, for the length of the block."""
    with connect("postgres") as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {NAME}")
    try:
        with connect() as connection:
            connection.execute("CREATE EXTENSION pgml_transform CASCADE")
            connection.execute(_FUNCTIONS)
        yield
    finally:
        with connect("postgres") as admin:
            admin.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def connect(name: str = NAME) -> Connection:
    """A new backend."""
    return psycopg.connect(dbname=name, autocommit=True)


def one(connection: Connection, query: str, *parameters: Any) -> Any:
    """The one value that a query answers."""
    row = connection.execute(query, parameters or None).fetchone()
    if row is None:
        raise LookupError(f"no row: {query}")
    return row[0]
