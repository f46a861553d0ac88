"""`sightrank evaluate --suite`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from sightrank.cli import options
from sightrank.cli.evaluate import evaluate
from sightrank.cli.suite import SuiteRequest, run_suite_command
from sightrank.errors import DataUnavailableError, OptionError
from tests.evaluate import hub


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = hub.texts("test", corpus="corpus", queries="queries")
    hub.write_repository(tmp_path / "mteb/scifact", rows)
    return tmp_path


def test_the_published_figure_stands_beside_ours(
    data: Path, scorer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run_suite_command(SuiteRequest("beir", data, tasks=("SciFact",)), lambda: scorer)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-3:] == ["first", "stage", "overlap"]
    assert lines[1].split()[:2] == ["SciFact", "BM25"]
    assert lines[1].split()[-1] == "100.00"
    assert lines[2].startswith("mean of these, not of the whole suite")
    text = " ".join(lines)
    assert "as published: 58.95 (metric: nDCG@10, candidates: jina-embeddings-v3" in text
    assert "Not known: which of BEIR's sets are in the mean." in text


def test_json_and_lines(
    data: Path, scorer: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "tasks.jsonl"
    request = SuiteRequest("beir", data, tasks=("SciFact",), depth=2, out=out, json=True)
    run_suite_command(request, lambda: scorer)
    report = json.loads(capsys.readouterr().out)
    assert list(report) == [
        "suite", "model", "metric", "score", "first_stage", "complete", "published", "unknown", "tasks",
    ]  # fmt: skip
    assert report["tasks"][0]["subsets"][0]["pairs"] == 4
    assert [json.loads(line) for line in out.read_text().splitlines()] == report["tasks"]


def test_mistakes_are_found_before_a_model_is_loaded(data: Path, tmp_path: Path) -> None:
    def load() -> Any:
        raise AssertionError("loaded")

    cases: list[tuple[SuiteRequest, type[Exception], str]] = [
        (SuiteRequest("bier"), OptionError, "no suite 'bier'"),
        (SuiteRequest("beir", tasks=("CosQA",)), OptionError, "beir has no task 'CosQA'"),
        (SuiteRequest("beir", data), DataUnavailableError, "TRECCOVID are not in"),
        (SuiteRequest("beir", show="all"), OptionError, "--show is 'all'"),
        (SuiteRequest("beir", run=tmp_path / "x.trec"), OptionError, "is not a folder"),
    ]
    for request, error, message in cases:
        with pytest.raises(error, match=message):
            run_suite_command(request, load)


def test_the_command_line(data: Path, scorer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options.ModelOptions, "load", lambda _: scorer)
    app = typer.Typer()
    app.command()(evaluate)
    line = f"--suite beir --tasks SciFact --data {data} --json"
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["score"] == 1.0
    for wrong, message in (
        ("", "nothing to evaluate"),
        (f"{data} --suite beir", "goes with neither DIR"),
        (f"{data} --tasks SciFact", "belong to --suite"),
    ):
        failed = CliRunner().invoke(app, wrong.split())
        assert isinstance(failed.exception, OptionError)
        assert message in str(failed.exception)
