"""The guard that turns running out of memory into an error, before the kernel kills the whole server."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgml_transform import hardware
from pgml_transform.errors import InvalidArgument, OutOfMemory
from pgml_transform.sizes import pretty

# What an allocation that the limit refuses says: Python's own, torch's allocator, mmap, CUDA.
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "unable to mmap",
    "not enough memory",
    "out of memory",
    "std::bad_alloc",
)


# Stacks and arenas of the threads that a library starts: counted in full where they are mapped, and hardly used.
_THREADS = 64 << 20


@contextmanager
def limited_to(more: int, doing: str) -> Iterator[None]:
    """Let this process allocate `more` bytes than it has now; what asks for more gets OutOfMemory.

    RLIMIT_DATA counts private writable memory, so it bounds what swapping or the OOM killer would have to free.
    The limit is given back afterwards, however the block ends.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _private_bytes() + max(0, more) + _THREADS
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    with translated(more, doing):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextmanager
def translated(more: int, doing: str) -> Iterator[None]:
    """Make OutOfMemory of an allocation that fails in the block."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory while {doing}",
            detail=f"It wanted more than the {pretty(more)} that this backend may still take ({_first_line(error)}).",
            hint='use smaller inputs or "max_new_tokens", a smaller model or "load_in_4bit": true, or free memory '
            "with SELECT pgml.unload()",
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is an allocation that failed, on the CPU or on a GPU."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, (RuntimeError, OSError)) and any(phrase in text for phrase in _OUT_OF_MEMORY)


def give_back() -> None:
    """Return freed memory to the system: Python's cycles, the C library's heap, torch's store on each GPU."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def resident_bytes() -> int:
    """The memory that this process has for itself in RAM, without what it maps from files (RssAnon)."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    return 0


def _private_bytes() -> int:
    """What RLIMIT_DATA counts: proc(5), statm, the sixth field, in pages."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[5])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def clear_gpu_cache(usage: float | None) -> bool:
    """Give back what torch keeps unused on the GPUs; with `usage` (0 to 1) only if one of them is that full.

    Raises InvalidArgument for a share outside 0 to 1. Answers whether it was done.
    """
    if usage is not None and not 0 <= usage <= 1:
        raise InvalidArgument(f"memory_usage is {usage:g}", hint="write a share of the GPU's memory, from 0 to 1")
    if usage is not None and _fullest_gpu() < usage:
        return False
    give_back()
    return True


def _fullest_gpu() -> float:
    """The share of its memory that is taken on the fullest GPU; 0 where there is none."""
    return max((1 - gpu.free / gpu.total for gpu in hardware.probe().gpus), default=0.0)
