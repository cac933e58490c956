"""What a server that may ask the model hub downloads, and what it only looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub
from fix_hub import HELLO, LIKED, MADE, NOT_REACHED, SENTIMENT, SHARDED, SMALL, Home, fetched, looked_at, make, snapshot
from sample_models import FACTS, REVISIONS


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
