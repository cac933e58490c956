"""A server that may ask the model hub: what it downloads, what it only looks at, whom it tells its token.

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
from fake_hub import FakeHub, Request
from sample_models import FACTS, REVISIONS

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
        ours |= {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
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


# --- what is downloaded --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def downloaded(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, FakeHub, list[dict[str, Any]]]:
    """A home whose first process loaded a default model and a sharded one, and what it got and asked."""
    home = Home(tmp_path_factory.mktemp("downloaded"))
    with FakeHub([samples]) as hub:
        return home, hub, home.ask(hub, LIKED, HELLO)


def test_the_first_load_downloads(downloaded: tuple[Home, FakeHub, list[dict[str, Any]]]) -> None:
    """A model that is not in the cache is fetched, every weight file once, and answers right."""
    _, hub, (liked, hello) = downloaded

    assert liked["value"][0]["label"] == FACTS[SENTIMENT]["labels"]["This is great"]
    assert hello["value"][0][0]["generated_text"] == "The capital of Italy is Rome."
    assert fetched(hub, SENTIMENT) == ["model.safetensors"]
    assert fetched(hub, SHARDED) == [f"model-0000{shard}-of-00003.safetensors" for shard in (1, 2, 3)]


def test_a_default_model_is_asked_for_at_its_pinned_revision(
    downloaded: tuple[Home, FakeHub, list[dict[str, Any]]],
) -> None:
    """The short revision that transformers pins is the one that every file of a default model comes from."""
    _, hub, _ = downloaded
    files = [one.path for one in hub.log if one.path.startswith(f"/{SENTIMENT}/resolve/")]

    assert files
    assert {path.split("/")[4][:7] for path in files} == {REVISIONS[SENTIMENT]}


def test_another_process_finds_it_in_the_cache(
    downloaded: tuple[Home, FakeHub, list[dict[str, Any]]], samples: Path
) -> None:
    """What was downloaded is not downloaded again, and runs with the hub out of reach or forbidden."""
    home, _, first = downloaded
    gone = {"do": "place", "task": {"task": "text-classification", "model": "server/gone"}}
    offline = [{**step, "settings": {"offline": True}} for step in (LIKED, HELLO)]
    with FakeHub([samples], gone_at=lambda request: "server/gone" in request.path) as hub:
        *again, _, refused, unreached = home.ask(hub, LIKED, HELLO, *offline, gone, gone, LIKED)

        assert again == [*first, *first]
        assert refused["detail"] == NOT_REACHED.format(cache=home.cache)
        assert unreached == first[0]
        assert [one for one in hub.log if one.sent] == []


def test_offline_nothing_is_asked(home: Home, hub: FakeHub) -> None:
    """Under pgml.offline, or with local_files_only in the task, a model that is not in the cache is refused at once."""
    task = {"task": "text-classification", "model": "some/model", "revision": "v1"}
    steps = [
        {"do": "load", "task": task, "settings": {"offline": True}},
        {"do": "load", "task": {**task, "local_files_only": True}},
    ]
    outcomes = home.ask(hub, *steps)

    assert hub.log == []
    assert (
        outcomes
        == [
            {
                "error": "ModelNotFound",
                "message": 'model "some/model" at revision "v1" is not in the cache',
                "detail": "This server does not ask the model hub (offline), and the model is not in the cache "
                f'"{home.cache}".',
                "hint": f"download it as the server's user: HF_HUB_CACHE={home.cache} hf download some/model "
                "--revision v1; that directory can't be read now",
            }
        ]
        * 2
    )


# --- what is only looked at ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "files"),
    [
        (SMALL, ["model.safetensors"]),
        (SHARDED, [f"model-0000{shard}-of-00003.safetensors" for shard in (1, 2, 3)]),
    ],
)
def test_a_placement_reads_headers_only(home: Home, samples: Path, model: str, files: list[str]) -> None:
    """Where a model would go, and that it is too large, is known from its configuration and its weights' headers."""
    wanted = {"task": "text-generation", "model": model}
    with FakeHub([samples]) as hub:
        placed, expected, refused = home.ask(
            hub,
            {"do": "place", "task": wanted},
            {"do": "place", "task": wanted, "settings": {"offline": True, "hub_cache": str(samples)}},
            {"do": "load", "task": wanted, "settings": {"memory_limit": 1 << 20}},
        )

        assert placed == expected
        assert placed["value"]["revision"] == snapshot(samples, model).name
        assert refused["error"] == "OutOfMemory"
        assert (fetched(hub, model), sorted(set(looked_at(hub, model)))) == ([], files)
        assert max(one.sent for one in hub.weights()) <= 100_001


