"""The two passes of the engine as attention plans: fill a cache, then read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from sightrank.inputs.segments import Segment
from sightrank.model import varlen
from sightrank.model.attention import Attend, Packed, Runs
from sightrank.model.parts import fused_part, joined
from sightrank.model.varlen import Bounds


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

    def to(self, device: torch.device) -> CachedPrefix:
        """The same there, in memory of its own."""
        return CachedPrefix(self.keys.to(device), self.values.to(device))


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

    Neighbours behind one prefix read its keys together, and on a CPU nobody copies them.
    """

    def __init__(self, suffixes: Sequence[Suffix]) -> None:
        lengths = [suffix.length for suffix in suffixes]
        self._own = Runs(lengths)
        self._groups = [
            _Group(members[0].prefix, kept, len(members), sum(each.length for each in members))
            for (_, kept), found in groupby(suffixes, key=_past)
            for members in [list(found)]
        ]
        self._all, self._last = Bounds(lengths), Bounds([1] * len(lengths))
        self._kept = Bounds([group.num_kept for group in self._groups])
        self._rows = {
            False: Bounds([group.num_tokens for group in self._groups]),
            True: Bounds([group.num_suffixes for group in self._groups]),
        }

    def layer(self, index: int) -> Attend:
        """Attention over what was kept for this layer."""
        return partial(self._attend, index)

    def _attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        reading = len(q) != len(k)  # only the last token of each
        if varlen.takes(q):
            own = self._last if reading else self._all
            mine = varlen.flash_part(q, k, v, own, self._all, causal=not reading)
            return joined(self._past_at_once(layer, q, reading), mine)
        outs, sums = self._own.each(partial(fused_part, causal=True), q, k, v)
        return joined(self._past(layer, q, reading), (outs, sums))

    def _past(self, layer: int, q: Tensor, reading: bool) -> tuple[Tensor, Tensor]:
        """Each prefix's keys where they lie."""
        rows = torch.split(q, self._rows[reading].lengths)
        parts = []
        for queries, group in zip(rows, self._groups, strict=True):
            keys, values = group.kept(layer)
            parts.append(fused_part(queries[None], keys[None], values[None], causal=False))
        outs, sums = (torch.cat([part[0] for part in each]) for each in zip(*parts, strict=True))
        return outs, sums

    def _past_at_once(self, layer: int, q: Tensor, reading: bool) -> tuple[Tensor, Tensor]:
        """All prefixes' keys in one call: a GPU copies a layer of them faster than it is asked."""
        kept = [group.kept(layer) for group in self._groups]
        keys, values = (torch.cat(each) for each in zip(*kept, strict=True))
        return varlen.flash_part(q, keys, values, self._rows[reading], self._kept, causal=False)


@dataclass(frozen=True)
class _Group:
    """Neighbouring suffixes behind one prefix."""

    prefix: CachedPrefix
    num_kept: int
    """Tokens of the prefix that they see."""
    num_suffixes: int
    num_tokens: int

    def kept(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, each (tokens, kv_heads, head_dim)."""
        prefix = self.prefix
        return prefix.keys[layer, : self.num_kept], prefix.values[layer, : self.num_kept]


def _past(suffix: Suffix) -> tuple[int, int]:
    return id(suffix.prefix), suffix.prefix.num_tokens - suffix.rewind
