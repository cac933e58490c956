"""The names of devices and the sizes given for them, in their one spelling: cpu, cuda:0."""

from __future__ import annotations

import json
import re
from typing import Any

from pgml_transform.errors import DeviceNotAvailable, InvalidTask
from pgml_transform.hardware import Hardware

CPU = "cpu"


def known(name: str, hardware: Hardware) -> str:
    """The device that this name means: "cuda:1", "cuda" (the GPU with the most free memory), "0", "-1", "cpu".

    Raises InvalidTask for no name of a device, DeviceNotAvailable for one that is not here.
    """
    text = name.strip().lower()
    if text in (CPU, "-1"):
        return CPU
    match = re.fullmatch(r"(?:cuda:?|gpu:?)?(\d{1,4})|cuda|gpu", text, re.ASCII)
    if match is None:
        raise InvalidTask(f'"{name}" is not a device', hint="write cpu, cuda, cuda:1, or a GPU's number")
    if match[1] is None and hardware.gpus:
        return f"cuda:{max(hardware.gpus, key=lambda gpu: (gpu.free, -gpu.index)).index}"
    index = int(match[1] or 0)
    if index not in {gpu.index for gpu in hardware.gpus}:
        raise _not_here(name, hardware)
    return f"cuda:{index}"


def limits(max_memory: str, hardware: Hardware) -> dict[str, int]:
    """The bytes that `max_memory` (JSON) gives each device; InvalidTask for what is no object of sizes."""
    value = json.loads(max_memory)
    if not isinstance(value, dict) or not value:
        raise InvalidTask(
            f'"max_memory" is {max_memory}',
            hint='write an object of devices and sizes: {"0": "10GB", "cpu": "30GB"}',
        )
    sizes: dict[str, int] = {}
    for device, size in value.items():
        name = known(device, hardware)
        if name in sizes:
            raise InvalidTask(f'"max_memory" names {name} twice', hint="name each device once")
        sizes[name] = _bytes(device, size)
    return sizes


def _not_here(name: str, hardware: Hardware) -> DeviceNotAvailable:
    here = [f"cuda:{gpu.index} ({gpu.name})" for gpu in hardware.gpus]
    if here:
        hint = 'leave "device" out to take the best one there is, or write "cpu"'
    else:
        hint = 'write "device": "cpu", or see that the NVIDIA driver and a CUDA build of torch are installed'
    return DeviceNotAvailable(
        f'device "{name}" is not here', detail=f"This server's process sees {', '.join([CPU, *here])}.", hint=hint
    )


def _bytes(device: str, size: Any) -> int:
    """A size as accelerate reads it: a number of bytes, or "10GB" (decimal) or "10GiB" (binary)."""
    if isinstance(size, int) and not isinstance(size, bool) and size >= 0:
        return size
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?([KMGT]?)(i?)B", str(size), re.IGNORECASE | re.ASCII)
    if match is None:
        raise InvalidTask(f'"max_memory" of "{device}" is {json.dumps(size)}', hint='write bytes, or "10GB", "10GiB"')
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index(match[2].upper() or " "))
