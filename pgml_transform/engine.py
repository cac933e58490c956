"""The pipelines of this backend: found in the cache, or placed, given room, loaded and kept.

An engine that runs elsewhere would take the place of this module with its cache, loader and runner: what comes in
(a Task, a Call, the inputs, Settings) are plain values.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from pgml_transform import checkpoint, hardware, loader, memory, placement, runner, signatures
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

# What a tokenizer takes for a character, measured on texts of 10 MB, and what each text of a batch takes that is
# padded to the longest. What is small is not looked at.
_TOKENIZER_BYTES, _PADDING_BYTES = 60, 16
_SMALL = 6_000_000

Limited = Callable[[], AbstractContextManager[None]]

_NO_CALL = Call()


@dataclass(frozen=True)
class _Plan:
    """A load that was decided on."""

    task: Task
    call: Call
    place: Placement
    found: Checkpoint
    settings: Settings


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
        try:
            return self._run(self.load(task, settings, call, keep=keep), call, inputs, settings)
        finally:
            if not keep:
                self._forget_uncached()
                memory.give_back()

    def load(self, task: Task, settings: Settings, call: Call = _NO_CALL, *, keep: bool = True) -> Loaded:
        """The pipeline of the task, from the cache or loaded now; `call` is the one that it is loaded for."""
        loaded = self.cache.get(task, settings.device)
        if loaded is not None:
            signatures.check(type(loaded.pipeline), task.task, json.loads(task.calling))
            return loaded
        found, place = self.place(task, settings)
        loaded = self.cache.get_placed(task, settings.device, place)
        if loaded is not None:
            return loaded
        if keep:
            while len(self.cache) >= settings.max_pipelines:
                self._evict(None)
        self._make_room(place, settings)
        row = self._new_row(task, place, found)
        try:
            loaded = self._load(_Plan(task, call, place, found, settings), row)
            if keep:
                self.cache.put(task, settings.device, place, loaded)
        except BaseException as error:
            self._failed_load(row, error)
            raise
        return loaded

    def place(self, task: Task, settings: Settings) -> tuple[Checkpoint, Placement]:
        """What is known of the model, and where it would go; reads no weight."""
        loader.prepare_environment()
        found = checkpoint.inspect(task, settings)
        return found, placement.resolve(task.wishes, found, self._hardware(settings), settings.device)

    def unload(self, model: str | None) -> int:
        """Let go of a model's pipelines (None: of all), and of the rows of its failed loads; how many pipelines."""
        gone = self.cache.pop_model(model)
        self.board.remove(row for row in self.board.rows if row.state == FAILED and model in (None, row.model))
        self._forget_uncached()
        count = len(gone)
        del gone
        memory.give_back()
        return count

    # --- steps ---------------------------------------------------------------------------------------

    def _hardware(self, settings: Settings) -> hardware.Hardware:
        return hardware.probe(self.cache.held(), settings.memory_limit, self.cache.held_private())

    def _forget_uncached(self) -> None:
        """Take the rows off the board that stand for no pipeline of the cache and no failed load."""
        kept = [id(loaded.row) for loaded in self.cache]
        self.board.remove(row for row in self.board.rows if row.state != FAILED and id(row) not in kept)

    def _make_room(self, place: Placement, settings: Settings) -> None:
        """Let the least recently used pipelines go until the next one fits beside the rest."""
        while (free := self._free(place, settings)) < place.needed:
            if not any(self._evict(device) for device in place.counted):
                raise OutOfMemory(
                    f"no room for the model: it needs {pretty(place.needed)}, {pretty(free)} is free on "
                    f"{' and '.join(place.counted)}",
                    detail="This backend has let go of every pipeline that it held there.",
                    hint="SELECT * FROM pgml.deployments shows what other backends hold",
                )

    def _free(self, place: Placement, settings: Settings) -> int:
        """What is free now on the devices that the placement counted."""
        machine = self._hardware(settings)
        free = {CPU: machine.ram_free, **{f"cuda:{gpu.index}": gpu.free for gpu in machine.gpus}}
        return sum(free[device] for device in place.counted)

    def _evict(self, device: str | None) -> bool:
        loaded = self.cache.pop_oldest(device)
        if loaded is None:
            return False
        self.board.remove([loaded.row])
        del loaded
        memory.give_back()
        return True

    def _new_row(self, task: Task, place: Placement, found: Checkpoint) -> Deployment:
        """The row of a load that begins; it takes the place of those that failed before."""
        same = (task.task, task.model)
        self.board.remove(row for row in self.board.rows if row.state == FAILED and (row.task, row.model) == same)
        return Deployment(
            task=task.task,
            model=task.model,
            revision=found.revision,
            device=place.device,
            dtype=place.dtype,
            quantization=found.quantization or place.quantization_name,
        )

    def _load(self, plan: _Plan, row: Deployment) -> Loaded:
        self.board.add(row)
        task, place, started = plan.task, plan.place, time.monotonic()
        loader.import_libraries()
        names = [*json.loads(task.calling), *json.loads(plan.call.arguments)]
        read_weights = loader.load(task, names, place, plan.found, plan.settings)
        limited = self.limited(plan.settings, f'loading model "{task.model}"', on_gpu=place.uses_gpu)
        supervisor = loader.Supervisor(lambda share: self.board.publish_progress(row, share), self.warning, limited)
        pipeline = read_weights(supervisor)
        hardware.look_again()
        held = loader.sizes(pipeline)
        row.device_map = loader.device_map(pipeline)
        row.parameters = loader.parameters(pipeline)
        row.host_bytes = held.get(CPU, 0)
        row.gpu_bytes = sum(size for device, size in held.items() if device != CPU)
        row.state, row.progress = IDLE, 1.0
        row.loaded_at, row.load_seconds = time.time(), time.monotonic() - started
        self.board.publish()
        self._tell(task, row, place)
        mapped = not place.uses_gpu and place.dtype == plan.found.dtype and place.quantization is None
        return Loaded(pipeline, row, held, mapped)

    def _failed_load(self, row: Deployment, error: BaseException) -> None:
        """Nothing of the load stays but a row that says that it failed, and of a cancelled one not even that."""
        if not isinstance(error, PgmlError):
            self.board.remove([row])
            return
        row.state, row.errors, row.last_error = FAILED, 1, f"{type(error).__name__}: {error.message}"
        failed = [one for one in self.board.rows if one.state == FAILED]
        self.board.remove(failed[:-_FAILURES_SHOWN])

    def _tell(self, task: Task, row: Deployment, place: Placement) -> None:
        """Say once, at the load, what was decided, and aloud what is slower than it need be."""
        devices = sorted(set((row.device_map or {"": str(row.device)}).values()))
        if place.warning:
            self.warning(place.warning)
        elif row.device_map is not None and {CPU, "disk"} & set(devices) and CPU not in place.counted:
            self.warning("a part of the model runs on the CPU: its layers did not fit on the GPUs as they are cut")
        default = " (the task's default)" if task.default_model else ""
        self.notice(
            f"loaded {task.model}{default} for {task.task}: device {', '.join(devices)}, dtype {row.dtype}, "
            f"quantization {row.quantization}, {pretty(row.host_bytes + row.gpu_bytes)}, {row.load_seconds:.1f} s"
        )

    def _run(self, loaded: Loaded, call: Call, inputs: Sequence[str | None], settings: Settings) -> list[Any]:
        row = loaded.row
        limited = self.limited(settings, f'running model "{row.model}"', on_gpu=row.gpu_bytes > 0)

        def around_batch() -> AbstractContextManager[None]:
            self.safe_point()
            return limited()

        with self._busy(row, len(inputs)):
            self._check_texts(inputs, call, settings)
            return runner.run(loaded.pipeline, row, inputs, call, around_batch)

    def _check_texts(self, inputs: Sequence[str | None], call: Call, settings: Settings) -> None:
        """A tokenizer that runs out of memory ends the process, and with it the server: so it is asked beforehand."""
        lengths = [len(text) for text in inputs if text is not None]
        longest, batch = max(lengths), min(call.batch_size or 1, len(lengths))
        needed = longest * (_TOKENIZER_BYTES + batch * _PADDING_BYTES)
        if needed < _SMALL:
            return
        free = hardware.free_ram(self.cache.held(), settings.memory_limit)
        if needed > free:
            raise OutOfMemory(
                f"an input of {longest:,} characters in a batch of {batch} needs about {pretty(needed)}, "
                f"{pretty(free)} is free",
                detail="So much does a tokenizer take for a text, and the padding of the others to its length.",
                hint='cut the text into parts that the model can read, or give a smaller "batch_size"',
            )

    def limited(self, settings: Settings, doing: str, *, on_gpu: bool = False) -> Limited:
        """What bounds the memory of blocks that work in RAM, all of them together, from now on.

        CUDA reserves address space as it likes and tells by itself when memory is out.
        """
        ceiling = memory.private_bytes() + hardware.free_ram(self.cache.held(), settings.memory_limit)
        return lambda: memory.translated(doing) if on_gpu else memory.limited_to(ceiling, doing)

    @contextmanager
    def _busy(self, row: Deployment, inputs: int) -> Iterator[None]:
        """Show the row as running for the length of the block, and count it."""
        started = time.monotonic()
        try:
            row.calls += 1
            row.inputs += inputs
            row.state, row.last_used_at = RUNNING, time.time()
            self.board.publish()
            yield
        except BaseException as error:
            row.errors += 1
            row.last_error = type(error).__name__
            raise
        finally:
            row.state, row.last_used_at = IDLE, time.time()
            row.busy_seconds += time.monotonic() - started
            self.board.publish()
