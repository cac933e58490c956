"""Where a model goes and in which form: a pure function of the wishes, the checkpoint and the hardware.

The rules, first match wins:

1. A device by name (`device`, or `device_map` with a device or a dict) is obeyed, or it is an error.
2. `device_map` "balanced", "balanced_low_0" and "sequential" spread over the GPUs, as accelerate does; what is
   left over goes to the CPU. `max_memory` bounds each device, and those it does not name are not used.
3. Else ("auto" says the same as saying nothing): the GPU with the most free memory, if the model fits there;
   else spread over the GPUs; else the CPU, with a warning where there are GPUs.

The dtype that is not asked for is the checkpoint's own, but float16 for bfloat16 on a GPU before Ampere, and on the
CPU float32 for float16, and for bfloat16 where the CPU has no bf16 arithmetic: 16 bits are 5 to 6 times slower there
(and kept all the same where float32 does not fit).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from pgml_transform import devices, footprint, quantization
from pgml_transform.checkpoint import Checkpoint
from pgml_transform.devices import CPU
from pgml_transform.errors import InvalidTask, OutOfMemory
from pgml_transform.footprint import SIZES
from pgml_transform.hardware import Gpu, Hardware
from pgml_transform.sizes import pretty
from pgml_transform.task import Wishes
from pgml_transform.values import canonical

STRATEGIES = ("balanced", "balanced_low_0", "sequential")


@dataclass(frozen=True)
class Placement:
    """The decision. `device` is where inputs go; `device_map` what accelerate gets, canonical JSON, None for the CPU.

    `weights` and `needed` are bytes in all; `budget` is what the devices that were counted, `counted`, have for it.
    """

    device: str
    dtype: str
    device_map: str | None = None
    max_memory: str | None = None
    quantization: str | None = None
    weights: int = field(default=0, compare=False)
    needed: int = field(default=0, compare=False)
    budget: int = field(default=0, compare=False)
    counted: tuple[str, ...] = field(default=(), compare=False)
    warning: str | None = field(default=None, compare=False)

    @property
    def uses_gpu(self) -> bool:
        """Whether any of the model goes to a GPU."""
        return self.device != CPU

    @property
    def quantization_name(self) -> str:
        """As pgml.deployments shows it; "none" where the checkpoint is taken as it is."""
        return quantization.name(json.loads(self.quantization)) if self.quantization else "none"


def resolve(wishes: Wishes, checkpoint: Checkpoint, hardware: Hardware, default_device: str = "auto") -> Placement:
    """Decide. `default_device` is the setting `pgml.device`, for wishes that name no device.

    Raises InvalidTask for contradictions and bad values, DeviceNotAvailable for a device that is not here,
    OutOfMemory where the model can't fit.
    """
    if wishes.device is not None and wishes.device_map is not None:
        raise InvalidTask(
            f'"device" is "{wishes.device}" and "device_map" is {wishes.device_map}',
            detail="Each of them says where the model goes.",
            hint='leave one of them out; "device_map": "auto" is what happens without either',
        )
    return _Resolver(wishes, checkpoint, hardware).placement(default_device)


@dataclass(frozen=True)
class _Resolver:
    wishes: Wishes
    checkpoint: Checkpoint
    hardware: Hardware

    def placement(self, default_device: str) -> Placement:
        wanted = self._wanted()
        if wanted in (None, "auto") and self.wishes.max_memory is None:
            wanted = default_device
        if isinstance(wanted, dict):
            return self._mapped(wanted)
        if wanted in STRATEGIES:
            return self._spread(wanted)
        return self._automatic() if wanted in (None, "auto") else self._named(wanted)

    # --- the rules -----------------------------------------------------------------------------------

    def _named(self, name: str) -> Placement:
        device = self._known_device(name)
        if self.wishes.max_memory is not None and device not in self._max_memory():
            raise InvalidTask(
                f'the device is "{name}" and "max_memory" does not name it', hint='leave "max_memory" out, or name it'
            )
        gpu = self._gpu(device)
        place = self._on_cpu() if gpu is None else self._on_gpu(gpu)
        self._require_fit(place, f"device {device}")
        return place

    def _automatic(self) -> Placement:
        budgets = self._budgets()
        gpus = [gpu for gpu in self.hardware.gpus if f"cuda:{gpu.index}" in budgets]
        single = [(gpu, self._on_gpu(gpu)) for gpu in gpus]
        for held_too in (False, True):
            spare = {gpu.index: gpu.free + (gpu.held if held_too else 0) for gpu in gpus}
            fitting = [(gpu, place) for gpu, place in single if place.needed <= min(place.budget, spare[gpu.index])]
            if fitting:
                return max(fitting, key=lambda pair: (spare[pair[0].index], -pair[0].index))[1]
        if len(gpus) > 1 or (gpus and self.wishes.max_memory is not None):
            spread = self._over_gpus("balanced", with_cpu=self.wishes.max_memory is not None)
            if spread.needed <= spread.budget:
                return spread
        if self.wishes.max_memory is not None and CPU not in budgets:
            place = single[0][1] if single else self._on_cpu()
            self._require_fit(place, "what max_memory names")
        place = self._on_cpu()
        self._require_fit(place, "any device" if gpus else "the CPU", tried=[one for _, one in single])
        if self.hardware.unusable_gpu:
            return replace(place, warning="the model runs on the CPU: there is a GPU, and torch can't use it")
        if not self.hardware.gpus:
            return place
        need = pretty(min((one.needed for _, one in single), default=place.needed))
        free = ", ".join(f"cuda:{gpu.index} has {pretty(gpu.free)} free" for gpu in self.hardware.gpus)
        warning = f"the model runs on the CPU: it needs {need} on a GPU, and {free}"
        return replace(place, warning=warning)

    def _spread(self, strategy: str) -> Placement:
        if not self.hardware.gpus:
            place = self._on_cpu()
            self._require_fit(place, "the CPU")
            return place
        place = self._over_gpus(strategy, with_cpu=self.wishes.max_memory is None or CPU in self._budgets())
        self._require_fit(place, "the devices together")
        return place

    def _mapped(self, wanted: dict[str, Any]) -> Placement:
        """An explicit map of modules to devices: each must be here; the sizes of its parts only the load can tell."""
        if not wanted:
            raise InvalidTask('"device_map" is an empty object', hint='map the whole model: {"": "cpu"}')
        places = {module: self._known_device(str(device)) for module, device in wanted.items()}
        used = sorted(set(places.values()))
        if len(used) == 1:
            return self._named(used[0])
        gpus = [device for device in used if device != CPU]
        first = gpus[0] if gpus else CPU
        place = self._placement(first, self._dtype(self._gpu(first)), canonical(places), used)
        self._refuse_packed_on_cpu(used)
        self._require_fit(place, "the devices of device_map together")
        return place

    # --- their parts ---------------------------------------------------------------------------------

    def _on_gpu(self, gpu: Gpu) -> Placement:
        device = f"cuda:{gpu.index}"
        return self._placement(device, self._dtype(gpu), canonical({"": device}), [device])

    def _on_cpu(self) -> Placement:
        place = self._placement(CPU, self._dtype(None), None, [CPU])
        stored = self.checkpoint.dtype
        if place.needed > place.budget and self.wishes.dtype is None and SIZES.get(stored, 9) < SIZES[place.dtype]:
            place = self._placement(CPU, stored, None, [CPU])
        return place

    def _over_gpus(self, strategy: str, *, with_cpu: bool) -> Placement:
        budgets = self._budgets()
        names = [f"cuda:{gpu.index}" for gpu in self.hardware.gpus if f"cuda:{gpu.index}" in budgets]
        if not names:
            raise InvalidTask(
                f'"device_map" is "{strategy}" and "max_memory" names no GPU',
                hint='name one, such as "max_memory": {"0": "10GB"}, or leave "max_memory" out',
            )
        place = self._placement(names[0], self._dtype(self._gpu(names[0])), canonical(strategy), names)
        share = footprint.SPREAD_SHARE if self.wishes.quantization is not None else 1.0
        needed = int((place.needed + (len(names) - 1) * footprint.GPU_OVERHEAD) / share)
        place = replace(place, needed=needed)
        if needed <= place.budget or not with_cpu or CPU not in budgets:
            return place
        self._refuse_packed_on_cpu([*names, CPU])
        warning = (
            f"a part of the model runs on the CPU: it needs {pretty(needed)} and the GPUs have {pretty(place.budget)}"
        )
        return replace(place, budget=place.budget + budgets[CPU], counted=(*names, CPU), warning=warning)

    def _placement(self, device: str, dtype: str, device_map: str | None, counted: list[str]) -> Placement:
        weights = footprint.weights(self.checkpoint, dtype, self.wishes.quantization)
        return Placement(
            device=device,
            dtype=dtype,
            device_map=device_map,
            max_memory=canonical(self._max_memory()) if self.wishes.max_memory and device_map else None,
            quantization=self.wishes.quantization,
            weights=weights,
            needed=footprint.needed(weights, on_gpu=device != CPU),
            budget=self._budget(counted),
            counted=tuple(counted),
        )

    def _dtype(self, gpu: Gpu | None) -> str:
        wanted = self.wishes.dtype
        stored = self.checkpoint.dtype if self.checkpoint.dtype in SIZES else "float32"
        if wanted == "auto":
            return stored
        if wanted is not None:
            if wanted not in SIZES:
                raise InvalidTask(
                    f'"dtype" is "{wanted}"', hint=f"write one of {', '.join(SIZES)}, or auto for the checkpoint's own"
                )
            return wanted
        if gpu is None:
            fast = stored == "bfloat16" and self.hardware.cpu_bf16
            return stored if fast or stored == "float64" else "float32"
        return "float16" if stored == "bfloat16" and not gpu.bf16 else stored

    # --- devices and memory --------------------------------------------------------------------------

    def _wanted(self) -> str | dict[str, Any] | None:
        """What `device` or `device_map` says, whichever is there."""
        if self.wishes.device_map is None:
            return self.wishes.device
        value = json.loads(self.wishes.device_map)
        if isinstance(value, dict):
            return value
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise InvalidTask(
                f'"device_map" is {self.wishes.device_map}',
                hint=f"write one of auto, {', '.join(STRATEGIES)}, a device, or an object of modules and devices",
            )
        return str(value)

    def _gpu(self, device: str) -> Gpu | None:
        return next((gpu for gpu in self.hardware.gpus if f"cuda:{gpu.index}" == device), None)

    def _budgets(self) -> dict[str, int]:
        """What each device has for this model: free memory and what this backend could give back, under max_memory."""
        budgets = {f"cuda:{gpu.index}": gpu.free + gpu.held for gpu in self.hardware.gpus}
        budgets[CPU] = self.hardware.ram_free + self.hardware.ram_held
        if self.wishes.max_memory is None:
            return budgets
        limits = self._max_memory()
        return {device: min(budgets[device], limit) for device, limit in limits.items() if device in budgets}

    def _budget(self, names: list[str]) -> int:
        budgets = self._budgets()
        return sum(budgets.get(name, 0) for name in names)

    def _known_device(self, name: str) -> str:
        return devices.known(name, self.hardware)

    def _max_memory(self) -> dict[str, int]:
        return devices.limits(self.wishes.max_memory or "{}", self.hardware)

    def _refuse_packed_on_cpu(self, names: list[str]) -> None:
        config = json.loads(self.wishes.quantization or "{}")
        if CPU in names and config and not config.get("llm_int8_enable_fp32_cpu_offload"):
            raise OutOfMemory(
                f'model "{self.checkpoint.model}" does not fit on the GPUs, and a quantized model is not split with '
                "the CPU",
                hint='add "llm_int8_enable_fp32_cpu_offload": true, or "device": "cpu" for all of it',
            )

    def _require_fit(self, place: Placement, where: str, tried: list[Placement] | None = None) -> None:
        if place.needed <= place.budget:
            return
        needs = [f"{one.device}: {pretty(one.needed)} needed, {pretty(one.budget)} free" for one in tried or []]
        needs.append(f"{where}: {pretty(place.needed)} needed, {pretty(place.budget)} free")
        form = place.dtype if place.quantization is None else place.quantization_name
        raise OutOfMemory(
            f'model "{self.checkpoint.model}" does not fit on {where}: it needs {pretty(place.needed)}, '
            f"{pretty(place.budget)} is free",
            detail=f"{self.checkpoint.floating:,} parameters in {form} are {pretty(place.weights)} "
            f"({'; '.join(needs)}).",
            hint=_smaller(place),
        )


def _smaller(place: Placement) -> str:
    if place.quantization is None:
        return 'add "load_in_4bit": true, take a smaller model, or free memory with SELECT pgml.unload()'
    return "take a smaller model, or free memory with SELECT pgml.unload()"
