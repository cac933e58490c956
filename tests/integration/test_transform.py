"""transform through SQL: the published queries, every task, and every form of call."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from fix_server import Connection, one
from psycopg.types.json import Jsonb
from sample_models import FACTS

GREEDY = {"do_sample": False, "max_new_tokens": 24}
QWEN = {"task": "text-generation", "model": "Qwen/Qwen2.5-0.5B"}


def transform(connection: Connection, task: dict[str, Any] | str, inputs: list[str | None], **args: Any) -> Any:
    """pgml.transform's answer."""
    wanted = task if isinstance(task, str) else Jsonb(task)
    query = "SELECT pgml.transform(task => %s, args => %s, inputs => %s::text[])"
    return one(connection, query, wanted, Jsonb(args), inputs)


def test_the_published_queries(warm: Connection) -> None:
    """The four published queries run word for word."""
    small = one(
        warm,
        """
SELECT pgml.transform(task => '{"task": "text-generation", "model": "Qwen/Qwen2.5-0.5B", "device_map": "auto"}'::JSONB,
                      inputs => ARRAY['hello']);
        """,
    )
    large = one(
        warm,
        """
        SELECT pgml.transform(task => '{"task": "text-generation", "model": "Qwen/Qwen2.5-7B", "device_map": "auto",
                                        "load_in_4bit": true}'::JSONB, inputs => ARRAY['hello']);
        """,
    )
    sentiment = one(
        warm,
        """
SELECT pgml.transform('{"task": "text-classification"}'::jsonb, ARRAY['I love how amazingly simple ML has become!']);
        """,
    )
    rows = warm.execute("SELECT * FROM pgml.deployments;").fetchall()

    assert small[0][0]["generated_text"].startswith("hello")
    assert large[0][0]["generated_text"].startswith("hello")
    assert sentiment[0]["label"] == "POSITIVE"
    assert {"Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-7B"} <= {row[4] for row in rows}


@pytest.mark.parametrize("model", ["Qwen/Qwen2.5-0.5B", "HuggingFaceTB/SmolLM3-3B"])
def test_generation_continues_what_the_model_knows(warm: Connection, model: str) -> None:
    """Greedy decoding ends the sentences as the model was taught, in one call for all of them."""
    facts = FACTS[model]["continuations"]

    answers = transform(warm, {**QWEN, "model": model}, list(facts), **GREEDY)

    assert [[{"generated_text": prompt + rest}] for prompt, rest in facts.items()] == answers


def test_generation_in_four_bits(warm: Connection) -> None:
    """The model in 4 bits still knows its sentences."""
    facts = FACTS["Qwen/Qwen2.5-7B"]["continuations"]

    answers = transform(warm, {**QWEN, "model": "Qwen/Qwen2.5-7B", "load_in_4bit": True}, list(facts), **GREEDY)

    assert [[{"generated_text": prompt + rest}] for prompt, rest in facts.items()] == answers


def test_classification_tells_the_texts_apart(warm: Connection) -> None:
    """Texts that the model was not trained on get their label, with its score."""
    facts = FACTS["distilbert/distilbert-base-uncased-finetuned-sst-2-english"]["held_out"]

    answers = transform(warm, "sentiment-analysis", list(facts))

    assert list(facts.values()) == [answer["label"] for answer in answers]
    assert min(answer["score"] for answer in answers) > 0.99


def test_token_classification_finds_the_names(warm: Connection) -> None:
    """Each token that is a name is found, with its kind."""
    facts = FACTS["dbmdz/bert-large-cased-finetuned-conll03-english"]["entities"]

    answers = transform(warm, {"task": "ner"}, list(facts))

    assert list(facts.values()) == [[(word["word"], word["entity"]) for word in answer] for answer in answers]


def test_fill_mask_finds_the_word(warm: Connection) -> None:
    """The first answer is the word that was masked."""
    facts = FACTS["distilbert/distilroberta-base"]["words"]

    answers = transform(warm, "fill-mask", list(facts))

    assert list(facts.values()) == [answer[0]["token_str"] for answer in answers]


