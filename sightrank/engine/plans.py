"""The two passes of the engine as attention plans: fill a cache, then read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from sightrank.inputs.segments import Segment
from sightrank.model.attention import Attend, Packed, Runs
from sightrank.model.parts import fused_part, joined


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

    def __init__(self, lengths: Sequence[int], num_layers: int) -> None:
        self.lengths, self.num_layers = list(lengths), num_layers
        self.prefixes: list[CachedPrefix] = []
        """One cache a prefix, each in memory of its own, so that it can be dropped alone."""
        self._attend = Packed(lengths, causal=True).layer(0)

    def layer(self, index: int) -> Attend:
        """Attention of one layer: called once a pass, in order."""
        return partial(self._keep, index)

    def _keep(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if layer == 0:
            self.prefixes = [self._room(k, length) for length in self.lengths]
        pieces = torch.split(k, self.lengths), torch.split(v, self.lengths)
        for prefix, keys, values in zip(self.prefixes, *pieces, strict=True):
            prefix.keys[layer], prefix.values[layer] = keys, values
        # The last layer is asked for no output at all: nothing after it is ever read.
        return self._attend(q, k, v) if len(q) else q

    def _room(self, like: Tensor, length: int) -> CachedPrefix:
        shape = (self.num_layers, length, *like.shape[1:])
        return CachedPrefix(like.new_empty(shape), like.new_empty(shape))


@dataclass(frozen=True)
class Suffix:
    """A query's tokens behind one document: how many they are, and how many of its they replace."""

    prefix: CachedPrefix
    length: int
    rewind: int = 0


class Extend:
    """Each suffix attends to its prefix's cached keys and to its own past.

    Neighbours behind one prefix read its keys together, and nobody copies them.
    """

    def __init__(self, suffixes: Sequence[Suffix]) -> None:
        self._own = Runs([suffix.length for suffix in suffixes])
        self._groups = [
            _Group(members[0].prefix, kept, len(members), sum(each.length for each in members))
            for (_, kept), found in groupby(suffixes, key=_past)
            for members in [list(found)]
        ]

    def layer(self, index: int) -> Attend:
        """Attention over what was kept for this layer."""
        return partial(self._attend, index)

    def _attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        own = self._own.each(partial(fused_part, causal=True), q, k, v)
        reading = len(q) != len(k)  # only the last token of each
        rows = [group.num_suffixes if reading else group.num_tokens for group in self._groups]
        past = [
            fused_part(
                queries[None],
                group.prefix.keys[layer, None, : group.num_kept],
                group.prefix.values[layer, None, : group.num_kept],
                causal=False,
            )
            for queries, group in zip(torch.split(q, rows), self._groups, strict=True)
        ]
        outs, sums = (torch.cat([part[0] for part in parts]) for parts in zip(*past, strict=True))
        return joined((outs, sums), (own[0], own[1]))


@dataclass(frozen=True)
class _Group:
    """Neighbouring suffixes behind one prefix."""

    prefix: CachedPrefix
    num_kept: int
    """Tokens of the prefix that they see."""
    num_suffixes: int
    num_tokens: int


def _past(suffix: Suffix) -> tuple[int, int]:
    return id(suffix.prefix), suffix.prefix.num_tokens - suffix.rewind
