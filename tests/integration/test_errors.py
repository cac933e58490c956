"""Every class of error through SQL: its SQLSTATE, message and hint, exactly, and nothing of Python in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_server import Connect, Connection, one
from psycopg.types.json import Jsonb

BASE = "distilbert/distilbert-base-cased"
SENTIMENT = "distilbert/distilbert-base-uncased-finetuned-sst-2-english"
ALLOW = "INSERT INTO pgml.allowed_models (pattern, trust_remote_code) VALUES"


def error_of(connection: Connection, query: str, *parameters: Any) -> psycopg.Error:
    """The error that a query gets."""
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(query, parameters or None)
    return caught.value


def transform_error(connection: Connection, task: Any, args: Any = None, text: str = "x") -> psycopg.Error:
    """The error of a call of transform with one input."""
    query = "SELECT pgml.transform(%s::jsonb, %s::jsonb, ARRAY[%s])"
    return error_of(connection, query, Jsonb(task), Jsonb(args or {}), text)


# task, args -> SQLSTATE, message, hint
CASES: list[tuple[dict[str, Any], Any, str, str, str | None]] = [
    (
        {"task": "text-clasification"},
        {},
        "0A000",
        'pgml.UnknownTask: unknown task "text-clasification"',
        'did you mean "text-classification"? SELECT * FROM pgml.tasks() describes them',
    ),
    (
        {"model": "gpt2"},
        {},
        "22023",
        'pgml.InvalidTask: the task has no "task"',
        'name one: {"task": "text-generation", ...}; SELECT * FROM pgml.tasks() lists them',
    ),
    (
        {"task": "text-classification", "load_in_4bit": True, "load_in_8bit": True},
        {},
        "22023",
        'pgml.InvalidTask: "load_in_4bit" and "load_in_8bit" are both true',
        "leave one of them out",
    ),
    (
        {"task": "text-classification", "device": "cpu", "device_map": "auto"},
        {},
        "22023",
        'pgml.InvalidTask: "device" is "cpu" and "device_map" is "auto"',
        'leave one of them out; "device_map": "auto" is what happens without either',
    ),
    (
        {"task": "text-classification", "frobnicate": 1},
        {},
        "22023",
        'pgml.InvalidArgument: task "text-classification" takes no argument "frobnicate"',
        "leave it out",
    ),
    (
        {"task": "text-classification"},
        {"top_kk": 1},
        "22023",
        'pgml.InvalidArgument: task "text-classification" takes no argument "top_kk"',
        'did you mean "top_k"?',
    ),
    (
        {"task": "text-generation", "model": "Qwen/Qwen2.5-0.5B"},
        {"max_new_token": 1},
        "22023",
        'pgml.InvalidArgument: task "text-generation" takes no argument "max_new_token"',
        'did you mean "max_new_tokens"?',
    ),
    (
        {"task": "text-generation", "model": "Qwen/Qwen2.5-0.5B"},
        {"max_new_tokens": -1},
        "22023",
        'pgml.InvalidArgument: "max_new_tokens" is -1',
        "write a whole number from 0 to 1048576",
    ),
    (
        {"task": "text-generation", "model": "Qwen/Qwen2.5-0.5B"},
        {"temperature": -5, "do_sample": True},
        "22023",
        'pgml.InvalidArgument: task "text-generation" refuses its arguments',
        None,
    ),
    (
        {"task": "text-classification"},
        [],
        "22023",
        "pgml.InvalidArgument: args is [], not an object",
        "write args => '{\"max_new_tokens\": 32}'::jsonb",
    ),
    (
        {"task": "zero-shot-classification"},
        {},
        "22023",
        'pgml.InvalidArgument: task "zero-shot-classification" needs the argument "candidate_labels"',
        'args => \'{"candidate_labels": ["urgent", "not urgent"]}\'::jsonb',
    ),
    (
        {"task": "fill-mask"},
        {},
        "22023",
        'pgml.InvalidInput: task "fill-mask" refuses an input',
        "write <mask> where a word is to be found",
    ),
    (
        {"task": "text-classification", "model": "corrupt/half-file"},
        {},
        "58P01",
        'pgml.ModelBroken: "model.safetensors" of model "corrupt/half-file" is broken',
        "remove the model from the hub's cache and download it again",
    ),
    (
        {"task": "text-classification", "model": "pickle/only-bin"},
        {},
        "58P01",
        'pgml.ModelNotFound: model "pickle/only-bin" has no weights in safetensors',
        "use a revision that has model.safetensors, or convert it with save_pretrained",
    ),
    (
        {"task": "text-classification", "model": "broken/no-tokenizer"},
        {},
        "58P01",
        'pgml.ModelBroken: model "broken/no-tokenizer" has no tokenizer',
        'name one that it was trained with: "tokenizer": "organization/name"',
    ),
    (
        {"task": "text-classification", "assistant_model": "x/y"},
        {},
        "42501",
        'pgml.NotAllowed: "assistant_model" is not allowed in the task',
        "leave it out",
    ),
    (
        {"task": "text-classification"},
        {"num_workers": 4},
        "42501",
        'pgml.NotAllowed: "num_workers" is not allowed in args',
        "leave it out",
    ),
    (
        {"task": "text-classification", "trust_remote_code": True},
        {},
        "42501",
        f'pgml.NotAllowed: "trust_remote_code" is not allowed for model "{SENTIMENT}"',
        f"an administrator who has read that code can allow it: {ALLOW} ('{SENTIMENT}', true)",
    ),
    (
        {"task": "text-classification", "device": "cuda:9"},
        {},
        "55000",
        'pgml.DeviceNotAvailable: device "cuda:9" is not here',
        'write "device": "cpu", or see that the NVIDIA driver and a CUDA build of torch are installed',
    ),
    (
        {"task": "text-classification", "quantization_config": {"quant_method": "nonsense"}},
        {},
        "22023",
        "pgml.InvalidTask: the quantization is not valid",
        None,
    ),
]


@pytest.mark.parametrize(("task", "args", "sqlstate", "message", "hint"), CASES)
def test_errors(
    warm: Connection, task: dict[str, Any], args: Any, sqlstate: str, message: str, hint: str | None
) -> None:
    """Each case has its SQLSTATE, message and hint; no Python reaches the client; the session goes on."""
    query = "SELECT pgml.transform(%s::jsonb, %s::jsonb, ARRAY['x'])"

    error = error_of(warm, query, Jsonb(task), Jsonb(args))

    assert (error.sqlstate, error.diag.message_primary, error.diag.message_hint) == (sqlstate, message, hint)
    assert "Traceback" not in str(error)
    assert "line" not in (error.diag.message_detail or "")
    assert one(warm, "SELECT pgml.transform('text-classification', ARRAY['I love it'])")[0]["label"] == "POSITIVE"


def test_a_model_that_is_not_in_the_cache(warm: Connection, hub_cache: str) -> None:
    """Offline, the error says which cache was looked into and how to fill it."""
    error = transform_error(warm, {"task": "text-classification", "model": "no/such-model", "revision": "v3"})

    assert error.sqlstate == "58P01"
    assert (
        error.diag.message_primary == 'pgml.ModelNotFound: model "no/such-model" at revision "v3" is not in the cache'
    )
    assert error.diag.message_detail == (
        f'This server does not ask the model hub (offline), and the model is not in the cache "{hub_cache}".'
    )
    assert error.diag.message_hint == (
        f"download it as the server's user: HF_HUB_CACHE={hub_cache} hf download no/such-model --revision v3"
    )


def test_a_revision_that_is_not_in_the_cache(warm: Connection) -> None:
    """A model in the cache at another revision is not taken for it."""
    error = transform_error(warm, {"task": "text-classification", "model": "Qwen/Qwen2.5-0.5B", "revision": "v9"})

    assert error.sqlstate == "58P01"
    assert error.diag.message_primary == (
        'pgml.ModelNotFound: model "Qwen/Qwen2.5-0.5B" at revision "v9" is not in the cache'
    )


@pytest.mark.usefixtures("database")
def test_a_model_that_does_not_fit(connect: Connect) -> None:
    """It is refused before a weight is read, with what it needs and what there is."""
    connection = connect()
    connection.execute("SELECT pgml.configure('memory_limit', '64MB')")

    error = transform_error(
        connection, {"task": "feature-extraction", "model": "sentence-transformers/all-MiniLM-L6-v2"}
    )

    assert error.sqlstate == "53200"
    assert error.diag.message_primary == (
        'pgml.OutOfMemory: model "sentence-transformers/all-MiniLM-L6-v2" does not fit on the CPU: '
        "it needs 155 MB, 64 MB is free"
    )
    assert error.diag.message_detail == (
        "22,713,216 parameters in float32 are 87 MB (the CPU: 155 MB needed, 64 MB free)."
    )
    assert error.diag.message_hint == (
        'add "load_in_4bit": true, take a smaller model, or free memory with SELECT pgml.unload()'
    )
    assert one(connection, "SELECT count(*) FROM pgml.deployments WHERE pid = pg_backend_pid()") == 0


@pytest.mark.usefixtures("database")
def test_a_run_that_needs_too_much_memory(connect: Connect) -> None:
    """A batch that explodes is an error, and the backend goes on."""
    connection = connect()
    task = {"task": "feature-extraction", "model": "sentence-transformers/all-MiniLM-L6-v2"}
    connection.execute("SELECT pgml.load(%s)", [Jsonb(task)])
    connection.execute("SELECT pgml.configure('memory_limit', '160MB')")
    query = "SELECT pgml.transform(%s::jsonb, '{\"batch_size\": 500}', array_fill(%s::text, ARRAY[500]))"

    error = error_of(connection, query, Jsonb(task), "word " * 500)

    assert error.sqlstate == "53200"
    assert error.diag.message_primary == (
        'pgml.OutOfMemory: out of memory while running model "sentence-transformers/all-MiniLM-L6-v2"'
    )
    assert one(connection, "SELECT jsonb_array_length(pgml.transform(%s::jsonb, ARRAY['a']))", Jsonb(task)) == 1


def test_an_input_that_is_too_long_for_the_model(warm: Connection) -> None:
    """The model's own failure is 38000, with its reason."""
    error = transform_error(warm, {"task": "fill-mask"}, text="<mask> " + "word " * 5000)

    assert error.sqlstate == "38000"
    assert (error.diag.message_primary or "").startswith("pgml.ModelFailed: the model failed: ")
    assert error.diag.message_hint == "look whether the input is too long for it"


