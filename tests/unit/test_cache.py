"""cache.py: the bounded store of pipelines."""

from __future__ import annotations

from pgml_transform import task
from pgml_transform.cache import Loaded, PipelineCache
from pgml_transform.deployments import Deployment
from pgml_transform.placement import Placement
from pgml_transform.task import Task

ON_CPU = Placement("cpu", "float32")


def wanted(model: str, **keywords: object) -> Task:
    """A task of this model."""
    return task.from_keywords({"task": "fill-mask", "model": model, **keywords})


def loaded(model: str, **device_bytes: int) -> Loaded:
    """A pipeline of this model, which is only its name."""
    return Loaded(model, Deployment("fill-mask", model), device_bytes)


def filled(*models: str) -> PipelineCache:
    """A cache with these models, the first the longest unused."""
    cache = PipelineCache()
    for model in models:
        cache.put(wanted(model), "auto", ON_CPU, loaded(model, cpu=10))
    return cache


def test_what_is_put_is_got() -> None:
    """A task is found again by its own spelling."""
    cache = filled("a/a", "b/b")

    found = cache.get(wanted("a/a"), "auto")
    assert found is not None
    assert found.pipeline == "a/a"
    assert cache.get(wanted("c/c"), "auto") is None


def test_another_spelling_is_placed_first_and_then_remembered() -> None:
    """Wishes that were not seen before are no hit until they are known to lead to the same placement."""
    cache = filled("a/a")
    other = wanted("a/a", device="cpu")

    assert cache.get(other, "auto") is None
    assert cache.get_placed(other, "auto", ON_CPU) is not None
    assert cache.get(other, "auto") is not None
    assert len(cache) == 1


def test_the_default_device_is_part_of_what_is_remembered() -> None:
    """A task placed under one pgml.device is not taken for it under another."""
    assert filled("a/a").get(wanted("a/a"), "cuda:1") is None


def test_the_least_recently_used_leaves_first() -> None:
    """A hit makes an entry the last to go."""
    cache = filled("a/a", "b/b", "c/c")
    cache.get(wanted("a/a"), "auto")

    gone = [cache.pop_oldest() for _ in range(3)]

    assert [one.pipeline for one in gone if one] == ["b/b", "c/c", "a/a"]
    assert cache.pop_oldest() is None


def test_room_on_a_device_is_made_by_those_that_lie_there() -> None:
    """An entry that holds nothing on the device that is short of memory stays."""
    cache = filled("a/a")
    cache.put(
        wanted("g/g"),
        "auto",
        Placement("cuda:0", "float16", '{"":"cuda:0"}'),
        Loaded("g/g", Deployment("", ""), {"cuda:0": 5}),
    )

    gone = cache.pop_oldest("cuda:0")

    assert gone is not None
    assert gone.pipeline == "g/g"
    assert cache.held() == {"cpu": 10}


def test_what_was_evicted_is_placed_anew() -> None:
    """Nothing is remembered of an entry that left."""
    cache = filled("a/a", "b/b")
    assert [one.pipeline for one in cache.pop_model("a/a")] == ["a/a"]

    assert cache.get(wanted("a/a"), "auto") is None
    assert [one.pipeline for one in cache.pop_model(None)] == ["b/b"]
    assert len(cache) == 0


def test_the_token_is_no_part_of_the_key() -> None:
    """Two tokens, one entry."""
    assert filled("a/a").get(wanted("a/a", token="hf_secret"), "auto") is not None
