"""The two passes of the engine as attention plans: fill a cache, then read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightrank.inputs.segments import Segment
from sightrank.model.attention import Attend, Packed, fused_attention


@dataclass(frozen=True)
class Seen:
    """A segment whose images have been through the vision tower; the decoder is still to run."""

    segment: Segment
    """Its images are not read any more, so it may come without them."""
    tokens: Tensor
    """Visual tokens of all its images, (tokens, size)."""


@dataclass(frozen=True)
class CachedPrefix:
    """What later queries need of a document: every layer's keys and values."""

    keys: Tensor
    """(layers, tokens, kv_heads, head_dim), rotated."""
    values: Tensor

    @property
    def num_tokens(self) -> int:
        """Prompt tokens up to the query."""
        return self.keys.shape[1]

    @property
    def num_bytes(self) -> int:
        """Memory that the keys and values take."""
        return self.keys.nbytes + self.values.nbytes


class Prefill:
    """Causal attention inside each prefix; keeps the keys and values that pass by."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = list(lengths)
        self.kept: list[tuple[Tensor, Tensor]] = []
        self._attend = Packed(lengths, causal=True).layer(0)

    def layer(self, index: int) -> Attend:
        """One layer: called once a pass, in order."""
        return self._keep

    def _keep(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.kept.append((k, v))
        # The last layer is asked for no output at all: nothing after it is ever read.
        return self._attend(q, k, v) if len(q) else q

    def prefixes(self) -> list[CachedPrefix]:
        """One cache a prefix, each in memory of its own, so that it can be dropped alone."""
        keys = torch.stack([k for k, _ in self.kept])  # (layers, tokens, kv_heads, head_dim)
        values = torch.stack([v for _, v in self.kept])
        return [
            CachedPrefix(k.clone(), v.clone())
            for k, v in zip(
                torch.split(keys, self.lengths, dim=1),
                torch.split(values, self.lengths, dim=1),
                strict=True,
            )
        ]


@dataclass(frozen=True)
class Suffix:
    """A query's tokens behind one document: how many they are, and how many of its they replace."""

    prefix: CachedPrefix
    length: int
    rewind: int = 0


class Extend:
    """Each suffix attends to its prefix's cached keys and to its own past."""

    def __init__(self, suffixes: Sequence[Suffix]) -> None:
        self.suffixes = list(suffixes)
        self.lengths = [suffix.length for suffix in suffixes]

    def layer(self, index: int) -> Attend:
        """Attention over what was kept for this layer."""

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            read = [1] * len(self.lengths) if q.shape[0] != k.shape[0] else self.lengths
            pieces = zip(
                torch.split(q, read),
                torch.split(k, self.lengths),
                torch.split(v, self.lengths),
                self.suffixes,
                strict=True,
            )
            return torch.cat([_extend(*piece, index) for piece in pieces])

        return attend


def _extend(q: Tensor, k: Tensor, v: Tensor, suffix: Suffix, layer: int) -> Tensor:
    kept = suffix.prefix.num_tokens - suffix.rewind
    keys = torch.cat((suffix.prefix.keys[layer, :kept], k))
    values = torch.cat((suffix.prefix.values[layer, :kept], v))
    return fused_attention(q, keys, values, causal=True)
