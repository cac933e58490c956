"""What can be wrong with an installation, looked at one by one, each with its remedy."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pgml_transform import deployments, hardware
from pgml_transform.settings import Settings
from pgml_transform.sizes import pretty

PACKAGES = ("torch", "transformers", "accelerate", "bitsandbytes")
_HUB_SECONDS = 5


@dataclass(frozen=True)
class Check:
    """A row of pgml.doctor(): `hint` is empty where all is well."""

    check_name: str
    ok: bool
    detail: str
    hint: str | None = None


def examine(settings: Settings, preloaded: str) -> Iterator[Check]:
    """Look at everything; `preloaded` is the server's shared_preload_libraries. Never raises for what it finds."""
    yield Check("python", ok=True, detail=f"{sys.version.split()[0]}, packages in {Path(__file__).parents[1]}")
    yield from map(_package, PACKAGES)
    yield _gpu()
    free = hardware.free_ram({}, settings.memory_limit)
    yield Check("memory", ok=True, detail=f"{pretty(free)} may be taken by models")
    yield _hub_cache(settings)
    yield _hub(settings)
    yield _deployments()
    yield _postgresml(preloaded)


def _package(name: str) -> Check:
    try:
        return Check(name, ok=True, detail=importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, ok=False, detail="not installed", hint="run make install again")


def _gpu() -> Check:
    if not hardware.has_gpu():
        return Check("gpu", ok=True, detail="no GPU here: models run on the CPU")
    gpus = hardware.probe().gpus
    if not gpus:
        return Check(
            "gpu",
            ok=False,
            detail="there is a GPU, and torch can't use it",
            hint="see that nvidia-smi works as the server's user, and that torch is a CUDA build for this driver",
        )
    shown = (f"cuda:{gpu.index} {gpu.name}, {pretty(gpu.free)} of {pretty(gpu.total)} free" for gpu in gpus)
    return Check("gpu", ok=True, detail="; ".join(shown))


def _hub_cache(settings: Settings) -> Check:
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(settings.hub_cache or HF_HUB_CACHE)
    nearest = next(folder for folder in [cache, *cache.parents] if folder.exists())
    if os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
        return Check("hub cache", ok=True, detail=str(cache))
    if cache.is_dir() and os.access(cache, os.R_OK | os.X_OK):
        return Check("hub cache", ok=True, detail=f"{cache}, read only: nothing can be downloaded into it")
    return Check(
        "hub cache",
        ok=False,
        detail=f"the server's user can't use {cache}",
        hint="let it read and write there, or name another place: SELECT pgml.configure('hub_cache', '/srv/models')",
    )


def _hub(settings: Settings) -> Check:
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE

    if settings.offline or HF_HUB_OFFLINE:
        return Check("model hub", ok=True, detail="offline: only models of the cache are used")
    from huggingface_hub import HfApi

    try:
        HfApi().model_info("hf-internal-testing/tiny-random-gpt2", timeout=_HUB_SECONDS)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what this row is about
        return Check(
            "model hub",
            ok=False,
            detail=f"{ENDPOINT} does not answer: {type(error).__name__}",
            hint="set the server's proxy, or SELECT pgml.configure('offline', 'on') and download models beforehand",
        )
    return Check("model hub", ok=True, detail=f"{ENDPOINT} answers")


def _deployments() -> Check:
    folder = deployments.FOLDER if deployments.FOLDER.exists() else deployments.FOLDER.parent
    if os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Check("deployments", ok=True, detail=f"published in {deployments.FOLDER} of the data directory")
    return Check("deployments", ok=False, detail=f"can't write to {folder}", hint="see to the data directory's rights")


def _postgresml(preloaded: str) -> Check:
    if "pgml" in [name.strip(' "') for name in preloaded.split(",")]:
        return Check(
            "PostgresML",
            ok=False,
            detail="its library is in shared_preload_libraries, and crashes sessions that run PL/Python",
            hint="take pgml out of shared_preload_libraries and restart the server",
        )
    return Check("PostgresML", ok=True, detail="its library is not loaded")
