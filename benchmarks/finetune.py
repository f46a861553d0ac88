"""Fine-tune nano for ten processor minutes on code it has not seen: `python benchmarks/finetune.py`.

The domain is functions of installed PyPI packages, found by the first sentence of their docstrings;
of Python nano has met the standard library alone. Training and validation functions are of different
packages. Everything is done by the commands a user has: `mine`, `train`, `evaluate`. The last line of
stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from machine import describe

from recipe.corpus_lists import functions
from recipe.corpus_passages import Document
from sightrank.evaluate.run import prepare, rerank
from sightrank.evaluate.significance import compare
from sightrank.reranker import Reranker

TRAIN = ("sympy", "matplotlib", "pandas", "sqlalchemy", "numpy")
VALID = ("scipy", "sklearn", "networkx")
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
LONGEST = 1000
"""Characters of a function."""
QUERIES, DOCUMENTS, DEPTH = 150, 1000, 20
GROUPS = 4000
PROBES = (1, 5)
"""Steps of the two short runs that tell how long a step takes."""
CONFIG = """
[model]
start = "nano"
language = "full"

[data]
train = ["train.jsonl"]
negatives = 5
in_batch = 24
max_length = 320
max_query_length = 64

[train]
to = "{to}"
steps = {steps}
groups = 8
accumulate = 1
learning_rate = 3e-4
head_learning_rate = 3e-4
save_every = 1000
log_every = 10
device = "cpu"

[head]
steps = 0
"""

Pair = tuple[str, str]
"""What is asked, and the function that answers it."""


def main() -> None:
    """Make data, measure, train, measure again, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="of the processor, for training")
    parser.add_argument("--steps", type=int, help="in place of --seconds")
    parser.add_argument("--keep", type=Path, help="a folder to work in, which stays")
    arguments = parser.parse_args()
    with TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        print(json.dumps(measure(folder, arguments.seconds, arguments.steps)))


def measure(folder: Path, seconds: float, steps: int | None) -> dict[str, Any]:
    """The whole benchmark in a folder."""
    facts = folder / "counts.json"
    if not facts.exists():  # parsing the packages takes minutes
        facts.write_text(json.dumps(write_data(folder)), encoding="utf-8")
    counts = json.loads(facts.read_text(encoding="utf-8"))
    (folder / "train.jsonl").unlink(missing_ok=True)
    mined = sightrank(
        "mine", folder / "groups.jsonl", "--to", folder / "train.jsonl", "--model", "bm25",
        "--depth", 30, "--negatives", 5, "--sampling", "random",
    )  # fmt: skip
    steps = steps or steps_in(seconds, folder)
    trained = train(folder, "result", steps)
    task = prepare(folder / "valid", depth=DEPTH)
    rankers = [Reranker.from_pretrained(), Reranker.from_pretrained(str(folder / "result"))]
    before, after = (rerank(ranker, task) for ranker in rankers)
    new, old = ([row["ndcg@10"] for row in each.per_query.values()] for each in (after, before))
    return {
        "machine": describe(),
        "packages": {name: version(DISTRIBUTIONS.get(name, name)) for name in (*TRAIN, *VALID)},
        "train": {"packages": TRAIN, **counts["train"]},
        "valid": {"packages": VALID, **counts["valid"], "candidates": f"BM25, {DEPTH}"},
        "config": CONFIG.format(steps=steps, to="result").strip().splitlines(),
        "mine": mined,
        "training": trained,
        "bm25": before.to_dict()["first_stage"],
        "before": {"fingerprint": rankers[0].fingerprint, **before.to_dict()["metrics"]},
        "after": {"fingerprint": rankers[1].fingerprint, **after.to_dict()["metrics"]},
        "test": compare(new, old).to_dict(),
    }


def train(folder: Path, to: str, steps: int) -> dict[str, Any]:
    """Train into a folder of its own, from the beginning."""
    shutil.rmtree(folder / to, ignore_errors=True)
    config = folder / f"{to}.toml"
    config.write_text(CONFIG.format(steps=steps, to=to), encoding="utf-8")
    return sightrank("train", config)


def steps_in(seconds: float, folder: Path) -> int:
    """Steps that the processor does in this time here, judged by a few."""
    few, more = (train(folder, f"probe{count}", count) for count in PROBES)
    start, end = few["processor_seconds"], more["processor_seconds"]
    each = (end - start) / (PROBES[1] - PROBES[0])
    return max(1, int((seconds - start) / each))


def sightrank(*arguments: object) -> dict[str, Any]:
    """A command's JSON, with the processor's seconds and those on the clock."""
    command = [sys.executable, "-m", "sightrank", *map(str, arguments), "--json"]
    print("sightrank", *(Path(str(each)).name for each in arguments), file=sys.stderr, flush=True)
    started, used = time.monotonic(), processor_seconds()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    report: dict[str, Any] = json.loads(done.stdout)
    report |= {
        "processor_seconds": round(processor_seconds() - used, 1),
        "wall_seconds": round(time.monotonic() - started, 1),
    }
    return {key: value for key, value in report.items() if key not in ("to", "folder")}


def processor_seconds() -> float:
    """Of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_data(folder: Path) -> dict[str, dict[str, int]]:
    """Training groups, and a labelled set of functions out of other packages."""
    train = pairs(TRAIN)
    known = {code for _, code in train}
    valid = [pair for pair in pairs(VALID) if pair[1] not in known]
    random.Random(0).shuffle(train)
    random.Random(0).shuffle(valid)
    train, valid = train[:GROUPS], valid[:DOCUMENTS]
    rows = ({"query": query, "positives": [code]} for query, code in train)
    write(folder / "groups.jsonl", rows)
    (folder / "valid").mkdir(exist_ok=True)
    corpus = ({"_id": f"d{at}", "text": code} for at, (_, code) in enumerate(valid))
    write(folder / "valid" / "corpus.jsonl", corpus)
    asked = valid[:QUERIES]
    queries = ({"_id": f"q{at}", "text": query} for at, (query, _) in enumerate(asked))
    write(folder / "valid" / "queries.jsonl", queries)
    grades = "".join(f"q{at}\td{at}\t1\n" for at in range(len(asked)))
    (folder / "valid" / "qrels.tsv").write_text(grades, encoding="utf-8")
    return {
        "train": {"groups": len(train)},
        "valid": {"queries": len(asked), "documents": len(valid)},
    }


def pairs(packages: Sequence[str]) -> list[Pair]:
    """Docstrings and functions, less what is asked of several functions or stands twice."""
    found: list[Pair] = []
    for package in packages:
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None, f"{package} is not installed"
        rows = list(functions(Path(spec.origin).parent))
        code = {row.group: row.text for row in rows if isinstance(row, Document)}
        found += [
            (row.text, code[row.group])
            for row in rows
            if not isinstance(row, Document) and len(code[row.group]) <= LONGEST
        ]
    asked, answers = Counter(query for query, _ in found), Counter(code for _, code in found)
    return [(query, code) for query, code in found if asked[query] == answers[code] == 1]


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
