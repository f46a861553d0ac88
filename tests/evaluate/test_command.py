"""`sightrank evaluate`: what it prints and writes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from sightrank.cli import options
from sightrank.cli.evaluate import Request, evaluate, run_evaluation
from sightrank.errors import InputError, OptionError

MakeSet = Callable[..., Path]
METRICS = {"ndcg@10", "ndcg@5", "mrr@10", "recall@10"}


def test_json_is_an_object_for_one_set_and_a_list_for_several(
    make_set: MakeSet, scorer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = make_set("one"), make_set("two")
    run_evaluation(Request((first,), "run.trec", json=True), lambda: scorer)
    alone = json.loads(capsys.readouterr().out)
    assert list(alone) == [
        "dataset", "model", "queries", "documents", "depth", "metrics", "first_stage", "seconds",
    ]  # fmt: skip
    assert set(alone["metrics"]) == set(alone["first_stage"]) == METRICS
    run_evaluation(Request((first, second), "run.trec", json=True), lambda: scorer)
    both = json.loads(capsys.readouterr().out)
    assert [report["dataset"] for report in both] == ["one", "two"]


def test_the_table_shows_both_orders(
    make_set: MakeSet, scorer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run_evaluation(Request((make_set(),), "run.trec"), lambda: scorer)
    head, before, after = capsys.readouterr().out.splitlines()
    assert head.split() == ["set", "order", "by", "ndcg@10", "ndcg@5", "mrr@10", "recall@10"]
    assert before.split()[:3] == ["animals", "first", "stage"]
    assert after.split() == ["3", "x", "3,", "0", "s", "overlap", *["0.6667"] * 4]


def test_files_of_queries_and_of_the_run(make_set: MakeSet, scorer: Any, tmp_path: Path) -> None:
    queries, run = tmp_path / "queries.jsonl", tmp_path / "out.trec"
    request = Request((make_set(),), "run.trec", per_query=queries, trec_out=run)
    run_evaluation(request, lambda: scorer)
    run_evaluation(request, lambda: scorer)  # written anew, not added to
    rows = [json.loads(line) for line in queries.read_text().splitlines()]
    assert [(row["dataset"], row["query"]) for row in rows] == [
        ("animals", "q1"), ("animals", "q2"), ("animals", "q3"),
    ]  # fmt: skip
    assert run.read_text().splitlines()[:2] == [
        "q1 Q0 d2 1 3 sightrank",
        "q1 Q0 d1 2 1 sightrank",
    ]


def test_mistakes_are_found_before_a_model_is_loaded(make_set: MakeSet, tmp_path: Path) -> None:
    def load() -> Any:
        raise AssertionError("loaded")

    good, bad = make_set("good"), make_set("bad", qrels="q1 d1 1\n")
    with pytest.raises(InputError, match=r"bad/qrels\.tsv, line 1"):
        run_evaluation(Request((good, bad)), load)
    with pytest.raises(OptionError, match="--trec-out is one file, and there are 2 sets"):
        run_evaluation(Request((good, good), trec_out=tmp_path / "x.trec"), load)
    with pytest.raises(OptionError, match="cannot be written"):
        run_evaluation(Request((good,), per_query=tmp_path / "no" / "x.jsonl"), load)


def test_the_command_line(make_set: MakeSet, scorer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[options.ModelOptions] = []

    def load(given: options.ModelOptions) -> Any:
        asked.append(given)
        return scorer

    monkeypatch.setattr(options.ModelOptions, "load", load)
    app = typer.Typer()
    app.command()(evaluate)
    arguments = f"{make_set()} --run run.trec --depth 2 --max-queries 1 --max-pixels 5000 --json"
    done = CliRunner().invoke(app, arguments.split())
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["queries"], report["depth"]) == (1, 2)
    assert asked == [options.ModelOptions(max_pixels=5000)]


def test_evaluation_loads_no_torch() -> None:
    code = (
        "import sys, sightrank.cli.evaluate, sightrank.evaluate.run, sightrank.evaluate.metrics;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
