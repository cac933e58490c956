"""The table of settings: what can be set, by whom, to what, and what it means.

A value that protects the server is the administrator's: `pgml.configure(name, value)` keeps it in a table that
only a superuser writes. A preference is anybody's: `SET pgml.<name> = value` in a session, or in postgresql.conf;
`pgml.configure` sets the default of those, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgml_transform.errors import InvalidSetting

ADMINISTRATOR = "administrator"
ANYBODY = "anybody"

_UNITS = {"": 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}


@dataclass(frozen=True)
class Setting:
    """One line of the table. `type` is one of boolean, device, directory, integer, memory."""

    name: str
    type: str
    default: str
    who: str
    meaning: str


SETTINGS = (
    Setting(
        "memory_limit",
        "memory",
        "",
        ADMINISTRATOR,
        "the most memory that the models of one backend may take, such as 8GB; empty: what the machine has free",
    ),
    Setting(
        "max_pipelines",
        "integer",
        "8",
        ADMINISTRATOR,
        "how many pipelines one backend keeps; the least recently used one leaves first",
    ),
    Setting(
        "offline",
        "boolean",
        "off",
        ADMINISTRATOR,
        "never ask the model hub: only models that are in its cache on this server can be used",
    ),
    Setting(
        "hub_cache",
        "directory",
        "",
        ADMINISTRATOR,
        "the directory of the hub's cache on this server; empty: the standard place of the server's user",
    ),
    Setting(
        "device",
        "device",
        "auto",
        ANYBODY,
        "the device of a task that names none: auto, cpu, cuda, cuda:1",
    ),
)

BY_NAME = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True)
class Settings:
    """The values in force for one call; sizes in bytes, None where there is no limit."""

    memory_limit: int | None = None
    max_pipelines: int = 8
    offline: bool = False
    hub_cache: str | None = None
    device: str = "auto"


def in_force(configured: Mapping[str, str], session: Mapping[str, str]) -> Settings:
    """The values of this call: a preference SET in the session, else what is configured, else the default.

    Raises InvalidSetting for a preference that was SET to what its type does not have.
    """
    return Settings(**{s.name: parse(s, chosen(s, configured, session)[0]) for s in SETTINGS})


def chosen(setting: Setting, configured: Mapping[str, str], session: Mapping[str, str]) -> tuple[str, str]:
    """The value's text and where it comes from: SET, configure or default."""
    if setting.who == ANYBODY and session.get(setting.name):
        return session[setting.name], "SET"
    if setting.name in configured:
        return configured[setting.name], "configure"
    return setting.default, "default"


def find(name: str | None) -> Setting:
    """The setting of this name, with or without the `pgml.` before it; InvalidSetting where there is none."""
    setting = BY_NAME.get((name or "").removeprefix("pgml."))
    if setting is None:
        raise InvalidSetting(
            f'unknown setting "{name or ""}"',
            detail=f"The settings are: {', '.join(BY_NAME)}.",
            hint="SELECT * FROM pgml.settings describes them",
        )
    return setting


def parse(setting: Setting, text: str) -> Any:
    """The value that this text stands for; InvalidSetting where it stands for none."""
    parsers = {"boolean": _boolean, "device": _device, "directory": _directory, "integer": _integer, "memory": _memory}
    try:
        return parsers[setting.type](text.strip())
    except ValueError as error:
        raise InvalidSetting(
            f'invalid value for pgml.{setting.name}: "{text}"',
            detail=f"The setting is {setting.meaning}.",
            hint=str(error),
        ) from None


def _boolean(text: str) -> bool:
    words = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise ValueError("write on or off")
    return words[text.lower()]


def _integer(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError("write a whole number from 1 up")
    return int(text)


def _memory(text: str) -> int | None:
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,15}) ?([kmgt]?b|)", text.lower(), re.ASCII)
    if match is None or int(match[1]) == 0:
        raise ValueError("write a number and a unit: kB, MB, GB or TB")
    return int(match[1]) * _UNITS[match[2]]


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|-1|((cuda|gpu)(:\d+)?)|\d+", text.lower(), re.ASCII):
        raise ValueError("write auto, cpu, cuda, cuda:1, or a GPU's number")
    return text.lower()


def _directory(text: str) -> str | None:
    if text and not text.startswith("/"):
        raise ValueError("write an absolute path")
    return text or None
