"""The folders that huggingface_hub expects of a cache: refs, blobs and snapshots of links."""

import hashlib
import os
import shutil
from pathlib import Path

from .facts import REVISIONS


def folder(cache: Path, name: str) -> Path:
    """Where the cache keeps a model."""
    return cache / f"models--{name.replace('/', '--')}"


def commit(name: str) -> str:
    """Forty hex digits: the pinned revision, then digits that no real commit of that name has."""
    pinned = REVISIONS.get(name, "")
    return pinned + hashlib.sha1(name.encode()).hexdigest()[len(pinned) :]


def lay(files: Path, name: str, cache: Path) -> Path:
    """Move a model's files into the cache's layout and answer the model's folder."""
    model = folder(cache, name)
    snapshot = model / "snapshots" / commit(name)
    for file in sorted(path for path in files.rglob("*") if path.is_file()):
        _link(snapshot / file.relative_to(files), _blob(file, model / "blobs"))
    _write_refs(model / "refs", name)
    shutil.rmtree(files)
    return model


def publish(model: Path, cache: Path, name: str) -> None:
    """Rename a finished model into the cache, over an older sample of it but over nothing else."""
    target = folder(cache, name)
    if not target.exists():
        model.rename(target)
        return
    if not is_sample(cache, name):
        raise FileExistsError(f"{target} is not a sample model: use a cache folder of its own")
    retired = model.with_name("retired-" + model.name)
    target.rename(retired)
    model.rename(target)
    shutil.rmtree(retired)


def is_sample(cache: Path, name: str) -> bool:
    """Whether the cache's model of that name was made here."""
    main = folder(cache, name) / "refs" / "main"
    return main.is_file() and main.read_text() == commit(name)


def _blob(file: Path, blobs: Path) -> Path:
    blobs.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as content:
        blob = blobs / hashlib.file_digest(content, "sha256").hexdigest()
    file.rename(blob)
    blob.chmod(0o644)
    return blob


def _link(link: Path, blob: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))


def _write_refs(refs: Path, name: str) -> None:
    refs.mkdir()
    for ref in filter(None, ("main", REVISIONS.get(name))):
        (refs / ref).write_text(commit(name))
