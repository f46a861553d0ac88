"""Many queries behind many documents in one differentiable pass; a document is run once.

First all documents' tokens lie packed, then all queries'. A document's tokens see their own past; a
query's see its document's and their own. So a document's keys and values serve all its queries, and
gradients of all of them meet there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightrank.model.attention import Attend, Packed
from sightrank.model.multimodal import RerankerModel
from sightrank.train.batches import Batch, Tree


class TreePlan:
    """Attention of packed trees: queries (suffixes) behind documents (prefixes)."""

    def __init__(self, trees: Sequence[Tree], device: torch.device) -> None:
        self._prefixes = [tree.prefix for tree in trees]
        self._suffixes = [sum(tree.suffixes) for tree in trees]
        self._counts = [len(tree.suffixes) for tree in trees]
        self._past = Packed(self._prefixes, causal=True).layer(0)
        self._masks = [_mask(tree, device) for tree in trees]
        self._ends = [
            torch.tensor([*accumulate(tree.suffixes)], device=device) - 1 for tree in trees
        ]

    def layer(self, index: int) -> Attend:
        """The same for every layer."""
        return self._attend

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast rotation made them float32
        total = sum(self._prefixes)
        reading = len(q) != len(k)  # the last layer: one row a suffix
        rows = self._counts if reading else self._suffixes
        own = torch.split(q if reading else q[total:], rows)
        keys, values = self._by_tree(k), self._by_tree(v)
        masks = (
            [mask[ends] for mask, ends in zip(self._masks, self._ends, strict=True)]
            if reading
            else self._masks
        )
        asked = [_masked(*each) for each in zip(own, keys, values, masks, strict=True)]
        if reading:
            return torch.cat(asked)
        return torch.cat([self._past(q[:total], k[:total], v[:total]), *asked])

    def _by_tree(self, states: Tensor) -> list[Tensor]:
        """Each tree's prefix and suffixes together."""
        cut = torch.split(states, [*self._prefixes, *self._suffixes])
        middle = len(self._prefixes)
        return [torch.cat(each) for each in zip(cut[:middle], cut[middle:], strict=True)]


def _mask(tree: Tree, device: torch.device) -> Tensor:
    """(suffix tokens, prefix + suffix tokens), True where a token of a suffix may look."""
    lengths = torch.tensor(tree.suffixes, device=device)
    suffix = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)
    place = torch.arange(len(suffix), device=device)
    own = (suffix[:, None] == suffix) & (place[:, None] >= place)
    kept = tree.prefix - torch.tensor(tree.rewinds, device=device)[suffix]
    past = torch.arange(tree.prefix, device=device) < kept[:, None]
    return torch.cat((past, own), dim=1)


def _masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """q (queries, heads, head_dim), k and v (keys, kv_heads, head_dim), mask (queries, keys)."""
    out = F.scaled_dot_product_attention(
        *(part.transpose(0, 1)[None] for part in (q, k, v)), attn_mask=mask, enable_gqa=True
    )
    return out[0].transpose(0, 1)


class PairScorer(nn.Module):
    """A reranker as training runs it: a batch in, a logit for each of its pairs out."""

    def __init__(self, model: RerankerModel, *, see: bool = False) -> None:
        """`see`: gradients flow into the vision tower too."""
        super().__init__()
        self.model, self.see = model, see

    def forward(self, batch: Batch) -> Tensor:
        """Logits (pairs,) in float32, in the order of the batch's suffixes."""
        model = self.model
        hidden = model.embed(batch.ids, self._visual(batch))
        plan = TreePlan(batch.trees, batch.ids.device)
        read = model.model(hidden, model.rotary(batch.positions), plan, batch.ends)
        logits: Tensor = model.score(read)
        return logits.squeeze(-1).float()

    def _visual(self, batch: Batch) -> Tensor | None:
        """A row for every image token; each distinct image goes through the tower once."""
        if batch.patches is None:
            return None
        with torch.set_grad_enabled(self.see and torch.is_grad_enabled()):
            seen: Tensor = self.model.visual(batch.patches.to(self.model.dtype), batch.grids)
        return seen[batch.visual_rows]
