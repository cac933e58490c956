"""Documentation is executed: every SQL block of the documents runs, in the order of its document."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fix_server import Connect

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").glob("*.md"))]


def blocks(document: Path, language: str = "sql") -> list[str]:
    """The blocks of a document that are fenced in this language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [text for name, text in fenced if name == language]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("document", [path for path in DOCUMENTS if blocks(path)], ids=lambda path: path.name)
def test_every_block_runs(document: Path, connect: Connect) -> None:
    """In a new database, one session, one block after the other, as a reader would."""
    connection = connect()
    connection.execute("DROP ROLE IF EXISTS app")
    connection.execute("CREATE ROLE app")  # that the documents grant things to

    for block in blocks(document):
        if "CREATE EXTENSION" in block:
            connection.execute("DROP EXTENSION pgml_transform")
        connection.execute(block)

    connection.execute("DROP OWNED BY app")
    connection.execute("DROP ROLE app")


def test_no_sql_is_left_out() -> None:
    """A block without a language, which no test runs, has no SQL in it."""
    for document in DOCUMENTS:
        for block in blocks(document, language=""):
            assert "SELECT" not in block
            assert "CREATE" not in block


def test_the_readme_shows_the_published_queries() -> None:
    """What is promised word for word stands in the README word for word."""
    text = (CHECKOUT / "README.md").read_text("utf-8")

    assert "<!-- demo -->" in text
    assert text.count('"model": "Qwen/Qwen2.5-0.5B", "device_map": "auto"}\'::JSONB') == 1
    assert text.count("\"load_in_4bit\": true}'::JSONB, inputs => ARRAY['hello']);") == 1
