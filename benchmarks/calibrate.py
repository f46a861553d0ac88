"""Calibration on held-out topics of nano's sources: `python benchmarks/calibrate.py`.

A third of the queries is fitted to, a second third says what is promised, and the last third, which
neither has seen, says whether that is kept; then the same with the queries dealt out anew, a hundred
times. A passage is relevant if it is of the query's topic. Twice:
with random other passages beside those of the topic, and with the best others by BM25 as well, which
are far harder. Needs `make data`. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from recipe.fetch import DATA
from recipe.validate import Rows, held_out
from sightrank import Document, Query, Reranker
from sightrank.analysis.calibrate import Calibrated, calibrate
from sightrank.analysis.reliability import diagram, reliability
from sightrank.analysis.thresholds import Goal, Labelled
from sightrank.evaluate.datasets import Dataset
from sightrank.evaluate.first_stage import search

LANGUAGES = ("en", "de", "fr", "ja")
DEALS = 100
WANTED: tuple[tuple[Goal, float], ...] = (
    ("precision", 0.5),
    ("precision", 0.7),
    ("precision", 0.8),
    ("precision", 0.9),
    ("precision", 0.95),
    ("recall", 0.8),
    ("recall", 0.9),
    ("recall", 0.95),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--queries", type=int, default=250, help="of each language at most")
    parser.add_argument("--hard", type=int, default=4)
    parser.add_argument("--random", type=int, default=8)
    parser.add_argument("--diagram", type=Path)
    arguments = parser.parse_args()
    ranker = Reranker.from_pretrained(arguments.model)
    pairs, hard = [], []
    for lang in LANGUAGES:
        found = collect(arguments.data, lang, arguments.queries, arguments.hard, arguments.random)
        pairs.append(scored(ranker, found))
        hard += found.hard
    whole, easy = join(pairs), ~np.array(hard)
    report = {
        "machine": describe(),
        "fingerprint": ranker.fingerprint,
        "languages": LANGUAGES,
        "random": {"others": arguments.random, **judged(ranker, whole[easy], arguments.diagram)},
        "hard": {
            "others": arguments.random,
            "bm25": arguments.hard,
            **judged(ranker, whole, None),
        },
    }
    print(json.dumps(report))


@dataclass(frozen=True)
class Collected:
    """Pairs of one language."""

    queries: list[Query]
    documents: list[Document]
    pairs: list[tuple[int, int]]
    relevant: list[bool]
    hard: list[bool]
    """Which pairs BM25 found."""


def judged(ranker: Reranker, pairs: Labelled, drawing: Path | None) -> dict[str, Any]:
    """Calibrate on two thirds of the queries, judge on the last."""
    fresh = pairs.queries % 3 == 2
    bias = ranker.config.logit_bias
    result = calibrate(ranker.facts(), pairs[~fresh], logit_bias=bias, wanted=WANTED)
    if drawing:
        method = result.calibration.method
        shown = {name: result.reliabilities[name] for name in ("before", method)}
        drawing.write_text(diagram(shown, "nano, held-out queries"), encoding="utf-8")
    again = dealt_out(ranker, pairs, DEALS)
    return {**result.to_dict(), "fresh": verdict(result, pairs[fresh]), "dealt_out": again}


def dealt_out(ranker: Reranker, pairs: Labelled, times: int) -> dict[str, Any]:
    """By goal: how often a threshold was found, reached its goal, lay inside what was promised.

    A third part of as many queries varies as much as the part that promises: of intervals that hold
    the truth in 95 % some 83 % hold such a figure (1.96 / sqrt(2) standard errors). All deals share
    their queries, so that they are no independent samples.
    """
    rng, numbers = np.random.default_rng(0), np.unique(pairs.queries)
    rows: dict[str, dict[str, int]] = {}
    for _ in range(times):
        last = np.isin(pairs.queries, rng.permutation(numbers)[: len(numbers) // 3])
        keys = [str(number) for number in rng.permutation(int(numbers.max()) + 1)]
        made = calibrate(
            ranker.facts(), pairs[~last], logit_bias=ranker.config.logit_bias, wanted=WANTED,
            method="temperature", keys=keys,
        )  # fmt: skip
        for each in verdict(made, pairs[last])["thresholds"]:
            name = f"{each['goal']} {each['wanted']}"
            row = rows.setdefault(name, {"given": 0, "reached": 0, "inside": 0})
            if each["reached"] is not None:
                row["given"] += 1
                row["reached"] += each["reached"] >= each["wanted"]
                row["inside"] += each["inside"]
    return {"times": times, "goals": rows}


def collect(data: Path, lang: str, count: int, hard: int, others: int) -> Collected:
    """Queries of one language, each beside its own passages and others."""
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
    pairs, relevant, is_hard = [], [], []
    for number, group in enumerate(chosen):
        own = [at for at, topic in enumerate(topics) if topic == group]
        ranked = sorted(found.get(str(number), {}).items(), key=lambda item: -item[1])
        near = [int(key) for key, _ in ranked if topics[int(key)] != group][:hard]
        far = [at for at in rng.sample(range(len(topics)), others) if topics[at] != group]
        for at in dict.fromkeys(own + near + far):
            pairs.append((number, at))
            relevant.append(topics[at] == group)
            is_hard.append(at in near and at not in far)
    return Collected(queries, documents, pairs, relevant, is_hard)


def one_language(data: Path, name: str, lang: str) -> dict[str, list[str]]:
    """Topic -> its held-out texts."""
    rows: Rows = held_out(data / "text" / f"{name}.jsonl")
    return rows[lang]


def scored(ranker: Reranker, found: Collected) -> Labelled:
    """The pairs with their logits."""

    def show(done: int, total: int) -> None:
        print(f"\r{done}/{total}", end="" if done < total else "\n", file=sys.stderr)

    logits = ranker.score_matrix(found.queries, found.documents, found.pairs, progress=show)
    numbers = np.array([query for query, _ in found.pairs], np.int64)
    return Labelled(logits, np.array(found.relevant), numbers)


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
    rows: list[dict[str, Any]] = []
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
