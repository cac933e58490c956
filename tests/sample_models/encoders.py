"""Models that read a text and label it, whole or word by word, or fill in a word."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from . import corpus, training, vocab
from .facts import FEATURES, FILL_MASK, MNLI, NER, SENTIMENT
from .training import IGNORED, Batch

WIDTH = FEATURES["dimensions"]
LAYERS, HEADS = 2, 4


def sentiment(files: Path) -> int:
    known = list(SENTIMENT["labels"].items())
    held_out = list(SENTIMENT["held_out"].items())
    texts = [pair for pair in corpus.opinions(1200) if pair not in held_out] + 8 * known
    tokenizer = vocab.wordpiece(hf.DistilBertTokenizer, [text for text, _ in texts])
    config = _distilbert(tokenizer, _labels(["NEGATIVE", "POSITIVE"]))
    model = hf.DistilBertForSequenceClassification(config)

    def collate(rows: list[tuple[str, str]]) -> Batch:
        labels = torch.tensor([config.label2id[label] for _, label in rows])
        return _encode(tokenizer, [text for text, _ in rows]) | {"labels": labels}

    batches = training.shuffled(texts, 64, collate)
    return _make(model, tokenizer, batches, collate(known + held_out), files, enough=7.0)


def ner(files: Path) -> int:
    known = [(text, _spans(text, found)) for text, found in NER["entities"].items()]
    texts = corpus.sentences_with_names(600) + 4 * known
    tokenizer = vocab.wordpiece(hf.BertTokenizer, [text for text, _ in texts], do_lower_case=False)
    config = hf.BertConfig(**_bert_shape(tokenizer), **_labels(NER["labels"]))
    model = hf.BertForTokenClassification(config)

    def collate(rows: list[tuple[str, corpus.Spans]]) -> Batch:
        inputs = _encode(tokenizer, [text for text, _ in rows], return_offsets_mapping=True)
        offsets = inputs.pop("offset_mapping").tolist()
        labels = [
            [_label_of(place, spans, config.label2id) for place in places]
            for places, (_, spans) in zip(offsets, rows, strict=True)
        ]
        return inputs | {"labels": torch.tensor(labels)}

    batches = training.shuffled(texts, 32, collate)
    return _make(model, tokenizer, batches, collate(known), files, enough=7.0)


def _spans(text: str, entities: list[tuple[str, str]]) -> corpus.Spans:
    """Where the words of the facts stand in their text."""
    spans, end = [], 0
    for word, label in entities:
        start = text.index(word, end)
        end = start + len(word)
        spans.append((start, end, label.removeprefix("I-")))
    return spans


def _label_of(place: list[int], spans: corpus.Spans, label2id: dict[str, int]) -> int:
    """The label of a token by its place in the text; special tokens have none."""
    start, end = place
    if start == end:
        return IGNORED
    inside = (kind for first, last, kind in spans if first <= start and end <= last)
    kind = next(inside, None)
    return label2id[f"I-{kind}" if kind else "O"]


def fill_mask(files: Path) -> int:
    known = list(FILL_MASK["words"].items())
    texts = corpus.masked_words() + known
    tokenizer = vocab.roberta([text.replace(" <mask>", word) for text, word in texts])
    shape = _bert_shape(tokenizer) | {"max_position_embeddings": 514, "type_vocab_size": 1}
    model = hf.RobertaForMaskedLM(hf.RobertaConfig(**shape, **_ends(tokenizer)))

    def collate(rows: list[tuple[str, str]]) -> Batch:
        inputs = _encode(tokenizer, [text for text, _ in rows])
        words = [tokenizer.encode(word, add_special_tokens=False) for _, word in rows]
        labels = torch.full_like(inputs["input_ids"], IGNORED)
        labels[inputs["input_ids"] == tokenizer.mask_token_id] = torch.tensor(words).squeeze(-1)
        return inputs | {"labels": labels}

    batches = training.shuffled(texts, 48, collate)
    return _make(model, tokenizer, batches, collate(known), files, enough=4.0)


def mnli(files: Path) -> int:
    claims = corpus.claims(MNLI["zero_shot"])
    claims += [(*pair, label) for pair, label in MNLI["pairs"].items()]
    tokenizer = vocab.roberta([text for claim in claims for text in claim[:2]])
    config = hf.BartConfig(**_bart_shape(tokenizer), **_labels(MNLI["labels"]))
    model = hf.BartForSequenceClassification(config)

    def collate(rows: list[tuple[str, str, str]]) -> Batch:
        premises, hypotheses, labels = zip(*rows, strict=True)
        targets = torch.tensor([config.label2id[label] for label in labels])
        return _encode(tokenizer, list(premises), list(hypotheses)) | {"labels": targets}

    batches = training.shuffled(claims, 48, collate)
    return _make(model, tokenizer, batches, collate(claims), files, enough=4.0)


def features(files: Path) -> int:
    texts = [text for text, _ in corpus.sentences_with_names(200)]
    tokenizer = vocab.wordpiece(hf.DistilBertTokenizer, texts, do_lower_case=False)
    save(hf.DistilBertModel(_distilbert(tokenizer)), tokenizer, files)
    return 0


def tiny(files: Path) -> hf.BertForSequenceClassification:
    """An untrained classifier, to be broken."""
    tokenizer = vocab.wordpiece(hf.BertTokenizer, ["a few words are enough"])
    config = hf.BertConfig(**_bert_shape(tokenizer), **_labels(["NO", "YES"]))
    model = hf.BertForSequenceClassification(config)
    save(model, tokenizer, files)
    return model


def save(model: Any, tokenizer: Any, files: Path) -> None:
    model.save_pretrained(files)
    tokenizer.save_pretrained(files)


def _make(model: Any, tokenizer: Any, batches: Iterator[Batch], known: Batch, files: Path, enough: float) -> int:
    """Train until every known label leads, and save."""
    margin = _margin(model, known)
    steps = training.fit(model, batches, margin, enough)
    save(model, tokenizer, files)
    return steps


def _margin(model: Any, known: Batch) -> Callable[[], float]:
    inputs = training.without_labels(known)
    return lambda: training.lead(model(**inputs).logits, known["labels"])


def _encode(tokenizer: Any, *texts: list[str], **options: Any) -> Batch:
    return dict(tokenizer(*texts, padding=True, return_tensors="pt", **options))


def _labels(names: list[str]) -> dict[str, dict]:
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }


def _bert_shape(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _bart_shape(tokenizer: Any) -> dict[str, Any]:
    shape = {"layers": LAYERS, "attention_heads": HEADS, "ffn_dim": 2 * WIDTH}
    return {
        "vocab_size": len(tokenizer),
        "d_model": WIDTH,
        "init_std": 0.05,
        **{f"encoder_{key}": value for key, value in shape.items()},
        **{f"decoder_{key}": value for key, value in shape.items()},
        **_ends(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
        "forced_eos_token_id": tokenizer.eos_token_id,
    }


def _distilbert(tokenizer: Any, labels: dict[str, dict] | None = None) -> hf.DistilBertConfig:
    return hf.DistilBertConfig(
        vocab_size=len(tokenizer),
        dim=WIDTH,
        hidden_dim=2 * WIDTH,
        n_layers=LAYERS,
        n_heads=HEADS,
        pad_token_id=tokenizer.pad_token_id,
        **labels or {},
    )


def _ends(tokenizer: Any) -> dict[str, int]:
    return {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
