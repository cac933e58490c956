"""task.py: the task as written, made into a frozen Task."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pgml_transform import task
from pgml_transform.errors import InvalidTask, PgmlError, UnknownTask

NAMED = {"task": "text-generation", "model": "org/model"}


def parse(**keywords: Any) -> task.Task:
    """The task with these keywords beside a name and a model."""
    return task.parse(json.dumps({**NAMED, **keywords}))


def test_a_name_is_a_task() -> None:
    """Text that is no JSON is a task's name, and stands for its default model at the pinned revision."""
    wanted = task.parse(" text-classification ")

    assert wanted.task == "text-classification"
    assert wanted.model == "distilbert/distilbert-base-uncased-finetuned-sst-2-english"
    assert wanted.revision == "714eb0f"
    assert wanted.default_model


def test_a_model_of_ones_own_has_no_pinned_revision() -> None:
    """The pinned revision belongs to the default model alone."""
    assert parse().revision is None
    assert parse(revision="v2").revision == "v2"


SPELLINGS = [
    ('{"task": "sentiment-analysis"}', "text-classification"),
    ('{"task": "ner"}', '{"task": "token-classification"}'),
    ('{"task": "fill-mask", "model": null}', "fill-mask"),
    ('  {"task": "fill-mask"}', "fill-mask"),
    (
        '{"task": "fill-mask", "model": "a/b", "torch_dtype": "float16"}',
        '{"model": "a/b", "dtype": "float16", "task": "fill-mask"}',
    ),
    (
        '{"task": "fill-mask", "model": "a/b", "model_kwargs": {"attn_implementation": "eager"}}',
        '{"task": "fill-mask", "model": "a/b", "attn_implementation": "eager"}',
    ),
    ('{"task": "fill-mask", "model": "a/b", "token": "hf_x"}', '{"task": "fill-mask", "model": "a/b"}'),
    ('{"task": "fill-mask", "model": "a/b", "use_auth_token": "hf_x"}', '{"task": "fill-mask", "model": "a/b"}'),
    ('{"task": "fill-mask", "model": "a/b", "revision": "main"}', '{"task": "fill-mask", "model": "a/b"}'),
    ('{"task": "fill-mask", "model": "/x/../y/"}', '{"task": "fill-mask", "model": "/y"}'),
    ('{"task": "fill-mask", "use_safetensors": true, "low_cpu_mem_usage": true}', "fill-mask"),
    ('{"task": "fill-mask", "top_k": 2, "local_files_only": true}', "fill-mask"),
    (
        '{"task": "fill-mask", "dtype": "torch.half", "device": "auto"}',
        '{"task": "fill-mask", "torch_dtype": "float16"}',
    ),
    (
        '{"task": "fill-mask", "model": "a/b", "quantization_config": {"load_in_4bit": true}}',
        '{"task": "fill-mask", "model": "a/b", "load_in_4bit": true, "load_in_8bit": false}',
    ),
]


@pytest.mark.parametrize(("one", "other"), SPELLINGS)
def test_two_spellings_of_one_task_are_equal(one: str, other: str) -> None:
    """What is written differently and means the same is one key of the cache, with the same wishes."""
    assert task.parse(one) == task.parse(other)
    assert hash(task.parse(one)) == hash(task.parse(other))
    assert task.parse(one).wishes == task.parse(other).wishes


def test_the_token_is_kept_out_of_sight() -> None:
    """A token is no part of the key, nor of what a Task looks like."""
    wanted = parse(token="hf_secret")

    assert wanted.token == "hf_secret"
    assert "hf_secret" not in repr(wanted)
    assert parse(use_auth_token="hf_secret").token == "hf_secret"
    assert parse(use_auth_token=True).token is None


def test_keywords_go_where_they_belong() -> None:
    """from_pretrained's keywords, the pipeline's arguments and the wishes are told apart."""
    wanted = parse(
        attn_implementation="eager",
        max_new_tokens=5,
        top_k=None,
        device="cuda",
        bnb_4bit_quant_type="nf4",
        load_in_4bit=True,
    )

    assert json.loads(wanted.loading) == {"attn_implementation": "eager"}
    assert json.loads(wanted.calling) == {"max_new_tokens": 5, "top_k": None}
    assert wanted.wishes.device == "cuda"
    assert json.loads(wanted.wishes.quantization or "") == {
        "bnb_4bit_quant_type": "nf4",
        "load_in_4bit": True,
        "quant_method": "bitsandbytes",
    }


def test_any_quantization_method_is_taken() -> None:
    """quantization_config of another method than bitsandbytes passes as it is."""
    config = {"quant_method": "gptq", "bits": 4}

    assert json.loads(parse(quantization_config=config).wishes.quantization or "") == config


