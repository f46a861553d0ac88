"""BM25, for sets without a first-stage run: no stemming, character bigrams for Han, kana and Thai."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping

from sightrank.evaluate.datasets import Run

_WORDS = re.compile(r"\w+")
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


def terms(text: str) -> list[str]:
    """Lower-case words; runs of scripts without spaces as overlapping pairs of characters."""
    found: list[str] = []
    for word in _WORDS.findall(text.lower()):
        at = 0
        for run in _UNSPACED.finditer(word):
            found += [word[at : run.start()]] if run.start() > at else []
            chars = run.group()
            found += [chars[i : i + 2] for i in range(max(1, len(chars) - 1))]
            at = run.end()
        found += [word[at:]] if at < len(word) else []
    return found


def bm25(
    queries: Mapping[str, str],
    texts: Mapping[str, str],
    depth: int = 100,
    k1: float = 1.2,
    b: float = 0.75,
) -> Run:
    """The `depth` best documents a query (Robertson and Zaragoza 2009, Lucene's idf)."""
    counts = {key: Counter(terms(text)) for key, text in texts.items()}
    lengths = {key: counter.total() for key, counter in counts.items()}
    mean = sum(lengths.values()) / max(1, len(lengths)) or 1.0
    postings: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for key, counter in counts.items():
        for term, count in counter.items():
            postings[term].append((key, count))
    run: Run = {}
    for query, text in queries.items():
        scores: dict[str, float] = defaultdict(float)
        for term in terms(text):
            matches = postings.get(term, [])
            idf = math.log(1 + (len(texts) - len(matches) + 0.5) / (len(matches) + 0.5))
            for key, count in matches:
                norm = k1 * (1 - b + b * lengths[key] / mean)
                scores[key] += idf * count * (k1 + 1) / (count + norm)
        best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:depth]
        run[query] = dict(best)
    return run
