"""Who may do what: a role without USAGE nothing, one with it what policy allows, and policy the owner's alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from fix_server import Connect, Connection, one
from psycopg import sql

ROLE = "pgml_test_app"
CLASSIFY = "SELECT pgml.transform('text-classification', ARRAY['I love it'])"

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def owner(connect: Connect) -> Iterator[Connection]:
    """A superuser's session, and an ordinary role beside it."""
    connection = connect()
    connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(ROLE)))
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))
    yield connection
    for statement in ("DROP OWNED BY {}", "DROP ROLE {}"):
        connection.execute(sql.SQL(statement).format(sql.Identifier(ROLE)))


@pytest.fixture
def app(owner: Connection, connect: Connect) -> Iterator[Connection]:
    """A session of a role that has been given the schema, as the README says."""
    owner.execute(f"GRANT USAGE ON SCHEMA pgml TO {ROLE}")
    connection = connect(user=ROLE)
    yield connection
    connection.close()


@pytest.mark.usefixtures("owner")
def test_without_usage_nothing_can_be_done(connect: Connect) -> None:
    """A new schema is closed to everybody but superusers."""
    stranger = connect(user=ROLE)

    for query in (CLASSIFY, "SELECT * FROM pgml.deployments", "SELECT pgml.unload()", "SELECT * FROM pgml.settings"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for schema pgml"):
            stranger.execute(query)
    stranger.close()


def test_one_grant_opens_it(app: Connection) -> None:
    """With USAGE a role runs models, sees deployments, settings, tasks and policy."""
    assert one(app, CLASSIFY)[0]["label"] == "POSITIVE"
    assert one(app, "SELECT count(*) FROM pgml.deployments WHERE pid = pg_backend_pid()") == 1
    assert one(app, "SELECT count(*) FROM pgml.settings") > 0
    assert one(app, "SELECT count(*) FROM pgml.tasks()") == 6
    assert one(app, "SELECT count(*) FROM pgml.allowed_models") == 0
    assert one(app, "SELECT pgml.unload()") == 1


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO pgml.allowed_models VALUES ('*')",
        "DELETE FROM pgml.allowed_models",
        "UPDATE pgml.allowed_models SET trust_remote_code = true",
        "INSERT INTO pgml.configuration VALUES ('offline', 'off')",
        "SELECT pgml.configure('memory_limit', '1TB')",
        "CREATE FUNCTION pgml.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION pgml.unload(text)",
    ],
)
def test_policy_is_not_an_ordinary_roles_to_change(app: Connection, statement: str) -> None:
    """Neither through the function nor through the tables."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(statement)


def test_allowed_models_bounds_everybody(owner: Connection, app: Connection) -> None:
    """With a row, only what it matches is loaded; a model that is already loaded is not run any more."""
    assert one(app, CLASSIFY)[0]["label"] == "POSITIVE"
    owner.execute("INSERT INTO pgml.allowed_models (pattern, note) VALUES ('Qwen/*', 'ours')")

    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r'model "distilbert/.*" is not allowed'):
        app.execute(CLASSIFY)
    assert one(
        app, """SELECT pgml.transform('{"task": "text-generation", "model": "Qwen/Qwen2.5-0.5B"}', ARRAY['hello'])"""
    )


def test_directories_are_the_administrators_to_open(owner: Connection, app: Connection, model_directory: Path) -> None:
    """An ordinary role loads a directory only where a pattern matches its real path."""
    query = "SELECT pgml.transform(jsonb_build_object('task', 'ner', 'model', %s::text), ARRAY['I am Omar'])"

    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is a directory of the server"):
        app.execute(query, [str(model_directory)])
    owner.execute("INSERT INTO pgml.allowed_models VALUES (%s)", [f"{model_directory.parent}/*"])
    assert one(app, query, str(model_directory))[0][0]["word"] == "Omar"
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is not allowed"):
        app.execute(query, ["/etc"])


def test_a_setting_of_the_administrators_can_not_be_set_away(owner: Connection, app: Connection) -> None:
    """SET of a value that protects the server has no effect; a preference has."""
    owner.execute("SELECT pgml.configure('max_pipelines', '1')")
    app.execute("SET pgml.max_pipelines = '100'")
    app.execute("SET pgml.device = 'cpu'")

    rows = dict(app.execute("SELECT name, value || ' by ' || source FROM pgml.settings").fetchall())

    assert rows["max_pipelines"] == "1 by configure"
    assert rows["device"] == "cpu by SET"
    assert rows["offline"] == "off by default"
    app.execute("RESET pgml.device")
    assert one(app, "SELECT value FROM pgml.settings WHERE name = 'device'") == "auto"


def test_configure(owner: Connection) -> None:
    """A value is checked before it is kept, and NULL puts the default back."""
    owner.execute("SELECT pgml.configure('pgml.memory_limit', '8GB')")
    assert one(owner, "SELECT value FROM pgml.settings WHERE name = 'memory_limit'") == "8GB"

    with pytest.raises(psycopg.errors.InvalidParameterValue, match=r'invalid value for pgml\.memory_limit: "much"'):
        owner.execute("SELECT pgml.configure('memory_limit', 'much')")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match='unknown setting "venv"'):
        owner.execute("SELECT pgml.configure('venv', '/tmp')")
    assert one(owner, "SELECT value FROM pgml.settings WHERE name = 'memory_limit'") == "8GB"

    owner.execute("SELECT pgml.configure('memory_limit', NULL)")
    assert one(owner, "SELECT source FROM pgml.settings WHERE name = 'memory_limit'") == "default"


def test_no_variable_of_the_session_decides_what_python_is_loaded(app: Connection) -> None:
    """The path of the Python side is in the functions' bodies, which belong to the extension's owner."""
    app.execute("SET pgml.venv = '/tmp/evil'")
    app.execute("SET pgml.python_path = '/tmp/evil'")
    app.execute("SET search_path = pg_temp")
    signature = "pg_temp._transform(text, text, text[], boolean) RETURNS jsonb"
    app.execute(f"CREATE FUNCTION {signature} LANGUAGE sql AS 'SELECT NULL::jsonb'")

    assert one(app, CLASSIFY)[0]["label"] == "POSITIVE"
