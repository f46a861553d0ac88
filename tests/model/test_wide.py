"""bfloat16 products computed in float32 are near the truth, and everything else is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sightrank.model import wide
from sightrank.model.attention import fused_attention, plain_attention
from sightrank.model.parts import fused_part, plain_part
from sightrank.model.wide import FEWEST_ROWS, Linear
from tests.tolerances import BF16_ATTENTION, BF16_ROUNDING, BF16_SUMS


@pytest.fixture(params=[True, False], ids=["float32 is faster", "bfloat16 is faster"])
def slow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    monkeypatch.setattr(wide, "bfloat16_is_slow", lambda: request.param)
    yield request.param


def qkv(tokens: int, head_dim: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(1, tokens, 2, head_dim, generator=random).bfloat16() for _ in range(3)]


@pytest.mark.parametrize("head_dim", [48, 80])
@pytest.mark.parametrize("tokens", [96, 768, 3072])
def test_attention_in_either_form(slow: bool, tokens: int, head_dim: int) -> None:
    q, k, v = qkv(tokens, head_dim)
    truth = plain_attention(q[0].double(), k[0].double(), v[0].double(), causal=False)
    for out in (fused_attention(q, k, v, causal=False), fused_part(q, k, v, causal=False)[0]):
        assert out.dtype == torch.bfloat16
        off = (out[0] - truth).abs().max() / truth.abs().max()
        limit = BF16_ROUNDING if slow else BF16_ATTENTION
        assert off <= limit, f"largest difference {off:.2e} of the largest output"


def test_the_weight_of_a_part_is_the_same_in_either_form(slow: bool) -> None:
    q, k, v = qkv(40, 48)
    _, sums = fused_part(q, k, v, causal=True)
    _, truth = plain_part(q.double(), k.double(), v.double(), causal=True)
    assert sums.dtype == torch.float32
    torch.testing.assert_close(sums, truth.float(), rtol=0, atol=BF16_SUMS)


@pytest.mark.parametrize("rows", [1, FEWEST_ROWS])
@pytest.mark.parametrize("bias", [False, True])
def test_linear_in_either_form(slow: bool, rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = Linear(64, 96, bias=bias).bfloat16()
    given = torch.randn(rows, 64).bfloat16()
    out = layer(given)
    assert out.dtype == layer.weight.dtype == torch.bfloat16
    truth = F.linear(given.double(), layer.weight.double(), layer.bias.double() if bias else None)
    assert ((out - truth).abs() / truth.abs().clamp_min(1)).max() <= 2 * BF16_ROUNDING


def test_float32_is_never_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide, "bfloat16_is_slow", lambda: True)
    assert not wide.widens(torch.zeros(1))
    assert not wide.widens(torch.zeros(1, dtype=torch.bfloat16, device="meta"))
    assert wide.widens(torch.zeros(1, dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("told", "slow"),
    [
        ({"architecture": "x86_64", "amx_bf16": False}, True),
        ({"architecture": "x86_64", "amx_bf16": True}, False),
        ({"architecture": "aarch64"}, False),
        ({}, False),
    ],
)
def test_only_x86_without_matrix_units_counts_as_slow(
    told: dict[str, Any], slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert wide.bfloat16_is_slow.__wrapped__() is slow
