"""Products of bfloat16 tensors on processors that multiply float32 faster: computed in float32.

Without matrix units bfloat16 products run at about two thirds of the speed of float32 ones, so
widening the operands first is faster, and no less exact: what is rounded is the result alone. Weights
and keys are kept in bfloat16 all the same. `benchmarks/attention.py` measures both.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEWEST_ROWS = 256
"""Below this widening a weight takes longer than it saves."""


@cache
def bfloat16_is_slow() -> bool:
    """Whether this processor is an x86 one without matrix units; others are left to PyTorch."""
    tell = getattr(torch.cpu, "get_capabilities", dict)  # older versions do not have it
    found: dict[str, object] = tell()
    return found.get("architecture") == "x86_64" and not found.get("amx_bf16", False)


def widens(tensor: Tensor) -> bool:
    """Whether products of `tensor` are better computed in float32."""
    here = tensor.dtype == torch.bfloat16 and tensor.device.type == "cpu"
    return here and bfloat16_is_slow()


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` of rows (rows, size), in float32 where that pays."""
    if len(rows) < FEWEST_ROWS or not widens(rows):
        return F.linear(rows, weight, bias)
    wide = F.linear(rows.float(), weight.float(), None if bias is None else bias.float())
    return wide.to(rows.dtype)


class Linear(nn.Linear):
    """`nn.Linear` over rows (rows, size), in float32 where that pays."""

    def forward(self, input: Tensor) -> Tensor:
        """(rows, in_features) -> (rows, out_features)."""
        return linear(input, self.weight, self.bias)
