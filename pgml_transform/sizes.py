"""How sizes in bytes are written for people."""

from __future__ import annotations


def pretty(size: float) -> str:
    """A size as people write it: 471 kB, 64 MB, and from 1 GB up with one decimal, 1.5 GB."""
    for unit, factor in (("TB", 1 << 40), ("GB", 1 << 30)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / (1 << 20):.0f} MB" if size >= 1 << 20 else f"{size / (1 << 10):.0f} kB"
