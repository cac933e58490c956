"""A database with the extension on the server of PGHOST, and connections to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

Connection = psycopg.Connection[tuple[Any, ...]]
Connect = Callable[..., Connection]

TEMPLATE, SHARED = "pgml_test_template", "pgml_test"


@pytest.fixture(scope="session")
def template() -> str:
    """A database with the extension in it, made once; others are copies of it."""
    if not os.environ.get("PGHOST"):
        pytest.skip("no server: set PGHOST, or run `make test`, which starts one")
    with psycopg.connect(dbname="postgres", autocommit=True) as admin:
        for name in (SHARED, TEMPLATE):
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    with psycopg.connect(dbname=TEMPLATE, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pgml_transform CASCADE")
    return TEMPLATE


@pytest.fixture(scope="session")
def shared_database(template: str) -> Iterator[str]:
    """The database of the tests that leave nothing behind."""
    yield from _copy(template, SHARED)


@pytest.fixture
def database(template: str) -> Iterator[str]:
    """A database of the test's own, for one that changes policy, settings or roles."""
    yield from _copy(template, f"pgml_test_{os.urandom(4).hex()}")


def _copy(template: str, name: str) -> Iterator[str]:
    with psycopg.connect(dbname="postgres", autocommit=True) as admin:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        admin.execute(copy)
        yield name
        admin.close()
    with psycopg.connect(dbname="postgres", autocommit=True) as admin:  # the server may have restarted in between
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Open connections, in autocommit mode; closed when the test ends. The database is the test's own if it has one."""
    default = "database" if "database" in request.fixturenames else "shared_database"
    name = request.getfixturevalue(default)
    opened: list[Connection] = []

    def open_connection(**parameters: Any) -> Connection:
        connection = psycopg.connect(**{"dbname": name, "autocommit": True, **parameters})
        opened.append(connection)
        return connection

    yield open_connection
    for connection in opened:
        connection.close()


@pytest.fixture
def connection(connect: Connect) -> Connection:
    """A backend of the test's own, with nothing loaded."""
    return connect()


def is_alive(connection: Connection) -> bool:
    """Whether the server still answers on this connection."""
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


class Warm:
    """One backend that many tests share, so that not each of them imports torch anew."""

    def __init__(self, database: str) -> None:
        self.database = database
        self._connection: Connection | None = None

    def connection(self) -> Connection:
        """The backend, a new one if the last is gone."""
        if self._connection is None or not is_alive(self._connection):
            self._connection = psycopg.connect(dbname=self.database, autocommit=True)
        return self._connection

    def close(self) -> None:
        """End the backend."""
        if self._connection is not None:
            self._connection.close()


@pytest.fixture(scope="session")
def _warm(shared_database: str) -> Iterator[Warm]:
    keeper = Warm(shared_database)
    yield keeper
    keeper.close()


@pytest.fixture
def warm(_warm: Warm) -> Connection:
    """A backend that other tests used before, and will after."""
    connection = _warm.connection()
    connection.execute("RESET ALL")
    return connection


@pytest.fixture
def notices() -> Callable[[Connection], list[str]]:
    """Collect the notices of a connection, as `SEVERITY: message`."""

    def collect(connection: Connection) -> list[str]:
        said: list[str] = []
        connection.add_notice_handler(lambda notice: said.append(f"{notice.severity}: {notice.message_primary}"))
        return said

    return collect


def one(connection: Connection, query: str, *parameters: Any) -> Any:
    """The one value that a query answers."""
    row = connection.execute(query, parameters or None).fetchone()
    assert row is not None
    return row[0]


def memory_of(pid: int) -> int:
    """The anonymous memory of a process, in bytes (RssAnon)."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"process {pid} has no RssAnon")


@pytest.fixture(scope="session")
def hub_cache() -> str:
    """The hub's cache with the sample models, as the server sees it."""
    return os.environ["HF_HUB_CACHE"]


@pytest.fixture
def model_directory(tmp_path_factory: pytest.TempPathFactory, hub_cache: str) -> Path:
    """A directory with a model of token classification, which the server can read."""
    folder = tmp_path_factory.mktemp("model")
    for parent in [folder, *folder.parents][:3]:
        parent.chmod(0o755)
    (snapshot,) = Path(hub_cache).glob("models--dbmdz--bert-large-cased-finetuned-conll03-english/snapshots/*")
    shutil.copytree(snapshot, folder, dirs_exist_ok=True)
    return folder
