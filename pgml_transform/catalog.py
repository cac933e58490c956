"""The tasks that work here: their names, inputs and default models.

It needs no library, so that a misspelt task is answered in milliseconds. The default models and revisions are those
that transformers pins (`SUPPORTED_TASKS`); a test compares.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownTask:
    """One task: `input` says what an element of `inputs` is."""

    name: str
    input: str
    default_model: str
    default_revision: str
    description: str


TASKS = (
    KnownTask(
        "feature-extraction",
        "text",
        "distilbert/distilbert-base-cased",
        "6ea8117",
        "the hidden states of the last layer, one vector a token (an embedding is their pooling)",
    ),
    KnownTask(
        "fill-mask",
        "text with one mask token or more",
        "distilbert/distilroberta-base",
        "fb53ab8",
        "the likeliest tokens in the place of the mask",
    ),
    KnownTask(
        "text-classification",
        "text",
        "distilbert/distilbert-base-uncased-finetuned-sst-2-english",
        "714eb0f",
        "the label of a text, such as its sentiment, with a score",
    ),
    KnownTask(
        "text-generation",
        "text",
        "HuggingFaceTB/SmolLM3-3B",
        "a07cc9a",
        "the continuation of a text",
    ),
    KnownTask(
        "token-classification",
        "text",
        "dbmdz/bert-large-cased-finetuned-conll03-english",
        "4c53496",
        "a label for each token that has one, such as the names in a text",
    ),
    KnownTask(
        "zero-shot-classification",
        "text",
        "facebook/bart-large-mnli",
        "d7645e1",
        "a score for each of the labels in args.candidate_labels, which the model need not know",
    ),
)

ALIASES = {"sentiment-analysis": "text-classification", "ner": "token-classification"}

NAMES = tuple(sorted([*(task.name for task in TASKS), *ALIASES]))

_BY_NAME = {task.name: task for task in TASKS}


def find(name: str) -> KnownTask | None:
    """The task of this name or alias, None where there is none."""
    return _BY_NAME.get(ALIASES.get(name, name))
