"""Linear maps in int8 on a CPU: 8 bits a number, sums in int32, the rest of the network in float32.

A weight has one scale an output, set when it is loaded; an activation one scale a row (a token or a
patch), set by that row alone when it comes, so that no neighbour moves it. Both are symmetric: number =
scale * integer, scale = largest / 127 (as in LLM.int8, Dettmers et al. 2022, without its outliers).

Of what PyTorch offers, oneDNN's product of unsigned rows with prepacked weights was the fastest that
leaves a scale to each row; PyTorch's own dynamic maps have one for all, so neighbours would move a score.
Signed rows took seconds for some shapes. `benchmarks/linear.py` measures the forms side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor, nn

from sightrank.errors import OptionError
from sightrank.model.wide import Linear

STEPS = 127
HALF_STEPS = 7
HALF_ZERO = 8
CUTS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)
"""Scales of four bits that are tried, in the one at which nothing is cut off."""
ZERO = 128
"""Of a row's unsigned bytes: what stands for 0."""
FEWEST_ROWS = 256
"""Of one product: with fewer its weight is read too often."""
OUTPUT_NUMBERS = 1 << 20
"""Of one product, if that is more rows: further ones push it out of the cache before it is scaled."""
INPUT_NUMBERS = 1 << 18
"""That are read again while they are in the cache: for their largest, then for their steps."""
SMALLEST = 1e-12


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight of two or more axes -> int8 of the same shape and one float32 scale a row.

    Symmetric: scale = max |row| / 127, so the largest error is half a scale.
    """
    rows = weight.float().flatten(1)
    scale = rows.abs().amax(dim=1).clamp_min(SMALLEST) / STEPS
    stored = (rows / scale[:, None]).round().clamp(-STEPS, STEPS).to(torch.int8)
    return stored.view_as(weight), scale


def quantise_halves(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight (rows, even) -> two numbers of four bits a byte as uint8 (rows, even / 2), the first in
    the lower half, each 8 + an integer of -7 to 7; and one float32 scale a row.

    Of a few scales from largest / 7 down, the one with the least squared error: cutting off the few
    largest numbers pays where the rest are small. What came back from it goes back without loss.
    """
    rows = weight.float()
    largest = rows.abs().amax(dim=1, keepdim=True).clamp_min(SMALLEST) / HALF_STEPS
    best, scale = torch.full_like(largest, torch.inf), largest
    for share in CUTS:
        tried = largest * share
        steps = (rows / tried).round().clamp(-HALF_STEPS, HALF_STEPS)
        error = (steps * tried - rows).square().sum(dim=1, keepdim=True)
        scale = torch.where(error < best, tried, scale)
        best = torch.minimum(error, best)
    steps = (rows / scale).round().clamp(-HALF_STEPS, HALF_STEPS).add(HALF_ZERO).to(torch.uint8)
    return steps[:, ::2] | steps[:, 1::2] << 4, scale[:, 0]


def dequantise(stored: Tensor, scale: Tensor) -> Tensor:
    """`quantise` or `quantise_halves` (told by the type of its bytes) undone, in float32."""
    if stored.dtype == torch.uint8:
        halves = torch.stack((stored & 15, stored >> 4), dim=-1).flatten(1)
        return (halves.float() - HALF_ZERO) * scale.float()[:, None]
    return (stored.float().flatten(1) * scale.float()[:, None]).view_as(stored)


