"""A server that may ask the model hub: a process that runs the Python core, and the home of its user.

Every test starts a process of its own that runs the Python core, with an empty cache, beside a hub on this machine.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub

SENTIMENT = "distilbert/distilbert-base-uncased-finetuned-sst-2-english"
BASE = "distilbert/distilbert-base-cased"
MNLI = "facebook/bart-large-mnli"
SMALL, SHARDED = "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-7B"
MADE = "ab" * 20  # the commit of every model that a test makes
TOKEN = "hf_TheTokenOfTheCaller"
LIKED = {"do": "run", "task": {"task": "text-classification"}, "input": "This is great"}
NOT_REACHED = 'The model hub could not be reached, and the model is not in the cache "{cache}".'
HELLO = {"do": "run", "task": {"task": "text-generation", "model": SHARDED}, "input": "The capital of Italy is"}


def client(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Do the steps in this process, and answer each one's value or error."""
    from pgml_transform import call, result, task
    from pgml_transform.deployments import Board
    from pgml_transform.engine import Engine
    from pgml_transform.errors import PgmlError
    from pgml_transform.settings import Settings

    engine = Engine(Board(os.getpid(), 1, folder=Path(os.environ["HOME"])), print, print, lambda: None)

    def done(do: str, task: Any, settings: Settings, text: str) -> Any:
        if do == "run":
            args = call.parse('{"do_sample": false}' if task.task == "text-generation" else "{}")
            return json.loads(result.to_json(engine.run(task, args, [text], settings, keep=False)))
        if do == "load":
            return engine.load(task, settings, keep=False).row.revision
        found, place = engine.place(task, settings)
        return {"revision": found.revision, "parameters": found.floating, "weights": place.weights}

    outcomes = []
    for step in steps:
        try:
            wanted = task.from_keywords({"device": "cpu", **step["task"]})
            value = done(step["do"], wanted, Settings(**step.get("settings", {})), step.get("input", ""))
            outcomes.append({"value": value})
        except PgmlError as error:
            told = {name: getattr(error, name) for name in ("message", "detail", "hint")}
            outcomes.append({"error": type(error).__name__, **told})
        except Exception as error:  # noqa: BLE001 - a library's own error, which no caller should see
            outcomes.append({"error": f"{type(error).__module__}.{type(error).__qualname__}", "message": str(error)})
    return outcomes


def main() -> None:
    """Be the process that `ask` starts."""
    reached = set()
    sys.addaudithook(lambda event, told: reached.add(str(told[1])) if event == "socket.connect" else None)
    time.sleep = lambda _: None  # the library waits longer and longer between its attempts
    outcomes = client(json.loads(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps({"outcomes": outcomes, "reached": sorted(reached)}), "utf-8")


@dataclass
class Home:
    """The home of a server's user, with an empty cache of the hub."""

    path: Path

    @property
    def cache(self) -> Path:
        return self.path / "hub"

    def ask(self, hub: FakeHub, *steps: dict[str, Any]) -> list[dict[str, Any]]:
        """Do the steps in a process of their own, which reaches nothing but this hub."""
        theirs = re.compile(r"HF_|HUGGING|TRANSFORMERS_|.*proxy", re.IGNORECASE)
        ours = {name: value for name, value in os.environ.items() if not theirs.match(name)}
        ours |= {"HOME": str(self.path), "HF_HOME": str(self.path), "HF_HUB_CACHE": str(self.cache)}
        ours |= {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(Path(__file__).parent)}
        answer = self.path / "answer.json"
        program = [sys.executable, __file__, json.dumps(steps), str(answer)]
        process = subprocess.run(program, env=ours, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr
        assert TOKEN not in process.stdout + process.stderr + answer.read_text("utf-8")
        told = json.loads(answer.read_text("utf-8"))
        ports = {url.rpartition(":")[2] for url in (hub.endpoint, hub.cdn)}
        assert set(told["reached"]) <= {f"('127.0.0.1', {port})" for port in ports}
        assert {one.method for one in hub.log} <= {"GET", "HEAD"}
        assert [one.path for one in hub.log if "telemetry" in one.path or "discussions" in one.path] == []
        return told["outcomes"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home of the test's own."""
    return Home(tmp_path)


@pytest.fixture(scope="module")
def samples(hub_cache: str) -> Path:
    """The models that the hub has."""
    return Path(hub_cache)


@pytest.fixture
def hub(samples: Path) -> Iterator[FakeHub]:
    """A hub with the sample models."""
    with FakeHub([samples]) as served:
        yield served


def make(cache: Path, model: str, files: dict[str, Path | bytes]) -> None:
    """Put a model of these files into a cache."""
    folder = cache / f"models--{model.replace('/', '--')}"
    for name, content in files.items():
        path = folder / "snapshots" / MADE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(MADE)


def snapshot(samples: Path, model: str) -> Path:
    """The folder with a sample model's files."""
    (found,) = (samples / f"models--{model.replace('/', '--')}" / "snapshots").iterdir()
    return found


def fetched(hub: FakeHub, model: str) -> list[str]:
    """The weight files of a model that were downloaded whole."""
    return sorted(one.path.rpartition("/")[2] for one in hub.weights() if f"/{model}/" in one.path and not one.range)


def looked_at(hub: FakeHub, model: str) -> list[str]:
    """The weight files of a model of which only the beginning was read."""
    return sorted(one.path.rpartition("/")[2] for one in hub.weights() if f"/{model}/" in one.path and one.range)


if __name__ == "__main__":
    main()
