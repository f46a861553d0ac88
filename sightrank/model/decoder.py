"""The language model: Qwen2 layers over packed tokens, without a vocabulary projection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sightrank.config import ModelConfig
from sightrank.model.attention import Attend, AttentionPlan
from sightrank.model.rope import Rotary, rotate
from sightrank.model.wide import Linear


class RMSNorm(nn.Module):
    """x / rms(x) in float32, cast back, then scaled (Zhang and Sennrich 2019)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        """(tokens, size) -> the same shape."""
        wide = hidden.float()
        wide = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return self.weight * wide.to(hidden.dtype)


class SelfAttention(nn.Module):
    """Grouped-query attention; projections of q, k and v have biases, the output has none."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size, self.head_dim = config.hidden_size, config.head_dim
        kv_size = config.num_key_value_heads * config.head_dim
        self.q_proj = Linear(size, size)
        self.k_proj = Linear(size, kv_size)
        self.v_proj = Linear(size, kv_size)
        self.o_proj = Linear(size, size, bias=False)

    def forward(
        self, hidden: Tensor, rotary: Rotary, attend: Attend, readout: Tensor | None
    ) -> Tensor:
        """(tokens, size) -> (tokens or readout rows, size)."""
        reading = hidden if readout is None else hidden[readout]
        q = self.q_proj(reading).unflatten(-1, (-1, self.head_dim))
        k = self.k_proj(hidden).unflatten(-1, (-1, self.head_dim))
        v = self.v_proj(hidden).unflatten(-1, (-1, self.head_dim))
        out = attend(rotate(q, rotary.rows(readout)), rotate(k, rotary), v)
        return self.o_proj(out.flatten(1))  # type: ignore[no-any-return]


class GatedMlp(nn.Module):
    """down(silu(gate(x)) * up(x)), without biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """(tokens, size) -> the same shape."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(hidden)) * self.up_proj(hidden))
        return out


class DecoderLayer(nn.Module):
    """Pre-norm decoder layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = SelfAttention(config)
        self.mlp = GatedMlp(config)

    def forward(
        self, hidden: Tensor, rotary: Rotary, attend: Attend, readout: Tensor | None = None
    ) -> Tensor:
        """(tokens, size) -> (tokens, size), or only the rows in `readout`.

        Keys and values are always computed for every token; what comes after attention, only for
        the rows that are read.
        """
        attended = self.self_attn(self.input_layernorm(hidden), rotary, attend, readout)
        hidden = (hidden if readout is None else hidden[readout]) + attended
        out: Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return out


class Decoder(nn.Module):
    """Embeddings, layers and final norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = cast(
            "Sequence[DecoderLayer]",
            nn.ModuleList(DecoderLayer(config) for _ in range(config.num_hidden_layers)),
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.checkpointing = False
        """In training keep only what goes into a layer, and run it again in the backward pass."""

    def forward(
        self, hidden: Tensor, rotary: Rotary, plan: AttentionPlan, readout: Tensor | None = None
    ) -> Tensor:
        """Packed embeddings (tokens, size) -> final hidden states (tokens or readout rows, size).

        `readout` holds one row a segment, its last; None returns every token.
        """
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            rows = readout if index == last else None
            inputs = hidden, rotary, plan.layer(index), rows
            if self.checkpointing and torch.is_grad_enabled():
                hidden = checkpoint(layer, *inputs, use_reentrant=False)
            else:
                hidden = layer(*inputs)
        out: Tensor = self.norm(hidden)
        return out
