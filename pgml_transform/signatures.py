"""Which arguments a pipeline's calls take, from its own signature: nothing that is unknown is ignored."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from functools import cache
from typing import Any

from pgml_transform.errors import InvalidArgument

# Where a pipeline's signature ends in **kwargs that go to the tokenizer: what that takes for a text.
_TOKENIZER = frozenset(
    {
        "add_special_tokens",
        "max_length",
        "padding",
        "pad_to_multiple_of",
        "padding_side",
        "stride",
        "truncation",
    }
)
# Zero-shot's signature names none of its three.
_ZERO_SHOT = frozenset({"candidate_labels", "hypothesis_template", "multi_label"})
# What a pipeline's signature has for its own use.
_INTERNAL = frozenset({"self", "return_type", "is_split_into_words", "offset_mapping"})
# What runner.py takes beside.
OURS = frozenset({"batch_size", "eos_token", "seed"})


def check(pipeline_class: type, task: str, arguments: Iterable[str]) -> None:
    """Raise InvalidArgument for the first argument that the pipeline does not take, with the nearest that it does."""
    known = parameters(pipeline_class) | OURS
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise InvalidArgument(
                f'task "{task}" takes no argument "{name}"',
                detail=f"Its arguments are: {', '.join(sorted(known))}.",
                hint=f'did you mean "{near[0]}"?' if near else "leave it out",
            )


@cache
def parameters(pipeline_class: Any) -> frozenset[str]:
    """The names of the arguments that this pipeline's calls take."""
    sanitize = pipeline_class._sanitize_parameters  # noqa: SLF001 - the hook where a pipeline says what it takes
    signature = inspect.signature(sanitize).parameters.values()
    named = {p.name for p in signature if p.kind is not p.VAR_KEYWORD} - _INTERNAL
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature)
    if getattr(pipeline_class, "_pipeline_calls_generate", False):
        return frozenset(named | _generation() | {"add_special_tokens", "padding"})
    if pipeline_class.__name__ == "ZeroShotClassificationPipeline":
        return frozenset(named | _ZERO_SHOT)
    return frozenset(named | _TOKENIZER if open_ended and "tokenize_kwargs" not in named else named)


def _generation() -> set[str]:
    from transformers import GenerationConfig

    return {name for name in vars(GenerationConfig()) if not name.startswith("_")} - {"transformers_version"}
