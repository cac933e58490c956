"""The task as the caller wrote it, jsonb or text, made into a frozen `Task`."""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass, field
from typing import Any

from pgml_transform import catalog, quantization
from pgml_transform.errors import InvalidTask, UnknownTask
from pgml_transform.values import boolean, canonical, kind, shown, text

# Where a keyword of the task goes. What is in none of these lists is an argument that the pipeline
# takes with every call (`{"task": "text-generation", "max_new_tokens": 5}`); the loader checks those
# against the pipeline's own signature, before a weight is read.
IDENTITY = frozenset({"task", "model", "revision", "token", "use_auth_token", "trust_remote_code", "local_files_only"})
IGNORED = frozenset({"low_cpu_mem_usage"})  # transformers 5 takes it, and does the same without it
PLACEMENT = frozenset({"device", "device_map", "max_memory", "dtype", "torch_dtype"})
LOADING = frozenset(
    {
        "attn_implementation",
        "code_revision",
        "ignore_mismatched_sizes",
        "subfolder",
        "tokenizer",
        "use_fast",
        "use_safetensors",
        "variant",
    }
)


# No task's name begins like that: an object, or what a jsonb can hold beside one.
_JSON = re.compile(r"\s*([{\[\"\d-]|(null|true|false)\s*$)")
_NOT_IN_TEXT = re.compile(r"\\u0000|[\ud800-\udfff]")
_DTYPES = {"half": "float16", "float": "float32", "double": "float64"}


@dataclass(frozen=True)
class Wishes:
    """Where and how the caller wants the model, as written; `placement` turns it into a Placement.

    `device_map`, `max_memory` and `quantization` are canonical JSON, so that the whole can be hashed.
    """

    device: str | None = None
    device_map: str | None = None
    max_memory: str | None = None
    dtype: str | None = None
    quantization: str | None = None


@dataclass(frozen=True)
class Task:
    """What to load; two spellings of one pipeline are equal.

    The wishes, the token and the arguments of calls are not part of it. `loading` (keywords of `from_pretrained`) and
    `calling` (arguments of every call) are canonical JSON.
    """

    task: str
    model: str
    revision: str | None = None
    trust_remote_code: bool = False
    loading: str = "{}"
    calling: str = field(default="{}", compare=False)
    local_files_only: bool = field(default=False, compare=False)
    default_model: bool = field(default=False, compare=False)
    wishes: Wishes = field(default=Wishes(), compare=False)
    token: str | None = field(default=None, compare=False, repr=False)


def parse(task_text: str) -> Task:
    """Read the task argument: JSON when it looks like JSON, else a task's name.

    Raises InvalidTask for what is malformed, UnknownTask for a name that is not in the catalog.
    """
    task = _PARSED.get(task_text)
    if task is None:
        task = _parsed(task_text)
        if task.token is None and len(task_text) <= _LONGEST_KEPT:
            if len(_PARSED) >= _MOST_KEPT:
                _PARSED.clear()
            _PARSED[task_text] = task
    return task


# A session asks for few tasks, again and again. What has a token in it is not kept.
_PARSED: dict[str, Task] = {}
_MOST_KEPT, _LONGEST_KEPT = 64, 4096


def _parsed(task_text: str) -> Task:
    return from_keywords(_object(task_text) if _JSON.match(task_text) else {"task": task_text.strip()})


def from_keywords(keywords: dict[str, Any]) -> Task:
    """The task that these keywords describe; `model_kwargs` count as if they stood beside it."""
    keywords = _flattened(keywords)
    known = _known_task(keywords)
    model = text(keywords, "model")
    revision = text(keywords, "revision")
    if model is None:
        revision = revision or known.default_revision
    elif model.startswith("/"):
        model = os.path.realpath(model)  # however it is spelt, it is one directory
    return Task(
        task=known.name,
        model=model or known.default_model,
        revision=None if revision == "main" else revision,
        trust_remote_code=boolean(keywords, "trust_remote_code") or False,
        loading=canonical(_loading(keywords)),
        calling=canonical({name: keywords[name] for name in filter(_is_calling, keywords)}),
        local_files_only=boolean(keywords, "local_files_only") or False,
        default_model=model is None,
        wishes=_wishes(keywords),
        token=_token(keywords),
    )


