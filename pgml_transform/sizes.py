"""How sizes in bytes are written for people."""

from __future__ import annotations


def pretty(size: float) -> str:
    """A size as pg_size_pretty writes it, with one decimal from 1 GB up: 64 MB, 1.5 GB."""
    for unit, factor in (("TB", 1 << 40), ("GB", 1 << 30)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / (1 << 20):.0f} MB"
