"""What the measurements ran on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import database

_GPU_NODES = ("nvidia[0-9]*", "dxg", "kfd")


def description() -> str:
    """One line: date, CPU, memory, versions."""
    with database.connect("postgres") as connection:
        server = database.one(connection, "SHOW server_version").split()[0]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "pgml_transform"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}; {_cpu()}, {os.cpu_count()} cores, {_memory()} GiB of RAM, {_gpu()}; "
        f"PostgreSQL {server}, Python {platform.python_version()}, {packages}."
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30))


def _gpu() -> str:
    """The GPU's name, asked for only where the kernel shows one."""
    if not any(any(Path("/dev").glob(pattern)) for pattern in _GPU_NODES):
        return "no GPU"
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "no GPU that torch can use"
