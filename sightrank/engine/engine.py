"""Scores of pairs: look documents up, run those that are missing, then all queries over them.

A miss is a prefill followed by a hit, so there is no separate cold path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightrank.config import EngineConfig
from sightrank.engine.memory import cost, in_halves, limits
from sightrank.engine.plans import CachedPrefix, Seen
from sightrank.engine.precision import Precision, pack_features, pack_prefix, unpack
from sightrank.engine.prefix_cache import PrefixCache, prefix_key
from sightrank.engine.prefix_store import PrefixStore
from sightrank.engine.runner import Runner
from sightrank.engine.scheduler import plan
from sightrank.inputs.segments import Segment

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Pair:
    """A query behind a document: indices into the request's lists, and the query's suffix there."""

    document: int
    query: int
    suffix: Segment


@dataclass(frozen=True)
class Known:
    """A document that was encoded before: all that scoring needs of it while a store holds it."""

    digest: str
    num_tokens: int
    next_position: int
    recover: Callable[[], Segment | None]
    """Encode it again, for when the store does not hold it; None if that cannot be done."""

    def __len__(self) -> int:
        return self.num_tokens


class Engine:
    """Keeps documents' keys and values, and scores suffixes over them."""

    def __init__(self, runner: Runner, config: EngineConfig, settings: str) -> None:
        """`settings`: digest of all that changes what a prefix means besides its own tokens and
        pixels: weights, dtype, template, limits. It becomes part of every key."""
        self.runner, self.settings = runner, settings
        self.limits = limits(config, runner.model, runner.device)
        self.cache = PrefixCache(self.limits.cache_bytes, PrefixCache(self.limits.host_bytes))

    def look(self, segments: Sequence[Segment]) -> list[Seen]:
        """Segments whose images have been through the vision tower, fewer at once if memory is short."""
        batches = plan([cost(segment) for segment in segments], self.limits.batch_tokens)
        return [
            seen
            for batch in batches
            for seen in in_halves(self.runner.look, [segments[at] for at in batch], self._relieve)
        ]

    def score(
        self,
        documents: Sequence[Segment | Known],
        queries: Sequence[Segment | Seen],
        pairs: Sequence[Pair],
        progress: Progress | None = None,
        store: PrefixStore | None = None,
    ) -> NDArray[np.float64]:
        """Logits of `pairs`, in their order. Documents no pair names are not run.

        Queries that were `look`ed at beforehand may be asked again at no cost. Equal documents
        are run once, so that they tie to the last bit wherever they stand in a batch.
        `store` is looked into for documents that are not in memory. Pairs whose document could not
        be recovered have NaN.
        """
        logits = np.full(len(pairs), np.nan)
        asked = [self._embedded(query) for query in queries]
        asks = _alike(documents, pairs)
        times = Counter(asks)
        done = 0
        for window in self._windows(documents, pairs, times):
            prefixes = self._prefixes([documents[document] for document, _ in window], store)
            members = [
                (index, prefix)
                for prefix, (_, indices) in zip(prefixes, window, strict=True)
                for index in indices
                if prefix is not None
            ]
            for batch in plan([len(pairs[i].suffix) for i, _ in members], self.limits.batch_tokens):
                chosen = [members[place] for place in batch]
                run = partial(self._extend, pairs, asked)
                logits[[index for index, _ in chosen]] = in_halves(run, chosen, self._relieve)
            done += sum(times[index] for _, indices in window for index in indices)
            if progress:
                progress(done, len(pairs))
        return logits[asks]

    def prefix(self, document: Segment, store: PrefixStore | None = None) -> CachedPrefix:
        """One document's keys and values, from memory, `store` or the model."""
        (prefix,) = self._prefixes([document], store)
        assert prefix is not None, "a segment recovers as itself"
        return prefix

    def embedded(self, query: Segment | Seen, suffix: Segment) -> Tensor:
        """Embeddings (tokens, size) of a query that stands as `suffix` behind its document."""
        return _embedded(self._embedded(query), suffix, self.runner)

    def key(self, document: Segment | Known) -> str:
        """What a store calls this document."""
        return prefix_key(self.settings, document.digest)

    def pack(self, documents: Sequence[Segment], precision: Precision) -> list[dict[str, Tensor]]:
        """What a store keeps of these documents, run together."""
        if precision == "features":
            return [pack_features(seen) for seen in self.look(documents)]
        prefixes = self._prefixes(documents, None)
        return [pack_prefix(prefix, precision) for prefix in prefixes if prefix is not None]

    def prefixes(
        self, documents: Sequence[Segment | Known], store: PrefixStore | None = None
    ) -> Iterator[CachedPrefix | None]:
        """Keys and values of `documents` in order, as many held at once as a batch of tokens runs.

        Looked up as in `score`; None for what cannot be recovered.
        """
        for batch in plan(list(map(cost, documents)), self.limits.batch_tokens):
            yield from self._prefixes([documents[place] for place in batch], store)

    def _windows(
        self, documents: Sequence[Segment | Known], pairs: Sequence[Pair], indices: Iterable[int]
    ) -> Iterator[list[tuple[int, list[int]]]]:
        """(document, those of its pairs that are at `indices`) whose prefixes are held at once.

        They are as many as a batch of tokens runs. What is held stays, whatever the cache evicts
        meanwhile, so a request may be larger than the cache.
        """
        order = sorted(indices, key=lambda index: pairs[index].document)
        work = [
            (document, list(members))
            for document, members in groupby(order, key=lambda index: pairs[index].document)
        ]
        costs = [cost(documents[document]) for document, _ in work]
        for batch in plan(costs, self.limits.batch_tokens):
            yield [work[place] for place in batch]

    def _prefixes(
        self, documents: Sequence[Segment | Known], store: PrefixStore | None
    ) -> list[CachedPrefix | None]:
        """Memory, then `store`, then the model; None for what cannot be recovered."""
        # int8 is near the truth and not the truth, so it never answers for a document asked
        # for without that index.
        lossy = "/int8" if store is not None and store.precision == "int8" else ""
        slots = {self.key(document) + lossy: document for document in documents}
        found = {slot: kept for slot in slots if (kept := self.cache.get(slot)) is not None}
        fresh: dict[str, CachedPrefix] = {}
        seen: dict[str, Seen] = {}
        unseen: dict[str, Segment] = {}
        for slot, document in slots.items():
            if slot in found:
                continue
            held = self._held(document, store)
            if isinstance(held, CachedPrefix):
                fresh[slot] = held
            elif isinstance(held, Seen):
                seen[slot] = held
            elif (whole := document.recover()) is not None:
                unseen[slot] = whole
        seen |= zip(unseen, self.look(list(unseen.values())), strict=True)
        if seen:
            run = in_halves(self.runner.prefill, list(seen.values()), self._relieve)
            fresh |= zip(seen, run, strict=True)
        for slot, prefix in fresh.items():
            self.cache.put(slot, prefix)
        found |= fresh
        return [found.get(self.key(document) + lossy) for document in documents]

    def _held(
        self, document: Segment | Known, store: PrefixStore | None
    ) -> CachedPrefix | Seen | None:
        tensors = store.read(self.key(document)) if store is not None else None
        return unpack(tensors, self.runner.model.dtype, self.runner.device) if tensors else None

    def _extend(
        self,
        pairs: Sequence[Pair],
        asked: Sequence[Tensor],
        chosen: Sequence[tuple[int, CachedPrefix]],
    ) -> list[float]:
        suffixes = [pairs[index].suffix for index, _ in chosen]
        embedded = [
            _embedded(asked[pairs[index].query], pairs[index].suffix, self.runner)
            for index, _ in chosen
        ]
        prefixes = [prefix for _, prefix in chosen]
        logits = self.runner.extend(prefixes, suffixes, torch.cat(embedded))
        return logits.tolist()

    def _embedded(self, query: Segment | Seen) -> Tensor:
        seen = query if isinstance(query, Seen) else self.look([query])[0]
        return self.runner.embed([seen])

    def _relieve(self) -> None:
        """After memory ran out: hold nothing there, and run less at once from now on."""
        self.cache.shed()
        self.limits = replace(self.limits, batch_tokens=max(1, self.limits.batch_tokens // 2))
        if self.runner.device.type == "cuda":
            torch.cuda.empty_cache()


def _alike(documents: Sequence[Segment | Known], pairs: Sequence[Pair]) -> list[int]:
    """For each pair, the first one that puts the same query behind an equal document."""
    first: dict[tuple[str, int], int] = {}
    return [
        first.setdefault((documents[pair.document].digest, pair.query), index)
        for index, pair in enumerate(pairs)
    ]


def _embedded(query: Tensor, suffix: Segment, runner: Runner) -> Tensor:
    """The query's embeddings, made once; a suffix that was cut lost its last tokens of text."""
    if len(suffix) == len(query):
        return query
    score = runner.model.model.embed_tokens(
        torch.tensor(suffix.ids[-1:].tolist(), device=query.device)
    )
    return torch.cat((query[: len(suffix) - 1], score))
