"""Task and Placement made into a pipeline: the only module that loads with transformers.

The model is loaded by its Auto class, not by `transformers.pipeline`, which on a failure tries again in float32: on
a load that ran out of memory that is the same with twice the need.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from pgml_transform import failures, hub, memory, signatures
from pgml_transform.checkpoint import Checkpoint
from pgml_transform.devices import CPU
from pgml_transform.errors import InvalidTask, ModelBroken, PgmlError
from pgml_transform.placement import Placement
from pgml_transform.settings import Settings
from pgml_transform.task import Task


@dataclass(frozen=True)
class Supervisor:
    """Who watches a load.

    `progress` is told the share of the weights that is read, 0 to 1; `warn` what is odd; `limited` bounds the memory
    of the block that reads the weights.
    """

    progress: Callable[[float], None]
    warn: Callable[[str], None]
    limited: Callable[[], AbstractContextManager[None]]


# Read by the libraries when they are imported. No telemetry, no threads that convert checkpoints on the hub, no
# bars on the server's stderr, and no pool of tokenizer threads that a fork would break.
_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",
    "TRANSFORMERS_VERBOSITY": "warning",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "BITSANDBYTES_NOWELCOME": "1",
}


def prepare_environment() -> None:
    """Set what the libraries read when they are imported; before the first of them is."""
    os.environ.update(_ENVIRONMENT)


def import_libraries() -> None:
    """Import what every load needs: some 200 MB that belong to the libraries, not to a model."""
    if "transformers.pipelines" in sys.modules:
        return
    with _no_garbage_collection():
        import torch
        import transformers

        for name in ("AutoTokenizer", "GenerationConfig", "pipelines"):
            getattr(transformers, name)  # it imports on the first look
    torch.ones(1 << 20).mul_(2)  # starts the threads of its pool, which may not be refused under a limit of memory
    for name in ("transformers", "huggingface_hub", "accelerate"):
        logger = logging.getLogger(name)
        logger.handlers.clear()  # they write to the server's stderr; the root's handler gets it all
        logger.propagate = True


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect nothing in the block: 2,500 modules make no garbage, and looking for it takes a fifth of their import."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()  # nor are they looked through later


def load(
    task: Task, arguments: Iterable[str], placement: Placement, checkpoint: Checkpoint, settings: Settings
) -> Callable[[Supervisor], Any]:
    """All of the pipeline but its weights; what is answered reads those, and answers the pipeline.

    `arguments` are the names of those that the first call brings. Raises InvalidArgument for one that the pipeline
    does not take, InvalidTask for a keyword that the library refuses, ModelBroken and MissingPackage where the load
    fails.
    """
    with _translated(task):
        from transformers import pipelines

        entry = pipelines.PIPELINE_REGISTRY.check_task(task.task)[1]
        signatures.check(_pipeline_class(entry["impl"]), task.task, arguments)
        where = _hub(task, checkpoint, settings)
        with hub.errors(task, settings, json.loads(task.loading).get("tokenizer")):
            tokenizer = _tokenizer(task, where)
        keywords = {**_keywords(task, placement, checkpoint), **where}

    def read(supervisor: Supervisor) -> Any:
        with _translated(task):
            with hub.errors(task, settings), _reported(supervisor), supervisor.limited(), memory.weights_apart():
                model, report = entry["pt"][0].from_pretrained(task.model, output_loading_info=True, **keywords)
            _warn_of_random_weights(task, report["missing_keys"], supervisor)
            _pad(tokenizer, model)
            # accelerate moves what it spread; the rest lies where it shall, and pipeline() would move it to GPU 0.
            device = None if getattr(model, "hf_device_map", None) else placement.device
            return pipelines.pipeline(task.task, model=model, tokenizer=tokenizer, device=device)

    return read


def sizes(pipeline: Any) -> dict[str, int]:
    """The bytes of the model's tensors by device, "cpu" and "cuda:0"; each tensor counts once."""
    found: dict[str, int] = {}
    seen = set()
    for tensor in [*pipeline.model.parameters(), *pipeline.model.buffers()]:
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            found[str(tensor.device)] = found.get(str(tensor.device), 0) + tensor.nbytes
    return found


def device_map(pipeline: Any) -> dict[str, str] | None:
    """Which module lies where, as accelerate placed it; None where the model is on one device."""
    mapped = getattr(pipeline.model, "hf_device_map", None)
    if not mapped:
        return None
    names = {module: f"cuda:{device}" if isinstance(device, int) else str(device) for module, device in mapped.items()}
    return names if len(set(names.values())) > 1 else None


def parameters(pipeline: Any) -> int:
    """How many parameters the model has, those that a quantization packs counted one by one."""
    return int(pipeline.model.num_parameters())


def _pipeline_class(implementation: Any) -> Any:
    """The class that the registry names by its dotted path, or holds."""
    if isinstance(implementation, str):
        module, _, name = implementation.rpartition(".")
        return getattr(importlib.import_module(module), name)
    return implementation


