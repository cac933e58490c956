"""What a model's files tell before a weight is read: its configuration, and the size and dtype of its tensors."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgml_transform import hub, quantization
from pgml_transform.errors import ModelBroken, ModelNotFound
from pgml_transform.settings import Settings
from pgml_transform.task import Task

# The dtypes of safetensors' headers, in bytes an element and by torch's names.
_DTYPES = {
    "F64": (8, "float64"),
    "F32": (4, "float32"),
    "F16": (2, "float16"),
    "BF16": (2, "bfloat16"),
    "F8_E4M3": (1, "float8_e4m3fn"),
    "F8_E5M2": (1, "float8_e5m2"),
    "I64": (8, "int64"),
    "I32": (4, "int32"),
    "I16": (2, "int16"),
    "I8": (1, "int8"),
    "U8": (1, "uint8"),
    "BOOL": (1, "bool"),
}
_FLOATING = ("float64", "float32", "float16", "bfloat16")
_LARGEST_HEADER = 100_000_000  # the limit of the safetensors library itself
_EMBEDDING = re.compile(r"embed|wte|wpe|lm_head|shared\.weight|\.word_")


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk or on the hub; sizes in bytes, counts in elements.

    `linear` counts the elements of the matrices that bitsandbytes packs (two dimensions, no embedding, no head),
    `floating` all elements that a dtype applies to (the linear ones among them), `fixed_bytes` the rest, as stored.
    """

    model: str
    revision: str | None
    dtype: str
    floating: int
    linear: int
    fixed_bytes: int
    quantization: str | None = None
    architectures: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """The elements that count as parameters; packed ones count as stored."""
        return self.floating


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
    tensors = list(_tensors(task, settings, folder, loading.get("variant")))
    floating = [tensor for tensor in tensors if tensor.dtype in _FLOATING]
    return Checkpoint(
        model=task.model,
        revision=folder.name if re.fullmatch("[0-9a-f]{40}", folder.name) else task.revision,
        dtype=_dtype(config, floating),
        floating=sum(tensor.elements for tensor in floating),
        linear=sum(tensor.elements for tensor in floating if _is_linear(tensor)),
        fixed_bytes=sum(tensor.size for tensor in tensors if tensor.dtype not in _FLOATING),
        quantization=_stored_quantization(config),
        architectures=tuple(config.get("architectures") or ()),
    )


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


def _tensors(task: Task, settings: Settings, folder: Path, variant: str | None) -> Iterator[_Tensor]:
    """The tensors of the model's safetensors files; of files that are not here yet, the hub tells them."""
    middle = f".{variant}" if variant else ""
    single, index = folder / f"model{middle}.safetensors", folder / f"model.safetensors.index{middle}.json"
    if single.exists():
        yield from _headers(task, [single])
    elif index.exists():
        names = set(_read_json(task, index).get("weight_map", {}).values())
        shards = [folder / name for name in sorted(names)]
        if all(shard.exists() for shard in shards):
            yield from _headers(task, shards)
        else:
            yield from _remote_tensors(task, settings)
    elif not Path(task.model).is_absolute():
        yield from _remote_tensors(task, settings)
    else:
        raise _no_safetensors(task, folder)


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
    dtype = _DTYPES.get(entry["dtype"], (0, str(entry["dtype"]).lower()))[1]
    return _Tensor(name, dtype, end - start, tuple(entry["shape"]))


def _remote_tensors(task: Task, settings: Settings) -> Iterator[_Tensor]:
    """The same, of files that are only on the hub: it answers the headers alone."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import NotASafetensorsRepoError

    if hub.offline(task, settings):
        raise _no_safetensors(task, None)
    with hub.errors(task, settings):
        try:
            metadata = HfApi().get_safetensors_metadata(task.model, revision=task.revision, token=task.token)
        except NotASafetensorsRepoError:
            raise _no_safetensors(task, None) from None
    for file in metadata.files_metadata.values():
        for name, info in file.tensors.items():
            start, end = info.data_offsets
            yield _Tensor(name, _DTYPES.get(info.dtype, (0, info.dtype.lower()))[1], end - start, tuple(info.shape))


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


def _is_linear(tensor: _Tensor) -> bool:
    matrix = 2
    return len(tensor.shape) == matrix and _EMBEDDING.search(tensor.name) is None


def _broken(task: Task, path: Path, detail: str) -> ModelBroken:
    return ModelBroken(
        f'"{path.name}" of model "{task.model}" is broken',
        detail=detail,
        hint="remove the model from the hub's cache and download it again",
    )


def _no_safetensors(task: Task, folder: Path | None) -> ModelNotFound:
    where = f" in {folder}" if folder else ""
    return ModelNotFound(
        f'model "{task.model}" has no weights in safetensors{where}',
        detail="Weights in pickle files can run any code when they are read, so they are not loaded.",
        hint="use a revision that has model.safetensors, or convert it with save_pretrained",
    )
