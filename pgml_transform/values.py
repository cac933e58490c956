"""JSON values as keywords carry them: checked for their type, shown in messages, made canonical for keys."""

from __future__ import annotations

import json
from typing import Any

from pgml_transform.errors import InvalidTask

_SHOWN = 60  # characters of a value that a message repeats


def canonical(value: Any) -> str:
    """JSON text that is equal for equal values, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def text(keywords: dict[str, Any], name: str) -> str | None:
    """The string of this name, None where there is none; InvalidTask for anything else."""
    value = keywords.get(name)
    if value == "":
        raise InvalidTask(f'"{name}" is an empty string')
    if value is None or isinstance(value, str):
        return value
    raise InvalidTask(f'"{name}" is {shown(value)}, not a string')


def boolean(keywords: dict[str, Any], name: str) -> bool | None:
    """The boolean of this name, None where there is none; InvalidTask for anything else, "true" too."""
    value = keywords.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise InvalidTask(f'"{name}" is {shown(value)}, not a boolean', hint="write true or false, without quotation marks")


def kind(value: Any) -> str:
    """What sort of JSON value it is, with its article."""
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return kinds.get(type(value), "an object")


def shown(value: Any) -> str:
    """The value as JSON, shortened for a message."""
    return shortened(json.dumps(value, ensure_ascii=False))


def shortened(text: str) -> str:
    """A text short enough for a message."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
