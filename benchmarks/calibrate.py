"""Calibration on held-out topics of nano's sources: `python benchmarks/calibrate.py`.

A third of the queries is fitted to, a second third says what is promised, and the last third, which
neither has seen, says whether that is kept. Each query has the passages of its own topic, the best of
the others by BM25, and random ones; a passage is relevant if it is of the query's topic. Needs
`make data`. The last line of stdout is one JSON object; `--diagram FILE.svg` draws it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from recipe.fetch import DATA
from recipe.validate import Rows, held_out
from sightrank import Document, Query, Reranker
from sightrank.analysis.calibrate import Calibrated, calibrate
from sightrank.analysis.reliability import diagram, reliability
from sightrank.analysis.thresholds import Labelled
from sightrank.evaluate.datasets import Dataset
from sightrank.evaluate.first_stage import search

LANGUAGES = ("en", "de", "fr", "ja", "ru")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--queries", type=int, default=300, help="of each language at most")
    parser.add_argument("--hard", type=int, default=5)
    parser.add_argument("--random", type=int, default=4)
    parser.add_argument("--diagram", type=Path)
    arguments = parser.parse_args()
    ranker = Reranker.from_pretrained(arguments.model)
    sets = [
        collect(arguments.data, lang, arguments.queries, arguments.hard, arguments.random)
        for lang in LANGUAGES
    ]
    pairs = join([scored(ranker, *each) for each in sets])
    fresh = pairs.queries % 3 == 2
    result = calibrate(ranker.facts(), pairs[~fresh], logit_bias=ranker.config.logit_bias)
    if arguments.diagram:
        method = result.calibration.method
        shown = {name: result.reliabilities[name] for name in ("before", method)}
        arguments.diagram.write_text(diagram(shown, "nano, held-out queries"), encoding="utf-8")
    report = {
        "machine": describe(),
        "fingerprint": ranker.fingerprint,
        "languages": LANGUAGES,
        "negatives": {"bm25": arguments.hard, "random": arguments.random},
        **result.to_dict(),
        "fresh": verdict(result, pairs[fresh]),
    }
    print(json.dumps(report))


def collect(
    data: Path, lang: str, count: int, hard: int, others: int
) -> tuple[list[Query], list[Document], list[tuple[int, int]], list[bool]]:
    """Queries, documents, pairs, and which of the pairs are relevant."""
    rng = random.Random(f"calibrate {lang}")
    known, asked = (one_language(data, name, lang) for name in ("documents", "queries"))
    groups = sorted(known.keys() & asked.keys())
    topics = [group for group in sorted(known) for _ in known[group]]
    documents = [Document.text(text) for group in sorted(known) for text in known[group]]
    chosen = rng.sample(groups, min(count, len(groups)))
    queries = [Query.text(rng.choice(asked[group])) for group in chosen]
    dataset = Dataset(
        lang,
        {str(n): query for n, query in enumerate(queries)},
        {str(n): document for n, document in enumerate(documents)},
        {str(n): {} for n in range(len(queries))},
    )
    found = search(dataset, hard + 10)
    pairs, relevant = [], []
    for number, group in enumerate(chosen):
        own = [at for at, topic in enumerate(topics) if topic == group]
        ranked = sorted(found.get(str(number), {}).items(), key=lambda item: -item[1])
        near = [int(key) for key, _ in ranked if topics[int(key)] != group][:hard]
        far = [at for at in rng.sample(range(len(topics)), others) if topics[at] != group]
        for at in dict.fromkeys(own + near + far):
            pairs.append((number, at))
            relevant.append(topics[at] == group)
    return queries, documents, pairs, relevant


def one_language(data: Path, name: str, lang: str) -> dict[str, list[str]]:
    """Topic -> its held-out texts."""
    rows: Rows = held_out(data / "text" / f"{name}.jsonl")
    return rows[lang]


def scored(
    ranker: Reranker,
    queries: Sequence[Query],
    documents: Sequence[Document],
    pairs: Sequence[tuple[int, int]],
    relevant: Sequence[bool],
) -> Labelled:
    """The pairs with their logits."""

    def show(done: int, total: int) -> None:
        print(f"\r{done}/{total}", end="" if done < total else "\n", file=sys.stderr)

    logits = ranker.score_matrix(queries, documents, pairs, progress=show)
    numbers = np.array([query for query, _ in pairs], np.int64)
    return Labelled(logits, np.array(relevant), numbers)


def join(sets: Sequence[Labelled]) -> Labelled:
    """All pairs, the queries numbered on."""
    start, numbers = 0, []
    for each in sets:
        numbers.append(each.queries + start)
        start += int(each.queries.max()) + 1
    return Labelled(
        np.concatenate([each.logits for each in sets]),
        np.concatenate([each.relevant for each in sets]),
        np.concatenate(numbers),
    )


def verdict(result: Calibrated, fresh: Labelled) -> dict[str, Any]:
    """What the calibration and its promises are worth on pairs that nothing was chosen on."""
    p = result.calibration.apply(fresh.logits)
    rows = []
    for each in result.thresholds:
        if each.probability is None:
            rows.append({"goal": each.goal, "wanted": each.wanted, "reached": None})
            continue
        taken = p >= each.probability
        precision = float(fresh.relevant[taken].mean())
        recall = float(taken[fresh.relevant].mean())
        value = precision if each.goal == "precision" else recall
        rows.append(
            {
                "goal": each.goal,
                "wanted": each.wanted,
                "promised": [each.reached.low, each.reached.high],
                "reached": value,
                "inside": each.reached.low <= value <= each.reached.high,
                "precision": precision,
                "recall": recall,
            }
        )
    return {
        "queries": len(np.unique(fresh.queries)),
        "pairs": len(fresh),
        "relevant": int(fresh.relevant.sum()),
        "ece": reliability(p, fresh.relevant).ece,
        "thresholds": rows,
    }


if __name__ == "__main__":
    main()
