"""Scores of pairs: look documents up, run those that are missing, then all queries over them.

A miss is a prefill followed by a hit, so there is no separate cold path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightrank.config import EngineConfig
from sightrank.engine.plans import CachedPrefix
from sightrank.engine.prefix_cache import PrefixCache
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


class Engine:
    """Keeps documents' keys and values, and scores suffixes over them."""

    def __init__(self, runner: Runner, config: EngineConfig, settings: str) -> None:
        """`settings`: digest of all that changes what a prefix means besides its own tokens and
        pixels: weights, dtype, template, limits. It becomes part of every key."""
        self.runner, self.config, self.settings = runner, config, settings
        self.cache = PrefixCache(config.cache_bytes)

    def score(
        self,
        documents: Sequence[Segment],
        queries: Sequence[Segment],
        pairs: Sequence[Pair],
        progress: Progress | None = None,
    ) -> NDArray[np.float64]:
        """Logits of `pairs`, in their order. Documents no pair names are not run."""
        logits = np.empty(len(pairs), np.float64)
        asked = [self.runner.embed([query]) for query in queries]
        order = sorted(range(len(pairs)), key=lambda index: pairs[index].document)
        by_document = [
            (document, list(members))
            for document, members in groupby(order, key=lambda index: pairs[index].document)
        ]
        done = 0
        for window in self._windows(documents, by_document):
            prefixes = self._prefixes([documents[document] for document, _ in window])
            members = [
                (index, prefix)
                for prefix, (_, indices) in zip(prefixes, window, strict=True)
                for index in indices
            ]
            for batch in plan([len(pairs[i].suffix) for i, _ in members], self.config.batch_tokens):
                chosen = [members[place] for place in batch]
                logits[[index for index, _ in chosen]] = self._extend(pairs, chosen, asked)
            done += len(members)
            if progress:
                progress(done, len(pairs))
        return logits

    def _windows(
        self, documents: Sequence[Segment], work: Sequence[tuple[int, list[int]]]
    ) -> Iterator[list[tuple[int, list[int]]]]:
        """Documents whose prefixes are held at once: as many as a batch of tokens runs."""
        costs = [cost(documents[document]) for document, _ in work]
        for batch in plan(costs, self.config.batch_tokens):
            yield [work[place] for place in batch]

    def _prefixes(self, segments: Sequence[Segment]) -> list[CachedPrefix]:
        keys = [f"{self.settings}/{segment.digest}" for segment in segments]
        found = {key: prefix for key in keys if (prefix := self.cache.get(key)) is not None}
        missing = {
            key: segment for key, segment in zip(keys, segments, strict=True) if key not in found
        }
        if missing:
            for key, prefix in zip(
                missing, self.runner.prefill(list(missing.values())), strict=True
            ):
                self.cache.put(key, prefix)
                found[key] = prefix
        return [found[key] for key in keys]

    def _extend(
        self,
        pairs: Sequence[Pair],
        chosen: Sequence[tuple[int, CachedPrefix]],
        asked: Sequence[Tensor],
    ) -> NDArray[np.float64]:
        suffixes = [pairs[index].suffix for index, _ in chosen]
        embedded = [
            _embedded(asked[pairs[index].query], pairs[index].suffix, self.runner)
            for index, _ in chosen
        ]
        prefixes = [prefix for _, prefix in chosen]
        logits = self.runner.extend(prefixes, suffixes, torch.cat(embedded))
        return logits.cpu().double().numpy()


def _embedded(query: Tensor, suffix: Segment, runner: Runner) -> Tensor:
    """The query's embeddings, made once; a suffix that was cut lost its last tokens of text."""
    if len(suffix) == len(query):
        return query
    score = runner.model.model.embed_tokens(
        torch.tensor(suffix.ids[-1:].tolist(), device=query.device)
    )
    return torch.cat((query[: len(suffix) - 1], score))


def cost(segment: Segment) -> int:
    """Work of a prefill in tokens: the decoder's, and a patch of the vision tower as one more."""
    return len(segment) + sum(image.grid[0] * image.grid[1] for image in segment.images)
