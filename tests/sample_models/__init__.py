"""Small real models, trained in seconds on what the tests assert, laid out as a hub cache.

facts     what each model knows: the sentences, texts and labels that tests import
builder   is the cache up to date? if not, one worker process makes it so
worker    trains, checks and publishes the models, two at a time
recipes   one function a model: tokenizer, configuration, training, files
corpus    the texts to train on, beyond the facts themselves
vocab     tokenizers made from a corpus, of the classes that the real models use
training  the loop that goes on until a fact holds with a margin
checks    the facts again, asked of transformers' own pipelines, offline, from the cache
hub       the folders that huggingface_hub expects: refs, blobs, snapshots

Importing this package imports no torch; only the worker does.
"""

from .builder import build
from .facts import FACTS, NAMES, REVISIONS

__all__ = ["FACTS", "NAMES", "REVISIONS", "build"]
