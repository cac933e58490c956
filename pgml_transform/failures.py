"""What the libraries raise, in our errors: the one place where foreign exceptions become ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pgml_transform import quantization
from pgml_transform.errors import (
    DeviceNotAvailable,
    InvalidArgument,
    InvalidInput,
    InvalidTask,
    MissingPackage,
    ModelBroken,
    ModelFailed,
    NotAllowed,
    PgmlError,
)
from pgml_transform.policy import how_to_allow
from pgml_transform.task import Task

_LONGEST_REASON = 500

# What an allocation that failed says: Python's own, torch's allocator, mmap, CUDA and its libraries.
_OUT_OF_MEMORY = re.compile(
    r"can(no|')t allocate memory|unable to mmap|not enough memory|out of memory|std::bad_alloc|_ALLOC_FAILED",
    re.IGNORECASE,
)
# What a text that is longer than the model reads makes of it, on the CPU.
_TOO_LONG = re.compile(
    r"size of tensor a|index out of range in self|out of bounds for dim|must match the size|expanded size"
    r"|sequence length",
    re.IGNORECASE,
)


def first_line(error: BaseException) -> str:
    """The sentence that says the cause, without the advice that follows it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:_LONGEST_REASON]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is an allocation that failed, on the CPU or on a GPU."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, (RuntimeError, OSError)) and _OUT_OF_MEMORY.search(str(error)) is not None


def of_load(task: Task, error: Exception) -> PgmlError:
    """Whose fault a load's failure is. transformers' own errors end in several tracebacks: the cause is the last."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    reason = first_line(cause)
    if isinstance(cause, ImportError):
        return _missing_package(task, cause, reason)
    if "trust_remote_code" in str(cause):
        return NotAllowed(
            f'model "{task.model}" needs its own code to be run',
            detail="It brings Python code that would run as the server's user.",
            hint='give "trust_remote_code": true; ' + how_to_allow(task.model, remote_code=True),
        )
    if isinstance(cause, TypeError) and "unexpected keyword argument" in reason:
        return InvalidTask(f'the model class of "{task.model}" does not take a keyword', detail=reason)
    if task.wishes.quantization is not None and not isinstance(cause, OSError):
        return _unquantizable(task, reason)
    return ModelBroken(
        f'could not load model "{task.model}" for task "{task.task}"',
        detail=reason,
        hint="see that the model is made for this task, and that its files are whole",
    )


def of_run(pipeline: Any, arguments: dict[str, Any], error: Exception) -> PgmlError:
    """Whose fault a run's failure is: the input's, the arguments', or the model's own."""
    kind, reason = type(error).__name__, first_line(error)
    if isinstance(error, ImportError):
        return MissingPackage("an argument needs a Python package that is not installed", detail=reason)
    if kind == "PipelineException":  # fill-mask's word for a text without its mask
        mask = getattr(pipeline.tokenizer, "mask_token", None)
        hint = f"write {mask} where a word is to be found" if mask else None
        return InvalidInput(f'task "{pipeline.task}" refuses an input', detail=reason, hint=hint)
    if arguments and (isinstance(error, (ValueError, TypeError, KeyError)) or "index k out of range" in reason):
        return InvalidArgument(f'task "{pipeline.task}" refuses its arguments', detail=reason)
    hint = None
    if _TOO_LONG.search(reason):
        hint = "look whether the input is too long for it"
    elif "device-side assert" in str(error):
        hint = "the input may be too long for it; connect anew, since CUDA has given up in this session"
    return ModelFailed(f"the model failed: {kind}", detail=reason, hint=hint)


def _missing_package(task: Task, error: ImportError, reason: str) -> MissingPackage:
    attention = "flash_attention" in task.loading and "flash" in reason.lower()
    package = "flash-attn" if attention else quantization.package(task.wishes.quantization) or error.name
    return MissingPackage(
        f'model "{task.model}" needs a Python package that is not installed',
        detail=reason,
        hint=f"install it beside the extension: {_pip()} install {package}" if package else None,
    )


def _unquantizable(task: Task, reason: str) -> PgmlError:
    if re.search(r"no gpu|gpu.*(required|found|available)|cuda", reason, re.IGNORECASE):
        return DeviceNotAvailable(
            f'the quantization needs a GPU for model "{task.model}"', detail=reason, hint="take another one"
        )
    return InvalidTask(f'model "{task.model}" can\'t be loaded in this quantization', detail=reason)


def _pip() -> str:
    """The pip of the environment that this package runs from, which `make install` made."""
    above = [folder for folder in Path(__file__).parents if (folder / "bin" / "pip").exists()]
    return str(above[0] / "bin" / "pip") if above else "pip"
