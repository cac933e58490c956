"""A pipeline and the inputs of one call, run: one answer an input, in the order of the inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from pgml_transform import failures, signatures
from pgml_transform.call import Call
from pgml_transform.deployments import Deployment
from pgml_transform.errors import InvalidArgument, InvalidInput, PgmlError
from pgml_transform.values import shown

# Numbers of tokens that a tokenizer would allocate for at once. No model reads as many.
_LENGTHS = {"max_length", "pad_to_multiple_of", "stride", "max_new_tokens", "min_length", "min_new_tokens"}
_LONGEST = 1 << 20

AroundBatch = Callable[[], AbstractContextManager[None]]


def run(
    pipeline: Any, row: Deployment, inputs: Sequence[str | None], call: Call, around_batch: AroundBatch
) -> list[Any]:
    """The pipeline's answers for the inputs, None in the place of a None; `row` counts the tokens.

    The model works inside `around_batch()`, batch by batch. For one input the answer is the pipeline's own for a list
    of one, which fill-mask does not nest. Raises InvalidArgument, InvalidInput, ModelFailed.
    """
    texts = [text for text in inputs if text is not None]
    arguments = _arguments(pipeline, json.loads(call.arguments))
    if pipeline.task == "zero-shot-classification" and "" in texts:
        raise InvalidInput('task "zero-shot-classification" refuses an empty text', hint="write NULL to leave one out")
    if call.seed is not None:
        _seed(call.seed)
    with _metered(pipeline, row, around_batch):
        outputs = _answers(pipeline, texts, arguments, call.batch_size)
    if len(texts) == len(inputs):
        return outputs
    if len(texts) == 1 and pipeline.task == "fill-mask":
        outputs = [outputs]
    rest = iter(outputs)
    return [None if text is None else next(rest) for text in inputs]


def _arguments(pipeline: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The call's arguments as the pipeline takes them; InvalidArgument for what it does not."""
    signatures.check(type(pipeline), pipeline.task, arguments)
    _check_numbers(arguments)
    if isinstance(eos := arguments.pop("eos_token", None), str):
        arguments["eos_token_id"] = _token_id(pipeline, eos)
    if "stop_strings" in arguments:
        arguments["tokenizer"] = pipeline.tokenizer  # generate() has none of its own
    if pipeline.task == "zero-shot-classification":
        _check_zero_shot(arguments)
    try:
        pipeline._sanitize_parameters(**arguments)  # noqa: SLF001 - the only place that checks them before the run
    except Exception as error:
        reason = failures.first_line(error)
        raise InvalidArgument(f'task "{pipeline.task}" refuses its arguments', detail=reason) from error
    return arguments


def _check_numbers(arguments: dict[str, Any]) -> None:
    """A tokenizer asked for a length that memory has not would end the process, and with it the server."""
    for name, value in arguments.items():
        if isinstance(value, dict):
            _check_numbers(value)
        elif name in _LENGTHS and value is not None:
            whole = isinstance(value, int) and not isinstance(value, bool)
            least = 1 if name == "pad_to_multiple_of" else 0
            if not whole or not least <= value <= _LONGEST:
                hint = f"write a whole number from {least} to {_LONGEST}"
                raise InvalidArgument(f'"{name}" is {shown(value)}', hint=hint)


def _check_zero_shot(arguments: dict[str, Any]) -> None:
    if not arguments.get("candidate_labels"):
        raise InvalidArgument(
            'task "zero-shot-classification" needs the argument "candidate_labels"',
            hint='args => \'{"candidate_labels": ["urgent", "not urgent"]}\'::jsonb',
        )
    template = arguments.get("hypothesis_template", "{}")
    # str.format fills it: any other field could reach into objects, or be padded to any width.
    if (
        not isinstance(template, str)
        or re.findall(r"[{}][^{}]*", template.replace("{}", "", 1))
        or "{}" not in template
    ):
        raise InvalidArgument(
            f'"hypothesis_template" is {shown(template)}', hint='write a sentence with {} once: "This example is {}."'
        )


def _answers(pipeline: Any, texts: list[str], arguments: dict[str, Any], batch_size: int | None) -> list[Any]:
    try:
        if batch_size in (None, 1) or "" not in texts:
            return list(pipeline(texts, **({} if batch_size is None else {"batch_size": batch_size}), **arguments))
        # A text without tokens can't be padded into a batch: those run one by one.
        some = [text for text in texts if text]
        filled = iter(pipeline(some, batch_size=batch_size, **arguments) if some else [])
        return [next(filled) if text else pipeline([text], **arguments)[0] for text in texts]
    except (PgmlError, MemoryError):
        raise
    except Exception as error:
        if failures.is_out_of_memory(error):
            raise
        raise failures.of_run(pipeline, arguments, error) from error


def _token_id(pipeline: Any, token: str) -> int:
    found = pipeline.tokenizer.convert_tokens_to_ids(token)
    if found is None or found == pipeline.tokenizer.unk_token_id:
        raise InvalidArgument(f'"eos_token" is "{token}", which is no token of this model')
    return int(found)


def _seed(seed: int) -> None:
    import torch

    torch.manual_seed(seed)


@contextmanager
def _metered(pipeline: Any, row: Deployment, around_batch: AroundBatch) -> Iterator[None]:
    """Count the tokens that go into the model and those that it writes, batch by batch."""
    forward = type(pipeline).forward

    def metered(model_inputs: Any, **parameters: Any) -> Any:
        prompt = model_inputs.get("input_ids") if hasattr(model_inputs, "get") else None
        mask = model_inputs.get("attention_mask") if prompt is not None else None
        row.tokens_in += 0 if prompt is None else int(prompt.numel() if mask is None else mask.sum())
        with around_batch():
            outputs = forward(pipeline, model_inputs, **parameters)
        written = outputs.get("generated_sequence") if hasattr(outputs, "get") else None
        if written is not None:
            new = written[..., 0 if prompt is None else prompt.shape[-1] :]
            row.tokens_out += int((new != pipeline.tokenizer.pad_token_id).sum())
        return outputs

    pipeline.forward = metered
    try:
        yield
    finally:
        pipeline.__dict__.pop("forward", None)
