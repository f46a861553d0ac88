"""The benchmark of quality: lists share one reading, what is done is not done again, the table."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sightrank.evaluate.run import prepare, rerank
from sightrank.reranker import Reranker

ROOT = Path(__file__).parents[2]
RESULTS, TABLE = ROOT / "benchmarks/results/quality.json", ROOT / "docs/quality.md"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("quality")


def run(benchmark: Any, folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to, table = folder / "out.json", folder / "out.md"
    given = ["quality", folder, "--model", model, "--to", to, "--table", table]
    monkeypatch.setattr(sys, "argv", [str(each) for each in given])
    benchmark.main()


def test_every_list_of_every_set_is_measured_once(
    benchmark: Any,
    make_set: Callable[..., Path],
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = make_set("one"), make_set("two")
    for folder in (first, second):
        (folder / "run.trec").rename(folder / "run.e5.trec")
        lines = "q1 Q0 d3 1 3 x\nq2 Q0 d3 1 2 x\nq2 Q0 d2 2 1 x\n"
        (folder / "run.bm25.trec").write_text(lines, encoding="utf-8")
    (second / "queries.jsonl").rename(second / "away")
    run(benchmark, first.parent, checkpoint, monkeypatch)
    assert "two: left out." in capsys.readouterr().err
    (second / "away").rename(second / "queries.jsonl")
    run(benchmark, first.parent, checkpoint, monkeypatch)
    printed = capsys.readouterr()
    assert "one: done before" in printed.err
    report = json.loads(printed.out.splitlines()[-1])
    assert report == json.loads((first.parent / "out.json").read_text(encoding="utf-8"))
    assert [each["dataset"] for each in report["sets"]] == ["one", "two"]
    ranker = Reranker.from_pretrained(str(checkpoint))
    assert report["fingerprint"] == ranker.fingerprint
    for name in ("e5", "bm25"):
        expected = rerank(ranker, prepare(first, f"run.{name}.trec")).to_dict()
        found = report["sets"][0]["candidates"][name]
        assert found["metrics"] == expected["metrics"]
        assert found["first_stage"] == expected["first_stage"]
    table = (first.parent / "out.md").read_text(encoding="utf-8")
    assert table == importlib.import_module("quality_table").markdown(report)
    assert re.search(r"^\| two \| e5, 3 \| itself \| \d\.\d{4} ", table, re.MULTILINE)


def test_the_committed_table_is_the_committed_report(benchmark: Any) -> None:
    assert TABLE.exists() == RESULTS.exists()
    if RESULTS.exists():
        report = json.loads(RESULTS.read_text(encoding="utf-8"))
        assert TABLE.read_text(encoding="utf-8") == benchmark.markdown(report)


def test_pages_have_the_committed_results(benchmark: Any) -> None:
    card = importlib.import_module("card")
    for path, fill in card.FILLED.items():
        text = path.read_text(encoding="utf-8")
        assert fill(text) == text, path
    text = card.CARD.read_text(encoding="utf-8")
    header = "| language | same | to English |"
    other = card.replace_rows(text, header, [("xx", "0.12", "")])
    assert other != text and card.fill_card(other) == text
