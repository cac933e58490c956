"""placement.py: the truth table of where a model goes, on machines that need not be here."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pgml_transform import placement
from pgml_transform.checkpoint import Checkpoint
from pgml_transform.errors import DeviceNotAvailable, InvalidTask, OutOfMemory
from pgml_transform.hardware import Gpu, Hardware
from pgml_transform.task import from_keywords

GB = 1 << 30

RAM = Hardware(ram_total=16 * GB, ram_free=15 * GB)
T4 = Gpu(0, "T4", 16 * GB, 15 * GB, bf16=False)
A100 = Gpu(0, "A100", 80 * GB, 79 * GB, bf16=True)

LAPTOP = RAM
NEW_CPU = replace(RAM, cpu_bf16=True)
SMALL = Hardware(ram_total=2 * GB, ram_free=GB)
ONE_T4 = replace(RAM, gpus=(T4,))
ONE_A100 = replace(RAM, gpus=(A100,))
BUSY_AND_IDLE = replace(RAM, gpus=(replace(A100, free=3 * GB), replace(A100, index=1, free=60 * GB)))
TWO_T4 = replace(RAM, gpus=(T4, replace(T4, index=1)))
FULL = replace(RAM, gpus=(replace(A100, free=GB // 4),))
FULL_OF_OURS = replace(RAM, gpus=(replace(A100, free=GB // 4, held=70 * GB),))
FIRST_IS_OURS = replace(RAM, gpus=(replace(A100, free=GB, held=70 * GB), replace(A100, index=1, free=20 * GB)))


def model(billions: float, dtype: str = "bfloat16", quantization: str | None = None) -> Checkpoint:
    """A model of this size, nine tenths of it in linear layers."""
    count = int(billions * 1e9)
    return Checkpoint("org/model", "main", dtype, count, count * 9 // 10, 0, quantization)


HALF = model(0.5)  # 1 GB in bf16, 2 GB in fp32
SEVEN = model(7)  # 14 GB in bf16, 4.7 GB in 4 bits
HALF_FP32 = model(0.5, "float32")
BIT4 = {"load_in_4bit": True}

# wishes, model, machine -> device, dtype, device map ("" for the whole model), quantization
PLACED: list[tuple[dict[str, Any], Checkpoint, Hardware, str, str, Any, str]] = [
    # nothing given, no GPU: the CPU, in float32 unless it has bf16 arithmetic or the memory is short
    ({}, HALF, LAPTOP, "cpu", "float32", None, "none"),
    ({}, HALF, NEW_CPU, "cpu", "bfloat16", None, "none"),
    ({}, HALF_FP32, NEW_CPU, "cpu", "float32", None, "none"),
    ({}, model(0.5, "float16"), LAPTOP, "cpu", "float32", None, "none"),
    ({}, model(0.5, "float16"), NEW_CPU, "cpu", "float32", None, "none"),
    ({}, model(5), LAPTOP, "cpu", "bfloat16", None, "none"),
    ({"device_map": "auto"}, HALF, LAPTOP, "cpu", "float32", None, "none"),
    ({"device_map": "balanced"}, HALF, LAPTOP, "cpu", "float32", None, "none"),
    # nothing given, one GPU: the GPU, in the checkpoint's dtype where the GPU has it
    ({}, HALF, ONE_A100, "cuda:0", "bfloat16", {"": "cuda:0"}, "none"),
    ({}, HALF, ONE_T4, "cuda:0", "float16", {"": "cuda:0"}, "none"),
    ({}, HALF_FP32, ONE_T4, "cuda:0", "float32", {"": "cuda:0"}, "none"),
    ({"device_map": "auto"}, HALF, ONE_A100, "cuda:0", "bfloat16", {"": "cuda:0"}, "none"),
    # several GPUs: the one with the most free memory; spread when no single one has enough; then the CPU
    ({}, HALF, BUSY_AND_IDLE, "cuda:1", "bfloat16", {"": "cuda:1"}, "none"),
    ({}, HALF, TWO_T4, "cuda:0", "float16", {"": "cuda:0"}, "none"),
    ({}, model(10), TWO_T4, "cuda:0", "float16", "balanced", "none"),
    ({}, HALF, FULL, "cpu", "float32", None, "none"),
    # what this backend's own pipelines hold can be given back, but free memory is taken first
    ({}, HALF, FULL_OF_OURS, "cuda:0", "bfloat16", {"": "cuda:0"}, "none"),
    ({}, HALF, FIRST_IS_OURS, "cuda:1", "bfloat16", {"": "cuda:1"}, "none"),
    ({}, model(20), FIRST_IS_OURS, "cuda:0", "bfloat16", {"": "cuda:0"}, "none"),
    # device, in all its spellings
    ({"device": "cpu"}, HALF, ONE_A100, "cpu", "float32", None, "none"),
    ({"device": -1}, HALF, ONE_A100, "cpu", "float32", None, "none"),
    ({"device": 0}, HALF, ONE_A100, "cuda:0", "bfloat16", {"": "cuda:0"}, "none"),
    ({"device": "0"}, HALF, ONE_A100, "cuda:0", "bfloat16", {"": "cuda:0"}, "none"),
    ({"device": "cuda"}, HALF, BUSY_AND_IDLE, "cuda:1", "bfloat16", {"": "cuda:1"}, "none"),
    ({"device": "cuda:0"}, HALF, BUSY_AND_IDLE, "cuda:0", "bfloat16", {"": "cuda:0"}, "none"),
    ({"device": "CUDA:1"}, HALF, TWO_T4, "cuda:1", "float16", {"": "cuda:1"}, "none"),
    ({"device": "auto"}, HALF, ONE_A100, "cuda:0", "bfloat16", {"": "cuda:0"}, "none"),
    # device_map with a device, a strategy, a dict
    ({"device_map": "cuda:1"}, HALF, TWO_T4, "cuda:1", "float16", {"": "cuda:1"}, "none"),
    ({"device_map": "cpu"}, HALF, ONE_A100, "cpu", "float32", None, "none"),
    ({"device_map": 1}, HALF, TWO_T4, "cuda:1", "float16", {"": "cuda:1"}, "none"),
    ({"device_map": "balanced"}, HALF, TWO_T4, "cuda:0", "float16", "balanced", "none"),
    ({"device_map": "balanced_low_0"}, HALF, TWO_T4, "cuda:0", "float16", "balanced_low_0", "none"),
    ({"device_map": "sequential"}, HALF, TWO_T4, "cuda:0", "float16", "sequential", "none"),
    ({"device_map": {"": 0}}, HALF, TWO_T4, "cuda:0", "float16", {"": "cuda:0"}, "none"),
    ({"device_map": {"": "cpu"}}, HALF, TWO_T4, "cpu", "float32", None, "none"),
    (
        {"device_map": {"model": 1, "lm_head": "cuda:0"}},
        HALF,
        TWO_T4,
        "cuda:0",
        "float16",
        {"model": "cuda:1", "lm_head": "cuda:0"},
        "none",
    ),
    (
        {"device_map": {"lm_head": "cpu", "model": 0}},
        HALF,
        ONE_T4,
        "cuda:0",
        "float16",
        {"lm_head": "cpu", "model": "cuda:0"},
        "none",
    ),
    # max_memory
    ({"max_memory": {"1": "10GB"}}, HALF, TWO_T4, "cuda:1", "float16", {"": "cuda:1"}, "none"),
    ({"max_memory": {"0": "6GiB", "1": "6GiB"}}, model(5), TWO_T4, "cuda:0", "float16", "balanced", "none"),
    ({"max_memory": {"0": "4GB", "cpu": "12GB"}}, model(5), ONE_T4, "cuda:0", "float16", "balanced", "none"),
    ({"max_memory": {"cpu": 8 * GB}}, HALF, ONE_A100, "cpu", "float32", None, "none"),
    # dtype
    ({"dtype": "float16"}, HALF, ONE_A100, "cuda:0", "float16", {"": "cuda:0"}, "none"),
    ({"torch_dtype": "float32"}, HALF, ONE_A100, "cuda:0", "float32", {"": "cuda:0"}, "none"),
    ({"torch_dtype": "torch.bfloat16"}, HALF, LAPTOP, "cpu", "bfloat16", None, "none"),
    ({"dtype": "auto"}, HALF, LAPTOP, "cpu", "bfloat16", None, "none"),
    ({"dtype": "half"}, HALF_FP32, ONE_T4, "cuda:0", "float16", {"": "cuda:0"}, "none"),
    # quantization: what does not fit unpacked does packed
    (BIT4, SEVEN, ONE_T4, "cuda:0", "float16", {"": "cuda:0"}, "bnb-4bit"),
    (BIT4, SEVEN, LAPTOP, "cpu", "float32", None, "bnb-4bit"),
    ({"load_in_8bit": True}, SEVEN, ONE_T4, "cuda:0", "float16", {"": "cuda:0"}, "bnb-8bit"),
    ({"quantization_config": {"load_in_4bit": True}}, SEVEN, ONE_T4, "cuda:0", "float16", {"": "cuda:0"}, "bnb-4bit"),
    (
        {"quantization_config": {"quant_method": "torchao", "quant_type": "int8"}},
        HALF,
        ONE_A100,
        "cuda:0",
        "bfloat16",
        {"": "cuda:0"},
        "torchao",
    ),
]

# wishes, model, machine -> error, its message
REFUSED: list[tuple[dict[str, Any], Checkpoint, Hardware, type[Exception], str]] = [
    ({}, SEVEN, SMALL, OutOfMemory, 'model "org/model" does not fit on the CPU: it needs 13.8 GB, 1.0 GB is free'),
    (
        {"device": "cuda"},
        HALF,
        LAPTOP,
        DeviceNotAvailable,
        'device "cuda" is not here',
    ),
    ({"device": "cuda:1"}, HALF, ONE_T4, DeviceNotAvailable, 'device "cuda:1" is not here'),
    ({"device": 3}, HALF, TWO_T4, DeviceNotAvailable, 'device "3" is not here'),
    ({"device_map": "cuda"}, HALF, LAPTOP, DeviceNotAvailable, 'device "cuda" is not here'),
    ({"device_map": {"": "cuda:7"}}, HALF, ONE_T4, DeviceNotAvailable, 'device "cuda:7" is not here'),
    (
        {"device": 0},
        model(10),
        ONE_T4,
        OutOfMemory,
        'model "org/model" does not fit on device cuda:0: it needs 20.1 GB, 15.0 GB is free',
    ),
    (
        {"device": "cpu"},
        HALF,
        SMALL,
        OutOfMemory,
        'model "org/model" does not fit on device cpu: it needs 1.0 GB, 1.0 GB is free',
    ),
    ({"device": "tpu"}, HALF, ONE_T4, InvalidTask, '"tpu" is not a device'),
    ({"device": "cuda:-1"}, HALF, ONE_T4, InvalidTask, '"cuda:-1" is not a device'),
    (
        {"device": 0, "device_map": "auto"},
        HALF,
        ONE_T4,
        InvalidTask,
        '"device" is "0" and "device_map" is "auto"',
    ),
    ({"device_map": "everywhere"}, HALF, ONE_T4, InvalidTask, '"everywhere" is not a device'),
    ({"device_map": {}}, HALF, ONE_T4, InvalidTask, '"device_map" is an empty object'),
    ({"device_map": [0]}, HALF, ONE_T4, InvalidTask, '"device_map" is [0]'),
    ({"device_map": True}, HALF, ONE_T4, InvalidTask, '"device_map" is true'),
    ({"dtype": "int3"}, HALF, ONE_T4, InvalidTask, '"dtype" is "int3"'),
    ({"max_memory": {"0": "much"}}, HALF, ONE_T4, InvalidTask, '"max_memory" of "0" is "much"'),
    ({"max_memory": {"cuda:0": 1, "0": 2}}, HALF, ONE_T4, InvalidTask, '"max_memory" names cuda:0 twice'),
    (
        {"device": "cpu", "max_memory": {"0": "30GB"}},
        HALF,
        ONE_T4,
        InvalidTask,
        'the device is "cpu" and "max_memory" does not name it',
    ),
    ({"max_memory": []}, HALF, ONE_T4, InvalidTask, '"max_memory" is []'),
    (
        {"max_memory": {"0": "1GB"}},
        SEVEN,
        ONE_T4,
        OutOfMemory,
        'model "org/model" does not fit on what max_memory names: it needs 14.2 GB, 954 MB is free',
    ),
    (
        {"device_map": "balanced", **BIT4},
        model(70),
        TWO_T4,
        OutOfMemory,
        'model "org/model" does not fit on the GPUs, and a quantized model is not split with the CPU',
    ),
]


def resolve(wishes: dict[str, Any], checkpoint: Checkpoint, machine: Hardware) -> placement.Placement:
    """The placement of a task with these keywords."""
    task = from_keywords({"task": "text-generation", "model": "org/model", **wishes})
    return placement.resolve(task.wishes, checkpoint, machine)


@pytest.mark.parametrize(("wishes", "checkpoint", "machine", "device", "dtype", "device_map", "quantization"), PLACED)
def test_placed(
    wishes: dict[str, Any],
    checkpoint: Checkpoint,
    machine: Hardware,
    device: str,
    dtype: str,
    device_map: Any,
    quantization: str,
) -> None:
    """Each row of the table: these wishes and this model, on this machine, go there."""
    place = resolve(wishes, checkpoint, machine)

    assert (device, dtype, quantization) == (place.device, place.dtype, place.quantization_name)
    assert device_map == (place.device_map and json.loads(place.device_map))


@pytest.mark.parametrize(("wishes", "checkpoint", "machine", "error", "message"), REFUSED)
def test_refused(
    wishes: dict[str, Any], checkpoint: Checkpoint, machine: Hardware, error: type[Exception], message: str
) -> None:
    """Each row of the table: what can't be done is an error that says with which value."""
    with pytest.raises(error) as caught:
        resolve(wishes, checkpoint, machine)

    assert message == str(caught.value)


