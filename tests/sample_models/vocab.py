"""Tokenizers made from a corpus, of the classes that the real models use."""

from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken
from transformers import (
    BertTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    RobertaTokenizer,
)

CHATML = """\
{%- for message in messages %}
{%- if loop.first and message.role != 'system' and default_system %}
{{- '<|im_start|>system\\n' + default_system + '<|im_end|>\\n' }}
{%- endif %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
QWEN_SYSTEM = "{%- set default_system = 'You are a helpful assistant.' %}\n"


def qwen(texts: Iterable[str]) -> Qwen2Tokenizer:
    """Byte-level BPE with Qwen's special tokens: the end of a text is also the padding."""
    chat_tokens = [AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")]
    tokenizer = _train(Qwen2Tokenizer(), texts, new_special_tokens=chat_tokens)
    tokenizer.model_max_length = 131072
    tokenizer.chat_template = QWEN_SYSTEM + CHATML
    return tokenizer


def smollm(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE as SmolLM3 has it: the end of a turn ends a text, and pads."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=qwen(texts).backend_tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        extra_special_tokens=["<|im_start|>"],
        model_max_length=131072,
    )
    tokenizer.chat_template = "{%- set default_system = '' %}\n" + CHATML
    return tokenizer


def roberta(texts: Iterable[str]) -> RobertaTokenizer:
    """Byte-level BPE whose mask swallows the space before it."""
    mask = AddedToken("<mask>", lstrip=True, special=True)
    tokenizer = _train(RobertaTokenizer(mask_token=mask), texts)
    tokenizer.model_max_length = 512
    return tokenizer


def wordpiece(kind: type[BertTokenizer], texts: Iterable[str], **options: Any) -> BertTokenizer:
    """WordPiece, cased or not, as the class given: known words are whole, others are spelled.

    Not trained: the trainer's order of equal pieces differs from run to run.
    """
    blank = kind(**options)
    words = {word for text in texts for word in _split(blank, text)}
    letters = sorted(set("".join(words)))
    special = blank.convert_ids_to_tokens(range(len(blank)))
    pieces = dict.fromkeys([*special, *letters, *(f"##{part}" for part in letters), *sorted(words)])
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return kind(vocab=vocabulary, model_max_length=512, **options)


def _split(tokenizer: BertTokenizer, text: str) -> list[str]:
    backend = tokenizer.backend_tokenizer
    plain = backend.normalizer.normalize_str(text)
    return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(plain)]


def _train(tokenizer: Any, texts: Iterable[str], **options: Any) -> Any:
    return tokenizer.train_new_from_iterator([list(texts)], vocab_size=2000, show_progress=False, **options)
