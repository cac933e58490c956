"""What is here: the GPUs and their free memory, the RAM under every limit on it, bf16 or not."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

# Without one of these nodes in /dev there is no GPU to ask for, and torch need not be imported to learn that.
_GPU_NODES = ("nvidia[0-9]*", "dxg", "kfd")

# The first generation whose compute capability has bf16 arithmetic; before it torch emulates it.
_AMPERE = 8

_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Gpu:
    """One GPU; sizes in bytes. `held` is what this backend's own pipelines take there and could give back."""

    index: int
    name: str
    total: int
    free: int
    bf16: bool
    held: int = 0


@dataclass(frozen=True)
class Hardware:
    """The machine as this backend may use it; sizes in bytes. `ram_held` as `Gpu.held`.

    `unusable_gpu`: there is a GPU, and torch can't use it, being a build for the CPU or without its driver.
    """

    ram_total: int
    ram_free: int
    cpu_bf16: bool = False
    gpus: tuple[Gpu, ...] = ()
    ram_held: int = 0
    unusable_gpu: bool = False


def probe(held: dict[str, int] | None = None, memory_limit: int | None = None, private: int | None = None) -> Hardware:
    """Look at the machine now. `held`: bytes that this backend's pipelines hold, by device ("cpu", "cuda:0").

    `private` is what of `held["cpu"]` is not mapped from files, all of it for None: only that comes back to the
    machine, while an administrator's `memory_limit` counts it all.
    """
    held = held or {}
    in_ram = held.get("cpu", 0)
    total, free = _ram()
    emptied = free + (in_ram if private is None else private)
    if memory_limit is not None:
        total, emptied = min(total, memory_limit), min(emptied, memory_limit)
        free = min(free, max(0, memory_limit - in_ram))
    gpus = _gpus(held)
    return Hardware(total, free, _cpu_has_bf16(), gpus, max(0, emptied - free), has_gpu() and not gpus)


def free_ram(held: dict[str, int], memory_limit: int | None) -> int:
    """What of the RAM this backend may still take, as of a second ago at most: a look takes half a millisecond."""
    if time.monotonic() - _Look.at > _LOOK_SECONDS:
        _Look.free, _Look.at = _ram()[1], time.monotonic()
    free = _Look.free
    return free if memory_limit is None else min(free, max(0, memory_limit - held.get("cpu", 0)))


def look_again() -> None:
    """Forget the last look: memory was given back, or taken."""
    _Look.at = float("-inf")


class _Look:
    """The last look at the machine's free memory, and when it was."""

    free = 0
    at = float("-inf")


def has_gpu() -> bool:
    """Whether the kernel shows a GPU, which says nothing yet of whether torch can use it."""
    return any(any(Path("/dev").glob(pattern)) for pattern in _GPU_NODES)


def _ram() -> tuple[int, int]:
    """The machine's memory and what of it a process may still take: the least of the kernel's and the cgroups' word."""
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    meminfo = {line.partition(":")[0]: int(line.split()[1]) << 10 for line in lines}
    total, free = meminfo["MemTotal"], meminfo["MemAvailable"]
    for limit, used in _cgroup_limits():
        total, free = min(total, limit), min(free, max(0, limit - used))
    return total, free


def _cgroup_limits() -> list[tuple[int, int]]:
    """(limit, used) in bytes of each memory cgroup above this process, used without the page cache it can drop."""
    limits = []
    for line in Path("/proc/self/cgroup").read_text("ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            limits += _walk(Path("/sys/fs/cgroup"), path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = Path("/sys/fs/cgroup/memory")
            limits += _walk(root, path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    return limits


def _walk(root: Path, path: str, limit: str, usage: str, cache: str) -> list[tuple[int, int]]:
    """The limits from the process's own group up to the root; in a container only the root is visible."""
    found = []
    group = root / path.lstrip("/")
    for folder in [group, *group.parents]:
        if folder.is_relative_to(root) and (folder / limit).exists():
            value = (folder / limit).read_text("ascii").strip()
            if value.isdigit():
                stat = dict(line.split(" ", 1) for line in (folder / "memory.stat").read_text("ascii").splitlines())
                used = int((folder / usage).read_text("ascii")) - int(stat.get(cache, 0))
                found.append((int(value), used))
    return found


def _cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware; without, it is six times slower than fp32."""
    flags = {"avx512_bf16", "amx_bf16", "bf16"}
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return not flags.isdisjoint(value.split())
    return False


def _gpus(held: dict[str, int]) -> tuple[Gpu, ...]:
    if not has_gpu():
        return ()
    import torch

    if not torch.cuda.is_available():
        return ()
    gpus = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        gpus.append(
            Gpu(
                index,
                properties.name,
                properties.total_memory,
                _gpu_free(index, properties.total_memory),
                bf16=properties.major >= _AMPERE,
                held=held.get(f"cuda:{index}", 0),
            )
        )
    return tuple(gpus)


def _gpu_free(index: int, total: int) -> int:
    """Free bytes of a GPU, and what torch's allocator keeps there unused.

    Asked through NVML where pynvml is installed, since CUDA's own answer makes a context (some 300 MB) on the GPU.
    """
    import torch

    try:
        free = total - int(torch.cuda.device_memory_used(index))
    except Exception:  # noqa: BLE001 - no pynvml, or NVML does not answer for this driver, container or slice
        free = torch.cuda.mem_get_info(index)[0]
    unused = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)
    return max(0, int(free + unused))
