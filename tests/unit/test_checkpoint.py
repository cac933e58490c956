"""checkpoint.py: what the headers of safetensors files tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pgml_transform import checkpoint
from pgml_transform.errors import ModelBroken, ModelNotFound
from pgml_transform.settings import Settings
from pgml_transform.task import Task


def write(folder: Path, name: str, tensors: dict[str, tuple[str, list[int]]], cut: int = 0) -> None:
    """A safetensors file with these tensors (dtype, shape), its end cut off by so many bytes."""
    sizes = {"F32": 4, "BF16": 2, "I64": 8, "U8": 1}
    header, end = {}, 0
    for tensor, (dtype, shape) in tensors.items():
        size = sizes[dtype]
        for length in shape:
            size *= length
        header[tensor] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    (folder / name).write_bytes((len(text).to_bytes(8, "little") + text + bytes(end))[: 8 + len(text) + end - cut])


def model(folder: Path, **config: Any) -> Task:
    """A model directory with this configuration."""
    (folder / "config.json").write_text(json.dumps({"architectures": ["A"], **config}))
    return Task("fill-mask", str(folder))


TENSORS = {
    "model.embed_tokens.weight": ("BF16", [100, 8]),
    "model.layers.0.mlp.weight": ("BF16", [8, 8]),
    "model.norm.weight": ("F32", [8]),
    "position_ids": ("I64", [4]),
}


def test_one_file(tmp_path: Path) -> None:
    """Elements are counted by what a dtype or a quantization does to them."""
    wanted = model(tmp_path, torch_dtype="bfloat16")
    write(tmp_path, "model.safetensors", TENSORS)

    found = checkpoint.inspect(wanted, Settings())

    assert (found.floating, found.linear, found.fixed_bytes) == (100 * 8 + 8 * 8 + 8, 8 * 8, 4 * 8)
    assert (found.dtype, found.unpackable, found.quantization) == ("bfloat16", ("model.layers.0.mlp",), None)


def test_shards(tmp_path: Path) -> None:
    """All the files that the index names count, and no other."""
    wanted = model(tmp_path)
    write(tmp_path, "a.safetensors", {"x": ("F32", [10])})
    write(tmp_path, "b.safetensors", {"y": ("F32", [20])})
    write(tmp_path, "other.safetensors", {"z": ("F32", [40])})
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    found = checkpoint.inspect(wanted, Settings())

    assert (found.floating, found.dtype) == (30, "float32")


def test_a_stored_quantization(tmp_path: Path) -> None:
    """A checkpoint that is quantized as it lies there says so, and its packed weights count as stored."""
    wanted = model(tmp_path, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    write(tmp_path, "model.safetensors", {"w": ("U8", [1000])})

    found = checkpoint.inspect(wanted, Settings())

    assert (found.quantization, found.fixed_bytes, found.floating) == ("bnb-8bit", 1000, 0)


def test_a_cut_off_file_is_found_before_the_load(tmp_path: Path) -> None:
    """The header tells how long the file has to be."""
    wanted = model(tmp_path)
    write(tmp_path, "model.safetensors", TENSORS, cut=5)

    with pytest.raises(ModelBroken) as caught:
        checkpoint.inspect(wanted, Settings())

    assert str(caught.value) == f'"model.safetensors" of model "{tmp_path}" is broken'
    assert caught.value.hint == "remove the model from the hub's cache and download it again"


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0[]", b"\x0a\0\0\0\0\0\0\0" + b'{"w": 5}  '])
def test_what_is_no_safetensors_file_is_broken(tmp_path: Path, content: bytes) -> None:
    """Any other content is an error of ours, whatever it says its length is."""
    wanted = model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)

    with pytest.raises(ModelBroken, match=r"is broken$"):
        checkpoint.inspect(wanted, Settings())


def test_no_model(tmp_path: Path) -> None:
    """A directory without a configuration is no model; one without safetensors has no weights that are loaded."""
    with pytest.raises(ModelNotFound) as caught:
        checkpoint.inspect(Task("fill-mask", str(tmp_path)), Settings())
    assert str(caught.value) == f'no model in directory "{tmp_path}"'

    wanted = model(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelNotFound) as caught:
        checkpoint.inspect(wanted, Settings())
    assert str(caught.value) == f'model "{tmp_path}" has no weights in safetensors'


def test_a_configuration_that_is_no_object(tmp_path: Path) -> None:
    """config.json has to be an object of JSON."""
    for text, message in (("[]", "is not a JSON object"), ("{", r"cannot read config\.json")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ModelBroken, match=message):
            checkpoint.inspect(Task("fill-mask", str(tmp_path)), Settings())
