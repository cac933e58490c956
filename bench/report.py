"""Tables, in the one form that is read both on a terminal and in RESULTS.md."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Table:
    """A measurement: its title, one sentence of method, and rows of text."""

    title: str
    method: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Append a row."""
        self.rows.append(cells)

    def text(self) -> str:
        """Markdown, with its columns aligned."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        head, *body = [_line(line, widths) for line in lines]
        rule = "|".join(["", *("-" * (width + 2) for width in widths), ""])
        return "\n".join([f"## {self.title}", "", self.method, "", head, rule, *body, ""])


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
