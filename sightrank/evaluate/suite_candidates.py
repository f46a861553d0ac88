"""What a suite's tasks are reranked from: a run that was given, the task's own list, or BM25."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightrank.errors import InputError
from sightrank.evaluate.first_stage import Bm25
from sightrank.evaluate.lines import read_lines
from sightrank.evaluate.trec import LINE, best_first

Candidates = dict[str, list[str]]
"""Query id -> document ids, best first."""


@dataclass(frozen=True)
class Found:
    """Candidates of one subset, and where they come from."""

    candidates: Candidates
    source: str


def find(task: Any, subset: str, split: str, run: Path | None, depth: int | None) -> Found:
    """At most `depth` candidates of each query (None: all). Raises InputError.

    `run`: a folder with TASK_predictions.json as mteb writes it, or TASK.SUBSET.trec.
    """
    data = task.dataset[subset][split]
    if run is not None:
        found = _given(task, subset, split, run)
    elif data["top_ranked"]:
        found = Found(
            {query: list(keys) for query, keys in data["top_ranked"].items()}, "the task's own"
        )
    elif _has_text(task, data):
        found = Found(_bm25(data, depth or 100, task.ignore_identical_ids), "BM25")
    else:
        name = task.metadata.name
        raise InputError(
            f"{name} has images and no candidates of its own, and BM25 reads texts alone.",
            f"Give --run FOLDER with {name}_predictions.json, as mteb writes it with"
            f" prediction_folder, or {name}.{subset}.trec.",
        )
    cut = {query: keys[:depth] for query, keys in found.candidates.items()}
    return Found(cut, found.source)


def _has_text(task: Any, data: Mapping[str, Any]) -> bool:
    from mteb.types import PromptType

    shown = task.metadata.get_modalities(PromptType.document)
    return "text" in shown and "text" in data["corpus"].column_names


def _bm25(data: Mapping[str, Any], depth: int, without_itself: bool) -> Candidates:
    """`without_itself`: where queries are documents too, one never finds itself."""
    corpus, queries = data["corpus"], data["queries"]
    keys = list(corpus["id"])
    titles = corpus["title"] if "title" in corpus.column_names else [""] * len(keys)
    texts = [
        f"{title} {text}" if title else text
        for title, text in zip(titles, corpus["text"], strict=True)
    ]
    index = Bm25(texts)
    candidates: Candidates = {}
    for query, text in zip(queries["id"], queries["text"], strict=True):
        scores = index.scores(text if isinstance(text, str) else " ".join(map(str, text)))
        best = np.argsort(-scores, kind="stable")[: depth + 1]
        found = [keys[place] for place in best if scores[place] > 0]
        candidates[query] = [key for key in found if not (without_itself and key == query)][:depth]
    return candidates


def _given(task: Any, subset: str, split: str, run: Path) -> Found:
    predictions = run / task.prediction_file_name
    trec = run / f"{task.metadata.name}.{subset}.trec"
    if predictions.is_file():
        scores, path = _predictions(predictions, subset, split), predictions
    elif trec.is_file():
        scores, path = _trec(trec), trec
    else:
        raise InputError(f"{run} has neither {predictions.name} nor {trec.name}.", LINE)
    data = task.dataset[subset][split]
    known = set(data["corpus"]["id"])
    queries = data["queries"]["id"]
    candidates: Candidates = {}
    for query in queries:
        candidates[query] = list(best_first(scores.get(query, {})))
        if unknown := [key for key in candidates[query] if key not in known]:
            raise InputError(
                f"{path}: {task.metadata.name} has no document {unknown[0]!r} (subset {subset}).",
                "Ids are those of mteb's corpus.",
            )
    if not any(candidates.values()):
        raise InputError(f"{path} has candidates for no query of subset {subset}.", LINE)
    return Found(candidates, path.name)


def _predictions(path: Path, subset: str, split: str) -> Mapping[str, Mapping[str, float]]:
    try:
        scores: Mapping[str, Mapping[str, float]] = json.loads(path.read_bytes())[subset][split]
        return {query: {key: float(x) for key, x in row.items()} for query, row in scores.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} has no predictions for subset {subset}, split {split}: {error!r:.100}.",
            "It is what mteb writes: subset, split, query id, document id, score.",
        ) from None


def _trec(path: Path) -> Mapping[str, Mapping[str, float]]:
    scores: dict[str, dict[str, float]] = {}

    def parse(_: int, line: str) -> tuple[str, str, float]:
        fields: Sequence[str] = line.split()
        if len(fields) != 6:
            raise ValueError(f"{len(fields)} fields instead of 6")
        return fields[0], fields[2], float(fields[4])

    for query, document, score in read_lines(path, parse, LINE):
        scores.setdefault(query, {})[document] = score
    return scores
