"""Calls that once ended the server, or would have: each is an error, and no backend is lost."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from fix_server import Connect, Connection, one
from psycopg.types.json import Jsonb

CLASSIFY = {"task": "text-classification"}
ZERO_SHOT = {"task": "zero-shot-classification"}


@pytest.fixture
def unharmed(warm: Connection) -> Any:
    """The test's backend is the same one afterwards."""
    before = warm.info.backend_pid
    yield warm
    assert one(warm, "SELECT pg_backend_pid()") == before


@pytest.mark.parametrize(
    ("task", "args", "message"),
    [
        (CLASSIFY, {"padding": "max_length", "max_length": 10**14}, '"max_length" is 100000000000000'),
        (CLASSIFY, {"padding": True, "pad_to_multiple_of": 10**12}, '"pad_to_multiple_of" is 1000000000000'),
        (CLASSIFY, {"max_length": "x"}, '"max_length" is "x"'),
        (
            {"task": "feature-extraction"},
            {"tokenize_kwargs": {"padding": "max_length", "max_length": 10**14}},
            '"max_length" is 100000000000000',
        ),
        (
            ZERO_SHOT,
            {"candidate_labels": ["a"], "hypothesis_template": "{:>2000000000}"},
            '"hypothesis_template" is "{:>2000000000}"',
        ),
        (ZERO_SHOT, {"candidate_labels": ["a"], "hypothesis_template": "none"}, '"hypothesis_template" is "none"'),
        (ZERO_SHOT, {"candidate_labels": ["a"], "hypothesis_template": "{} {}"}, '"hypothesis_template" is "{} {}"'),
    ],
)
def test_lengths_that_no_memory_has(
    unharmed: Connection, task: dict[str, Any], args: dict[str, Any], message: str
) -> None:
    """A tokenizer asked for such a length would abort the process: it is not asked."""
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"pgml\.InvalidArgument") as caught:
        unharmed.execute("SELECT pgml.transform(%s::jsonb, %s::jsonb, ARRAY['x'])", [Jsonb(task), Jsonb(args)])

    assert caught.value.diag.message_primary == f"pgml.InvalidArgument: {message}"


@pytest.mark.usefixtures("database")
def test_a_text_that_a_tokenizer_has_no_memory_for(connect: Connect) -> None:
    """It is refused before the tokenizer sees it, with what it would need."""
    connection = connect()
    connection.execute("SELECT pgml.load(%s)", [Jsonb(CLASSIFY)])
    connection.execute("SELECT pgml.configure('memory_limit', '100MB')")

    with pytest.raises(psycopg.errors.OutOfMemory) as caught:
        connection.execute("SELECT pgml.transform(%s::jsonb, ARRAY[repeat('word ', 1000000)])", [Jsonb(CLASSIFY)])

    assert caught.value.diag.message_primary == (
        "pgml.OutOfMemory: an input of 5,000,000 characters in a batch of 1 needs about 362 MB, 100 MB is free"
    )
    assert one(connection, "SELECT pgml.transform(%s::jsonb, ARRAY['I love it'])", Jsonb(CLASSIFY))


@pytest.mark.usefixtures("database")
def test_answers_that_grow_beyond_the_limit(connect: Connect) -> None:
    """What a call's answers take together is bounded, batch after batch."""
    connection = connect()
    task = {"task": "feature-extraction", "model": "sentence-transformers/all-MiniLM-L6-v2"}
    connection.execute("SELECT pgml.load(%s)", [Jsonb(task)])
    connection.execute("SELECT pgml.configure('memory_limit', '150MB')")

    with pytest.raises(psycopg.errors.OutOfMemory):
        connection.execute(
            "SELECT pgml.transform(%s::jsonb, array_fill(repeat('city ', 400), ARRAY[200]))", [Jsonb(task)]
        )
    assert one(connection, "SELECT jsonb_array_length(pgml.transform(%s::jsonb, ARRAY['a']))", Jsonb(task)) == 1


