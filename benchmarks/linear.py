"""Forms of int8 linear maps on this processor beside float32 and bfloat16, one thread, by turns.

`python benchmarks/linear.py`; the last line of stdout is one JSON object. Times are processor time (other
programs may run), each the median of rounds in which the forms take turns. `speed` is in GFLOP/s, `ratio`
the time of `float32` over that of the form, `off` the largest difference from float64 over the largest
output. Forms, of which all take and give float32 and have a bias:

float32      PyTorch's own
bfloat16     the same in bfloat16, and `widened` as the engine runs it without matrix units
ours         sightrank/model/quantize.py: a scale a row, oneDNN's packed product, in blocks of rows
whole        the same without blocks
int_mm       a scale a row, torch._int_mm, scaled afterwards
dynamic E    torch.ops.quantized.linear_dynamic with engine E: one scale for all rows
weight only  torch._weight_int8pack_mm: int8 weights, bfloat16 products
kernel       oneDNN's product alone, rows in bytes already: what `ours` could at best reach
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from machine import describe
from torch import Tensor
from torch.nn import functional as F

from sightrank.model import wide
from sightrank.model.quantize import Int8Linear, product, quantise, to_bytes

SHAPES = (
    *((rows, *size) for size in ((1536, 1536), (1536, 8960), (8960, 1536)) for rows in (16, 800)),
    *((3072, *size) for size in ((1280, 3840), (1280, 5120))),
)
"""(rows, inputs, outputs) of m0's decoder with a query or a page, and of its vision tower with a page."""
ENGINES = ("x86", "onednn", "fbgemm")


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of PyTorch, about tensors that are to go
    before = os.getloadavg()
    rows = {}
    for count, inside, outside in SHAPES:
        name = f"{count} rows, {inside} to {outside}"
        rows[name] = compare(count, inside, outside, arguments.rounds)
        print(name, rows[name], file=sys.stderr, flush=True)
    machine = describe() | {"load_average": [before, os.getloadavg()]}
    print(json.dumps({"machine": machine, "linear": rows}))


@torch.inference_mode()
def peaks() -> dict[str, float]:
    """Speed of the fastest product of m0's sizes in each kind of number, GFLOP/s, measured now."""
    best: dict[str, float] = {}
    for count, inside, outside in ((800, 1536, 8960), (800, 8960, 1536), (3072, 1280, 5120)):
        forms = made(*given(count, inside, outside))
        for name, form in (("float32", "float32"), ("bfloat16", "bfloat16"), ("int8", "kernel")):
            taken = min(timed(forms[form]) for _ in range(5))
            best[name] = max(best.get(name, 0), 2 * count * inside * outside / taken / 1e9)
    return best


def given(count: int, inside: int, outside: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random rows, weight and bias."""
    torch.manual_seed(0)
    weight = torch.randn(outside, inside) * inside**-0.5
    return torch.randn(count, inside), weight, torch.randn(outside)


def compare(count: int, inside: int, outside: int, rounds: int) -> dict[str, Any]:
    """Speed, ratio and difference of each form, measured by turns."""
    rows, weight, bias = given(count, inside, outside)
    forms = made(rows, weight, bias)
    forms |= {f"dynamic {engine}": dynamic(engine, rows, weight, bias) for engine in ENGINES}
    truth = F.linear(rows.double(), weight.double(), bias.double())
    outs = {name: form() for name, form in forms.items()}  # and each is warm
    outs["kernel"] = outs["whole"]  # its own are not scaled
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            times[name].append(timed(form))
    seconds = {name: statistics.median(each) for name, each in times.items()}
    work = 2 * count * inside * outside
    return {
        name: {
            "speed": round(work / seconds[name] / 1e9, 1),
            "ratio": round(seconds["float32"] / seconds[name], 2),
            "off": float((outs[name] - truth).abs().max() / truth.abs().max()),
        }
        for name in forms
    }


def made(rows: Tensor, weight: Tensor, bias: Tensor) -> dict[str, Callable[[], Tensor]]:
    """The forms, their weights ready."""
    half, half_weight, half_bias = (each.bfloat16() for each in (rows, weight, bias))
    stored, scale = quantise(weight)
    ours = Int8Linear(weight.shape[1], weight.shape[0], bias=True)
    ours.load_state_dict({"weight": stored, "weight_scale": scale, "bias": bias}, assign=True)
    ours.pack()
    in_bytes, _ = to_bytes(rows)

    def whole() -> Tensor:
        taken, factors = to_bytes(rows)
        return product(taken, ours.weight, scale).mul_(factors).add_(bias)

    def int_mm() -> Tensor:
        factors = rows.abs().amax(dim=1, keepdim=True) / 127
        taken = (rows / factors).round_().to(torch.int8)
        return (torch._int_mm(taken, stored.mT) * factors).mul_(scale).add_(bias)

    def weight_only() -> Tensor:
        return torch._weight_int8pack_mm(rows.bfloat16(), stored, scale.bfloat16()).add_(bias)

    return {
        "float32": lambda: F.linear(rows, weight, bias),
        "bfloat16": lambda: F.linear(half, half_weight, half_bias),
        "widened": lambda: wide.linear(half, half_weight, half_bias),
        "ours": lambda: ours(rows),
        "whole": whole,
        "int_mm": int_mm,
        "weight only": weight_only,
        "kernel": lambda: product(in_bytes, ours.weight, scale),
    }


def dynamic(engine: str, rows: Tensor, weight: Tensor, bias: Tensor) -> Callable[[], Tensor]:
    """PyTorch's own dynamic quantisation."""
    torch.backends.quantized.engine = engine
    _, scale = quantise(weight)
    zeros = torch.zeros(len(weight), dtype=torch.long)
    stored = torch.quantize_per_channel(weight, scale, zeros, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(stored, bias)

    def run() -> Tensor:
        torch.backends.quantized.engine = engine
        out: Tensor = torch.ops.quantized.linear_dynamic(rows, packed, reduce_range=False)
        return out

    return run


def timed(form: Callable[[], object]) -> float:
    """Seconds of the processor."""
    start = time.process_time()
    form()
    return time.process_time() - start


if __name__ == "__main__":
    main()
