"""A pipeline's outputs as strict JSON, which PostgreSQL's jsonb takes."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_NOT_IN_TEXT = re.compile("[\0\ud800-\udfff]")


def to_json(outputs: Any) -> str:
    """JSON text of the outputs. NaN and infinity become null; what text can't hold (NUL, a lone surrogate) U+FFFD."""
    try:
        text = json.dumps(outputs, allow_nan=False, ensure_ascii=False, default=_plain)
        text.encode("utf-8")
    except (ValueError, UnicodeEncodeError):
        return json.dumps(_strict(outputs), allow_nan=False, ensure_ascii=False)
    if "\\u0000" in text:
        return json.dumps(_strict(outputs), allow_nan=False, ensure_ascii=False)
    return text


def _plain(value: Any) -> Any:
    """What JSON knows, of numpy's scalars and arrays and of torch's tensors."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    raise TypeError(f"a pipeline answered a {type(value).__name__}, which has no form in JSON")


def _strict(value: Any) -> Any:
    """The same value with null for every number that JSON has not."""
    if isinstance(value, dict):
        return {in_text(str(key)): _strict(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return in_text(value)
    if value is None or isinstance(value, int):
        return value
    return _strict(_plain(value))


def in_text(text: str) -> str:
    """The text with U+FFFD for what PostgreSQL's text can't hold."""
    return _NOT_IN_TEXT.sub("\ufffd", text)
