"""Times, and what is said of many of them: sides are measured in turns, so that a machine's noise hits them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """The median of many values and their quartiles."""

    low: float
    median: float
    high: float

    def text(self, digits: int = 2) -> str:
        """As it stands in a table."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} - {self.high:.{digits}f})"


def spread(values: list[float]) -> Spread:
    """The quartiles of the values."""
    if len(values) == 1:
        values = values * 2
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def seconds(work: Callable[[], Any]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def typical_seconds(work: Callable[[], Any], calls: int) -> float:
    """The median of a block of calls; a block since the first call after another side's finds cold caches."""
    return statistics.median(seconds(work) for _ in range(calls))


def in_turns(sides: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """What each side answered in each round; one round takes the sides in order."""
    found: dict[str, list[Any]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            found[name].append(measure())
    return found


def differences(left: list[float], right: list[float]) -> list[float]:
    """Round by round."""
    return [one - other for one, other in zip(left, right, strict=True)]


def ratios(left: list[float], right: list[float]) -> list[float]:
    """Round by round."""
    return [one / other for one, other in zip(left, right, strict=True)]