def test_a_placement_reads_the_files_that_a_load_would(home: Home, samples: Path) -> None:
    """A variant and a subfolder name other weights than the root's, and those are the ones that count."""
    root, inner = snapshot(samples, SHARDED), snapshot(samples, SENTIMENT)
    files: dict[str, Path | bytes] = {
        "config.json": inner / "config.json",
        "model.safetensors": snapshot(samples, SMALL) / "model.safetensors",
        "model.fp16.safetensors": inner / "model.safetensors",
        "inner/config.json": inner / "config.json",
        "inner/model.safetensors": inner / "model.safetensors",
        "shards/config.json": root / "config.json",
    }
    shards = {f"shards/{path.name}": path for path in root.iterdir() if path.name.startswith("model")}
    make(home.path / "made", "made/several", files | shards)
    several = {"task": "text-classification", "model": "made/several"}
    tasks = [
        {"task": "text-classification"},
        {**several, "variant": "fp16"},
        {**several, "subfolder": "inner"},
        {"task": "text-generation", "model": SHARDED},
        {**several, "task": "text-generation", "subfolder": "shards"},
    ]
    with FakeHub([samples, home.path / "made"]) as hub:
        outcomes = home.ask(hub, *({"do": "place", "task": task} for task in tasks))

    default, variant, inner, sharded, inner_sharded = (outcome.get("value", {}).get("weights") for outcome in outcomes)
    assert (variant, inner, inner_sharded) == (default, default, sharded)
    assert {outcome["value"]["revision"] for outcome in outcomes[1:] if outcome is not outcomes[3]} == {MADE}


def test_what_was_only_looked_at_is_not_in_the_cache(home: Home, hub: FakeHub) -> None:
    """Offline, a model of which the cache holds no weights is said to be missing there, whatever else it holds."""
    tasks = [{"task": "text-generation", "model": model} for model in (SMALL, SHARDED)]
    place = [{"do": "place", "task": task} for task in tasks]
    refused = home.ask(hub, *place, *({**step, "settings": {"offline": True}} for step in place))[2:]

    for task, outcome in zip(tasks, refused, strict=True):
        assert (outcome["error"], outcome["message"]) == (
            "ModelNotFound",
            f'model "{task["model"]}" is not in the cache',
        )


def test_nothing_is_written_but_into_the_cache_that_is_set(home: Home, hub: FakeHub) -> None:
    """All that is downloaded, a sharded model's index too, goes where pgml.hub_cache says."""
    chosen = home.path / "chosen"
    (placed,) = home.ask(hub, {**HELLO, "do": "place", "settings": {"hub_cache": str(chosen)}})

    assert placed["value"]["revision"]
    assert (chosen / "models--Qwen--Qwen2.5-7B").is_dir()
    assert not home.cache.exists()


# --- what is refused -----------------------------------------------------------------------------------

CONNECTION = "look at the server's connection to the model hub, or download the model beforehand"
GATED = {
    "error": "ModelNotFound",
    "message": f'model "{BASE}" is gated',
    "detail": "Its owner gives access to those who asked for it on the model's page.",
    "hint": 'accept its conditions there, then give a "token" in the task, or `hf auth login` as the server\'s user',
}
UNKNOWN = {
    "error": "ModelNotFound",
    "message": 'model "nobody/nothing" is not on the hub',
    "detail": "There is no public model of that name.",
    "hint": 'correct the name; a private model needs a "token" in the task',
}
BROKEN = {"error": "ModelBroken", "hint": "remove the model from the hub's cache and download it again"}