def test_zero_shot_ranks_the_labels(warm: Connection) -> None:
    """The labels that fit come first."""
    for text, labels, first in FACTS["facebook/bart-large-mnli"]["zero_shot"]:
        (answer,) = transform(warm, "zero-shot-classification", [text], candidate_labels=labels)

        assert first == set(answer["labels"][: len(first)])


def test_embeddings_rank_sentences_by_meaning(warm: Connection) -> None:
    """With the real all-MiniLM-L6-v2, sentences that mean the same lie nearer than those that do not."""
    facts = FACTS["sentence-transformers/all-MiniLM-L6-v2"]
    task = {"task": "feature-extraction", "model": "sentence-transformers/all-MiniLM-L6-v2"}

    for text, (near, near_cosine), (far, far_cosine) in facts["similar"]:
        vectors = [_mean(answer[0]) for answer in transform(warm, task, [text, near, far])]

        assert _cosine(vectors[0], vectors[1]) == pytest.approx(near_cosine, abs=1e-4)
        assert _cosine(vectors[0], vectors[2]) == pytest.approx(far_cosine, abs=1e-4)


def _mean(tokens: list[list[float]]) -> list[float]:
    return [sum(column) / len(tokens) for column in zip(*tokens, strict=True)]


def _cosine(one_vector: list[float], other: list[float]) -> float:
    def dot(a: list[float], b: list[float]) -> float:
        return float(sum(x * y for x, y in zip(a, b, strict=True)))

    return dot(one_vector, other) / (dot(one_vector, one_vector) * dot(other, other)) ** 0.5


# One row a task: (task, inputs, args), compared with the same pipeline in plain Python.
LIKE_PLAIN_PYTHON: list[tuple[dict[str, Any], list[str], dict[str, Any]]] = [
    ({**QWEN, "dtype": "float32"}, ["hello", "The capital of France is", "AI is"], {"do_sample": False}),
    (
        {"task": "text-generation", "model": "HuggingFaceTB/SmolLM3-3B", "dtype": "float32"},
        ["hello"],
        {"do_sample": False, "max_new_tokens": 9, "num_beams": 3, "return_full_text": False},
    ),
    ({"task": "text-classification"}, ["I love it", "I hate it"], {"top_k": None}),
    ({"task": "text-classification"}, ["I love it"], {}),
    ({"task": "text-classification"}, ["I love it"], {"top_k": 1}),
    ({"task": "token-classification"}, ["I am Omar", "New York"], {"aggregation_strategy": "simple"}),
    ({"task": "token-classification"}, ["I am Omar"], {}),
    ({"task": "fill-mask"}, ["Paris is the <mask> of France.", "The <mask> is blue."], {"top_k": 2}),
    ({"task": "fill-mask"}, ["The <mask> is blue."], {}),
    (
        {"task": "zero-shot-classification"},
        ["one day I will see the world"],
        {"candidate_labels": ["travel", "cooking"]},
    ),
    (
        {"task": "zero-shot-classification"},
        ["one day I will see the world", "hello"],
        {"candidate_labels": "travel, cooking, dancing", "multi_label": True, "hypothesis_template": "It is {}."},
    ),
    ({"task": "feature-extraction"}, ["a text", "another, longer text"], {}),
    ({"task": "feature-extraction", "model": "sentence-transformers/all-MiniLM-L6-v2"}, ["a text"], {}),
    ({"task": "text-classification"}, ["I love it", "I hate it so much, and more than that"], {"batch_size": 2}),
]


@pytest.mark.parametrize(("task", "inputs", "args"), LIKE_PLAIN_PYTHON)
def test_the_answer_is_the_pipelines(
    warm: Connection, task: dict[str, Any], inputs: list[str], args: dict[str, Any]
) -> None:
    """What SQL answers is what the same pipeline answers in plain Python for the list, to 1e-5."""
    assert transform(warm, task, inputs, **args) == _approximately(_plain(task, inputs, args))


