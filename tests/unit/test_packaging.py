"""One version everywhere, and metadata that names what is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import pgml_transform

CHECKOUT = Path(__file__).parents[2]
CONTROL = dict(
    re.findall(r"^(\w+) *= *'?([^'\n]*)'?", (CHECKOUT / "pgml_transform.control").read_text("utf-8"), re.MULTILINE)
)
META = json.loads((CHECKOUT / "META.json").read_text("utf-8"))
SQL = (CHECKOUT / "sql" / "pgml_transform.sql").read_text("utf-8")


def test_one_version() -> None:
    """The control file, META.json, the changelog and the package have one version."""
    version = CONTROL["default_version"]

    assert version == pgml_transform.__version__
    assert version == META["version"] == META["provides"]["pgml_transform"]["version"]
    assert f"## {version} " in (CHECKOUT / "CHANGELOG.md").read_text("utf-8")


def test_metadata_names_files_that_are_there() -> None:
    """What META.json says is provided is in the repository."""
    provided = META["provides"]["pgml_transform"]

    assert (CHECKOUT / provided["file"]).is_file()
    assert (CHECKOUT / provided["docfile"]).is_file()


def test_the_extension_is_for_superusers_to_install() -> None:
    """PL/Python can do all that the server's user can, so installing it is no ordinary role's right."""
    assert (CONTROL["superuser"], CONTROL["trusted"], CONTROL["requires"], CONTROL["schema"]) == (
        "true",
        "false",
        "plpython3u",
        "pgml",
    )


STATEMENTS = [
    statement
    for statement in re.split(r"(?m)^(?=CREATE |COMMENT |GRANT |REVOKE |SELECT |DO )", SQL)
    if statement.startswith("CREATE FUNCTION")
]


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda text: re.sub(r"\s+", " ", text[16:60]))
def test_every_function_says_what_it_is(statement: str) -> None:
    """Each states its volatility, PARALLEL UNSAFE and a pinned search_path."""
    head = statement.split("AS $$", maxsplit=1)[0]

    assert re.search(r"\b(VOLATILE|STABLE)\b", head)
    assert "PARALLEL UNSAFE" in head
    assert "SET search_path = pg_catalog, pg_temp" in head


def test_python_bodies_are_one_import_and_one_call() -> None:
    """No logic in SQL: a PL/Python body is the line that `make install` writes, and one call."""
    bodies = re.findall(r"LANGUAGE plpython3u.*?AS \$\$\n(.*?)\$\$;", SQL, re.DOTALL)

    assert bodies
    for body in bodies:
        assert re.fullmatch(r"@python@\nreturn entry\.\w+\([^()]*\)\n", body), body