def _keywords(task: Task, placement: Placement, checkpoint: Checkpoint) -> dict[str, Any]:
    """What from_pretrained is told of the model's form and place."""
    import torch

    loading = json.loads(task.loading)
    keywords = {name: value for name, value in loading.items() if name not in {"tokenizer", "use_fast"}}
    keywords["use_safetensors"] = True
    keywords["dtype"] = getattr(torch, placement.dtype)
    if placement.quantization is not None:
        keywords["quantization_config"] = _quantization(placement, checkpoint)
    if placement.device_map is not None:
        keywords["device_map"] = _devices(json.loads(placement.device_map))
        if placement.max_memory is not None:
            keywords["max_memory"] = _devices(json.loads(placement.max_memory), keys=True)
    elif placement.quantization is not None or checkpoint.quantization is not None:
        keywords["device_map"] = {"": CPU}  # quantizers look for a GPU when they are told nothing
    return keywords


def _tokenizer(task: Task, where: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer

    loading = json.loads(task.loading)
    keywords = {name: loading[name] for name in ("use_fast", "subfolder") if name in loading}
    name = loading.get("tokenizer", task.model)
    if name != task.model:  # the revision is the model's, and the token was given for its repository
        where = {key: value for key, value in where.items() if key not in {"revision", "token"}}
        keywords.pop("subfolder", None)
    tokenizer = AutoTokenizer.from_pretrained(name, **where, **keywords)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # made up, where there are no files to load it from
        raise ModelBroken(
            f'model "{name}" has no tokenizer',
            detail="Its repository has no vocabulary.",
            hint='name one that it was trained with: "tokenizer": "organization/name"',
        )
    return tokenizer


def _hub(task: Task, checkpoint: Checkpoint, settings: Settings) -> dict[str, Any]:
    """What every from_pretrained is told of where its files come from: the commit that was inspected."""
    return {
        "token": task.token,
        "trust_remote_code": task.trust_remote_code,
        "local_files_only": hub.offline(task, settings),
        "cache_dir": settings.hub_cache,
        "revision": checkpoint.revision or task.revision or "main",
    }


def _quantization(placement: Placement, checkpoint: Checkpoint) -> Any:
    """The one configuration object that transformers takes, of any method that it knows."""
    from transformers import BitsAndBytesConfig
    from transformers.quantizers import AutoQuantizationConfig

    config = json.loads(placement.quantization or "{}")
    if config["quant_method"] == "bitsandbytes":
        known = set(inspect.signature(BitsAndBytesConfig.__init__).parameters) | {"quant_method"}
        if unknown := sorted(config.keys() - known):
            raise InvalidTask(f'bitsandbytes has no keyword "{unknown[0]}"', hint="leave it out")
        if config.get("load_in_4bit"):
            # It computes in float32 unless told; the dtype of the rest is what the placement chose.
            config.setdefault("bnb_4bit_compute_dtype", placement.dtype)
            if checkpoint.unpackable:
                config.setdefault("llm_int8_skip_modules", [*checkpoint.unpackable, "lm_head"])
        if isinstance(threshold := config.get("llm_int8_threshold"), int):
            config["llm_int8_threshold"] = float(threshold)
    try:
        return AutoQuantizationConfig.from_dict(config)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidTask("the quantization is not valid", detail=failures.first_line(error)) from error


def _devices(value: Any, *, keys: bool = False) -> Any:
    """Our names of devices in accelerate's form, where a GPU is its number."""

    def device(name: Any) -> Any:
        return int(name[5:]) if isinstance(name, str) and name.startswith("cuda:") else name

    if not isinstance(value, dict):
        return value
    return {device(key) if keys else key: inner if keys else device(inner) for key, inner in value.items()}


def _pad(tokenizer: Any, model: Any) -> None:
    """Batches need a padding token; many generators have none and take the end of the text for it."""
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = tokenizer.pad_token_id


def _warn_of_random_weights(task: Task, missing_keys: Iterable[str], supervisor: Supervisor) -> None:
    if missing := sorted(missing_keys):
        supervisor.warn(
            f'model "{task.model}" was not trained for task "{task.task}": {len(missing)} of its weights are '
            f"random, such as {missing[0]}"
        )


@contextmanager
def _reported(supervisor: Supervisor) -> Iterator[None]:
    """Listen to the bar that transformers moves tensor by tensor; it is never drawn."""
    from transformers.utils import logging as bars

    bars.disable_progress_bar()

    def bar(factory: Any, args: Any, kwargs: Any) -> Any:
        iterable = args[0] if args else kwargs.get("iterable")
        if iterable is None or kwargs.get("desc") != "Loading weights":
            return factory(*args, **kwargs)
        return _counted(list(iterable), supervisor)

    previous = bars.set_tqdm_hook(bar)
    try:
        yield
    finally:
        bars.set_tqdm_hook(previous)


def _counted(items: list[Any], supervisor: Supervisor) -> Iterator[Any]:
    for done, item in enumerate(items):
        yield item
        supervisor.progress((done + 1) / len(items))


@contextmanager
def _translated(task: Task) -> Iterator[None]:
    """Make one of our errors of what the libraries raise."""
    try:
        yield
    except (PgmlError, MemoryError):
        raise
    except Exception as error:
        if failures.is_out_of_memory(error):
            raise
        raise failures.of_load(task, error) from error
