"""May this caller load this model, from there, with that code, and may a call name such a thing.

One place for every key through which a library opens another repository, directory, file, URL or code.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgml_transform.errors import InvalidTask, NotAllowed
from pgml_transform.task import Task

# Keywords that would open, write or run something that the caller names. None of them is taken, in the task or
# in args, from anybody; what each would do is the reason that the error gives.
REFUSED = {
    "adapter_kwargs": "it names another repository",
    "adapter_name": "it belongs to adapters that the task names",
    "allow_all_kernels": "it runs code from the hub",
    "assistant_model": "it names another model",
    "assistant_tokenizer": "it names another repository",
    "cache_dir": "it writes to a directory",
    "config": "it names another repository or file",
    "custom_generate": "it runs code from the hub",
    "decision_config": "it names another repository",
    "distributed_config": "it starts other processes",
    "feature_extractor": "it names another repository",
    "force_download": "it fetches again what is here",
    "fusion_config": "it replaces code of the model",
    "generation_config": "it names another repository or file",
    "gguf_file": "it names a file",
    "image_processor": "it names another repository",
    "kernel_config": "it runs code from the hub",
    "key_mapping": "it runs regular expressions of the caller's",
    "num_workers": "it starts other processes",
    "offload_buffers": "it belongs to offloading to a directory",
    "offload_folder": "it writes to a directory",
    "offload_state_dict": "it writes to a directory",
    "pipeline_class": "it names code",
    "processor": "it names another repository",
    "proxies": "it sends the server's requests elsewhere",
    "state_dict": "it replaces the model's weights",
    "tp_plan": "it starts other processes",
    "tp_size": "it starts other processes",
    "use_kernels": "it runs code from the hub",
    "video_processor": "it names another repository",
    "weights_only": "it lets pickle files run code",
}
_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_INSIDE = re.compile(r"[\w.-]+(/[\w.-]+)*", re.ASCII)


@dataclass(frozen=True)
class Rule:
    """A row of pgml.allowed_models."""

    pattern: str
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Policy:
    """What holds for this caller: the rows of pgml.allowed_models, and whether the caller is a superuser."""

    rules: tuple[Rule, ...] = ()
    superuser: bool = False


def check_task(task: Task, policy: Policy) -> None:
    """Raise NotAllowed unless this caller may load this task as it is written."""
    loading = json.loads(task.loading)
    _check_keys(json.loads(task.calling), "the task")
    _check_quantization(json.loads(task.wishes.quantization or "{}"))
    _check_model(task.model, policy, task.trust_remote_code)
    if (tokenizer := loading.get("tokenizer")) is not None:
        if not isinstance(tokenizer, str):
            raise InvalidTask(f'"tokenizer" is {json.dumps(tokenizer)}, not the name of a model')
        _check_model(tokenizer, policy, task.trust_remote_code)
    _check_inside("revision", task.revision)  # the hub's library makes a path of it
    for key in ("code_revision", "subfolder", "variant"):
        _check_inside(key, loading.get(key))
    attention = loading.get("attn_implementation")
    if attention is not None and attention not in _ATTENTION:
        raise NotAllowed(
            f'"attn_implementation" is {json.dumps(attention)}',
            detail="Any other name is one of a repository with code.",
            hint=f"write one of {', '.join(_ATTENTION)}",
        )
    if loading.get("use_safetensors") is False:
        raise NotAllowed(
            '"use_safetensors" is false',
            detail="Weights in pickle files can run any code when they are read.",
            hint="leave it out",
        )


def check_arguments(arguments: str) -> None:
    """Raise NotAllowed where args (canonical JSON) names something to open or run."""
    _check_keys(json.loads(arguments), "args")


def _check_keys(keywords: dict[str, Any], where: str) -> None:
    refused = sorted(REFUSED.keys() & set(_all_keys(keywords)))
    if refused:
        raise NotAllowed(
            f'"{refused[0]}" is not allowed in {where}', detail=f"Here, {REFUSED[refused[0]]}.", hint="leave it out"
        )


def _check_quantization(config: dict[str, Any]) -> None:
    """A model is quantized as it is read; calibrating one on a data set is no query's business."""
    _check_keys(config, "quantization_config")
    for key in ("dataset", "tokenizer"):
        if key in config:
            raise NotAllowed(
                f'"{key}" is not allowed in quantization_config',
                detail="Here, it names a repository or a path.",
                hint="load a checkpoint that is quantized already",
            )


def _all_keys(value: Any) -> Iterable[str]:
    """Every key at every depth, since libraries hand nested keywords on."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _all_keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _all_keys(inner)


def _check_model(model: str, policy: Policy, remote_code: bool) -> None:
    name = _resolved(model)
    matching = [rule for rule in policy.rules if fnmatch.fnmatchcase(name, rule.pattern)]
    if policy.rules and not matching:
        raise NotAllowed(
            f'model "{model}" is not allowed',
            detail="No pattern in pgml.allowed_models matches it.",
            hint=how_to_allow(name),
        )
    if Path(name).is_absolute() and not policy.rules and not policy.superuser:
        raise NotAllowed(
            f'model "{model}" is a directory of the server',
            detail="Without rows in pgml.allowed_models only superusers load models from directories.",
            hint=how_to_allow(name),
        )
    if remote_code and not any(rule.trust_remote_code for rule in matching):
        raise NotAllowed(
            f'"trust_remote_code" is not allowed for model "{model}"',
            detail="It runs the model's own Python code as the server's user.",
            hint=how_to_allow(name, remote_code=True),
        )


def _resolved(model: str) -> str:
    """The name that patterns are matched with: a hub id as it is, a directory by its real path."""
    if Path(model).is_absolute() and "\0" not in model:
        return os.path.realpath(model)
    if not _HUB_ID.fullmatch(model) or ".." in model or "--" in model:
        raise NotAllowed(
            f'"{model}" is neither a model of the hub nor an absolute path',
            hint='write "organization/name" as the hub shows it',
        )
    if os.path.lexists(model):  # the libraries would take it for that path, and the folder here is the data directory
        raise NotAllowed(f'"{model}" names a path in the data directory')
    return model


def _check_inside(key: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise InvalidTask(f'"{key}" is {json.dumps(value)}, not a string')
    if not _INSIDE.fullmatch(value) or ".." in value:
        raise NotAllowed(f'"{key}" is "{value}"', detail="It may only name something inside the model's repository.")


def how_to_allow(name: str, *, remote_code: bool = False) -> str:
    """What an administrator would say to allow a model, for a hint."""
    pattern = name.replace("'", "''")
    who = "an administrator who has read that code" if remote_code else "an administrator"
    columns, values = (
        ("pattern, trust_remote_code", f"'{pattern}', true") if remote_code else ("pattern", f"'{pattern}'")
    )
    return f"{who} can allow it: INSERT INTO pgml.allowed_models ({columns}) VALUES ({values})"