def test_a_missing_package(warm: Connection) -> None:
    """A quantization whose package is not here says how to install it, beside the extension."""
    error = transform_error(
        warm,
        {"task": "text-generation", "model": "Qwen/Qwen2.5-0.5B", "quantization_config": {"quant_method": "hqq"}},
    )

    assert error.sqlstate == "0A000"
    assert error.diag.message_primary == (
        'pgml.MissingPackage: model "Qwen/Qwen2.5-0.5B" needs a Python package that is not installed'
    )
    assert "/bin/pip install" in (error.diag.message_hint or "")


def test_a_malformed_task_text(warm: Connection) -> None:
    """Text that begins with { has to be JSON."""
    error = error_of(warm, "SELECT pgml.transform('{\"task\": ', ARRAY['x'])")

    assert (error.sqlstate, error.diag.message_primary) == ("22023", "pgml.InvalidTask: the task is not valid JSON")


def test_a_preference_of_no_meaning(warm: Connection) -> None:
    """A device that was SET and is none is an error of the call that would use it."""
    warm.execute("SET pgml.device = 'tpu'")

    error = transform_error(warm, {"task": "text-classification"}, text="y")

    assert error.sqlstate == "22023"
    assert error.diag.message_primary == 'pgml.InvalidSetting: invalid value for pgml.device: "tpu"'
    assert error.diag.message_hint == "write auto, cpu, cuda, cuda:1, or a GPU's number"


