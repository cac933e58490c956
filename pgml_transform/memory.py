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
from pgml_transform.failures import first_line, is_out_of_memory

# Stacks and arenas of the threads that libraries start: counted in full where they are mapped, and hardly used.
# A thread that can't be made ends the process (libgomp).
_THREADS = (64 << 20) + 2 * (os.cpu_count() or 1) * (8 << 20)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

_UNLIMITED = resource.getrlimit(resource.RLIMIT_DATA)


@contextmanager
def limited_to(ceiling: int, doing: str) -> Iterator[None]:
    """Let this process have no more private bytes than the ceiling; what asks for more gets OutOfMemory.

    RLIMIT_DATA counts private writable memory, so it bounds what swapping or the OOM killer would have to free.
    The limit is given back afterwards. Only for blocks that allocate in Python or torch: Rust's allocator, and so a
    tokenizer, ends the process where memory is refused, and with it the server.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = ceiling + _THREADS
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    with translated(doing):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Make OutOfMemory of an allocation that fails in the block."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory while {doing}",
            detail=f"It wanted more than this backend may still take ({first_line(error)}).",
            hint='use smaller inputs or "max_new_tokens", a smaller model or "load_in_4bit": true, or free memory '
            "with SELECT pgml.unload()",
        ) from error


@contextmanager
def weights_apart() -> Iterator[None]:
    """Let each large block that is allocated here be a mapping of its own, which goes back to the system when freed.

    glibc raises its threshold for that as it goes, and then weights lie in the heap between what stays: of an evicted
    model a part would remain. Afterwards the threshold is the highest, so that activations use the heap again.
    """
    libc = ctypes.CDLL(None)
    mallopt = getattr(libc, "mallopt", lambda *_: 0)  # only glibc has it
    mallopt(_M_MMAP_THRESHOLD, 128 << 10)
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 64 << 20)


def lift() -> None:
    """Take the limit away, should an interrupt have come between it and its end."""
    resource.setrlimit(resource.RLIMIT_DATA, _UNLIMITED)


def give_back() -> None:
    """Return freed memory to the system: Python's cycles, the C library's heap, torch's store on each GPU."""
    hardware.look_again()
    gc.collect()
    with contextlib.suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def private_bytes() -> int:
    """What of this process RLIMIT_DATA counts: proc(5), statm, the sixth field, in pages."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[5])
    return pages * os.sysconf("SC_PAGE_SIZE")


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
