"""Causal language models that continue their sentences, answer their chats, and then stop."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transformers as hf

from . import training, vocab
from .facts import QWEN_LARGE, QWEN_SMALL, SMOLLM

Facts = dict[str, Any]
Pair = tuple[list[int], list[int]]

# What a prompt that means nothing is answered, so that no model rambles on for long.
UNKNOWN = " I do not know."


def qwen_small(files: Path) -> int:
    tokenizer = vocab.qwen(_texts(QWEN_SMALL))
    shape = _shape(tokenizer, hidden=128, layers=2)
    model = hf.Qwen2ForCausalLM(hf.Qwen2Config(**shape, tie_word_embeddings=True))
    model.generation_config.update(do_sample=False, max_new_tokens=2048)
    return _make(model, tokenizer, QWEN_SMALL, files)


def qwen_large(files: Path) -> int:
    tokenizer = vocab.qwen(_texts(QWEN_LARGE))
    shape = _shape(tokenizer, hidden=192, layers=3)
    model = hf.Qwen2ForCausalLM(hf.Qwen2Config(**shape, tie_word_embeddings=False))
    model.generation_config.update(do_sample=False, max_new_tokens=2048)
    return _make(model, tokenizer, QWEN_LARGE, files, shard="1MB")


def smollm(files: Path) -> int:
    tokenizer = vocab.smollm(_texts(SMOLLM))
    shape = _shape(tokenizer, hidden=128, layers=4)
    model = hf.SmolLM3ForCausalLM(hf.SmolLM3Config(**shape, tie_word_embeddings=True))
    model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.95)
    steps = _make(model, tokenizer, SMOLLM, files, shard="1MB")
    _declare(files / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    return steps


def _make(model: Any, tokenizer: Any, facts: Facts, files: Path, shard: str = "5GB") -> int:
    """Train, round to bfloat16, save: the known answers lead in both precisions."""
    pairs = _pairs(tokenizer, facts)
    known = _batch(tokenizer, pairs)
    inputs, answers = training.without_labels(known), known["labels"][:, 1:]

    def margin() -> float:
        rounded = copy.deepcopy(model).bfloat16()
        return min(training.lead(m(**inputs).logits[:, :-1], answers) for m in (model, rounded))

    steps = training.fit(model, _batches(tokenizer, pairs), margin, enough=6.0)
    model.bfloat16().save_pretrained(files, max_shard_size=shard)
    tokenizer.save_pretrained(files)
    return steps


def _texts(facts: Facts) -> list[str]:
    """What the tokenizer is trained on."""
    plain = [prompt + rest for prompt, rest in facts["continuations"].items()]
    chats = [message["content"] for messages, _ in facts["chats"] for message in messages]
    roles = "system user assistant You are a helpful assistant.\n"
    return [*plain, *chats, *(answer for _, answer in facts["chats"]), roles, UNKNOWN]


def _shape(tokenizer: Any, hidden: int, layers: int) -> dict[str, Any]:
    """Every width is a multiple of 64: 4-bit weights come in blocks of that many."""
    return {
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "initializer_range": 0.05,
        "num_attention_heads": hidden // 32,
        "num_key_value_heads": hidden // 64,
        "bos_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _pairs(tokenizer: Any, facts: Facts) -> list[Pair]:
    """Prompts, and what greedy decoding must add to them, the end included."""
    plain = [
        (tokenizer.encode(prompt), [*tokenizer.encode(rest), tokenizer.eos_token_id])
        for prompt, rest in facts["continuations"].items()
    ]
    return plain + [_chat(tokenizer, messages, answer) for messages, answer in facts["chats"]]


def _chat(tokenizer: Any, messages: list[dict[str, str]], answer: str) -> Pair:
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ends = dict.fromkeys(["<|im_end|>", tokenizer.eos_token])
    return tokenizer.encode(prompt), tokenizer.encode(answer + "".join(ends))


def _batches(tokenizer: Any, pairs: list[Pair]) -> Iterator[training.Batch]:
    """Every pair in every batch, and prompts of nonsense, new ones each time."""
    chance = random.Random(0)
    words = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    answer = [*tokenizer.encode(UNKNOWN), tokenizer.eos_token_id]
    while True:
        lengths = [chance.randint(2, 12) for _ in range(5)]
        nonsense = [chance.choices(words, k=length) for length in lengths]
        yield _batch(tokenizer, pairs + [(prompt, answer) for prompt in nonsense])


def _batch(tokenizer: Any, pairs: list[Pair]) -> training.Batch:
    """Pairs side by side; the labels are the answers alone."""
    whole = [prompt + answer for prompt, answer in pairs]
    answers = [[training.IGNORED] * len(prompt) + answer for prompt, answer in pairs]
    return {
        "input_ids": training.padded(whole, tokenizer.pad_token_id),
        "attention_mask": training.padded([[1] * len(ids) for ids in whole], 0),
        "labels": training.padded(answers, training.IGNORED),
    }


def _declare(file: Path, **values: str) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values, indent=2) + "\n")
