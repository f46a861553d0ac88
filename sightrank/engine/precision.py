"""What an index keeps of a document: keys and values, exact or in int8, or its visual tokens.

A packed document is a few named tensors; which precision it has shows in their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from sightrank.config import ModelConfig
from sightrank.engine.plans import CachedPrefix, Seen
from sightrank.errors import OptionError
from sightrank.inputs.segments import Segment

Precision = Literal["exact", "int8", "features"]
"""exact: keys and values in the model's dtype. int8: the same in a byte a number. features: only
the vision tower's output, the decoder runs again; a text keeps nothing but its ids."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Tensors = Mapping[str, Tensor]
STEPS = 127


@dataclass(frozen=True)
class Shape:
    """The sizes that decide how many bytes a document takes."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    hidden_size: int
    item_bytes: int
    """Of one number in the model's dtype."""

    @classmethod
    def of(cls, config: ModelConfig, dtype: torch.dtype) -> Shape:
        """A model's."""
        return cls(
            config.num_hidden_layers,
            config.num_key_value_heads,
            config.head_dim,
            config.hidden_size,
            dtype.itemsize,
        )


def check_precision(name: str) -> Precision:
    """`name` if it is one. Raises OptionError."""
    for precision in PRECISIONS:
        if name == precision:
            return precision
    raise OptionError(f"precision is {name!r}.", f"Allowed: {', '.join(PRECISIONS)}.")


def packed_bytes(segment: Segment, shape: Shape, precision: Precision) -> int:
    """Bytes of the tensors that this document packs into."""
    heads = shape.num_layers * shape.num_kv_heads
    if precision == "features":
        visual = sum(image.num_tokens for image in segment.images)
        return 16 * len(segment) + visual * shape.hidden_size * shape.item_bytes
    if precision == "int8":
        return heads * (len(segment) * (2 * shape.head_dim + 4) + 8 * shape.head_dim)
    return 2 * heads * len(segment) * shape.head_dim * shape.item_bytes


def pack_prefix(prefix: CachedPrefix, precision: Precision) -> dict[str, Tensor]:
    """Keys and values, (layers, tokens, kv_heads, head_dim), as `precision` keeps them.

    In int8 a key's channel has one scale and one middle over all tokens of the document, because
    the biases of Qwen2's key projection make some channels far larger than others and keep them
    to one side; a value has one scale a token and head (the split of KIVI, Liu et al. 2024).
    """
    if precision == "exact":
        return {"keys": prefix.keys, "values": prefix.values}
    keys, values = prefix.keys.float(), prefix.values.float()
    low, high = keys.amin(dim=1, keepdim=True), keys.amax(dim=1, keepdim=True)
    key_scale = _scale((high - low) / 2)  # (layers, 1, kv_heads, head_dim)
    key_middle = (high + low) / 2
    value_scale = _scale(values.abs().amax(dim=-1, keepdim=True))  # (layers, tokens, kv_heads, 1)
    return {
        "keys": _steps((keys - key_middle) / key_scale),
        "key_scale": key_scale,
        "key_middle": key_middle,
        "values": _steps(values / value_scale),
        "value_scale": value_scale,
    }


def pack_features(seen: Seen) -> dict[str, Tensor]:
    """All that the decoder needs to run again without the images."""
    return {
        "ids": torch.tensor(seen.segment.ids),
        "positions": torch.tensor(seen.segment.positions),
        "tokens": seen.tokens,
    }


def unpack(tensors: Tensors, dtype: torch.dtype, device: torch.device) -> CachedPrefix | Seen:
    """What was packed, on `device`; int8 becomes `dtype`."""
    if "ids" in tensors:
        ids = tensors["ids"].numpy().astype(np.int32)
        positions = tensors["positions"].numpy().astype(np.int32)
        end = int(positions.max(initial=-1)) + 1
        return Seen(Segment(ids, positions, (), end), tensors["tokens"].to(device))
    keys, values = tensors["keys"].to(device), tensors["values"].to(device)
    if "key_scale" not in tensors:
        return CachedPrefix(keys, values)
    key_scale, key_middle = tensors["key_scale"].to(device), tensors["key_middle"].to(device)
    return CachedPrefix(
        (keys * key_scale).add_(key_middle).to(dtype),
        (values * tensors["value_scale"].to(device)).to(dtype),
    )


def _scale(largest: Tensor) -> Tensor:
    return largest.clamp_min(1e-12) / STEPS


def _steps(scaled: Tensor) -> Tensor:
    return scaled.round_().clamp_(-STEPS, STEPS).to(torch.int8)
