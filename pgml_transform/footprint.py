"""What a model takes in memory in a form: its weights, and what a load needs beside them."""

from __future__ import annotations

import json

from pgml_transform import quantization
from pgml_transform.checkpoint import Checkpoint

# Bytes of an element.
SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}

# What a load needs beside the weights: CUDA's context and the kernels' workspace on a GPU, buffers and activations
# of a small batch on the CPU.
GPU_OVERHEAD = 512 << 20
CPU_OVERHEAD = 64 << 20
_MARGIN = 1.05

# The share of each device that bitsandbytes' quantizer lets a spread model have; the rest is for its buffers.
SPREAD_SHARE = 0.9


def weights(model: Checkpoint, dtype: str, quantized: str | None) -> int:
    """The bytes of the weights in this dtype, packed as the quantization (canonical JSON) packs them."""
    size = SIZES[dtype]
    packed = quantization.PACKED_BYTES.get(quantization.name(json.loads(quantized))) if quantized else None
    return int(model.linear * (packed or size) + (model.floating - model.linear) * size) + model.fixed_bytes


def needed(size: int, *, on_gpu: bool) -> int:
    """The bytes that a device must have free for weights of this size."""
    return int(size * _MARGIN) + (GPU_OVERHEAD if on_gpu else CPU_OVERHEAD)
