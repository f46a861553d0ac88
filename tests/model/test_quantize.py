"""Linear maps in int8: exact in their integers, near float32, blind to neighbours, refused elsewhere;
and numbers in four bits."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightrank.config import ModelConfig, VisionConfig
from sightrank.errors import OptionError
from sightrank.model import quantize
from sightrank.model.multimodal import RerankerModel
from sightrank.model.quantize import (
    ZERO,
    Int8Linear,
    check_int8,
    dequantise,
    has_dot_products,
    is_exact,
    is_int8,
    quantise,
    quantise_halves,
    to_bytes,
    to_int8,
)
from tests.int8 import NEEDS_INT8
from tests.tolerances import INT8_LINEAR, INT8_PRODUCT

SIZES = ((64, 96), (384, 1024), (1536, 640), (31, 17))
COUNTS = (1, 2, 256, 557)


@pytest.fixture(params=[True, False], ids=["in blocks", "as used"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small maps in as many blocks as large ones take."""
    if request.param:
        monkeypatch.setattr(quantize, "OUTPUT_NUMBERS", 1)
        monkeypatch.setattr(quantize, "INPUT_NUMBERS", 10_000)


def made(inside: int, outside: int, bias: bool = True) -> tuple[nn.Linear, Int8Linear]:
    """A map in float32 and the same in int8."""
    torch.manual_seed(0)
    plain, layer = nn.Linear(inside, outside, bias), Int8Linear(inside, outside, bias=bias)
    stored, scale = quantise(plain.weight.detach())
    state = {"weight": stored, "weight_scale": scale} | ({"bias": plain.bias} if bias else {})
    layer.load_state_dict(state, assign=True)
    layer.pack()
    return plain.requires_grad_(False), layer


def some_rows(count: int, size: int) -> Tensor:
    """Of very different lengths, as the rows of a network are."""
    random = torch.Generator().manual_seed(1)
    lengths = 10 ** torch.linspace(-3, 3, count)[:, None]
    return torch.randn(count, size, generator=random) * lengths


@pytest.mark.usefixtures("blocks")
@NEEDS_INT8
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("inside", "outside"), SIZES)
def test_products_are_those_of_the_integers(
    inside: int, outside: int, count: int, bias: bool
) -> None:
    plain, layer = made(inside, outside, bias)
    rows = some_rows(count, inside)
    stored, scales = to_bytes(rows)
    integers = stored.double() - ZERO
    assert integers.abs().max() == 127
    weight = dequantise(*quantise(plain.weight)).double()
    truth = F.linear(integers * scales.double(), weight, plain.bias.double() if bias else None)
    off = ((layer(rows) - truth).abs() / truth.abs().amax(dim=1, keepdim=True)).max()
    assert off <= INT8_PRODUCT, f"largest difference {off:.2e} of the largest output"


@NEEDS_INT8
@pytest.mark.parametrize(("inside", "outside"), SIZES)
def test_int8_is_near_float32(inside: int, outside: int) -> None:
    plain, layer = made(inside, outside)
    rows = some_rows(300, inside)
    truth = plain(rows)
    off = ((layer(rows) - truth).abs().amax(dim=1) / truth.abs().amax()).max()
    assert INT8_PRODUCT < off <= INT8_LINEAR, f"largest difference {off:.2e}"


@pytest.mark.usefixtures("blocks")
@NEEDS_INT8
@pytest.mark.parametrize(("inside", "outside"), SIZES)
def test_neighbours_do_not_move_a_row_by_a_bit(inside: int, outside: int) -> None:
    _, layer = made(inside, outside)
    rows = some_rows(557, inside)
    together = layer(rows)
    for start, end in ((0, 1), (1, 3), (200, 300), (255, 256), (40, 557)):
        assert torch.equal(layer(rows[start:end]), together[start:end])
    assert torch.equal(layer(rows.flip(0)).flip(0), together)


@NEEDS_INT8
def test_odd_rows() -> None:
    plain, layer = made(64, 96)
    assert layer(torch.empty(0, 64)).shape == (0, 96)
    assert torch.equal(layer(torch.zeros(2, 64)), plain.bias.expand(2, 96))
    broken = torch.ones(3, 64)
    broken[1, 5] = float("nan")
    out = layer(broken)
    assert out[1].isnan().all() and out[[0, 2]].isfinite().all()


