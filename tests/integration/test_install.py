"""CREATE EXTENSION: what it refuses, what is dumped with it, and every object it owns."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from fix_server import Connect, Connection, one

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def postgresml() -> Iterator[None]:
    """An extension of PostgresML's name, in the private server's directory of extensions."""
    sharedir = subprocess.run(["pg_config", "--sharedir"], capture_output=True, text=True, check=True).stdout.strip()
    folder = Path(sharedir) / "extension"
    files = {"pgml.control": "default_version = '2.10.0'\nschema = pgml\n", "pgml--2.10.0.sql": "SELECT 1;\n"}
    if any((folder / name).exists() for name in files) or not os.access(folder, os.W_OK):
        pytest.skip("PostgresML itself is here, or the server's directory of extensions is not ours to write to")
    for name, text in files.items():
        (folder / name).write_text(text)
    yield
    for name in files:
        (folder / name).unlink()


@pytest.mark.usefixtures("postgresml")
def test_beside_postgresml_it_refuses(connect: Connect) -> None:
    """Both have the schema pgml, and their libraries can't share a session: the error says what to do."""
    connection = connect()
    connection.execute("DROP EXTENSION pgml_transform")
    connection.execute("CREATE SCHEMA IF NOT EXISTS pgml")
    connection.execute("CREATE EXTENSION pgml")

    with pytest.raises(psycopg.Error) as caught:
        connection.execute("CREATE EXTENSION pgml_transform CASCADE")

    assert caught.value.sqlstate == "55000"
    assert caught.value.diag.message_primary == (
        'extension "pgml_transform" takes the place of extension "pgml", which is in this database'
    )
    assert "DROP EXTENSION pgml first" in (caught.value.diag.message_hint or "")


def test_it_can_be_dropped_and_created_again(connect: Connect) -> None:
    """In one session, too, with a pipeline loaded."""
    connection = connect()
    query = "SELECT pgml.transform('text-classification', ARRAY['I love it'])"
    assert one(connection, query)[0]["label"] == "POSITIVE"

    connection.execute("DROP EXTENSION pgml_transform")
    connection.execute("CREATE EXTENSION pgml_transform")

    assert one(connection, query)[0]["label"] == "POSITIVE"


def test_only_superusers_create_it(connect: Connect) -> None:
    """A role with CREATE on the database is not enough, since the functions run as the server's user."""
    connection = connect()
    connection.execute("DROP EXTENSION pgml_transform")
    connection.execute("DROP ROLE IF EXISTS pgml_test_creator")
    connection.execute("CREATE ROLE pgml_test_creator")
    try:
        connection.execute(f"GRANT CREATE ON DATABASE {connection.info.dbname} TO pgml_test_creator")
        connection.execute("SET ROLE pgml_test_creator")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied to create extension"):
            connection.execute("CREATE EXTENSION pgml_transform")
    finally:
        connection.execute("RESET ROLE")
        connection.execute("DROP OWNED BY pgml_test_creator")
        connection.execute("DROP ROLE pgml_test_creator")


def test_policy_and_settings_are_dumped(connect: Connect) -> None:
    """pg_dump of the database carries the rows of allowed_models and what was configured."""
    connection = connect()
    connection.execute("INSERT INTO pgml.allowed_models VALUES ('Qwen/*', false, 'kept in the dump')")
    connection.execute("SELECT pgml.configure('max_pipelines', '3')")

    dump = subprocess.run(["pg_dump", connection.info.dbname], capture_output=True, text=True, check=True).stdout

    assert "Qwen/*\tf\tkept in the dump" in dump
    assert "max_pipelines\t3" in dump
    assert "CREATE FUNCTION" not in dump


def test_every_object_is_described(connect: Connect) -> None:
    """Each function, table, view and type that the extension owns has a comment."""
    bare = connect().execute(
        """
        SELECT pg_describe_object(d.classid, d.objid, 0)
        FROM pg_depend AS d
        WHERE d.refclassid = 'pg_extension'::regclass
          AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgml_transform')
          AND d.deptype = 'e'
          AND d.classid IN ('pg_proc'::regclass, 'pg_class'::regclass)
          AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = d.objid AND c.relkind = 'c')
          AND obj_description(d.objid, d.classid::regclass::text) IS NULL
        """
    )

    assert bare.fetchall() == []


def test_functions_are_what_they_say(connect: Connect) -> None:
    """Each is VOLATILE (or reads the catalog), PARALLEL UNSAFE, with a pinned search_path, and a dear one says so."""
    rows = connect().execute(
        """
        SELECT proname, provolatile, proparallel, proconfig, prosecdef, procost
        FROM pg_proc WHERE pronamespace = 'pgml'::regnamespace
        """
    )

    for name, volatility, parallel, config, definer, cost in rows:
        assert volatility == ("s" if name == "_backend_start" else "v"), name
        assert parallel == "u", name
        assert config == ["search_path=pg_catalog, pg_temp"], name
        assert definer == (name in {"_backend_start", "_deployments"}), name
        assert cost >= 10_000_000 or name not in {"transform", "load"}, name


def test_the_shorthands_have_no_names(connect: Connect) -> None:
    """With names, the named calls of the four-argument functions would not be unique."""
    names = connect().execute("SELECT proargnames FROM pg_proc WHERE proname = 'transform' AND pronargs = 2").fetchall()

    assert names == [(None,), (None,)]


def test_a_package_of_another_version_is_refused(connect: Connect) -> None:
    """After an update of the files, a database that was not updated gets an error that says so."""
    connection: Connection = connect()
    connection.execute("UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'pgml_transform'")

    with pytest.raises(psycopg.Error) as caught:
        connection.execute("SELECT pgml.transform('text-classification', ARRAY['x'])")

    assert caught.value.sqlstate == "55000"
    assert (caught.value.diag.message_primary or "").startswith(
        "pgml.NotInstalled: the extension in this database is version 0.0.1, its Python package "
    )
    assert caught.value.diag.message_hint == "ALTER EXTENSION pgml_transform UPDATE, and connect anew"
