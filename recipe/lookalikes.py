"""Hard negatives: documents of one language that share rare tokens, found by BM25 over token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipe.layout import Ints
from recipe.pack import TextPack

K1, B = 1.2, 0.75
COMMON = 0.1
"""Tokens in more than this share of a language's documents find nothing that is alike."""
SAME = 0.6
"""Documents of which this share of tokens are those of another are its copies, not its negatives."""


class Lookalikes:
    """An inverted index of the documents at `rows` of a pack."""

    def __init__(self, pack: TextPack, rows: Ints) -> None:
        self.pack = pack
        self._vocabulary = len(pack.vectors)
        lengths = np.diff(pack.documents.offsets)
        of_token = np.repeat(np.arange(len(lengths)), lengths)
        wanted = np.zeros(len(lengths), bool)
        wanted[rows] = True
        kept = wanted[of_token]
        owner, token = of_token[kept], pack.documents.flat[kept].astype(np.int64)
        pairs, counts = np.unique(owner * self._vocabulary + token, return_counts=True)
        owner, token = np.divmod(pairs, self._vocabulary)
        term = pack.document_lang[owner].astype(np.int64) * self._vocabulary + token
        by_term = np.argsort(term, kind="stable")
        terms, found_in = np.unique(term[by_term], return_counts=True)
        self._terms, self._starts = terms, np.concatenate(([0], found_in.cumsum()))
        self._owner = owner[by_term].astype(np.int32)
        size = np.bincount(pack.document_lang[rows])[terms // self._vocabulary]
        idf = np.log1p((size - found_in + 0.5) / (found_in + 0.5))
        idf[found_in > COMMON * size + 8] = 0.0
        self._idf, self._average = idf, lengths[rows].mean()
        weight = np.repeat(idf, found_in) * self._share(counts[by_term], lengths[self._owner])
        self._weight = weight.astype(np.float32)

    def _share(self, found: Ints, length: Ints | int) -> Any:
        """What of a term's weight its occurrences in a document of that length are worth."""
        return found / (found + K1 * (1 - B + B * length / self._average))

    def nearest(self, query: Ints, lang: int, depth: int) -> Ints:
        """At most `depth` rows of the pack, best first, that share a rare token with `query`."""
        slices = [slice(self._starts[i], self._starts[i + 1]) for i in self._known(query, lang)]
        if not slices:
            return np.empty(0, np.int64)
        owner = np.concatenate([self._owner[part] for part in slices])
        weight = np.concatenate([self._weight[part] for part in slices])
        rows, where = np.unique(owner, return_inverse=True)
        scores = np.bincount(where, weight)
        best = np.argsort(-scores, kind="stable")[:depth]
        return rows[best[scores[best] > 0]].astype(np.int64)

    def scores(self, query: Ints, lang: int, bodies: Sequence[Ints]) -> NDArray[np.float64]:
        """BM25 of each of these bodies, in a language of the index: (bodies,)."""
        known = self._known(query, lang)
        tokens = self._terms[known] - lang * self._vocabulary
        found = np.array([(body == tokens[:, None]).sum(axis=1) for body in bodies])
        lengths = np.array([len(body) for body in bodies])[:, None]
        scores: NDArray[np.float64] = self._share(found, lengths) @ self._idf[known]
        return scores

    def _known(self, query: Ints, lang: int) -> Ints:
        """Which terms of the index the query has."""
        wanted = lang * self._vocabulary + np.unique(query)
        at = np.searchsorted(self._terms, wanted).clip(max=len(self._terms) - 1)
        known: Ints = at[self._terms[at] == wanted]
        return known

    def is_copy(self, row: int, other: int) -> bool:
        """Whether most of what either says is in the other."""
        mine, theirs = (np.unique(self.pack.documents[index]) for index in (row, other))
        shared = len(np.intersect1d(mine, theirs, assume_unique=True))
        return shared > SAME * min(len(mine), len(theirs))