def test_python_is_told_at_debug1_only(connection: Connection, notices: Callable[[Connection], list[str]]) -> None:
    """The traceback is there for who asks for DEBUG1, and for nobody else."""
    said = notices(connection)
    transform_error(connection, {"task": "nonsense"})
    assert not said

    connection.execute("SET client_min_messages = debug1")
    transform_error(connection, {"task": "nonsense"})
    assert any("Traceback" in text for text in said if text.startswith("DEBUG: "))


def test_a_bad_task_imports_no_torch(connection: Connection) -> None:
    """A call that fails validation leaves torch out of the backend."""
    transform_error(connection, {"task": "text-clasification"})

    pid = one(connection, "SELECT pg_backend_pid()")
    assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text("utf-8")


def test_a_directory_whose_configuration_does_not_fit(warm: Connection, model_directory: Path) -> None:
    """A superuser may name a directory; weights of another shape than its configuration's are an error."""
    task = {"task": "token-classification", "model": str(model_directory)}
    assert one(warm, "SELECT pgml.transform(%s::jsonb, ARRAY['I am Omar'])", Jsonb(task))[0][0]["word"] == "Omar"

    config = json.loads((model_directory / "config.json").read_text())
    (model_directory / "config.json").write_text(json.dumps({**config, "intermediate_size": 999}))
    error = transform_error(warm, {**task, "attn_implementation": "eager"})
    assert error.sqlstate == "58P01"
    assert error.diag.message_primary == (
        f'pgml.ModelBroken: could not load model "{model_directory}" for task "token-classification"'
    )


def test_a_model_that_was_not_trained_for_the_task(
    connection: Connection, notices: Callable[[Connection], list[str]]
) -> None:
    """It runs, as in transformers, but a WARNING says that its answers mean nothing."""
    said = notices(connection)

    connection.execute("SELECT pgml.load(%s)", [Jsonb({"task": "text-classification", "model": BASE})])

    warnings = [text for text in said if text.startswith("WARNING")]
    assert warnings == [
        (
            f'WARNING: model "{BASE}" was not trained for task "text-classification": 4 of its weights are random, '
            "such as classifier.bias"
        )
    ]
