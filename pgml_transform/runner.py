"""A pipeline and the inputs of one call, run: one answer an input, in the order of the inputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pgml_transform import signatures
from pgml_transform.call import Call
from pgml_transform.deployments import Deployment
from pgml_transform.errors import InvalidArgument, InvalidInput, ModelFailed, PgmlError
from pgml_transform.memory import is_out_of_memory


def run(
    pipeline: Any, row: Deployment, inputs: Sequence[str | None], call: Call, safe_point: Callable[[], None]
) -> list[Any]:
    """The pipeline's answers for the inputs, None in the place of a None; `row` counts the tokens.

    `safe_point` is called before each batch. For one input the answer is the pipeline's own for a list of one, which
    fill-mask does not nest. Raises InvalidArgument, InvalidInput, ModelFailed.
    """
    texts = [text for text in inputs if text is not None]
    if not texts:
        return [None for _ in inputs]
    arguments = _arguments(pipeline, json.loads(call.arguments))
    if call.seed is not None:
        _seed(call.seed)
    with _metered(pipeline, row, safe_point):
        outputs = _answers(pipeline, texts, arguments, call.batch_size)
    if len(texts) == len(inputs):
        return outputs
    if len(texts) == 1 and pipeline.task == "fill-mask":
        outputs = [outputs]
    rest = iter(outputs)
    return [None if text is None else next(rest) for text in inputs]


def _arguments(pipeline: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The call's arguments as the pipeline takes them; InvalidArgument for what it does not."""
    if isinstance(eos := arguments.pop("eos_token", None), str):
        arguments["eos_token_id"] = _token_id(pipeline, eos)
    signatures.check(type(pipeline), arguments, f'task "{pipeline.task}"', InvalidArgument)
    if pipeline.task == "zero-shot-classification" and not arguments.get("candidate_labels"):
        raise InvalidArgument(
            'task "zero-shot-classification" needs the argument "candidate_labels"',
            hint='args => \'{"candidate_labels": ["urgent", "not urgent"]}\'::jsonb',
        )
    try:
        pipeline._sanitize_parameters(**arguments)  # noqa: SLF001 - the only place that checks them before the run
    except Exception as error:
        raise InvalidArgument(f'task "{pipeline.task}" refuses its arguments', detail=_line(error)) from error
    return arguments


def _answers(pipeline: Any, texts: list[str], arguments: dict[str, Any], batch_size: int | None) -> list[Any]:
    try:
        return list(pipeline(texts, **({} if batch_size is None else {"batch_size": batch_size}), **arguments))
    except (PgmlError, MemoryError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise _failure(pipeline, arguments, error) from error


def _failure(pipeline: Any, arguments: dict[str, Any], error: Exception) -> PgmlError:
    """Whose fault it was: the arguments', the input's, or the model's own."""
    kind, reason = type(error).__name__, _line(error)
    if kind == "PipelineException":  # fill-mask's word for a text without its mask
        return InvalidInput(f'task "{pipeline.task}" refuses an input', detail=reason, hint=_mask_hint(pipeline))
    if pipeline.model.can_generate() and arguments and isinstance(error, (ValueError, TypeError)):
        return InvalidArgument(f'task "{pipeline.task}" refuses its arguments', detail=reason)
    return ModelFailed(f"the model failed: {kind}", detail=reason, hint="look whether the input is too long for it")


def _mask_hint(pipeline: Any) -> str | None:
    mask = getattr(pipeline.tokenizer, "mask_token", None)
    return f"write {mask} where a word is to be found" if mask else None


def _token_id(pipeline: Any, token: str) -> int:
    found = pipeline.tokenizer.convert_tokens_to_ids(token)
    if found is None or found == pipeline.tokenizer.unk_token_id:
        raise InvalidArgument(f'"eos_token" is "{token}", which is no token of this model')
    return int(found)


def _seed(seed: int) -> None:
    import torch

    torch.manual_seed(seed)


@contextmanager
def _metered(pipeline: Any, row: Deployment, safe_point: Callable[[], None]) -> Iterator[None]:
    """Count the tokens that go into the model and those that it writes, and let the server in before each batch."""
    forward = pipeline.forward

    def metered(model_inputs: Any, **parameters: Any) -> Any:
        safe_point()
        prompt = model_inputs.get("input_ids") if hasattr(model_inputs, "get") else None
        mask = model_inputs.get("attention_mask") if prompt is not None else None
        row.tokens_in += 0 if prompt is None else int(prompt.numel() if mask is None else mask.sum())
        outputs = forward(model_inputs, **parameters)
        written = outputs.get("generated_sequence") if hasattr(outputs, "get") else None
        if written is not None:
            new = written[..., 0 if prompt is None else prompt.shape[-1] :]
            row.tokens_out += int((new != pipeline.tokenizer.pad_token_id).sum())
        return outputs

    pipeline.forward = metered
    try:
        yield
    finally:
        del pipeline.forward


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]
