"""BM25, for sets without a run of their own: no stemming, no list of stop words."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import InputError
from sightrank.evaluate.datasets import Dataset, text_of
from sightrank.evaluate.trec import Run

_UNSPACED = re.compile(r"([\u0e00-\u0e7f\u3005\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+)")
"""Runs of Thai, kana and Chinese characters, which are written without spaces."""


class Analyzer:
    """Text to terms: lower-case words, and pairs of characters where words are not spaced."""

    def __init__(self) -> None:
        self._letters = _Letters()

    def __call__(self, text: str) -> list[str]:
        """The terms of `text` in order, repeated as they occur; a lone character is a term."""
        spaced = unicodedata.normalize("NFKC", text).lower().translate(self._letters)
        found: list[str] = []
        for word in spaced.split():
            for place, piece in enumerate(_UNSPACED.split(word)):
                if place % 2 and len(piece) > 1:
                    found += [piece[i : i + 2] for i in range(len(piece) - 1)]
                elif piece:
                    found.append(piece)
        return found


class _Letters(dict[int, int]):
    """For str.translate: letters, digits and their marks stay, all else becomes a space."""

    def __missing__(self, code: int) -> int:
        # Marks belong to words in Thai, Hindi and Arabic; \w would cut the word at them.
        self[code] = code if unicodedata.category(chr(code))[0] in "LNM" else ord(" ")
        return self[code]


class Bm25:
    """Scores of texts, sum over the query's terms of idf * tf / (tf + k1 (1 - b + b dl / avgdl)).

    idf = ln(1 + (N - n + 0.5) / (n + 0.5)), as in Robertson and Zaragoza 2009 with Lucene's idf,
    which is never negative; times k1 + 1. A term that a query repeats counts once (k3 = 0).
    """

    def __init__(self, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> None:
        self.analyze = Analyzer()
        self.size = len(texts)
        self._terms: dict[str, int] = {}
        terms, places, counts, lengths = array("q"), array("q"), array("d"), array("d")
        for place, text in enumerate(texts):
            counted = Counter(self.analyze(text))
            lengths.append(counted.total())
            for term, count in counted.items():
                terms.append(self._terms.setdefault(term, len(self._terms)))
                places.append(place)
                counts.append(count)
        by_term = np.argsort(np.asarray(terms), kind="stable")
        found_in = np.bincount(np.asarray(terms, np.int64), minlength=len(self._terms))
        self._starts = np.concatenate(([0], np.cumsum(found_in)))
        self._places = np.asarray(places, np.int64)[by_term]
        tf, dl = np.asarray(counts)[by_term], np.asarray(lengths)[self._places]
        average = max(float(np.sum(lengths)), 1.0) / max(self.size, 1)
        idf = np.repeat(np.log1p((self.size - found_in + 0.5) / (found_in + 0.5)), found_in)
        self._weights = idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * dl / average))

    def scores(self, query: str) -> NDArray[np.float64]:
        """Scores of all texts, (texts,); 0 where no term of the query occurs."""
        scores = np.zeros(self.size)
        for term in dict.fromkeys(self.analyze(query)):
            if (number := self._terms.get(term)) is not None:
                rows = slice(self._starts[number], self._starts[number + 1])
                scores[self._places[rows]] += self._weights[rows]
        return scores


def search(dataset: Dataset, depth: int) -> Run:
    """The `depth` best text documents for each graded query; equal scores in the corpus's order.

    Only documents that share a term with the query are found, so for a query that is an image
    none. Raises InputError if the set has no text documents.
    """
    texts: Mapping[str, str] = {
        key: text for key, document in dataset.documents.items() if (text := text_of(document))
    }
    if not texts:
        raise InputError(
            f"{dataset.name} has no text documents, so BM25 finds nothing.",
            "Name a TREC run with --run.",
        )
    keys, index = list(texts), Bm25(list(texts.values()))
    run: Run = {}
    for query in dataset.grades:
        scores = index.scores(text_of(dataset.queries[query]))
        best = np.argsort(-scores, kind="stable")[:depth]
        run[query] = {keys[place]: float(scores[place]) for place in best if scores[place] > 0}
    return run
