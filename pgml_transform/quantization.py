"""Quantizations: from the keywords that ask for one, to the one configuration that transformers takes, and its name."""

from __future__ import annotations

import json
from typing import Any

from pgml_transform.errors import InvalidTask
from pgml_transform.values import boolean, canonical, kind, shown

BITS = ("load_in_4bit", "load_in_8bit")
_BITSANDBYTES = "bitsandbytes"
_PREFIXES = ("bnb_4bit_", "llm_int8_")

# The bytes of a packed weight. bitsandbytes keeps a float32 for every block of 64 four-bit values; for a row of
# eight-bit ones it keeps one, which is nothing.
PACKED_BYTES = {"bnb-4bit": 0.5 + 4 / 64, "bnb-8bit": 1.0}


# The packages of the methods that are not bitsandbytes', where their names differ from the method's.
_PACKAGES = {
    "auto-round": "auto-round",
    "awq": "gptqmodel",
    "gptq": "optimum gptqmodel",
    "higgs": "flute-kernel",
    "quanto": "optimum-quanto",
    "quark": "amd-quark",
    "spqr": "spqr_quant",
}


def is_keyword(name: str) -> bool:
    """Whether a keyword of the task is about quantization."""
    return name in BITS or name == "quantization_config" or name.startswith(_PREFIXES)


def wanted(keywords: dict[str, Any]) -> str | None:
    """The one quantization that the keywords ask for, as canonical JSON of its configuration; None for none.

    Raises InvalidTask where they contradict each other.
    """
    config = keywords.get("quantization_config", {})
    if not isinstance(config, dict):
        raise InvalidTask(f'"quantization_config" is {kind(config)}, not an object')
    merged = _merged(config, {name: keywords[name] for name in keywords if name in BITS or name.startswith(_PREFIXES)})
    bits = _bits(merged)
    rest = {name: value for name, value in merged.items() if name not in BITS}
    if bits:
        return canonical({**rest, bits: True, "quant_method": _BITSANDBYTES})
    if rest.get("quant_method") not in (None, _BITSANDBYTES):
        return canonical(rest)
    if not rest:
        return None
    raise InvalidTask(
        f'"{min(rest)}" is given without a quantization',
        detail="It tells how to quantize, and nothing says that the model shall be quantized.",
        hint='add "load_in_4bit": true, "load_in_8bit": true, or a "quant_method" in "quantization_config"',
    )


def package(config: str | None) -> str | None:
    """What pip calls the package of a configuration (canonical JSON)."""
    method = None if config is None else str(json.loads(config).get("quant_method"))
    return method and _PACKAGES.get(method, method)


def name(config: dict[str, Any]) -> str:
    """The name of a configuration in pgml.deployments: bnb-4bit, bnb-8bit, or its method's own (gptq, awq, ...)."""
    method = str(config.get("quant_method", _BITSANDBYTES))
    if method == _BITSANDBYTES:
        return "bnb-8bit" if config.get("load_in_8bit") else "bnb-4bit"
    return method


def _merged(config: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    for flag, value in flags.items():
        if flag in config and config[flag] != value:
            raise InvalidTask(
                f'"{flag}" is {shown(value)} and "quantization_config" says {shown(config[flag])}', hint="give it once"
            )
    return {**config, **flags}


def _bits(config: dict[str, Any]) -> str | None:
    """Which of bitsandbytes' two forms is asked for."""
    bits = [flag for flag in BITS if boolean(config, flag)]
    if len(bits) > 1:
        raise InvalidTask(
            '"load_in_4bit" and "load_in_8bit" are both true',
            detail="A model is loaded in one quantization.",
            hint="leave one of them out",
        )
    method = config.get("quant_method", _BITSANDBYTES)
    if bits and method != _BITSANDBYTES:
        raise InvalidTask(
            f'"{bits[0]}" is true and "quant_method" is {shown(method)}',
            hint=f'"{bits[0]}" is a keyword of bitsandbytes: leave one of the two out',
        )
    return bits[0] if bits else None