def test_the_cpu_is_never_silent_beside_a_gpu() -> None:
    """Where there is a GPU and the model does not fit, the placement on the CPU has a warning with the sizes."""
    place = resolve({}, HALF, FULL)

    assert place.warning == "the model runs on the CPU: it needs 1.5 GB on a GPU, and cuda:0 has 256 MB free"
    unusable = resolve({}, HALF, replace(RAM, unusable_gpu=True))
    assert unusable.warning == "the model runs on the CPU: there is a GPU, and torch can't use it"
    assert resolve({"device": "cpu"}, HALF, FULL).warning is None
    assert resolve({}, HALF, LAPTOP).warning is None


def test_out_of_memory_says_all() -> None:
    """The error of a model that does not fit has the parameters, the form, every device tried, and the remedy."""
    with pytest.raises(OutOfMemory) as caught:
        resolve({}, model(70), ONE_T4)

    error = caught.value
    assert str(error) == 'model "org/model" does not fit on any device: it needs 137.0 GB, 15.0 GB is free'
    assert error.detail == (
        "70,000,000,000 parameters in bfloat16 are 130.4 GB (cuda:0: 137.4 GB needed, 15.0 GB free; "
        "any device: 137.0 GB needed, 15.0 GB free)."
    )
    assert error.hint == 'add "load_in_4bit": true, take a smaller model, or free memory with SELECT pgml.unload()'


