"""What one call asks of its pipeline: `args` made into a frozen `Call`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pgml_transform.errors import InvalidArgument
from pgml_transform.values import canonical, shortened


@dataclass(frozen=True)
class Call:
    """`arguments` is canonical JSON of the pipeline's own keywords; `seed` makes sampling repeat."""

    arguments: str = "{}"
    batch_size: int | None = None
    seed: int | None = None


def parse(text: str, defaults: str = "{}") -> Call:
    """Read `args`; `defaults` are the arguments that the task sets for every call, canonical JSON.

    Raises InvalidArgument where args is no object or one of our own keywords has a bad value.
    """
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("args is not valid JSON", detail=str(error)) from None
    if not isinstance(arguments, dict):
        raise InvalidArgument(
            f"args is {shortened(text)}, not an object",
            hint="write args => '{\"max_new_tokens\": 32}'::jsonb",
        )
    arguments = {**json.loads(defaults), **arguments}
    batch_size = _whole(arguments, "batch_size", least=1)
    seed = _whole(arguments, "seed", least=0)
    rest = {name: value for name, value in arguments.items() if name not in {"batch_size", "seed"}}
    return Call(canonical(rest), batch_size, seed)


def _whole(arguments: dict[str, Any], name: str, least: int) -> int | None:
    value = arguments.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        raise InvalidArgument(f'"{name}" is {json.dumps(value)}', hint=f"write a whole number from {least} up")
    return value
