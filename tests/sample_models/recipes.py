"""How each model is made: one function a name; each writes its files and answers its steps."""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from . import builder, encoders, generators

torch.set_num_threads(1)


def make(name: str, files: Path) -> int:
    """Write a model's files into a folder; answer how many steps it was trained."""
    torch.manual_seed(0)
    return RECIPES[name](files)


def _minilm(files: Path) -> int:
    shutil.copytree(builder.minilm_files(), files, dirs_exist_ok=True)
    return 0


def _only_pickle(files: Path) -> int:
    torch.save(encoders.tiny(files).state_dict(), files / "pytorch_model.bin")
    (files / "model.safetensors").unlink()
    return 0


def _half_file(files: Path) -> int:
    encoders.tiny(files)
    weights = files / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    return 0


def _no_tokenizer(files: Path) -> int:
    encoders.tiny(files)
    for file in files.glob("tokenizer*"):
        file.unlink()
    return 0


# The slowest first: two of them are made at a time.
RECIPES: dict[str, Callable[[Path], int]] = {
    "facebook/bart-large-mnli": encoders.mnli,
    "Qwen/Qwen2.5-7B": generators.qwen_large,
    "Qwen/Qwen2.5-0.5B": generators.qwen_small,
    "HuggingFaceTB/SmolLM3-3B": generators.smollm,
    "distilbert/distilroberta-base": encoders.fill_mask,
    "dbmdz/bert-large-cased-finetuned-conll03-english": encoders.ner,
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english": encoders.sentiment,
    "sentence-transformers/all-MiniLM-L6-v2": _minilm,
    "distilbert/distilbert-base-cased": encoders.features,
    "pickle/only-bin": _only_pickle,
    "corrupt/half-file": _half_file,
    "broken/no-tokenizer": _no_tokenizer,
}
