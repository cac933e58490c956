"""What a model's files tell before a weight is read: its configuration, and the size and dtype of its tensors."""

from __future__ import annotations

import json
import math
import re
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgml_transform import hub, quantization
from pgml_transform.errors import ModelBroken, ModelNotFound
from pgml_transform.settings import Settings
from pgml_transform.task import Task

# The dtypes of safetensors' headers that a model computes in, by torch's names; others are taken as they are stored.
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_FLOATING = tuple(_DTYPES.values())
_LARGEST_HEADER = 100_000_000  # the limit of the safetensors library itself
_CONNECTIONS = 8  # at once, for the headers of shards
_PACKED_ROWS = 32
_EMBEDDING = re.compile(r"embed|wte|wpe|lm_head|shared\.weight|\.word_")


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk or on the hub; sizes in bytes, counts in elements.

    `linear` counts the elements of the matrices that bitsandbytes packs (two dimensions, no embedding, no head),
    `floating` all elements that a dtype applies to (the linear ones among them), `fixed_bytes` the rest, as stored.
    `unpackable` names the matrices whose rows bitsandbytes can't pack in blocks on a CPU, such as a classifier's head.
    """

    model: str
    revision: str | None
    dtype: str
    floating: int
    linear: int
    fixed_bytes: int
    quantization: str | None = None
    unpackable: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Tensor:
    name: str
    dtype: str
    size: int
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def inspect(task: Task, settings: Settings) -> Checkpoint:
    """Find the model (in the cache, else on the hub) and read its configuration and tensors' headers.

    Raises ModelNotFound where it is not to be had, ModelBroken where its files contradict themselves.
    """
    loading = json.loads(task.loading)
    folder = find(task, settings, loading)
    config = _read_json(task, folder / "config.json")
    tensors = list(_tensors(task, settings, folder, loading))
    floating = [tensor for tensor in tensors if tensor.dtype in _FLOATING]
    return Checkpoint(
        model=task.model,
        revision=_commit(folder) or task.revision,
        dtype=_dtype(config, floating),
        floating=sum(tensor.elements for tensor in floating),
        linear=sum(tensor.elements for tensor in floating if _is_linear(tensor)),
        fixed_bytes=sum(tensor.size for tensor in tensors if tensor.dtype not in _FLOATING),
        quantization=_stored_quantization(config),
        unpackable=tuple(tensor.name.removesuffix(".weight") for tensor in floating if _is_unpackable(tensor)),
    )


def _commit(folder: Path) -> str | None:
    """The commit whose snapshot in the hub's cache this folder is, or lies in."""
    found = re.search(r"/snapshots/([0-9a-f]{40})(/|$)", str(folder))
    return found[1] if found else None


def find(task: Task, settings: Settings, loading: dict[str, Any]) -> Path:
    """The folder that holds the model's config.json: the directory itself, or a snapshot in the hub's cache."""
    if Path(task.model).is_absolute():
        folder = Path(task.model, loading.get("subfolder", ""))
        if not (folder / "config.json").is_file():
            raise ModelNotFound(
                f'no model in directory "{task.model}"',
                detail="It has no config.json that the server's user can read.",
                hint="name the directory that save_pretrained wrote, and let the server's user read it",
            )
        return folder
    return Path(_download(task, settings, "config.json", loading.get("subfolder"))).parent


def _download(task: Task, settings: Settings, name: str, subfolder: str | None) -> str:
    """The path of a repository's file in the cache, fetched where that is allowed."""
    from huggingface_hub import hf_hub_download

    with hub.errors(task, settings):
        return hf_hub_download(
            task.model,
            name,
            subfolder=subfolder,
            revision=task.revision,
            token=task.token,
            cache_dir=settings.hub_cache,
            local_files_only=hub.offline(task, settings),
        )


