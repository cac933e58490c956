"""What the model hub refuses or fails to answer, and whom a caller's token is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub, Request
from fix_hub import BASE, LIKED, MNLI, NOT_REACHED, SENTIMENT, SHARDED, SMALL, TOKEN, Home, make, snapshot

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
