"""Data sets on disk in the layout of a hub's repository: README with configurations, parquet files.

This is the layout that `hf download --repo-type dataset` leaves, and it is read by the code that
reads the hub: mteb's own loader of each task. Nothing of a task is set by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL.Image

Rows = Sequence[Mapping[str, Any]]

COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}
TEXTS = {"cats": "the cat sat on the mat", "dogs": "a dog in the fog", "birds": "birds of the sea"}


def write_repository(folder: Path, configs: Mapping[str, Mapping[str, Rows]]) -> None:
    """Configuration -> split -> rows."""
    import datasets

    listed = []
    for config, splits in configs.items():
        files = []
        for split, rows in splits.items():
            path = folder / config / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            datasets.Dataset.from_list([dict(row) for row in rows]).to_parquet(path)
            files.append({"split": split, "path": str(path.relative_to(folder))})
        listed.append({"config_name": config, "data_files": files})
    head = json.dumps({"configs": listed})  # JSON is YAML
    (folder / "README.md").write_text(f"---\n{head}\n---\n", encoding="utf-8")


def picture(name: str) -> PIL.Image.Image:
    return PIL.Image.new("RGB", (56, 56), COLOURS[name])


def texts(split: str, prefix: str = "", corpus: str = "", queries: str = "") -> dict[str, Any]:
    """Corpus, queries and qrels as mteb's standard loader reads them; two queries, three texts."""
    return {
        f"{prefix}corpus": {
            corpus or split: [{"_id": key, "title": "", "text": text} for key, text in TEXTS.items()]
        },
        f"{prefix}queries": {
            queries or split: [
                {"_id": "q1", "text": "sea birds of the"}, {"_id": "q2", "text": "the cat mat"},
            ]
        },
        f"{prefix}qrels" if prefix else "default": {
            split: [
                {"query-id": "q1", "corpus-id": "birds", "score": 1},
                {"query-id": "q2", "corpus-id": "cats", "score": 1},
            ]
        },
    }  # fmt: skip


def ranked(split: str, prefix: str, good_last: Sequence[str]) -> dict[str, Any]:
    """Candidates of both queries in the order given."""
    rows = [{"query-id": query, "corpus-ids": list(good_last)} for query in ("q1", "q2")]
    return {f"{prefix}top_ranked": {split: rows}}


def pages_beir(language: str | None = None) -> dict[str, Any]:
    """Queries, corpus and qrels of ViDoRe's first versions: numbered, images in the corpus."""
    more = {} if language is None else {"language": language}
    return {
        "queries": {"test": [{"query-id": 0, "query": "the red page", **more},
                             {"query-id": 1, "query": "a blue one", **more}]},
        "corpus": {"test": [{"corpus-id": number, "image": picture(name)}
                            for number, name in enumerate(COLOURS)]},
        "qrels": {"test": [{"query-id": 0, "corpus-id": 0, "score": 1},
                           {"query-id": 1, "corpus-id": 2, "score": 1}]},
    }  # fmt: skip


def pages(prefix: str, *, text: bool) -> dict[str, Any]:
    """Pages as ViDoRe v3 has them: strings as ids, and in v3.1 the text read from the page too."""
    rows = [
        {"id": name, "image": picture(name), **({"text": f"page {number}"} if text else {})}
        for number, name in enumerate(COLOURS)
    ]
    return {
        f"{prefix}corpus": {"test": rows},
        f"{prefix}queries": {
            "test": [{"id": "q1", "text": "the red page"}, {"id": "q2", "text": "a blue one"}]
        },
        f"{prefix}qrels": {
            "test": [
                {"query-id": "q1", "corpus-id": "red", "score": 1},
                {"query-id": "q2", "corpus-id": "blue", "score": 1},
            ]
        },
    }


def write_run(
    folder: Path, task: str, subset: str, queries: Sequence[str], keys: Sequence[str]
) -> None:
    """A TREC run with the same candidates for every query."""
    lines = [
        f"{query} Q0 {key} {rank} {-rank} x\n"
        for query in queries
        for rank, key in enumerate(keys, start=1)
    ]
    folder.mkdir(exist_ok=True)
    (folder / f"{task}.{subset}.trec").write_text("".join(lines))
