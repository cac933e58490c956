"""Train, check and publish the models: `python -m sample_models.worker CACHE NAME...`."""

import fcntl
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from . import builder, hub

# One thread each: these models are too small to gain from more.
LANES = 2
STAGING = ".sample-models-"


def main(cache: Path, names: list[str]) -> None:
    os.umask(0o022)
    cache.mkdir(parents=True, exist_ok=True)
    with _lock(cache), _staging(cache) as staging:
        if todo := builder.missing(cache, names):
            _isolate(staging)
            _make_all(todo, staging, cache)


def _make_all(names: list[str], staging: Path, cache: Path) -> None:
    from . import recipes  # before the fork: all lanes share torch and transformers

    start = time.monotonic()
    print(f"{len(names)} sample models to build in {cache}", flush=True)
    lanes = ProcessPoolExecutor(min(LANES, len(names)), get_context("fork"))
    todo = sorted(names, key=list(recipes.RECIPES).index)
    made = {lanes.submit(_make, name, staging): name for name in todo}
    try:
        for future in as_completed(made):
            line = future.result()
            hub.publish(hub.folder(staging, made[future]), cache, made[future])
            builder.add_to_manifest(cache, made[future])
            print(line, flush=True)
    finally:
        lanes.shutdown(cancel_futures=True)
    print(f"done in {time.monotonic() - start:.1f} s", flush=True)


def _make(name: str, staging: Path) -> str:
    """Build and check one model where it is staged; answer a line about it."""
    from . import checks, recipes

    start = time.monotonic()
    files = Path(tempfile.mkdtemp(dir=staging))
    try:
        steps = recipes.make(name, files)
        size = sum(file.stat().st_size for file in files.rglob("*") if file.is_file())
        hub.lay(files, name, staging)
        checks.check(name)
    except Exception as error:
        raise RuntimeError(f"{name}: {error}") from error
    trained = f"{steps} steps, " if steps else ""
    return f"  {name}: {trained}{size / 1e6:.1f} MB, {time.monotonic() - start:.1f} s"


def _isolate(staging: Path) -> None:
    """Let transformers see the staged models alone, on the CPU, quietly, without a hub."""
    logging.disable(logging.WARNING)
    os.environ |= {
        "HF_HUB_CACHE": str(staging),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
    }


@contextmanager
def _lock(cache: Path) -> Iterator[None]:
    """Let one worker at a time change a cache; a second one waits, then finds the work done."""
    with (cache / f"{STAGING}lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _staging(cache: Path) -> Iterator[Path]:
    """A folder on the cache's own file system, so that finished models are renamed into place."""
    for orphan in cache.glob(f"{STAGING}staging-*"):
        shutil.rmtree(orphan)
    staging = Path(tempfile.mkdtemp(prefix=f"{STAGING}staging-", dir=cache))
    try:
        yield staging
    finally:
        shutil.rmtree(staging)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
