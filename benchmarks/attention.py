"""Forms of attention and of linear maps for bfloat16 weights on this processor, one thread, side by side.

`python benchmarks/attention.py`; the last line of stdout is one JSON object. Times are processor time
(other programs may run), each the median of rounds in which the forms take turns. `speed` is in
GFLOP/s, `ratio` the time of `bfloat16` over that of the form, `off` the largest difference from
float64 over the largest output. Forms of attention:

bfloat16  PyTorch's fused kernel as it is
float32   the same kernel on widened operands: what the engine takes without matrix units
chunked   256 rows of queries against all keys of a head, softmax in bfloat16
given     the fused kernel on operands that are float32 already: what widening could at best reach
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from machine import describe
from torch import Tensor
from torch.nn import functional as F

from sightrank.model.wide import bfloat16_is_slow

HEADS = 4
TOKENS = (96, 768, 3072)
HEAD_DIMS = (48, 80)
ROWS = 256
LINEAR = ((192, 576), (384, 1024), (1280, 3840), (1536, 8960))
LINEAR_ROWS = (16, 256, 1024)


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "machine": describe(),
        "bfloat16_is_slow": bfloat16_is_slow(),
        "attention": {},
        "linear": {},
    }
    for head_dim in HEAD_DIMS:
        for tokens in TOKENS:
            row = attention(tokens, head_dim)
            result["attention"][f"{tokens} tokens of {head_dim}"] = row
            print(tokens, head_dim, row, file=sys.stderr, flush=True)
    for inside, outside in LINEAR:
        for rows in LINEAR_ROWS:
            row = linear(rows, inside, outside)
            result["linear"][f"{rows} rows, {inside} to {outside}"] = row
            print(rows, inside, outside, row, file=sys.stderr, flush=True)
    print(json.dumps(result))


def attention(tokens: int, head_dim: int) -> dict[str, Any]:
    """All forms of one shape, without a causal mask as in the vision tower."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, HEADS, tokens, head_dim).bfloat16() for _ in range(3))
    wide = [tensor.float() for tensor in (q, k, v)]
    fused = F.scaled_dot_product_attention
    forms = {
        "bfloat16": lambda: fused(q, k, v),
        "float32": lambda: fused(q.float(), k.float(), v.float()).to(q.dtype),
        "chunked": lambda: chunked(q, k, v),
        "given": lambda: fused(wide[0], wide[1], wide[2]),
    }
    truth = fused(q.double(), k.double(), v.double())
    return compare(forms, truth, 4 * HEADS * tokens**2 * head_dim)


def chunked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Some rows of one head at a time, so that the scores stay in the cache."""
    out = torch.empty_like(q)
    for head in range(q.shape[1]):
        keys = (k[0, head] * k.shape[-1] ** -0.5).mT
        for start in range(0, q.shape[2], ROWS):
            rows = slice(start, start + ROWS)
            out[0, head, rows] = (q[0, head, rows] @ keys).softmax(dim=-1) @ v[0, head]
    return out


def linear(rows: int, inside: int, outside: int) -> dict[str, Any]:
    """A linear map of bfloat16 weights as it is, and widened on its way."""
    torch.manual_seed(0)
    x, weight = (torch.randn(size, inside).bfloat16() for size in (rows, outside))
    forms = {
        "bfloat16": lambda: F.linear(x, weight),
        "float32": lambda: F.linear(x.float(), weight.float()).to(x.dtype),
    }
    return compare(forms, F.linear(x.double(), weight.double()), 2 * rows * inside * outside)


def compare(forms: Mapping[str, Callable[[], Tensor]], truth: Tensor, work: int) -> dict[str, Any]:
    """Speed, ratio and difference of each form, measured by turns."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(7 if work > 10**9 else 21):
        for name, form in forms.items():
            start = time.process_time()
            form()
            times[name].append(time.process_time() - start)
    seconds = {name: statistics.median(each) for name, each in times.items()}
    return {
        name: {
            "speed": round(work / seconds[name] / 1e9, 1),
            "ratio": round(seconds["bfloat16"] / seconds[name], 2),
            "off": float((form() - truth).abs().max() / truth.abs().max()),
        }
        for name, form in forms.items()
    }


if __name__ == "__main__":
    main()
