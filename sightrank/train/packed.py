"""Many queries behind many documents in one differentiable pass; a document is run once.

First all documents' tokens lie packed, then all queries'. A document's tokens see their own past; a
query's see its document's and their own. So a document's keys and values serve all its queries, and
gradients of all of them meet there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightrank.model.attention import Attend, Packed
from sightrank.model.multimodal import RerankerModel
from sightrank.train.batches import Batch, Tree


@dataclass(frozen=True)
class _Alike:
    """Trees of one shape, which run as one call; each field has a row a tree."""

    asking: Tensor
    """(trees, suffix tokens): their rows among all suffix tokens."""
    ends: Tensor
    """(trees, suffixes): the last token of each suffix, counted inside its tree."""
    pairs: Tensor
    """(trees, suffixes): the suffixes' numbers."""
    seen: Tensor
    """(trees, prefix + suffix tokens): their rows among all tokens."""
    mask: Tensor
    """(trees, suffix tokens, prefix + suffix tokens), True where a token may look."""


class TreePlan:
    """Attention of packed trees: queries (suffixes) behind documents (prefixes)."""

    def __init__(self, trees: Sequence[Tree], device: torch.device) -> None:
        prefixes = [tree.prefix for tree in trees]
        self._total = sum(prefixes)
        self._past = Packed(prefixes, causal=True).layer(0)
        self._alike = _alike(trees, device)
        self._asked = torch.cat([each.asking.flatten() for each in self._alike]).argsort()
        self._read = torch.cat([each.pairs.flatten() for each in self._alike]).argsort()

    def layer(self, index: int) -> Attend:
        """The same for every layer."""
        return self._attend

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast rotation made them float32
        if len(q) != len(k):  # the last layer: one row a suffix
            return torch.cat(
                [
                    _masked(q[each.pairs], k[each.seen], v[each.seen], _at(each.mask, each.ends))
                    for each in self._alike
                ]
            )[self._read]
        total = self._total
        own = q[total:]
        asked = torch.cat(
            [
                _masked(own[each.asking], k[each.seen], v[each.seen], each.mask)
                for each in self._alike
            ]
        )[self._asked]
        return torch.cat([self._past(q[:total], k[:total], v[:total]), asked])


def _alike(trees: Sequence[Tree], device: torch.device) -> list[_Alike]:
    """Trees gathered by their lengths."""
    shapes: dict[tuple[int, int, int], list[int]] = {}
    for at, tree in enumerate(trees):
        shape = (tree.prefix, sum(tree.suffixes), len(tree.suffixes))
        shapes.setdefault(shape, []).append(at)
    total = sum(tree.prefix for tree in trees)
    prefix, suffix, pair = (
        [0, *accumulate(counts)]
        for counts in (
            [tree.prefix for tree in trees],
            [sum(tree.suffixes) for tree in trees],
            [len(tree.suffixes) for tree in trees],
        )
    )

    def rows(starts: Sequence[int], places: Sequence[int], length: int) -> Tensor:
        first = torch.tensor([starts[at] for at in places], device=device)
        return first[:, None] + torch.arange(length, device=device)

    return [
        _Alike(
            asking=(own := rows(suffix, places, asked)),
            ends=torch.tensor([[*accumulate(trees[at].suffixes)] for at in places], device=device)
            - 1,
            pairs=rows(pair, places, count),
            seen=torch.cat((rows(prefix, places, length), own + total), dim=1),
            mask=torch.stack([_mask(trees[at], device) for at in places]),
        )
        for (length, asked, count), places in shapes.items()
    ]


def _mask(tree: Tree, device: torch.device) -> Tensor:
    """(suffix tokens, prefix + suffix tokens), True where a token of a suffix may look."""
    lengths = torch.tensor(tree.suffixes, device=device)
    suffix = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)
    place = torch.arange(len(suffix), device=device)
    own = (suffix[:, None] == suffix) & (place[:, None] >= place)
    kept = tree.prefix - torch.tensor(tree.rewinds, device=device)[suffix]
    past = torch.arange(tree.prefix, device=device) < kept[:, None]
    return torch.cat((past, own), dim=1)


def _at(mask: Tensor, ends: Tensor) -> Tensor:
    """The rows of the masks that belong to the suffixes' last tokens."""
    return mask.gather(1, ends[..., None].expand(-1, -1, mask.shape[2]))


def _masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """q (trees, queries, heads, head_dim), k and v (trees, keys, kv_heads, head_dim), mask (trees,
    queries, keys) -> (trees * queries, heads, head_dim)."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None], enable_gqa=True)
    return out.transpose(1, 2).flatten(0, 1)


class PairScorer(nn.Module):
    """A reranker as training runs it: a batch in, a logit for each of its pairs out."""

    def __init__(self, model: RerankerModel, *, see: bool = False) -> None:
        """`see`: gradients flow into the vision tower too."""
        super().__init__()
        self.model, self.see = model, see

    def forward(self, batch: Batch) -> Tensor:
        """Logits (pairs,) in float32, in the order of the batch's suffixes."""
        model = self.model
        hidden = model.embed(batch.ids, self._visual(batch)) + self._unseen(batch)
        plan = TreePlan(batch.trees, batch.ids.device)
        read = model.model(hidden, model.rotary(batch.positions), plan, batch.ends)
        logits: Tensor = model.score(read)
        return logits.squeeze(-1).float()

    def _unseen(self, batch: Batch) -> Tensor | float:
        """0, with gradients of 0 for a tower that learns and that the batch has no image for.

        Processes sum their gradients weight by weight, so all of them need one of every weight; and
        where layers are shared out, all have to run every layer backwards.
        """
        if not self.see or batch.patches is not None:
            return 0.0
        return sum(
            (each.sum() * 0.0 for each in self.model.visual.parameters() if each.requires_grad), 0.0
        )

    def _visual(self, batch: Batch) -> Tensor | None:
        """A row for every image token; each distinct image goes through the tower once."""
        if batch.patches is None:
            return None
        with torch.set_grad_enabled(self.see and torch.is_grad_enabled()):
            seen: Tensor = self.model.visual(batch.patches.to(self.model.dtype), batch.grids)
        return seen[batch.visual_rows]
