"""A grid of documents and queries in one pass: every document encoded once, all queries over it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recipe.layout import Ints, Prefix
from recipe.trainer import Batch
from recipe.wiring import written_basis
from sightrank.model.attention import Attend, causal_mask
from sightrank.model.multimodal import RerankerModel


def pad_prefixes(prefixes: Sequence[Prefix]) -> Batch:
    """Prefixes padded at the right: flat tokens with bounds, positions (3, documents, slots)."""
    slots = max(map(len, prefixes))
    positions = np.zeros((3, len(prefixes), slots), np.int64)
    for row, prefix in enumerate(prefixes):
        positions[:, row, : len(prefix)] = prefix.positions
    counts = np.concatenate([np.diff(prefix.bounds) for prefix in prefixes])
    return {
        "tokens": torch.from_numpy(np.concatenate([prefix.tokens for prefix in prefixes])),
        "bounds": torch.from_numpy(np.concatenate(([0], counts.cumsum()))),
        "prefix_lengths": torch.tensor([len(prefix) for prefix in prefixes]),
        "prefix_positions": torch.from_numpy(positions),
        "next_positions": torch.tensor([prefix.next_position for prefix in prefixes]),
        "blind": torch.from_numpy(np.concatenate([prefix.blind for prefix in prefixes])),
    }


def join_queries(queries: Sequence[Ints], score: int) -> Batch:
    """Query ids with the score token after each, one after another: (tokens of all queries,)."""
    ids = np.concatenate([part for query in queries for part in (query, [score])])
    steps = np.concatenate([np.arange(len(query) + 1) for query in queries])
    return {
        "query_ids": torch.from_numpy(ids),
        "query_steps": torch.from_numpy(steps),
        "query_lengths": torch.tensor([len(query) + 1 for query in queries]),
    }


def embed_slots(model: RerankerModel, batch: Batch, noise: float) -> Tensor:
    """Embeddings of all prefixes, (documents, slots, size): means of tokens, those of several rescaled
    to size 1. Where a slot is `blind`, without what is written along the directions of meaning."""
    weight = model.model.embed_tokens.weight
    bounds = batch["bounds"]
    flat = F.embedding_bag(batch["tokens"], weight, bounds[:-1], mode="mean")
    flat = flat.float()
    if batch["blind"].any():
        basis = written_basis().to(flat.device)
        flat = flat - batch["blind"][:, None] * (flat @ basis.T) @ basis
    mixed = (bounds.diff() > 1)[:, None]
    scaled = flat * torch.rsqrt(flat.square().mean(dim=-1, keepdim=True) + 1e-6)
    flat = torch.where(mixed, scaled, flat)
    if noise:
        flat = flat + torch.randn_like(flat) * noise * mixed
    lengths = batch["prefix_lengths"]
    slots = batch["prefix_positions"].shape[-1]
    present = torch.arange(slots, device=flat.device) < lengths[:, None]
    hidden = flat.new_zeros(len(lengths), slots, flat.shape[-1])
    return hidden.masked_scatter(present[..., None], flat)


class RowsPlan:
    """Documents padded at the right to one length: every token sees its own past."""

    def __init__(self, documents: int) -> None:
        self.documents = documents

    def layer(self, index: int) -> Attend:
        """The same for every layer."""
        return self._attend

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return together(causal(*apart(self.documents, q, k, v)))


def apart(documents: int, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v, each (documents x tokens, heads, head_dim) -> (documents, heads, tokens, head_dim)."""
    q, k, v = (
        part.view(documents, -1, *part.shape[1:]).transpose(1, 2).to(v.dtype) for part in (q, k, v)
    )
    return q, k, v


def together(out: Tensor) -> Tensor:
    """What `apart` did, undone."""
    return out.transpose(1, 2).flatten(0, 1)


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of each token to its past, of (documents, heads, tokens, head_dim)."""
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    # A CPU's fused kernel takes twice as long, backward pass included.
    return masked(q, k, v, causal_mask(q.shape[2], k.shape[2], q.device)[None, None])


def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention where `mask`, (documents or 1, 1, queries, keys), says so, in plain steps."""
    documents, heads, queries, head_dim = q.shape
    groups, keys = k.shape[1], k.shape[2]
    # Query heads of a group lie under one another, so that its keys are multiplied once, uncopied.
    grouped = q.reshape(documents, groups, -1, head_dim)
    scores = (grouped @ k.mT * head_dim**-0.5).view(documents, groups, -1, queries, keys)
    weights = scores.masked_fill(~mask[:, :, None], float("-inf")).softmax(dim=-1).to(v.dtype)
    out: Tensor = weights.view(documents, groups, -1, keys) @ v
    return out.view(documents, heads, queries, head_dim)


class GridPlan:
    """Prefix tokens see their own past; each query's tokens see the prefix and their own past.

    Documents are padded to one length, queries lie one after another; two attention calls a layer.
    """

    def __init__(self, prefix_lengths: Tensor, slots: int, blocks: Tensor, ends: Tensor) -> None:
        """prefix_lengths (documents,), blocks (asked,) the query of each query token, ends (queries,)
        the last token of each query."""
        device = blocks.device
        place = torch.arange(len(blocks), device=device)
        own = (blocks[:, None] == blocks[None, :]) & (place[:, None] >= place[None, :])
        seen = torch.arange(slots, device=device) < prefix_lengths[:, None]
        both = (seen[:, None].expand(-1, len(blocks), -1), own.expand(len(seen), -1, -1))
        self.mask = torch.cat(both, dim=2)[:, None]  # (documents, 1, asked, slots + asked)
        self.ends, self.slots, self.documents = ends, slots, len(prefix_lengths)

    def layer(self, index: int) -> Attend:
        """The same for every layer."""
        return self._attend

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = apart(self.documents, q, k, v)
        if q.shape[2] == len(self.ends):  # the last layer: only what is read
            return together(masked(q, k, v, self.mask[:, :, self.ends]))
        prefix = causal(*(part[:, :, : self.slots] for part in (q, k, v)))
        asked = masked(q[:, :, self.slots :], k, v, self.mask)
        return together(torch.cat((prefix, asked), dim=2))


def score_grid(model: RerankerModel, hidden: Tensor, batch: Batch) -> Tensor:
    """Logits (documents, queries) of embedded prefixes (documents, slots, size) under all queries."""
    documents, slots, _ = hidden.shape
    ids, lengths = batch["query_ids"], batch["query_lengths"]
    asked = model.model.embed_tokens(ids).to(hidden.dtype)
    hidden = torch.cat((hidden, asked.expand(documents, -1, -1)), dim=1)
    suffix = (batch["next_positions"][:, None] + batch["query_steps"]).expand(3, -1, -1)
    positions = torch.cat((batch["prefix_positions"], suffix), dim=2)
    ends = lengths.cumsum(0) - 1
    blocks = torch.repeat_interleave(torch.arange(len(lengths), device=ids.device), lengths)
    plan = GridPlan(batch["prefix_lengths"], slots, blocks, ends)
    rows = torch.arange(documents, device=ids.device)[:, None] * hidden.shape[1] + slots + ends
    rotary = model.rotary(positions.flatten(1))
    read = model.model(hidden.flatten(0, 1), rotary, plan, rows.flatten())
    logits: Tensor = model.score(read).view(documents, -1)
    return logits
