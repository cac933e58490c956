"""The model hub, as far as huggingface_hub asks it: the models of a hub cache, served over HTTP on this machine.

As on the real one, weights are answered with a redirect to another server (the CDN), anybody may read what a gated
model consists of, and only who has access its files.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

_FILE = re.compile(r"/(?P<model>[^/]+/[^/]+)/(?P<kind>resolve|cdn)/(?P<revision>[^/]+)/(?P<file>.+)")
_MODEL = re.compile(r"/api/models/(?P<model>[^/]+/[^/]+)(/revision/(?P<revision>[^/]+))?")
_TREE = re.compile(r"/api/models/(?P<model>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(/(?P<folder>.+))?")
_LARGE = (".safetensors", ".bin")


@dataclass
class Request:
    """What was asked, and the bytes of a file that were sent for it."""

    method: str
    path: str
    token: str | None
    range: str | None
    sent: int = 0


@dataclass
class FakeHub:
    """Serves every model in `caches`; `gated` says which token opens a model. Use it in `with`."""

    caches: list[Path]
    gated: dict[str, str] = field(default_factory=dict)
    gone_at: Callable[[Request], bool] = lambda _: False  # the request at which the hub goes away, for good
    log: list[Request] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._servers = [_Server(self), _Server(self)]
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.endpoint, self.cdn = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Refuse all further connections."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def weights(self) -> list[Request]:
        """The requests that fetched weights, whole files or parts."""
        return [one for one in self.log if one.sent and one.path.endswith(_LARGE)]


class Refusal(Exception):
    """A status of 400 or more, with the code that huggingface_hub reads from its header."""

    def __init__(self, status: int, code: str, **headers: str) -> None:
        super().__init__(code)
        self.status, self.code, self.headers = status, code, headers


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: FakeHub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        hub, url = self.server.hub, urlsplit(self.path)
        token = self.headers.get("Authorization")
        request = Request(
            self.command, unquote(url.path), token and token.removeprefix("Bearer "), self.headers["Range"]
        )
        hub.log.append(request)
        if hub.gone_at(request):
            hub.stop()
            return
        try:
            if found := _FILE.fullmatch(request.path):
                self._file(request, **found.groupdict())
            elif found := _TREE.fullmatch(url.path):
                self._json(self._tree(parse_qs(url.query), **_unquoted(found)))
            elif found := _MODEL.fullmatch(url.path):
                self._json(self._model(**_unquoted(found)))
            else:
                self._json({}, 404)
        except Refusal as refusal:
            self._json({"error": refusal.code}, refusal.status, **{"X-Error-Code": refusal.code}, **refusal.headers)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Say nothing: the log is the hub's."""

    def _snapshot(self, model: str, revision: str | None) -> Path:
        """The folder of a model at a revision: a branch, a tag, a commit or the beginning of one."""
        name = f"models--{model.replace('/', '--')}"
        folder = next((cache / name for cache in self.server.hub.caches if (cache / name).is_dir()), None)
        if folder is None:
            raise Refusal(404 if self.headers["Authorization"] else 401, "RepoNotFound")
        ref = folder / "refs" / (revision or "main")
        snapshot = folder / "snapshots" / (ref.read_text("ascii") if ref.is_file() else revision or "")
        if not snapshot.is_dir():
            raise Refusal(404, "RevisionNotFound")
        return snapshot

    def _model(self, model: str, revision: str | None) -> dict[str, Any]:
        snapshot = self._snapshot(model, revision)
        return {"id": model, "sha": snapshot.name, "tags": [], "siblings": [{"rfilename": n} for n in _files(snapshot)]}

    def _tree(self, query: dict[str, list[str]], model: str, revision: str, folder: str | None) -> list[dict[str, Any]]:
        inside = f"{folder}/" if folder else ""
        found = _files(self._snapshot(model, revision))
        entries = [_entry(name, path) for name, path in found.items() if name.startswith(inside)]
        if folder and not entries:
            raise Refusal(404, "EntryNotFound")
        deep = query.get("recursive") in (["true"], ["True"])
        return [entry for entry in entries if deep or "/" not in entry["path"].removeprefix(inside)]

    def _file(self, request: Request, model: str, kind: str, revision: str, file: str) -> None:
        hub, snapshot = self.server.hub, self._snapshot(model, revision)
        if kind == "resolve" and request.token != hub.gated.get(model, request.token):
            raise Refusal(403 if request.token else 401, "GatedRepo")
        path = snapshot / file
        if not path.is_file():
            raise Refusal(404, "EntryNotFound", **{"X-Repo-Commit": snapshot.name})
        headers = {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": snapshot.name, "Accept-Ranges": "bytes"}
        if kind == "resolve" and file.endswith(_LARGE):
            headers["X-Linked-ETag"], headers["X-Linked-Size"] = headers["ETag"], str(path.stat().st_size)
            headers["Location"] = f"{hub.cdn}/{model}/cdn/{snapshot.name}/{file}"
            self._send(302, b"", **headers)
            return
        content = path.read_bytes()
        status = 200
        if request.range:
            first, _, last = request.range.removeprefix("bytes=").partition("-")
            whole, content = len(content), content[int(first) : int(last) + 1 if last else None]
            headers["Content-Range"] = f"bytes {first}-{int(first) + len(content) - 1}/{whole}"
            status = 206
        request.sent = len(content) if self.command == "GET" else 0
        self._send(status, content, **headers)

    def _json(self, value: Any, status: int = 200, **headers: str) -> None:
        self._send(status, json.dumps(value).encode(), **{"Content-Type": "application/json"}, **headers)

    def _send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def _etag(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _unquoted(found: re.Match[str]) -> dict[str, Any]:
    return {name: value and unquote(value) for name, value in found.groupdict().items()}


def _files(snapshot: Path) -> dict[str, Path]:
    return {str(path.relative_to(snapshot)): path for path in sorted(snapshot.rglob("*")) if path.is_file()}


def _entry(name: str, path: Path) -> dict[str, Any]:
    oid, size = _etag(path), path.stat().st_size
    large = {"lfs": {"oid": oid, "size": size, "pointerSize": 134}} if name.endswith(_LARGE) else {}
    return {"type": "file", "path": name, "oid": oid, "size": size, **large}