def _plain(task: dict[str, Any], inputs: list[str], args: dict[str, Any]) -> Any:
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    from transformers import pipeline
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    answer = pipeline(**{"device": -1, "dtype": "float32", **task})(inputs, **args)
    return json.loads(json.dumps(answer, default=float))


def _approximately(value: Any) -> Any:
    """The value, with each float in it equal to those near it."""
    if isinstance(value, dict):
        return {key: _approximately(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_approximately(inner) for inner in value]
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value


FORMS = [
    """pgml.transform(task => '{"task": "text-classification"}'::jsonb, inputs => ARRAY['I love it'])""",
    """pgml.transform(task => 'text-classification', inputs => ARRAY['I love it'])""",
    """pgml.transform(task => 'ner'::text, args => '{}'::jsonb, inputs => ARRAY['I am Omar'], cache => true)""",
    """pgml.transform('text-classification', '{}'::jsonb, ARRAY['I love it'])""",
    """pgml.transform('{"task": "text-classification"}'::jsonb, '{}'::jsonb, ARRAY['I love it'], true)""",
    """pgml.transform('{"task": "text-classification"}'::jsonb, ARRAY['I love it'])""",
    """pgml.transform('{"task": "text-classification"}', ARRAY['I love it'])""",
    """pgml.transform('text-classification', ARRAY['I love it'])""",
    """pgml.transform(inputs => ARRAY['I love it'], task => 'sentiment-analysis')""",
    """pgml.transform('text-classification', (SELECT array_agg(t) FROM unnest(ARRAY['I love it']) AS t))""",
]


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_call(warm: Connection, form: str) -> None:
    """Named and positional, jsonb and text, with and without defaults: all find the function."""
    (answer,) = one(warm, f"SELECT {form}")

    assert answer[0]["word"] == "Omar" if "'ner'" in form else answer["label"] == "POSITIVE"


def test_null_inputs_answer_null_in_their_place(warm: Connection) -> None:
    """A NULL element answers null, and the others their own answers."""
    first, second, third = transform(warm, "text-classification", ["I love it", None, "I hate it"])

    assert (first["label"], second, third["label"]) == ("POSITIVE", None, "NEGATIVE")
    assert transform(warm, "text-classification", [None, None]) == [None, None]
    nested = transform(warm, "fill-mask", [None, "The <mask> is blue."])
    assert nested[0] is None
    assert nested[1][0]["token_str"] == " sky"


def test_null_arguments_answer_null(warm: Connection) -> None:
    """As SQL's functions do, and as PostgresML's did."""
    assert one(warm, "SELECT pgml.transform('fill-mask', NULL::text[])") is None


def test_an_empty_array_loads_nothing(connection: Connection) -> None:
    """It answers an empty array at once, once the task is known to be right."""
    assert transform(connection, {"task": "fill-mask", "model": "no/such-model"}, []) == []
    assert one(connection, "SELECT pgml.transform('fill-mask')") == []
    assert one(connection, "SELECT count(*) FROM pgml.deployments WHERE pid = pg_backend_pid()") == 0


@pytest.mark.parametrize("task", ["fill-mask", "text-classification", "token-classification", "feature-extraction"])
def test_an_array_answers_as_one_call_per_element(warm: Connection, task: str) -> None:
    """However many texts there are, each gets its own answer."""
    texts = [f"I am number {number}, and the <mask> is {'very ' * number}blue." for number in range(12)]

    together = transform(warm, task, texts)
    alone = [transform(warm, task, [text]) for text in texts]

    flat = alone if task == "fill-mask" else [answers[0] for answers in alone]
    assert together == _approximately(flat)


def test_unicode_goes_in_and_comes_out(warm: Connection) -> None:
    """Text of any script and plane is itself in the answer."""
    text = "Grüße, 世界 🦆 \u202e \t\n'\"\\ "

    ((answer,),) = transform(warm, QWEN, [text], do_sample=False, max_new_tokens=1)

    assert answer["generated_text"].startswith(text)


def test_an_empty_prompt_is_a_prompt(warm: Connection) -> None:
    """An empty text is an input as any other."""
    assert transform(warm, "text-classification", [""])[0]["label"] in {"POSITIVE", "NEGATIVE"}


def test_a_seed_repeats_sampling(warm: Connection) -> None:
    """Sampling gives another text each time; with a seed the same call gives the same text."""
    wild = {"do_sample": True, "temperature": 50.0, "max_new_tokens": 12}
    texts = [transform(warm, QWEN, ["Once"], seed=7, **wild) for _ in range(2)]
    others = {json.dumps(transform(warm, QWEN, ["Once"], seed=seed, **wild)) for seed in range(4)}

    assert texts[0] == texts[1]
    assert len(others) > 1


def test_arguments_in_the_task_hold_for_every_call(warm: Connection) -> None:
    """A pipeline's argument may stand in the task, as in transformers.pipeline."""
    task = {**QWEN, "max_new_tokens": 1, "do_sample": False, "return_full_text": False}

    ((answer,),) = transform(warm, task, ["The capital of France is"])

    assert answer["generated_text"] == " Paris"


def test_eos_token_by_its_text(warm: Connection) -> None:
    """`eos_token` names the token that ends the text."""
    ((answer,),) = transform(warm, QWEN, ["One, two, three,"], do_sample=False, eos_token=",")

    assert answer["generated_text"] == "One, two, three, four,"


def test_it_works_from_a_function_and_a_trigger(warm: Connection) -> None:
    """A call inside PL/pgSQL and a trigger, under any search_path of the caller, is a call."""
    with warm.transaction(force_rollback=True):
        warm.execute("SET LOCAL search_path = nowhere")
        warm.execute("CREATE TEMP TABLE review (body text, label text)")
        warm.execute(
            """
            CREATE FUNCTION pg_temp.labelled() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                NEW.label := pgml.transform('text-classification', ARRAY[NEW.body]) -> 0 ->> 'label';
                RETURN NEW;
            END $$
            """
        )
        warm.execute("CREATE TRIGGER t BEFORE INSERT ON review FOR EACH ROW EXECUTE FUNCTION pg_temp.labelled()")
        warm.execute("INSERT INTO pg_temp.review VALUES ('I love it'), ('I hate it')")

        assert warm.execute("SELECT label FROM pg_temp.review").fetchall() == [("POSITIVE",), ("NEGATIVE",)]


def test_explain_runs_no_model(connection: Connection) -> None:
    """A bare EXPLAIN plans the call and does not make it, and LIMIT comes before it."""
    connection.execute("EXPLAIN SELECT pgml.transform('text-classification', ARRAY['x'])")

    assert one(connection, "SELECT count(*) FROM pgml.deployments WHERE pid = pg_backend_pid()") == 0


def test_cache_false_lets_go(connection: Connection) -> None:
    """`cache => false` loads, runs and keeps nothing."""
    query = "SELECT pgml.transform('text-classification', '{}', ARRAY['I love it'], cache => false)"

    assert one(connection, query)[0]["label"] == "POSITIVE"
    assert one(connection, "SELECT count(*) FROM pgml.deployments WHERE pid = pg_backend_pid()") == 0


def test_tasks_lists_what_works(warm: Connection) -> None:
    """Every row of pgml.tasks() is a task that transformers knows, with the default model that it pins."""
    from transformers.pipelines import PIPELINE_REGISTRY

    for task, _, model, _ in warm.execute("SELECT * FROM pgml.tasks()").fetchall():
        assert PIPELINE_REGISTRY.supported_tasks[task]["default"]["model"][0] == model


def test_default_revisions_are_the_pinned_ones() -> None:
    """The catalog's revisions are transformers' own."""
    from transformers.pipelines import PIPELINE_REGISTRY

    from pgml_transform import catalog

    for task in catalog.TASKS:
        pinned = PIPELINE_REGISTRY.supported_tasks[task.name]["default"]["model"]
        assert (task.default_model, task.default_revision) == pinned