# keywords of the task, settings -> what of the error is certain
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "unknown model": ({"model": "nobody/nothing"}, {}, UNKNOWN),
    "unknown model with a token": ({"model": "nobody/nothing", "token": TOKEN}, {}, UNKNOWN),
    "unknown revision": (
        {"model": SENTIMENT, "revision": "v7"},
        {},
        {
            "error": "ModelNotFound",
            "message": f'model "{SENTIMENT}" at revision "v7" is not on the hub: it has no such revision',
            "detail": None,
            "hint": None,
        },
    ),
    "gated without a token": ({"model": BASE}, {}, GATED),
    "gated with another's token": ({"model": BASE, "token": "hf_another"}, {}, GATED),
    "only pickle": (
        {"model": "pickle/only-bin"},
        {},
        {"error": "ModelNotFound", "message": 'model "pickle/only-bin" has no weights in safetensors'},
    ),
    "no configuration": (
        {"model": "made/empty"},
        {},
        {"error": "ModelBroken", "message": 'model "made/empty" lacks a file that a model needs'},
    ),
    "a page in place of the weights": (
        {"model": "made/garbage"},
        {},
        {"error": "ModelBroken", "message": '"model.safetensors" of model "made/garbage" is broken'},
    ),
    "a missing shard": ({"model": "made/shardless", "task": "text-generation"}, {}, {"error": "ModelBroken"}),
    "a cache that can't be written": (
        {"model": SMALL, "task": "text-generation"},
        {"hub_cache": "/dev/null/cache"},
        {"error": "ModelNotFound", "message": f'model "{SMALL}" could not be fetched'},
    ),
}


@pytest.fixture(scope="module")
def refusals(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, Any]], FakeHub]:
    """What every task of REFUSED gets, all asked by one process, and the hub that it asked."""
    home = Home(tmp_path_factory.mktemp("refusals"))
    made, small, sharded = home.path / "made", snapshot(samples, SMALL), snapshot(samples, SHARDED)
    make(made, "made/empty", {"README.md": b"nothing"})
    make(made, "made/garbage", {"config.json": small / "config.json", "model.safetensors": b"<html>" * 20})
    most = {path.name: path for path in sharded.iterdir() if "00002" not in path.name}
    make(made, "made/shardless", {**most})
    steps = [
        {"do": "load", "task": {"task": "text-classification", **keywords}, "settings": settings}
        for keywords, settings, _ in REFUSED.values()
    ]
    with FakeHub([samples, made], gated={BASE: TOKEN}) as hub:
        return dict(zip(REFUSED, home.ask(hub, *steps), strict=True)), hub


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_hub_has_not_is_an_error(case: str, refusals: tuple[dict[str, dict[str, Any]], FakeHub]) -> None:
    """A task whose model the hub does not give, or not whole, gets an error that says why and what to do."""
    expected, got = REFUSED[case][2], refusals[0][case]

    assert {name: got.get(name) for name in expected} == expected


def test_a_refused_model_is_not_downloaded(refusals: tuple[dict[str, dict[str, Any]], FakeHub]) -> None:
    """No pickle is fetched, and no weights of what is refused."""
    _, hub = refusals

    assert [one.path for one in hub.log if one.path.endswith(".bin")] == []
    assert [one.path for one in hub.weights() if not one.range] == []


def goes_at_once(_: Request) -> bool:
    """The hub goes away at the first request."""
    return True


def goes_at_the_configuration(request: Request) -> bool:
    """The hub goes away when config.json is to be sent."""
    return request.method == "GET" and request.path.endswith("config.json")


def goes_before_the_headers(request: Request) -> bool:
    """The hub goes away when the weights are first looked for."""
    return request.path.endswith(".safetensors")


def goes_at_the_headers(request: Request) -> bool:
    """The CDN goes away when a part of the weights is to be sent."""
    return "/cdn/" in request.path


