"""The pipelines of this backend: found in the cache, or placed, given room, loaded and kept.

An engine that runs elsewhere would take the place of this module with its cache, loader and runner: what comes in
(a Task, a Call, the inputs, Settings) are plain values.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from pgml_transform import checkpoint, hardware, loader, memory, placement, runner
from pgml_transform.cache import Loaded, PipelineCache
from pgml_transform.call import Call
from pgml_transform.checkpoint import Checkpoint
from pgml_transform.deployments import FAILED, IDLE, RUNNING, Board, Deployment
from pgml_transform.devices import CPU
from pgml_transform.errors import OutOfMemory, PgmlError
from pgml_transform.placement import Placement
from pgml_transform.settings import Settings
from pgml_transform.sizes import pretty
from pgml_transform.task import Task

_FAILURES_SHOWN = 8


@dataclass
class Engine:
    """This backend's engine. `notice` and `warning` reach the client, `safe_point` lets the server in."""

    board: Board
    notice: Callable[[str], None]
    warning: Callable[[str], None]
    safe_point: Callable[[], None]

    def __post_init__(self) -> None:
        self.cache = PipelineCache()

    def run(self, task: Task, call: Call, inputs: Sequence[str | None], settings: Settings, keep: bool) -> list[Any]:
        """The answers for the inputs; the pipeline stays in the cache when `keep`."""
        loaded = self.cache.get(task, settings.device)
        if loaded is not None:
            return self._run(loaded, call, inputs, settings)
        loaded = self.load(task, settings, keep=keep)
        try:
            return self._run(loaded, call, inputs, settings)
        finally:
            if not keep:
                self.board.remove([loaded.row])
                del loaded
                memory.give_back()

    def load(self, task: Task, settings: Settings, *, keep: bool = True) -> Loaded:
        """The pipeline of the task, from the cache or loaded now."""
        loaded = self.cache.get(task, settings.device)
        if loaded is not None:
            return loaded
        found, place = self.place(task, settings)
        loaded = self.cache.get_placed(task, settings.device, place)
        if loaded is not None:
            return loaded
        if keep:
            self._shrink_to(settings.max_pipelines - 1)
        self._make_room(place, settings)
        loaded = self._load(task, place, found, settings)
        if keep:
            self.cache.put(task, settings.device, place, loaded)
        return loaded

    def place(self, task: Task, settings: Settings) -> tuple[Checkpoint, Placement]:
        """What is known of the model, and where it would go; reads no weight."""
        loader.prepare_environment()
        found = checkpoint.inspect(task, settings)
        machine = hardware.probe(self.cache.held(), settings.memory_limit)
        return found, placement.resolve(task.wishes, found, machine, settings.device)

    def unload(self, model: str | None) -> int:
        """Let go of a model's pipelines (None: of all), and of the rows of its failed loads; how many pipelines."""
        gone = [loaded.row for loaded in self.cache.pop_model(model)]
        failed = [row for row in self.board.rows if row.state == FAILED and model in (None, row.model)]
        self.board.remove([*gone, *failed])
        memory.give_back()
        return len(gone)

    # --- steps ---------------------------------------------------------------------------------------

    def _shrink_to(self, count: int) -> None:
        while len(self.cache) > count:
            self._evict(None)

    def _make_room(self, place: Placement, settings: Settings) -> None:
        """Let the least recently used pipelines go until the next one fits beside the rest."""
        needed = place.needed
        while (free := _free(place, hardware.probe(self.cache.held(), settings.memory_limit))) < needed:
            if not self._evict(CPU if place.device_map is None else None if place.spread else place.device):
                raise OutOfMemory(
                    f"no room for the model: it needs {pretty(needed)}, {pretty(free)} is free on {place.device}",
                    detail="This backend has let go of every pipeline that it held there.",
                    hint="SELECT * FROM pgml.deployments shows what other backends hold",
                )

    def _evict(self, device: str | None) -> bool:
        loaded = self.cache.pop_oldest(device)
        if loaded is None:
            return False
        self.board.remove([loaded.row])
        del loaded
        memory.give_back()
        return True

    def _load(self, task: Task, place: Placement, found: Checkpoint, settings: Settings) -> Loaded:
        row = Deployment(
            task=task.task,
            model=task.model,
            revision=found.revision,
            device=place.device,
            dtype=place.dtype,
            quantization=found.quantization or place.quantization_name,
        )
        self._drop_failed(task)
        self.board.add(row)
        started = time.monotonic()
        try:
            loader.import_libraries()
            with self._guarded(settings, f'loading model "{task.model}"', on_gpu=_uses_gpu(place)):
                follow = loader.Listener(lambda share: self.board.publish_progress(row, share), self.warning)
                pipeline = loader.load(task, place, found, settings, follow)
        except BaseException as error:
            self._failed_load(row, error)
            raise
        held = loader.sizes(pipeline)
        row.device_map = loader.device_map(pipeline)
        row.parameters = loader.parameters(pipeline)
        row.host_bytes = held.get(CPU, 0)
        row.gpu_bytes = sum(size for device, size in held.items() if device != CPU)
        row.state, row.progress = IDLE, 1.0
        row.loaded_at, row.load_seconds = time.time(), time.monotonic() - started
        self.board.publish()
        self._tell(task, row, place)
        return Loaded(pipeline, row, held)

    def _failed_load(self, row: Deployment, error: BaseException) -> None:
        """Nothing of the load stays but a row that says that it failed, and of a cancelled one not even that."""
        if isinstance(error, PgmlError):
            row.state, row.errors, row.last_error = FAILED, 1, f"{type(error).__name__}: {error.message}"
            failed = [one for one in self.board.rows if one.state == FAILED]
            self.board.remove(failed[:-_FAILURES_SHOWN])
        else:
            self.board.remove([row])

    def _drop_failed(self, task: Task) -> None:
        same = [
            row for row in self.board.rows if row.state == FAILED and (row.task, row.model) == (task.task, task.model)
        ]
        if same:
            self.board.remove(same)

    def _tell(self, task: Task, row: Deployment, place: Placement) -> None:
        """Say once, at the load, what was decided."""
        if place.warning:
            self.warning(place.warning)
        default = " (the task's default)" if task.default_model else ""
        where = row.device if row.device_map is None else ", ".join(sorted(set(row.device_map.values())))
        self.notice(
            f"loaded {task.model}{default} for {task.task}: device {where}, dtype {row.dtype}, quantization "
            f"{row.quantization}, {pretty(row.host_bytes + row.gpu_bytes)}, {row.load_seconds:.1f} s"
        )

    def _run(self, loaded: Loaded, call: Call, inputs: Sequence[str | None], settings: Settings) -> list[Any]:
        row = loaded.row
        row.calls += 1
        row.inputs += len(inputs)
        with self._busy(row), self._guarded(settings, f'running model "{row.model}"', on_gpu=row.gpu_bytes > 0):
            return runner.run(loaded.pipeline, row, inputs, call, self.safe_point)

    def _guarded(self, settings: Settings, doing: str, *, on_gpu: bool) -> AbstractContextManager[None]:
        """Bound the memory of what happens in RAM; CUDA reserves address space as it likes, and tells by itself."""
        more = hardware.probe_ram(self.cache.held(), settings.memory_limit)[1]
        return (memory.translated if on_gpu else memory.limited_to)(more, doing)

    @contextmanager
    def _busy(self, row: Deployment) -> Iterator[None]:
        """Show the row as running for the length of the block, and count it."""
        row.state, row.last_used_at = RUNNING, time.time()
        self.board.publish()
        started = time.monotonic()
        try:
            yield
        except BaseException as error:
            row.errors += 1
            row.last_error = type(error).__name__
            raise
        finally:
            row.state, row.last_used_at = IDLE, time.time()
            row.busy_seconds += time.monotonic() - started
            self.board.publish()


def _uses_gpu(place: Placement) -> bool:
    return place.device_map is not None and place.device != CPU


def _free(place: Placement, machine: hardware.Hardware) -> int:
    """What is free now on the devices of a placement."""
    if not _uses_gpu(place):
        return machine.ram_free
    if place.spread:
        return sum(gpu.free for gpu in machine.gpus) + machine.ram_free
    return next(gpu.free for gpu in machine.gpus if f"cuda:{gpu.index}" == place.device)
