"""What a real GPU does: the Python core without a server, on the sample models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pgml_transform import call, hardware, memory, task
from pgml_transform.deployments import Board
from pgml_transform.engine import Engine
from pgml_transform.errors import OutOfMemory
from pgml_transform.settings import Settings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not hardware.has_gpu(), reason="this machine has no GPU"),
    pytest.mark.skipif("HF_HUB_CACHE" not in os.environ, reason="no sample models: set HF_HUB_CACHE"),
]

QWEN = {"task": "text-generation", "model": "Qwen/Qwen2.5-0.5B"}
GREEDY = '{"do_sample": false, "max_new_tokens": 12}'


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An engine whose notices go nowhere."""
    return Engine(Board(os.getpid(), 1, folder=tmp_path / "stat"), print, print, lambda: None)


def run(engine: Engine, keywords: dict[str, Any], text: str) -> Any:
    """The answer for one input."""
    return engine.run(task.from_keywords(keywords), call.parse(GREEDY), [text], Settings(offline=True), keep=True)


def test_the_gpu_is_the_default(engine: Engine) -> None:
    """A model that fits goes to the GPU, and all of it lies there."""
    run(engine, QWEN, "hello")

    (loaded,) = engine.cache
    assert loaded.row.device is not None
    assert loaded.row.device.startswith("cuda:")
    assert (loaded.row.host_bytes, loaded.row.gpu_bytes > 0, loaded.row.device_map) == (0, True, None)


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"device": 0},
        {"device": "cuda"},
        {"device_map": "auto"},
        {"device_map": "balanced"},
        {"device_map": "sequential"},
        {"device_map": {"": "cuda:0"}},
        {"max_memory": {"0": "2GB"}},
        {"load_in_4bit": True},
        {"load_in_8bit": True},
        {"dtype": "float16"},
    ],
)
def test_every_way_onto_the_gpu_answers_as_the_cpu_does(engine: Engine, wishes: dict[str, Any]) -> None:
    """However a model came there, it continues its sentences as it does on the CPU."""
    expected = run(engine, {**QWEN, "device": "cpu"}, "The capital of France is")

    assert run(engine, {**QWEN, **wishes}, "The capital of France is") == expected


def test_unload_gives_the_memory_back(engine: Engine) -> None:
    """The GPU's free memory is what it was before the model came."""
    import torch

    run(engine, QWEN, "hello")
    engine.unload(None)
    before = torch.cuda.memory_allocated()
    run(engine, QWEN, "hello")
    assert torch.cuda.memory_allocated() > before

    engine.unload(None)

    assert torch.cuda.memory_allocated() == before


def test_running_out_of_gpu_memory_is_an_error(engine: Engine) -> None:
    """CUDA's own error becomes ours, and the next call runs."""
    import torch

    with pytest.raises(OutOfMemory), memory.translated("testing"):
        torch.empty(1 << 50, device="cuda")
    run(engine, QWEN, "hello")
