"""Task and Placement made into a pipeline: the only module that imports transformers.

The model is loaded by its Auto class, not by `transformers.pipeline`, which on a failure tries again in float32: on
a load that ran out of memory that is the same with twice the need.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgml_transform import hub, memory, signatures
from pgml_transform.checkpoint import Checkpoint
from pgml_transform.devices import CPU
from pgml_transform.errors import InvalidTask, MissingPackage, ModelBroken, ModelNotFound, PgmlError
from pgml_transform.placement import Placement
from pgml_transform.settings import Settings
from pgml_transform.task import Task


@dataclass(frozen=True)
class Listener:
    """Who follows a load: `progress` is told the share of the weights that is read, 0 to 1; `warn` what is odd."""

    progress: Callable[[float], None]
    warn: Callable[[str], None]


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


def import_libraries() -> None:
    """Import what every load needs: some 200 MB that belong to the libraries, not to a model."""
    import transformers

    for name in ("AutoTokenizer", "GenerationConfig", "pipelines"):
        getattr(transformers, name)  # it imports on the first look
    _unhand_logs()


def prepare_environment() -> None:
    """Set what the libraries read when they are imported; before the first of them is."""
    os.environ.update(_ENVIRONMENT)


def _unhand_logs() -> None:
    """Take away the libraries' own handlers, which write to the server's stderr; the root's handler gets it all."""
    for name in ("transformers", "huggingface_hub", "accelerate"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def load(task: Task, placement: Placement, checkpoint: Checkpoint, settings: Settings, listener: Listener) -> Any:
    """The pipeline, ready to be called.

    Raises InvalidTask for a keyword that neither the pipeline nor the library knows, ModelBroken and MissingPackage
    where the load fails, OutOfMemory where memory does.
    """
    with _translated(task), _reported(listener):
        from transformers import pipelines

        entry = pipelines.PIPELINE_REGISTRY.check_task(task.task)[1]
        calling = json.loads(task.calling)
        signatures.check(_pipeline_class(entry["impl"]), calling, f'task "{task.task}"', InvalidTask)
        model, report = _model(entry["pt"][0], task, placement, checkpoint, settings)
        if missing := sorted(report["missing_keys"]):
            listener.warn(
                f'model "{task.model}" was not trained for task "{task.task}": {len(missing)} of its weights are '
                f"random, such as {missing[0]}"
            )
        tokenizer = _tokenizer(task, settings)
        _pad(tokenizer, model)
        return pipelines.pipeline(
            task.task, model=model, tokenizer=tokenizer, device=None if placement.device_map else CPU, **calling
        )


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


def _model(auto: Any, task: Task, placement: Placement, checkpoint: Checkpoint, settings: Settings) -> Any:
    import torch

    loading = json.loads(task.loading)
    keywords = {
        name: value for name, value in loading.items() if name not in {"tokenizer", "use_fast", "local_files_only"}
    }
    keywords["use_safetensors"] = True
    keywords["dtype"] = getattr(torch, placement.dtype)
    if placement.quantization is not None:
        keywords["quantization_config"] = _quantization(placement)
    if placement.device_map is not None:
        keywords["device_map"] = _devices(json.loads(placement.device_map))
        if placement.max_memory is not None:
            keywords["max_memory"] = _devices(json.loads(placement.max_memory), keys=True)
    elif placement.quantization is not None or checkpoint.quantization is not None:
        keywords["device_map"] = {"": CPU}  # quantizers look for a GPU when they are told nothing
    return auto.from_pretrained(task.model, **_hub(task, settings), **keywords, output_loading_info=True)


def _tokenizer(task: Task, settings: Settings) -> Any:
    from transformers import AutoTokenizer

    loading = json.loads(task.loading)
    keywords = {name: loading[name] for name in ("use_fast", "subfolder") if name in loading}
    name = loading.get("tokenizer", task.model)
    where = _hub(task, settings)
    if name != task.model:
        del where["revision"]  # it is the model's
    tokenizer = AutoTokenizer.from_pretrained(name, **where, **keywords)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # made up, where there are no files to load it from
        raise ModelBroken(
            f'model "{name}" has no tokenizer',
            detail="Its repository has no vocabulary.",
            hint='name one that it was trained with: "tokenizer": "organization/name"',
        )
    return tokenizer


def _hub(task: Task, settings: Settings) -> dict[str, Any]:
    """What every from_pretrained is told of where its files come from."""
    where: dict[str, Any] = {
        "token": task.token,
        "trust_remote_code": task.trust_remote_code,
        "local_files_only": hub.offline(task, settings),
        "cache_dir": settings.hub_cache,
        "revision": task.revision or "main",
    }
    return where


def _quantization(placement: Placement) -> Any:
    """The one configuration object that transformers takes, of any method that it knows."""
    from transformers.quantizers import AutoQuantizationConfig

    config = json.loads(placement.quantization or "{}")
    if config.get("load_in_4bit"):
        # bitsandbytes computes in float32 unless told; the dtype of the rest is what the placement chose.
        config.setdefault("bnb_4bit_compute_dtype", placement.dtype)
    if "llm_int8_threshold" in config:
        config["llm_int8_threshold"] = float(config["llm_int8_threshold"])
    try:
        return AutoQuantizationConfig.from_dict(config)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidTask("the quantization is not valid", detail=str(error)) from error


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


@contextmanager
def _reported(listener: Listener) -> Iterator[None]:
    """Listen to the bar that transformers moves tensor by tensor; it is never drawn."""
    from transformers.utils import logging as bars

    bars.disable_progress_bar()

    def bar(factory: Any, args: Any, kwargs: Any) -> Any:
        iterable = args[0] if args else kwargs.get("iterable")
        if iterable is None or kwargs.get("desc") != "Loading weights":
            return factory(*args, **kwargs)
        return _counted(list(iterable), listener)

    previous = bars.set_tqdm_hook(bar)
    try:
        yield
    finally:
        bars.set_tqdm_hook(previous)


def _counted(items: list[Any], listener: Listener) -> Iterator[Any]:
    for done, item in enumerate(items):
        yield item
        listener.progress((done + 1) / len(items))


@contextmanager
def _translated(task: Task) -> Iterator[None]:
    """Make one of our errors of what the libraries raise: transformers' own ends in several tracebacks."""
    try:
        yield
    except (PgmlError, MemoryError):
        raise
    except ImportError as error:
        raise _missing(task, error) from error
    except Exception as error:
        if memory.is_out_of_memory(error):
            raise
        reason = _first_line(error)
        if isinstance(error, OSError) and "token" in reason.lower() and "gated" in reason.lower():
            raise ModelNotFound(f'model "{task.model}" is gated', detail=reason) from error
        if isinstance(error, TypeError) and "unexpected keyword argument" in reason:
            raise InvalidTask(f'the model class of "{task.model}" does not take a keyword', detail=reason) from error
        raise ModelBroken(
            f'could not load model "{task.model}" for task "{task.task}"',
            detail=reason,
            hint="see that the model is made for this task, and that its files are whole",
        ) from error


def _missing(task: Task, error: ImportError) -> MissingPackage:
    reason = _first_line(error)
    package = error.name or next((word for word in reason.split("`") if word.startswith("pip install")), "")
    package = package.removeprefix("pip install").strip(" -U") or "the package named above"
    return MissingPackage(
        f'model "{task.model}" needs a Python package that is not installed',
        detail=reason,
        hint=f"install it beside the extension: {_pip()} install {package}",
    )


def _pip() -> str:
    """The pip of the environment that this package runs from, which `make install` made."""
    above = [folder for folder in Path(__file__).parents if (folder / "bin" / "pip").exists()]
    return str(above[0] / "bin" / "pip") if above else "pip"


def _first_line(error: BaseException) -> str:
    """The sentence that says the cause: the last exception's, without the advice that follows."""
    while error.__cause__ is not None and not isinstance(error, PgmlError):
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:500]