def goes_at_the_weights(request: Request) -> bool:
    """The CDN goes away when the weights are to be sent."""
    return "/cdn/" in request.path and request.range is None


@pytest.mark.parametrize(
    "gone_at",
    [goes_at_once, goes_at_the_configuration, goes_before_the_headers, goes_at_the_headers, goes_at_the_weights],
)
def test_the_hub_goes_away(home: Home, samples: Path, gone_at: Any) -> None:
    """A connection that fails in the middle, wherever that is, is an error that names the connection."""
    with FakeHub([samples], gone_at=gone_at) as hub:
        (outcome,) = home.ask(hub, {"do": "load", "task": {"task": "text-classification", "model": SENTIMENT}})

    assert outcome == {
        "error": "ModelNotFound",
        "message": f'model "{SENTIMENT}" could not be fetched',
        "detail": outcome.get("detail"),
        "hint": CONNECTION,
    }
    assert "onnect" in outcome["detail"]  # the system's words


def test_the_hub_is_not_there(home: Home, samples: Path) -> None:
    """A model that is not in the cache is refused when the hub can't be reached."""
    with FakeHub([samples]) as hub:
        hub.stop()
        (outcome,) = home.ask(hub, {"do": "load", "task": {"task": "text-classification", "model": SENTIMENT}})

    assert (outcome["error"], outcome["message"]) == ("ModelNotFound", f'model "{SENTIMENT}" is not in the cache')
    assert outcome["detail"] == NOT_REACHED.format(cache=home.cache)


# --- the token -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authorized(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FakeHub, list[dict[str, Any]]]:
    """What a gated model answers to its token, alone and beside others' tokenizers, and the hub that saw it all."""
    home = Home(tmp_path_factory.mktemp("authorized"))
    gated = {"task": "text-classification", "model": SENTIMENT, "token": TOKEN}
    with FakeHub([samples], gated={SENTIMENT: TOKEN, MNLI: TOKEN}) as hub:
        return hub, home.ask(
            hub,
            {**LIKED, "task": gated},
            {"do": "load", "task": {**gated, "tokenizer": BASE}},
            {"do": "place", "task": {"task": "text-generation", "model": SMALL}},
            {"do": "load", "task": {**gated, "tokenizer": "nobody/nothing"}},
            {"do": "load", "task": {**gated, "tokenizer": MNLI}},
        )


def test_a_token_opens_its_model(authorized: tuple[FakeHub, list[dict[str, Any]]]) -> None:
    """The task's token goes with each request for a file of its model."""
    hub, (liked, *_) = authorized
    asked = [one for one in hub.log if one.path.startswith(f"/{SENTIMENT}/resolve/")]

    assert liked["value"][0]["label"] == "POSITIVE"
    assert {one.path.rpartition("/")[2] for one in asked} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert [one for one in asked if one.token != TOKEN] == []


def test_a_token_goes_nowhere_else(authorized: tuple[FakeHub, list[dict[str, Any]]]) -> None:
    """Neither the CDN, nor the repository of a tokenizer, nor that of a later task gets the token."""
    hub, (_, loaded, *_) = authorized
    others = [one for one in hub.log if "/cdn/" in one.path or SENTIMENT not in one.path]

    assert "value" in loaded
    for other in ("/cdn/", f"/{BASE}/resolve/", f"/{SMALL}/resolve/", f"/{MNLI}/resolve/"):
        assert any(other in one.path for one in others)
    assert [(one.method, one.path) for one in others if one.token] == []


def test_a_tokenizer_that_is_not_to_be_had(authorized: tuple[FakeHub, list[dict[str, Any]]]) -> None:
    """An error about a tokenizer's repository names that repository, not the model's."""
    _, (*_, unknown, gated) = authorized

    assert (unknown["error"], unknown["message"]) == ("ModelNotFound", 'model "nobody/nothing" is not on the hub')
    assert (gated["error"], gated["message"]) == ("ModelNotFound", f'model "{MNLI}" is gated')


if __name__ == "__main__":
    main()