def to_bytes(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (rows, size) -> 128 + integers of -127 to 127 as uint8, and one scale a row (rows, 1)."""
    stored = torch.empty(rows.shape, dtype=torch.uint8)
    scales = rows.new_empty(len(rows), 1)
    count = max(1, INPUT_NUMBERS // rows.shape[1])
    for start in range(0, len(rows), count):
        part = rows[start : start + count]
        scale = part.abs().amax(dim=1, keepdim=True).clamp_min_(SMALLEST).div_(STEPS)
        # Cutting off the fraction of a positive number plus a half rounds it.
        stored[start : start + count] = (part * scale.reciprocal()).add_(ZERO + 0.5)
        scales[start : start + count] = scale
    return stored, scales


def product(stored: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Bytes (rows, in) as of `to_bytes`, a packed weight and its scales (out,) -> (rows, out), float32."""
    none = torch.zeros(len(scale), dtype=torch.int32)
    out: Tensor = torch.ops.onednn.qlinear_pointwise(
        stored, 1.0, ZERO, weight, scale, none, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return out


class Int8Linear(nn.Module):
    """`nn.Linear` over rows (rows, size) of float32, computed in int8 with sums in int32."""

    def __init__(self, inside: int, outside: int, *, bias: bool) -> None:
        super().__init__()
        self.inside, self.outside = inside, outside
        self.weight = nn.Parameter(torch.empty(outside, inside, dtype=torch.int8), False)
        self.weight_scale: Tensor
        self.register_buffer("weight_scale", torch.empty(outside))
        self.bias = nn.Parameter(torch.empty(outside), False) if bias else None

    def pack(self) -> None:
        """Lay the weight out as the processor reads it, once, in place of the plain one."""
        packed = torch.ops.onednn.qlinear_prepack(self.weight.data, None)
        self.weight = nn.Parameter(packed, False)

    def forward(self, rows: Tensor) -> Tensor:
        """(rows, inside) -> (rows, outside)."""
        out = rows.new_empty(len(rows), self.outside)
        count = max(FEWEST_ROWS, OUTPUT_NUMBERS // self.outside)
        for start in range(0, len(rows), count):
            stored, scales = to_bytes(rows[start : start + count])
            part = out[start : start + count]
            torch.mul(product(stored, self.weight, self.weight_scale), scales, out=part)
            if self.bias is not None:
                part += self.bias
        return out


def linears(model: nn.Module) -> Iterator[tuple[str, Linear]]:
    """The maps that int8 computes, by name: those of decoder and vision tower, nearly all the work.

    Embeddings are looked up and not multiplied; norms and the map of patches (1 in 1,000 of the
    work, and the first to see the pixels) stay exact, and so does the score head, which runs once a
    pair and whose rounding nothing after it would average out.
    """
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            yield name, module


def to_int8(model: nn.Module) -> None:
    """Put an empty `Int8Linear` in the place of each of `linears`, for weights yet to be loaded."""
    for name, linear in list(linears(model)):
        place, _, attribute = name.rpartition(".")
        new = Int8Linear(linear.in_features, linear.out_features, bias=linear.bias is not None)
        setattr(model.get_submodule(place), attribute, new)


def pack(model: nn.Module) -> None:
    """Pack all weights, when they are loaded."""
    for module in model.modules():
        if isinstance(module, Int8Linear):
            module.pack()


def is_int8(model: nn.Module) -> bool:
    """Whether the model computes in int8."""
    return any(isinstance(module, Int8Linear) for module in model.modules())


def check_int8(device: torch.device) -> None:
    """Raises OptionError where int8 would not run, or not be exact."""
    other = "Use float32 or bfloat16"
    if device.type != "cpu":
        raise OptionError(f"dtype int8 runs on cpu, not on {device}.", f"{other}, or device cpu.")
    if not has_dot_products():
        raise OptionError(
            "dtype int8 needs an x86 processor with dot products of bytes (avx512_vnni or avx_vnni),"
            " which this one lacks or PyTorch may not use.",
            f"{other}.",
        )
    if not is_exact():
        raise OptionError(f"int8 products of PyTorch {torch.__version__} fail here.", f"{other}.")


@cache
def has_dot_products() -> bool:
    """Whether this processor adds products of bytes in 32 bits; without, they overflow or are slow."""
    tell = getattr(torch.cpu, "get_capabilities", dict)  # older versions do not have it
    found: dict[str, object] = tell()
    there = any(found.get(name, False) for name in ("avx512_vnni", "avx_vnni"))
    return found.get("architecture") == "x86_64" and there


@cache
def is_exact() -> bool:
    """Whether the largest numbers multiply without an overflow in 16 bits."""
    rows = torch.full((3, 64), 255, dtype=torch.uint8)
    weight = torch.full((16, 64), STEPS, dtype=torch.int8)
    try:
        packed = torch.ops.onednn.qlinear_prepack(weight, None)
        found = product(rows, packed, torch.ones(16))
    except (AttributeError, RuntimeError):  # another build of PyTorch, or an older one
        return False
    return bool((found == 64 * STEPS * STEPS).all())
