"""`sightrank compare`: what is run, what is said of it, and that the report stands alone."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from sightrank.cli.compare import ManySets, Request, compare, run_comparison
from sightrank.errors import CheckpointError, OptionError, UnsupportedInputError
from sightrank.evaluate.compare import Entrant, Judge, measure_all, summary
from sightrank.evaluate.plot import Point, Series, draw
from sightrank.evaluate.report import html
from sightrank.evaluate.run import prepare, rerank
from sightrank.reranker import Reranker

MakeSet = Callable[..., Path]
module = importlib.import_module("sightrank.cli.compare")  # its name is the command in the package
NASTY = "<script>alert(\"1\")</script> & 'cats' and dog"


def compared(capsys: pytest.CaptureFixture[str], *models: str, **request: Any) -> dict[str, Any]:
    sets = request.pop("sets")
    run_comparison(Request(models, sets, run="run.trec", json=True, **request))
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_json_of_two_systems_on_two_sets(
    make_set: MakeSet, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = (make_set("one"), make_set("two"))
    report = compared(capsys, "first-stage", "bm25", sets=sets, depths=(1, 3))
    assert report["baseline"] == "first-stage"
    assert report["test"] == {
        "name": "paired randomisation test, two-sided", "permutations": 10_000, "seed": 0,
    }  # fmt: skip
    assert [each["dataset"] for each in report["sets"]] == ["one", "two"]
    runs = report["sets"][1]["runs"]
    assert [(run["model"], run["depth"], run["candidates"]) for run in runs] == [
        ("first-stage", 1, 2), ("first-stage", 3, 5), ("bm25", 1, 2), ("bm25", 3, 5),
    ]  # fmt: skip
    assert "against" not in runs[0]
    deep = runs[3]
    assert deep["metrics"]["ndcg@10"] == pytest.approx(2 / 3)
    assert deep["against"]["difference"] == pytest.approx(
        deep["metrics"]["ndcg@10"] - deep["first_stage"]["ndcg@10"]
    )
    # Two queries are better and the third, without candidates, is 0 for both.
    assert deep["against"] | {"difference": 0} == {
        "difference": 0, "p": 0.5, "wins": 2, "losses": 0, "ties": 1, "permutations": 4, "exact": True,
    }  # fmt: skip
    assert {row["query"] for row in deep["won"]} == {"q1", "q2"}
    assert deep["lost"] == []
    assert deep["seconds_per_query"] == pytest.approx(deep["seconds"] / 2)
    assert deep["seconds_per_document"] == pytest.approx(deep["seconds"] / 5)


def test_settings_multiply_our_models_and_not_their_peers(
    make_set: MakeSet, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = compared(
        capsys, str(checkpoint), "bm25",
        sets=(make_set(),), max_pixels=(3136, 6272), dtypes=("float32", "bfloat16"),
    )  # fmt: skip
    runs = report["sets"][0]["runs"]
    assert [(run.get("max_pixels"), run.get("dtype")) for run in runs] == [
        (3136, "float32"), (3136, "bfloat16"), (6272, "float32"), (6272, "bfloat16"), (None, None),
    ]  # fmt: skip
    assert runs[0]["model"] == f"{checkpoint}, max_pixels 3136, dtype float32"


def test_every_run_starts_with_nothing_remembered_and_reads_a_document_once(
    make_set: MakeSet, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker = Reranker.from_pretrained(checkpoint)
    prefilled: list[int] = []
    prefill = ranker.runner.prefill

    def counted(documents: Any) -> Any:
        prefilled.append(len(documents))
        return prefill(documents)

    monkeypatch.setattr(ranker.runner, "prefill", counted)
    monkeypatch.setattr(module.options.ModelOptions, "load", lambda _: ranker)
    opened = module._ours(module.options.NANO)
    prefilled.clear()
    task = prepare(make_set(), "run.trec")  # five pairs of three documents
    for _ in range(2):
        rerank(opened(task), task)
    assert prefilled == [3, 3]


def test_the_report_needs_nothing_and_escapes_everything(make_set: MakeSet, scorer: Any) -> None:
    folder = make_set(queries=[{"_id": "q1", "text": NASTY}, {"_id": "q2", "text": "sea birds"}],
                      qrels="q1\td2\t2\nq1\td1\t1\nq2\td3\t1\n")  # fmt: skip
    task = prepare(folder, "run.trec")
    entrants = [Entrant("first-stage", {}, lambda: _peer("first-stage")),
                Entrant("<b>mine</b>", {}, lambda: lambda _: scorer)]  # fmt: skip
    measured = list(measure_all(entrants, [task], [1, 3], module._watch))
    page = html(summary(measured, Judge()))
    parser = Outline()
    parser.feed(page)
    assert not parser.open
    assert parser.tags & {"script", "link", "img", "iframe", "object", "b"} <= {"b"}
    assert page.count("<b>") == 1  # our own, around the baseline's name
    assert not parser.fetched
    assert "@import" not in page
    assert not re.search(r"url\(", page)
    assert "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#x27;cats&#x27;" in page
    assert "&lt;b&gt;mine&lt;/b&gt;" in page
    assert parser.tags >= {"svg", "polyline", "table", "details"}
    assert "2/0/0" in page


def _peer(name: str) -> Any:
    from sightrank.evaluate.peers import open_peer

    return open_peer(name)


class Outline(HTMLParser):
    """Tags, whether all are closed, and what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "meta":
            self.open.append(tag)
        self.fetched += [name for name, _ in attrs if name in ("src", "href", "data", "xlink:href")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_plot_puts_points_where_they_belong() -> None:
    fast, slow = Point(0.01, 0.5, "10"), Point(1.0, 0.7, "100")
    picture = draw([Series("one", (fast, slow))], "seconds", "quality", ("first", 0.4))
    (line,) = re.findall(r'<polyline [^>]*points="([^"]+)"', picture)
    (x1, y1), (x2, y2) = (tuple(map(float, pair.split(","))) for pair in line.split())
    # The axis runs over three decades, 0.01 to 10 s; the points are two apart.
    assert x1 == 64
    assert x2 - x1 == pytest.approx((720 - 64 - 16) * 2 / 3, abs=0.2)
    assert y1 > y2  # better is higher
    (level,) = re.findall(r'<path class="level" d="M64 ([\d.]+)H', picture)
    assert float(level) > y1
    assert ">10 ms<" in picture
    assert ">10 s<" in picture
    assert "first" in picture


def test_a_plot_of_one_point() -> None:
    assert "<circle" in draw([Series("one", (Point(0.0, 1.0, "5"),))], "s", "q")


def test_the_table(make_set: MakeSet, capsys: pytest.CaptureFixture[str]) -> None:
    sets = (make_set("one"), make_set("two"))
    run_comparison(Request(("first-stage", "bm25"), sets, run="run.trec"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["set", "/", "system", "ndcg@10"]
    assert lines[2].split()[:3] == ["first-stage", "0.4969", "baseline"]
    assert lines[3].split()[:5] == ["bm25", "0.6667", "+0.1698", "0.5000", "2/0/1"]
    assert [line.split() for line in lines[-4:-1]] == [
        ["mean", "over", "the", "sets"], ["first-stage", "0.4969"], ["bm25", "0.6667"],
    ]  # fmt: skip


def test_files_that_are_written(make_set: MakeSet, tmp_path: Path) -> None:
    page, rows = tmp_path / "out.html", tmp_path / "rows.jsonl"
    run_comparison(
        Request(("first-stage", "bm25"), (make_set(),), run="run.trec", html=page, per_query=rows)
    )
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    read = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [(row["model"], row["query"], row["depth"]) for row in read] == [
        (model, query, 100) for model in ("first-stage", "bm25") for query in ("q1", "q2", "q3")
    ]


def test_mistakes_are_found_before_a_model_is_loaded(
    make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: Any) -> Any:
        raise AssertionError("loaded")

    monkeypatch.setattr(module.options.ModelOptions, "load", load)
    one = make_set()
    (tmp_path / "a.pdf").touch()
    pages = make_set(
        "pages", corpus=[{"_id": k, "pdf": "a.pdf", "page": 1} for k in ("d1", "d2", "d3")]
    )
    cases: list[tuple[Request, type[Exception], str]] = [
        (Request(("nano", "nano"), (one,)), OptionError, "nano is named twice"),
        (Request(("nano",), (one, one)), OptionError, "set is named twice"),
        (Request(("nano",), (one,), metric="map"), OptionError, "metric is 'map'"),
        (Request(("nano",), (one,), html=tmp_path), OptionError, "cannot be written"),
        (Request(("nano", "http+x"), (one,)), OptionError, r"Expected is http\+jina"),
        (Request(("nano", str(tmp_path / "none")), (one,)), CheckpointError, "none"),
        (
            Request(("nano", "bm25"), (one, pages), run="run.trec", files=tmp_path),
            UnsupportedInputError,
            "bm25 reads texts alone, and pages has .*a.pdf#page=1",
        ),
    ]
    for request, error, message in cases:
        with pytest.raises(error, match=message):
            run_comparison(request)


def test_the_command_line(make_set: MakeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []
    monkeypatch.setattr(module, "run_comparison", asked.append)
    app = typer.Typer()
    app.command(cls=ManySets)(compare)
    line = "nano bm25 --on a b c --depths 50,10,50 --max-pixels 3136,6272 --dtypes float32 --on d"
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 0, done.output
    (request,) = asked
    assert request.models == ("nano", "bm25")
    assert request.sets == tuple(map(Path, "abcd"))
    assert request.depths == (10, 50)
    assert request.max_pixels == (3136, 6272)
    assert request.dtypes == ("float32",)
    wrong = CliRunner().invoke(app, ["nano", "--on", "a", "--depths", "10,no"])
    assert isinstance(wrong.exception, OptionError)
    assert "--depths has 'no'" in str(wrong.exception)