def _read_json(task: Task, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelBroken(f'cannot read {path.name} of model "{task.model}"', detail=str(error)) from None
    if not isinstance(value, dict):
        raise ModelBroken(f'{path.name} of model "{task.model}" is not a JSON object')
    return value


def _tensors(task: Task, settings: Settings, folder: Path, loading: dict[str, Any]) -> Iterator[_Tensor]:
    """The tensors of the model's safetensors files; of files that are not here yet, the hub tells them."""
    middle = f".{loading['variant']}" if loading.get("variant") else ""
    subfolder = loading.get("subfolder")
    single, index = folder / f"model{middle}.safetensors", folder / f"model.safetensors.index{middle}.json"
    if single.exists():
        yield from _headers(task, [single])
    elif index.exists():
        names = set(_read_json(task, index).get("weight_map", {}).values())
        shards = [folder / name for name in sorted(names)]
        if all(shard.exists() for shard in shards):
            yield from _headers(task, shards)
        else:
            yield from _remote_tensors(task, settings, shards, subfolder)
    elif Path(task.model).is_absolute() or (hub.offline(task, settings) and any(folder.glob("*.bin"))):
        raise _no_safetensors(task)
    elif _on_hub(task, settings, single.name, subfolder):
        yield from _remote_tensors(task, settings, [single], subfolder)
    elif _on_hub(task, settings, index.name, subfolder):
        folder = Path(_download(task, settings, index.name, subfolder)).parent
        yield from _tensors(task, settings, folder, loading)
    else:
        raise _no_safetensors(task)


def _headers(task: Task, paths: Iterable[Path]) -> Iterator[_Tensor]:
    """Read the headers of these files: https://github.com/huggingface/safetensors#format."""
    for path in paths:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= _LARGEST_HEADER else b""
        try:
            header = json.loads(text)
            header.pop("__metadata__", None)
            tensors = [_tensor(name, entry) for name, entry in header.items()]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _broken(task, path, "Its header is not that of a safetensors file.") from None
        expected = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if path.stat().st_size != expected:
            raise _broken(task, path, f"It has {path.stat().st_size} bytes where its header tells of {expected}.")
        yield from tensors


def _tensor(name: str, entry: dict[str, Any]) -> _Tensor:
    start, end = entry["data_offsets"]
    return _Tensor(name, _DTYPES.get(entry["dtype"], entry["dtype"]), end - start, tuple(entry["shape"]))


def _on_hub(task: Task, settings: Settings, name: str, subfolder: str | None) -> bool:
    """Whether the hub has this file of the model."""
    from huggingface_hub import HfApi

    if hub.offline(task, settings):
        raise hub.not_cached(task, settings)
    with hub.errors(task, settings):
        path = f"{subfolder}/{name}" if subfolder else name
        return HfApi().file_exists(task.model, path, revision=task.revision, token=task.token)


def _remote_tensors(task: Task, settings: Settings, files: list[Path], subfolder: str | None) -> Iterator[_Tensor]:
    """The same, of files that are only on the hub: it answers the headers alone."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import SafetensorsParsingError

    if hub.offline(task, settings):
        raise hub.not_cached(task, settings)

    def header(file: Path) -> Any:
        path = f"{subfolder}/{file.name}" if subfolder else file.name
        try:
            return HfApi().parse_safetensors_file_metadata(task.model, path, revision=task.revision, token=task.token)
        except SafetensorsParsingError as error:
            raise _broken(task, file, str(error)) from None

    every = signal.valid_signals()  # the threads take none of the server's
    with (
        hub.errors(task, settings),
        ThreadPoolExecutor(
            _CONNECTIONS, initializer=signal.pthread_sigmask, initargs=(signal.SIG_BLOCK, every)
        ) as pool,
    ):
        headers = list(pool.map(header, files))
    for found in headers:
        for name, info in found.tensors.items():
            start, end = info.data_offsets
            yield _Tensor(name, _DTYPES.get(info.dtype, info.dtype), end - start, tuple(info.shape))


def _dtype(config: dict[str, Any], floating: list[_Tensor]) -> str:
    """The dtype that the checkpoint is kept in: what most of its elements have, as transformers' "auto" finds it."""
    said = config.get("dtype") or config.get("torch_dtype")
    if isinstance(said, str) and said in _FLOATING:
        return said
    counts: dict[str, int] = {}
    for tensor in floating:
        counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.elements
    return max(counts, key=lambda dtype: counts[dtype], default="float32")


def _stored_quantization(config: dict[str, Any]) -> str | None:
    """The quantization that the checkpoint itself is in, by the name that pgml.deployments shows."""
    stored = config.get("quantization_config")
    return quantization.name(stored) if isinstance(stored, dict) else None


def _is_unpackable(tensor: _Tensor) -> bool:
    return _is_linear(tensor) and tensor.shape[0] % _PACKED_ROWS != 0


def _is_linear(tensor: _Tensor) -> bool:
    matrix = 2
    return len(tensor.shape) == matrix and _EMBEDDING.search(tensor.name) is None


def _broken(task: Task, path: Path, detail: str) -> ModelBroken:
    return ModelBroken(
        f'"{path.name}" of model "{task.model}" is broken',
        detail=detail,
        hint="remove the model from the hub's cache and download it again",
    )


def _no_safetensors(task: Task) -> ModelNotFound:
    return ModelNotFound(
        f'model "{task.model}" has no weights in safetensors',
        detail="Weights in pickle files can run any code when they are read, so they are not loaded.",
        hint="use a revision that has model.safetensors, or convert it with save_pretrained",
    )
