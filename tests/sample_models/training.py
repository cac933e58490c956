"""The loop that goes on until a fact holds with a margin, and the batches that it draws."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

Batch = dict[str, torch.Tensor]
IGNORED = -100


def fit(
    model: torch.nn.Module,
    batches: Iterator[Batch],
    margin: Callable[[], float],
    enough: float,
    rate: float = 2e-3,
    limit: int = 800,
) -> int:
    """Train until the margin is enough; answer the number of steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _share_of_rate)
    reached = float("-inf")
    for step in range(1, limit + 1):
        model.train()
        model(**next(batches)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 20 == 0 and (reached := _evaluate(model, margin)) >= enough:
            return step
    raise RuntimeError(f"margin {reached:.2f} after {limit} steps, {enough} was wanted")


def _share_of_rate(step: int) -> float:
    """Up over 20 steps."""
    return min((step + 1) / 20, 1.0)


@torch.no_grad()
def _evaluate(model: torch.nn.Module, margin: Callable[[], float]) -> float:
    model.eval()
    return margin()


def shuffled(rows: Sequence[Any], size: int, collate: Callable[[list[Any]], Batch]) -> Iterator:
    """Batches of a fixed size, for ever, each row once in every round."""
    order, choice = list(rows), random.Random(0)
    while True:
        choice.shuffle(order)
        for start in range(0, len(order), size):
            yield collate(order[start : start + size])


def lead(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """By how much every target's logit leads over the next best one, at the least."""
    chosen = targets != IGNORED
    logits, targets = logits[chosen].float(), targets[chosen].unsqueeze(-1)
    others = logits.scatter(-1, targets, float("-inf"))
    return (logits.gather(-1, targets) - others.amax(-1, keepdim=True)).min().item()


def padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """Rows of unequal length as one tensor."""
    return pad_sequence([torch.tensor(row) for row in rows], True, value)


def without_labels(batch: Batch) -> Batch:
    """What a model reads of a batch when it is not trained."""
    return {key: value for key, value in batch.items() if key != "labels"}