def _object(task_text: str) -> dict[str, Any]:
    try:
        value = json.loads(task_text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidTask(
            "the task is not valid JSON",
            detail=str(error),
            hint='write it as \'{"task": "text-generation", "model": "..."}\'::jsonb',
        ) from None
    if not isinstance(value, dict):
        raise InvalidTask(
            f"the task is {shown(value)}, not an object",
            hint='write \'text-generation\', or \'{"task": "text-generation", "model": "..."}\'::jsonb',
        )
    if _NOT_IN_TEXT.search(canonical(value)):
        raise InvalidTask("the task has a character that PostgreSQL's text can't have", detail="NUL, or half a pair.")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _flattened(keywords: dict[str, Any]) -> dict[str, Any]:
    """Lift `model_kwargs` to the top, and drop the nulls of keywords that null leaves at their default."""
    nested = keywords.get("model_kwargs")
    if nested is not None and not isinstance(nested, dict):
        raise InvalidTask(f"model_kwargs is {kind(nested)}, not an object")
    flat = {key: value for key, value in keywords.items() if key != "model_kwargs"}
    for key, value in (nested or {}).items():
        if key in flat and flat[key] != value:
            secret = key in {"token", "use_auth_token"}
            raise InvalidTask(
                f'"{key}" is given twice',
                detail=None if secret else f'The task says {shown(flat[key])}, "model_kwargs" says {shown(value)}.',
                hint="give it once",
            )
        flat[key] = value
    return {key: value for key, value in flat.items() if value is not None or _is_calling(key)}


def _loading(keywords: dict[str, Any]) -> dict[str, Any]:
    """The keywords of from_pretrained, without one that says what is so anyway."""
    return {
        name: keywords[name]
        for name in LOADING & keywords.keys()
        if not (name == "use_safetensors" and keywords[name] is True)
    }


def _is_calling(name: str) -> bool:
    """Whether this keyword is an argument of the pipeline's calls, where null can mean something (`top_k`)."""
    return name not in IDENTITY | PLACEMENT | LOADING | IGNORED and not quantization.is_keyword(name)


def _known_task(keywords: dict[str, Any]) -> catalog.KnownTask:
    name = text(keywords, "task")
    if not name:
        raise InvalidTask(
            'the task has no "task"',
            detail=f"The keys given are: {', '.join(sorted(keywords)) or 'none'}.",
            hint='name one: {"task": "text-generation", ...}; SELECT * FROM pgml.tasks() lists them',
        )
    known = catalog.find(name)
    if known is None:
        near = difflib.get_close_matches(name.lower(), catalog.NAMES, n=1, cutoff=0.75)
        hint = f'did you mean "{near[0]}"? ' if near else ""
        raise UnknownTask(
            f'unknown task "{name}"',
            detail=f"The tasks are: {', '.join(catalog.NAMES)}.",
            hint=f"{hint}SELECT * FROM pgml.tasks() describes them",
        )
    return known


def _wishes(keywords: dict[str, Any]) -> Wishes:
    device = keywords.get("device")
    if isinstance(device, bool) or not isinstance(device, (str, int, type(None))):
        raise InvalidTask(f'"device" is {kind(device)}, not a device\'s name or number')
    dtype, older = _dtype(keywords, "dtype"), _dtype(keywords, "torch_dtype")
    if dtype and older and dtype != older:
        raise InvalidTask(
            f'"dtype" is "{dtype}" and "torch_dtype" is "{older}"',
            hint='they are two names of one keyword: give "dtype"',
        )
    maps = {name: keywords.get(name) for name in ("device_map", "max_memory")}
    return Wishes(
        device=None if device in (None, "auto") else str(device),
        dtype=dtype or older,
        quantization=quantization.wanted(keywords),
        **{name: None if value is None else canonical(value) for name, value in maps.items()},
    )


def _dtype(keywords: dict[str, Any], name: str) -> str | None:
    """A dtype by its one name: torch.half is float16."""
    given = text(keywords, name)
    return given and _DTYPES.get(given.removeprefix("torch."), given.removeprefix("torch."))


def _token(keywords: dict[str, Any]) -> str | None:
    token, older = keywords.get("token"), keywords.get("use_auth_token")
    if None not in (token, older) and token != older:
        raise InvalidTask('"token" and "use_auth_token" differ', hint='they are two names of one keyword: give "token"')
    token = older if token is None else token
    if token is None or isinstance(token, bool):
        return None  # true and false mean the server user's own token, which the hub library finds by itself
    if not isinstance(token, str):
        raise InvalidTask(f'"token" is {kind(token)}, not a string')
    return token