def test_bytes_round_to_the_nearest_step() -> None:
    rows = torch.tensor([[127.0, 1.4, 1.6, -1.4, -1.6, -127.0, 0.0, 63.5]])
    stored, scale = to_bytes(rows)
    assert scale.item() == 1
    assert (stored.int() - ZERO).tolist() == [[127, 1, 2, -1, -2, -127, 0, 64]]


def test_which_maps_are_rounded() -> None:
    config = ModelConfig(
        vocab_size=400, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=96, mrope_section=(2, 3, 3),
        vision=VisionConfig(depth=1, embed_dim=32, num_heads=2), image_token_id=390,
        vision_start_token_id=391, vision_end_token_id=392,
    )  # fmt: skip
    with torch.device("meta"):
        model = RerankerModel(config)
        assert not is_int8(model)
        to_int8(model)
    assert is_int8(model)
    found = {name for name, module in model.named_modules() if isinstance(module, Int8Linear)}
    decoder = {
        f"model.layers.{layer}.{name}_proj"
        for layer in range(2)
        for name in (
            *(f"self_attn.{part}" for part in "qkvo"),
            *(f"mlp.{part}" for part in ("gate", "up", "down")),
        )
    }
    vision = {f"visual.blocks.0.{name}" for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
    assert found == decoder | vision | {"visual.merger.mlp.0", "visual.merger.mlp.2"}


@pytest.mark.parametrize(
    ("told", "there"),
    [
        ({"architecture": "x86_64", "avx512_vnni": True}, True),
        ({"architecture": "x86_64", "avx_vnni": True}, True),
        ({"architecture": "x86_64", "avx512_f": True}, False),
        ({"architecture": "aarch64"}, False),
        ({}, False),
    ],
)
def test_processors(told: dict[str, Any], there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert has_dot_products.__wrapped__() is there


def test_elsewhere_int8_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=r"int8 runs on cpu, not on cuda:1.*float32 or bfloat16"):
        check_int8(torch.device("cuda:1"))
    monkeypatch.setattr(quantize, "has_dot_products", lambda: False)
    with pytest.raises(OptionError, match=r"avx512_vnni.*float32 or bfloat16"):
        check_int8(torch.device("cpu"))
    monkeypatch.setattr(quantize, "has_dot_products", lambda: True)
    monkeypatch.setattr(quantize, "is_exact", lambda: False)
    with pytest.raises(OptionError, match=r"PyTorch .* fail here"):
        check_int8(torch.device("cpu"))


@NEEDS_INT8
def test_products_that_overflow_are_found_out() -> None:
    """oneDNN kept from the dot products of bytes adds pairs in 16 bits, which saturate."""
    assert is_exact()
    code = "from sightrank.model.quantize import is_exact; print(is_exact())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    )
    assert found.stdout.strip() == "False"


def test_four_bits_come_back_within_half_a_step_but_what_is_cut_off() -> None:
    rows = some_rows(64, 96) * torch.randn(64, 96, generator=torch.Generator().manual_seed(2))
    stored, scale = quantise_halves(rows)
    assert (stored.dtype, stored.shape) == (torch.uint8, (64, 48))
    back = dequantise(stored, scale)
    inside = rows.abs() <= 7 * scale[:, None]
    error = (back - rows).abs() / scale[:, None]
    assert (error[inside] <= 0.5001).all()
    assert torch.equal(
        (back / scale[:, None]).abs()[~inside].round(), torch.full_like(back, 7)[~inside]
    )
    uncut = rows.abs().amax(dim=1, keepdim=True) / 7
    plain = (rows / uncut).round() * uncut
    squares = [(each - rows).square().sum(dim=1) for each in (back, plain)]
    assert (squares[0] <= squares[1] * 1.0001).all()
    assert squares[0].sum() < 0.97 * squares[1].sum()


def test_four_bits_that_came_back_stay_and_zeros_are_zeros() -> None:
    rows = torch.cat((torch.zeros(1, 32), torch.randn(8, 32)))
    stored, scale = quantise_halves(rows)
    again, scale_again = quantise_halves(dequantise(stored, scale))
    assert torch.equal(again, stored)
    assert torch.allclose(scale_again, scale)
    assert not dequantise(stored, scale)[0].any()
