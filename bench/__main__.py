"""Command: `python bench` measures on the server of PGHOST, prints the tables and writes RESULTS.md."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cold
import database
import machine
import warm
from report import Table

_RESULTS = Path(__file__).with_name("RESULTS.md")
_HEAD = """# Measurements

Written by `make bench`. Every line is to be read against the others of its table: they were taken in turns, in one run.
"""


def main() -> None:
    """Run every measurement."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure pgml_transform against plain Python.")
    parser.add_argument("--quick", action="store_true", help="run every path, few times, and write nothing")
    options = parser.parse_args()
    texts = [_HEAD, machine.description() + "\n"]
    print(*texts, sep="\n")
    with database.made():
        for table in _tables(quick=options.quick):
            texts.append(table.text())
            print(texts[-1], flush=True)
    if not options.quick:
        _RESULTS.write_text("\n".join(texts), "utf-8")


def _tables(*, quick: bool) -> Iterator[Table]:
    yield cold.first_call(quick=quick)
    yield cold.imports()
    yield cold.bad_task(quick=quick)
    yield warm.table(quick=quick)  # the last: it imports torch into this process


if __name__ == "__main__":
    main()
