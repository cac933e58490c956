"""What this backend holds, published for the others: one small file a backend, which is always whole to a reader.

The files lie under pg_stat_tmp in the data directory, which is a backend's working directory; base backups skip it.
A file is named by the process and the moment it began, so that a process number used again is another file.

A file is written in place, since renaming a new one over it costs more than a call's whole overhead beside it: a line
with the length and checksum of what follows tells a reader whether it read in the middle of a write.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path("pg_stat_tmp/pgml_transform")

_NAME = re.compile(r"(\d+)\.(\d+)\.json", re.ASCII)

# A write takes microseconds: one that is not whole after so many reads is that of a backend that was killed.
_READS = 100

# How often a load publishes how far it is.
_PROGRESS_SECONDS = 0.1

LOADING, IDLE, RUNNING, FAILED = "loading", "idle", "running", "failed"


@dataclass
class Deployment:
    """A row of pgml.deployments but for who and where. Times in seconds since 1970, sizes in bytes.

    Never in it: inputs, outputs, tokens.
    """

    task: str
    model: str
    revision: str | None = None
    engine: str = "backend"
    device: str | None = None
    device_map: dict[str, Any] | None = None
    dtype: str | None = None
    quantization: str | None = None
    parameters: int | None = None
    host_bytes: int = 0
    gpu_bytes: int = 0
    state: str = LOADING
    progress: float = 0.0
    loaded_at: float | None = None
    load_seconds: float | None = None
    last_used_at: float | None = None
    calls: int = 0
    inputs: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    busy_seconds: float = 0.0
    errors: int = 0
    last_error: str | None = None


@dataclass
class Board:
    """This backend's rows. `backend_start` is that of pg_stat_activity, in microseconds since 1970."""

    pid: int
    backend_start: int
    rows: list[Deployment] = field(default_factory=list)
    folder: Path = FOLDER
    _published_at: float = 0.0
    _file: int | None = None

    def add(self, row: Deployment) -> None:
        """Show a row from now on."""
        self.rows.append(row)
        self.publish()

    def remove(self, rows: Iterable[Deployment]) -> None:
        """Show these rows no more."""
        gone = [id(row) for row in rows]
        self.rows = [row for row in self.rows if id(row) not in gone]
        self.publish()

    def publish_progress(self, row: Deployment, progress: float) -> None:
        """Publish how far a load is, at most ten times a second."""
        row.progress = progress
        if time.monotonic() - self._published_at > _PROGRESS_SECONDS:
            self.publish()

    def publish(self) -> None:
        """Replace this backend's file by the rows as they are now."""
        self._published_at = time.monotonic()
        try:
            self._replace(self.folder / f"{self.pid}.{self.backend_start}.json")
        except OSError as error:  # a full disk must not fail a call that is done
            logging.getLogger(__name__).warning("cannot publish to %s: %s", self.folder, error)

    def _replace(self, path: Path) -> None:
        if not self.rows:
            self.close()
            path.unlink(missing_ok=True)
            return
        if self._file is None:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        body = json.dumps([vars(row) for row in self.rows]).encode("utf-8")
        os.pwrite(self._file, b"%d %d\n%b" % (len(body), zlib.crc32(body), body), 0)

    def close(self) -> None:
        """Let go of the file, which stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read(alive: dict[int, int], folder: Path = FOLDER) -> list[tuple[int, dict[str, Any]]]:
    """(pid, row) of every backend in `alive` (pid: its backend_start); removes the files of all others."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        name = _NAME.fullmatch(path.name)
        if name is None:
            continue  # not ours
        pid, start = int(name[1]), int(name[2])
        if alive.get(pid) != start:
            if not _is_alive(pid):
                path.unlink(missing_ok=True)
            continue
        rows += [(pid, row) for row in _whole(path)]
    return rows


def _whole(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, read again while its backend is in the middle of a write; none if it is gone."""
    for _ in range(_READS):
        try:
            head, _, body = path.read_bytes().partition(b"\n")
            length, checksum = map(int, head.split())
        except (FileNotFoundError, ValueError):
            continue
        if zlib.crc32(body[:length]) == checksum:
            rows: list[dict[str, Any]] = json.loads(body[:length])
            return rows
    return []


def sweep(folder: Path = FOLDER) -> None:
    """Remove the files of processes that are gone; for the backend that begins to publish."""
    for path in folder.glob("*"):
        name = _NAME.fullmatch(path.name)
        if name is not None and not _is_alive(int(name[1])):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
