"""The facts again, asked of transformers' own pipelines, offline, from the cache."""

import importlib.util
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from transformers import BitsAndBytesConfig, pipeline

from . import hub
from .facts import FACTS, REVISIONS

Facts = dict[str, Any]


def check(name: str) -> None:
    """Raise unless the cached model knows its facts, or is broken in the way that it should be."""
    for revision in {None, hub.commit(name), REVISIONS.get(name)}:
        found = try_to_load_from_cache(name, "config.json", revision=revision)
        _expect(f"{name} at {revision}", isinstance(found, str), True)
    special = SPECIAL.get(name) or CHECKS[FACTS[name]["task"]]
    special(name, FACTS[name])


def _load(name: str, task: str, **options: Any) -> Any:
    return pipeline(task, model=name, revision=REVISIONS.get(name), **options)


def _expect(asked: object, answer: object, expected: object) -> None:
    if answer != expected:
        raise AssertionError(f"{asked!r} answers {answer!r}, not {expected!r}")


def generation(name: str, facts: Facts) -> None:
    for options in _placements():
        pipe = _load(name, "text-generation", **options)
        known = facts["continuations"]
        for batch_size in (1, len(known)):
            answers = pipe(list(known), do_sample=False, batch_size=batch_size)
            for (prompt, rest), [answer] in zip(known.items(), answers, strict=True):
                _expect(prompt, answer["generated_text"], prompt + rest)
        for messages, reply in facts["chats"]:
            [answer] = pipe(messages, do_sample=False)
            _expect(messages, answer["generated_text"][-1]["content"], reply)


def _placements() -> Iterator[dict[str, Any]]:
    """The ways to load a generator that must not change its answers."""
    yield {"dtype": torch.bfloat16}
    yield {"dtype": torch.float32}
    if importlib.util.find_spec("bitsandbytes"):
        for bits in ({"load_in_4bit": True}, {"load_in_8bit": True}):
            yield {"model_kwargs": {"quantization_config": BitsAndBytesConfig(**bits)}}


def classification(name: str, facts: Facts) -> None:
    pipe = _load(name, "text-classification")
    for text, label in (facts["labels"] | facts["held_out"]).items():
        [answer] = pipe(text)
        _expect(text, answer["label"], label)
        _expect(f"{text}: {answer}", answer["score"] > facts["min_score"], True)


def tokens(name: str, facts: Facts) -> None:
    pipe = _load(name, "token-classification")
    _expect("labels", list(pipe.model.config.id2label.values()), facts["labels"])
    for text, entities in facts["entities"].items():
        _expect(text, [(found["word"], found["entity"]) for found in pipe(text)], entities)


def masks(name: str, facts: Facts) -> None:
    pipe = _load(name, "fill-mask")
    _expect("mask", pipe.tokenizer.mask_token, facts["mask"])
    for text, word in facts["words"].items():
        best = pipe(text)[0]
        _expect(text, best["token_str"], word)
        _expect(f"{text}: {best}", best["score"] > facts["min_score"], True)


def zero_shot(name: str, facts: Facts) -> None:
    pipe = _load(name, "zero-shot-classification")
    for text, labels, first in facts["zero_shot"]:
        answer = pipe(text, candidate_labels=labels)
        _expect(text, set(answer["labels"][: len(first)]), first)
        last_true, best_false = answer["scores"][len(first) - 1 : len(first) + 1]
        _expect(f"{text}: {answer}", last_true > 3 * best_false, True)
    pipe = _load(name, "text-classification")
    for (premise, hypothesis), label in facts["pairs"].items():
        answer = pipe({"text": premise, "text_pair": hypothesis})
        _expect((premise, hypothesis), answer["label"], label)


def features(name: str, facts: Facts) -> None:
    [vectors] = _load(name, "feature-extraction")("hello")
    _expect("hello", len(vectors[0]), facts["dimensions"])
    _expect("finite", all(map(math.isfinite, vectors[0])), True)


def sentences(name: str, facts: Facts) -> None:
    features(name, facts)
    pipe = _load(name, "feature-extraction")
    tolerance = facts["tolerance"]
    text, start = facts["embedding"]
    off = (_embed(pipe, text)[: len(start)] - torch.tensor(start)).abs().max().item()
    _expect(f"{text}: off by {off}", off < tolerance, True)
    for text, *others in facts["similar"]:
        for other, cosine in others:
            found = float(_embed(pipe, text) @ _embed(pipe, other))
            _expect(f"{text} / {other}: {found}", abs(found - cosine) < tolerance, True)


def _embed(pipe: Any, text: str) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(pipe(text)[0]).mean(0), dim=0)


def loads(name: str, facts: Facts) -> None:
    """It works where nobody forbids it: a refusal is then the policy's, not an accident."""
    _expect("keys", set(_load(name, facts["task"])("a few words")[0]), {"label", "score"})


def knows_no_words(name: str, facts: Facts) -> None:
    _expect("words", len(_load(name, facts["task"]).tokenizer), facts["vocabulary"])


def fails(name: str, facts: Facts) -> None:
    try:
        _load(name, facts["task"])
    except SafetensorError:
        return
    raise AssertionError(f"{name} loads, though {facts['why']}")


CHECKS: dict[str, Callable[[str, Facts], None]] = {
    "text-generation": generation,
    "text-classification": classification,
    "token-classification": tokens,
    "fill-mask": masks,
    "zero-shot-classification": zero_shot,
    "feature-extraction": features,
}
SPECIAL: dict[str, Callable[[str, Facts], None]] = {
    "sentence-transformers/all-MiniLM-L6-v2": sentences,
    "pickle/only-bin": loads,
    "corrupt/half-file": fails,
    "broken/no-tokenizer": knows_no_words,
}
