"""The bounded store of this backend's pipelines, keyed by (Task, Placement), least recently used first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pgml_transform.deployments import Deployment
from pgml_transform.devices import CPU
from pgml_transform.placement import Placement
from pgml_transform.task import Task, Wishes

Key = tuple[Task, Placement]


@dataclass
class Loaded:
    """A pipeline that is ready, and its row in pgml.deployments.

    `mapped`: its weights are pages of the checkpoint's file, which the system can drop and read again.
    """

    pipeline: Any
    row: Deployment
    device_bytes: dict[str, int]
    mapped: bool = False


class PipelineCache:
    """What this backend keeps. It counts and forgets; giving memory back to the system is `memory.give_back`."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Key, Loaded] = OrderedDict()
        # Where a task was placed before: the hardware changes with every load, the decision must not.
        self._placed: dict[tuple[Task, Wishes, str], Placement] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Loaded]:
        return iter(self._entries.values())

    def get(self, task: Task, default_device: str) -> Loaded | None:
        """The pipeline of a task that was placed before with the same wishes; it is now the last used."""
        placement = self._placed.get((task, task.wishes, default_device))
        return self.get_placed(task, default_device, placement) if placement else None

    def get_placed(self, task: Task, default_device: str, placement: Placement) -> Loaded | None:
        """The pipeline of this placement, however its wishes were spelt."""
        loaded = self._entries.get((task, placement))
        if loaded is not None:
            self._placed[task, task.wishes, default_device] = placement
            self._entries.move_to_end((task, placement))
        return loaded

    def put(self, task: Task, default_device: str, placement: Placement, loaded: Loaded) -> None:
        """Keep a pipeline."""
        self._entries[task, placement] = loaded
        self._placed[task, task.wishes, default_device] = placement

    def pop_oldest(self, device: str | None = None) -> Loaded | None:
        """Forget the least recently used pipeline (of those that hold memory on `device`)."""
        for key, loaded in self._entries.items():
            if device is None or loaded.device_bytes.get(device, 0) > 0:
                return self._forget(key)
        return None

    def pop_model(self, model: str | None) -> list[Loaded]:
        """Forget every pipeline of a model, of all models for None."""
        return [self._forget(key) for key in list(self._entries) if model is None or key[0].model == model]

    def held(self) -> dict[str, int]:
        """Bytes by device."""
        total: dict[str, int] = {}
        for loaded in self:
            for device, size in loaded.device_bytes.items():
                total[device] = total.get(device, 0) + size
        return total

    def held_private(self) -> int:
        """Bytes in RAM that come back to the machine when they are let go."""
        return sum(loaded.device_bytes.get(CPU, 0) for loaded in self if not loaded.mapped)

    def _forget(self, key: Key) -> Loaded:
        self._placed = {wish: placed for wish, placed in self._placed.items() if (wish[0], placed) != key}
        return self._entries.pop(key)