def test_one_placement_for_every_spelling() -> None:
    """Spellings that mean the same device give equal placements, so that they share one entry of the cache."""
    spellings: list[dict[str, Any]] = [
        {},
        {"device": 0},
        {"device": "cuda"},
        {"device_map": "auto"},
        {"device_map": {"": "cuda:0"}},
        {"device_map": "cuda:0"},
    ]

    assert len({resolve(wishes, HALF, ONE_A100) for wishes in spellings}) == 1


def test_default_device() -> None:
    """The setting pgml.device stands where the task names no device, and nowhere else."""
    task = from_keywords({"task": "text-generation"})
    named = from_keywords({"task": "text-generation", "device": 0})

    assert placement.resolve(task.wishes, HALF, ONE_A100, "cpu").device == "cpu"
    assert placement.resolve(named.wishes, HALF, ONE_A100, "cpu").device == "cuda:0"


def test_room_is_counted_where_the_model_goes() -> None:
    """A spread model counts the GPUs, one that spills over the CPU too; room is made on those."""
    two_full = replace(
        RAM, gpus=(replace(T4, free=2 * GB, held=12 * GB), replace(T4, index=1, free=2 * GB, held=12 * GB))
    )

    assert resolve({}, model(10), two_full).counted == ("cuda:0", "cuda:1")
    assert resolve({"device_map": "balanced"}, model(15), TWO_T4).counted == ("cuda:0", "cuda:1", "cpu")
    assert resolve({}, HALF, LAPTOP).counted == ("cpu",)
    assert resolve({"device_map": {"a": 0, "b": "cpu"}}, HALF, ONE_T4).counted == ("cpu", "cuda:0")


def test_a_quantizer_keeps_a_tenth_for_itself() -> None:
    """A quantized model that is spread has to fit into nine tenths of the GPUs."""
    bits = {"device_map": "balanced", "load_in_8bit": True, "max_memory": {"0": "10GB", "1": "10GB"}}

    with pytest.raises(OutOfMemory):
        resolve(bits, model(16.5), TWO_T4)
    assert resolve(bits, model(13), TWO_T4).device == "cuda:0"