NOT_AN_OBJECT = 'write \'text-generation\', or \'{"task": "text-generation", "model": "..."}\'::jsonb'
REFUSED: list[tuple[str, type[PgmlError], str, str | None]] = [
    (
        '{"task"',
        InvalidTask,
        "the task is not valid JSON",
        'write it as \'{"task": "text-generation", "model": "..."}\'::jsonb',
    ),
    (
        '{"task": NaN}',
        InvalidTask,
        "the task is not valid JSON",
        'write it as \'{"task": "text-generation", "model": "..."}\'::jsonb',
    ),
    ("", InvalidTask, '"task" is an empty string', None),
    ('{"task": "fill-mask", "model": ""}', InvalidTask, '"model" is an empty string', None),
    ('{"task": "fill-mask", "revision": ""}', InvalidTask, '"revision" is an empty string', None),
    ("[]", InvalidTask, "the task is [], not an object", NOT_AN_OBJECT),
    ("5", InvalidTask, "the task is 5, not an object", NOT_AN_OBJECT),
    ("null", InvalidTask, "the task is null, not an object", NOT_AN_OBJECT),
    ('"fill-mask"', InvalidTask, 'the task is "fill-mask", not an object', NOT_AN_OBJECT),
    (
        '{"model": "a/b"}',
        InvalidTask,
        'the task has no "task"',
        'name one: {"task": "text-generation", ...}; SELECT * FROM pgml.tasks() lists them',
    ),
    ('{"task": 5}', InvalidTask, '"task" is 5, not a string', None),
    ('{"task": "fill-mask", "model": ["a"]}', InvalidTask, '"model" is ["a"], not a string', None),
    (
        '{"task": "text-clasification"}',
        UnknownTask,
        'unknown task "text-clasification"',
        'did you mean "text-classification"? SELECT * FROM pgml.tasks() describes them',
    ),
    ("frobnicate", UnknownTask, 'unknown task "frobnicate"', "SELECT * FROM pgml.tasks() describes them"),
    (
        '{"task": "fill-mask", "load_in_4bit": true, "load_in_8bit": true}',
        InvalidTask,
        '"load_in_4bit" and "load_in_8bit" are both true',
        "leave one of them out",
    ),
    (
        '{"task": "fill-mask", "load_in_4bit": "true"}',
        InvalidTask,
        '"load_in_4bit" is "true", not a boolean',
        "write true or false, without quotation marks",
    ),
    (
        '{"task": "fill-mask", "load_in_4bit": true, "quantization_config": {"quant_method": "gptq"}}',
        InvalidTask,
        '"load_in_4bit" is true and "quant_method" is "gptq"',
        '"load_in_4bit" is a keyword of bitsandbytes: leave one of the two out',
    ),
    (
        '{"task": "fill-mask", "load_in_4bit": true, "quantization_config": {"load_in_4bit": false}}',
        InvalidTask,
        '"load_in_4bit" is true and "quantization_config" says false',
        "give it once",
    ),
    (
        '{"task": "fill-mask", "bnb_4bit_quant_type": "nf4"}',
        InvalidTask,
        '"bnb_4bit_quant_type" is given without a quantization',
        'add "load_in_4bit": true, "load_in_8bit": true, or a "quant_method" in "quantization_config"',
    ),
    (
        '{"task": "fill-mask", "quantization_config": "gptq"}',
        InvalidTask,
        '"quantization_config" is a string, not an object',
        None,
    ),
    (
        '{"task": "fill-mask", "dtype": "float16", "torch_dtype": "float32"}',
        InvalidTask,
        '"dtype" is "float16" and "torch_dtype" is "float32"',
        'they are two names of one keyword: give "dtype"',
    ),
    (
        '{"task": "fill-mask", "dtype": "float16", "model_kwargs": {"dtype": "float32"}}',
        InvalidTask,
        '"dtype" is given twice',
        "give it once",
    ),
    ('{"task": "fill-mask", "model_kwargs": 5}', InvalidTask, "model_kwargs is a number, not an object", None),
    (
        '{"task": "fill-mask", "device": true}',
        InvalidTask,
        '"device" is a boolean, not a device\'s name or number',
        None,
    ),
    ('{"task": "fill-mask", "token": 5}', InvalidTask, '"token" is a number, not a string', None),
    (
        '{"task": "fill-mask", "trust_remote_code": "true"}',
        InvalidTask,
        '"trust_remote_code" is "true", not a boolean',
        "write true or false, without quotation marks",
    ),
]


@pytest.mark.parametrize(("text", "error", "message", "hint"), REFUSED)
def test_refused(text: str, error: type[PgmlError], message: str, hint: str | None) -> None:
    """What is malformed or contradicts itself is an error with the value and the remedy."""
    with pytest.raises(error) as caught:
        task.parse(text)

    assert (message, hint) == (str(caught.value), caught.value.hint)


def test_a_deep_object_is_an_error() -> None:
    """JSON nested deeper than Python reads is malformed, not a crash."""
    with pytest.raises(InvalidTask):
        task.parse('{"task": ' + "[" * 100_000)


def test_a_token_is_kept_nowhere() -> None:
    """Tasks are parsed once, but one with a token is not kept; and no error shows it."""
    text = '{"task": "fill-mask", "token": "hf_kept_nowhere"}'
    task.parse(text)
    assert "hf_kept_nowhere" not in repr(task._PARSED)

    for twice in (
        '{"task": "fill-mask", "token": "hf_one", "model_kwargs": {"token": "hf_two"}}',
        '{"task": "fill-mask", "token": "hf_one", "use_auth_token": "hf_two"}',
    ):
        with pytest.raises(InvalidTask) as caught:
            task.parse(twice)
        assert "hf_" not in f"{caught.value} {caught.value.detail} {caught.value.hint}"