@pytest.mark.parametrize(
    "task",
    [
        '{"task": "fill-mask", "revision": "/etc/hostname"}',
        '{"task": "fill-mask", "revision": "../../../../etc/hostname"}',
    ],
)
def test_a_revision_is_no_path(unharmed: Connection, task: str) -> None:
    """The hub's library would open it: no file of the server is looked at for a caller."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match='"revision" is'):
        unharmed.execute("SELECT pgml.transform(%s::text, ARRAY['x'])", [task])


@pytest.mark.parametrize("task", ['{"task": "fill-mask", "revision": "\\u0000"}', '{"task": "text-\\ud800"}'])
def test_characters_that_text_has_not(unharmed: Connection, task: str) -> None:
    """NUL and lone surrogates in a task that is text are told as what they are."""
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="the task has a character"):
        unharmed.execute("SELECT pgml.transform(%s::text, ARRAY['x'])", [task])


def test_only_empty_texts_in_a_batch(unharmed: Connection) -> None:
    """A batch without a text that has tokens is answered one by one."""
    query = """SELECT pgml.transform('feature-extraction', '{"batch_size": 2}', ARRAY['', ''])"""

    assert len(one(unharmed, query)) == 2


def test_the_doctor_is_not_taken_ill(unharmed: Connection) -> None:
    """A setting of no meaning is a row of the doctor's, not an error."""
    unharmed.execute("SET pgml.device = 'garbage'")

    rows = unharmed.execute("SELECT check_name, ok, detail FROM pgml.doctor()").fetchall()

    assert rows[0] == ("settings", False, 'invalid value for pgml.device: "garbage"')


def test_arrays_of_arrays(unharmed: Connection) -> None:
    """An array has one dimension."""
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="inputs has more than one dimension"):
        unharmed.execute("SELECT pgml.transform('fill-mask', ARRAY[['a', 'b'], ['c', 'd']])")


@pytest.mark.parametrize("task", ["'[]'::jsonb", "'5'::jsonb", "'null'::jsonb", "'\"fill-mask\"'::jsonb", "''"])
def test_tasks_that_are_no_objects(unharmed: Connection, task: str) -> None:
    """A jsonb has to be an object, and a text a name."""
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"pgml\.InvalidTask"):
        unharmed.execute(f"SELECT pgml.transform({task}, ARRAY['x'])")


@pytest.mark.parametrize("bits", ["load_in_4bit", "load_in_8bit"])
@pytest.mark.parametrize(
    ("task", "text", "args"),
    [
        ("text-classification", "I love it", {}),
        ("token-classification", "I am Omar", {}),
        ("zero-shot-classification", "I will travel", {"candidate_labels": ["travel", "cooking"]}),
        ("fill-mask", "The <mask> is blue.", {}),
        ("feature-extraction", "a text", {}),
        ("text-generation", "hello", {"max_new_tokens": 3}),
    ],
)
def test_every_task_can_be_quantized(
    unharmed: Connection, task: str, text: str, args: dict[str, Any], bits: str
) -> None:
    """In 4 and in 8 bits each task answers."""
    query = "SELECT pgml.transform(%s::jsonb, %s::jsonb, ARRAY[%s])"

    assert len(one(unharmed, query, Jsonb({"task": task, bits: True}), Jsonb(args), text)) >= 1


def test_an_empty_text_in_a_batch(unharmed: Connection) -> None:
    """However an array is batched, an empty prompt is an input as any other."""
    task = {"task": "text-generation", "model": "Qwen/Qwen2.5-0.5B", "max_new_tokens": 3, "do_sample": False}
    query = "SELECT pgml.transform(%s::jsonb, %s::jsonb, ARRAY['hello', '', 'One, two,'])"

    batched = one(unharmed, query, Jsonb(task), Jsonb({"batch_size": 3}))

    assert batched == one(unharmed, query, Jsonb(task), Jsonb({}))


def test_what_the_task_sets_is_what_the_call_gets(unharmed: Connection) -> None:
    """Arguments in the task count as arguments of the call, batch_size too, and another load is not made for them."""
    task = {**ZERO_SHOT, "candidate_labels": ["travel", "cooking"], "batch_size": 2}
    unharmed.execute("SELECT pgml.load(%s)", [Jsonb(ZERO_SHOT)])
    loads = "SELECT count(*) FROM pgml.deployments WHERE pid = pg_backend_pid()"
    before = one(unharmed, loads)

    answer = one(unharmed, "SELECT pgml.transform(%s::jsonb, ARRAY['I will travel'])", Jsonb(task))

    assert set(answer[0]["labels"]) == {"travel", "cooking"}
    assert one(unharmed, loads) == before


def test_stop_strings(unharmed: Connection) -> None:
    """generate() needs the tokenizer for them, and gets it."""
    query = """
        SELECT pgml.transform('{"task": "text-generation", "model": "Qwen/Qwen2.5-0.5B"}'::jsonb,
                              '{"do_sample": false, "stop_strings": "five"}'::jsonb, ARRAY['One, two, three,'])
    """

    assert one(unharmed, query)[0][0]["generated_text"].endswith("five")
