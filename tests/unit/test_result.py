"""result.py: outputs as strict JSON."""

from __future__ import annotations

import json
import math

import pytest

from pgml_transform import result


class Array:
    """Anything with tolist(), as numpy's and torch's arrays have."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def tolist(self) -> list[float]:
        """The values."""
        return self.values


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([{"score": 0.5}], [{"score": 0.5}]),
        ([math.nan, math.inf, -math.inf, 1.5], [None, None, None, 1.5]),
        ([{"a": (1, [math.nan])}], [{"a": [1, [None]]}]),
        ([Array([0.25, 0.5])], [[0.25, 0.5]]),
        ([Array([math.nan])], [[None]]),
        (["a\0b", {"c\0": "\ud800"}], ["a\ufffdb", {"c\ufffd": "\ufffd"}]),
        (["Grüße ☃ 🦆"], ["Grüße ☃ 🦆"]),
        ([None, True, 10**30], [None, True, 10**30]),
    ],
)
def test_to_json(outputs: object, expected: object) -> None:
    """The JSON is strict, and equal to the outputs but for what JSON or PostgreSQL's text can't hold."""
    assert json.loads(result.to_json(outputs)) == expected


def test_numbers_are_exact() -> None:
    """A double comes back bit for bit."""
    assert json.loads(result.to_json([0.1 + 0.2, 1e-308])) == [0.1 + 0.2, 1e-308]


def test_what_has_no_form_in_json_is_an_error() -> None:
    """Never a Python repr."""
    with pytest.raises(TypeError, match="a pipeline answered a object, which has no form in JSON"):
        result.to_json([object()])
