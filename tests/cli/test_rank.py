"""`sightrank rank` with a ranker that needs no model: output, status, what is reported."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from sightrank.analysis.select import Selection
from sightrank.cli.rank import Request, run
from sightrank.errors import InputError
from sightrank.types import Query
from tests.cli.conftest import LengthRanker
from tests.command import status

QUERY = Query.text("what?")


def rank(request: Request, ranker: LengthRanker | None = None, stdin: bytes = b"") -> int:
    return run(request, lambda: ranker or LengthRanker(), io.BytesIO(stdin), lambda path: 2)


def test_json_has_exactly_the_documented_fields(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rank(Request(QUERY, ("b.txt", "p.pdf", "-"), json=True), stdin="日本\n".encode()) == 0
    assert json.loads(capsys.readouterr().out) == {
        "model": "length",
        "query": "what?",
        "results": [
            {"rank": 1, "index": 1, "document": "p.pdf#page=1", "score": 1.0, "logit": 0.0},
            {"rank": 2, "index": 2, "document": "p.pdf#page=2", "score": 0.5, "logit": -1.0},
            {"rank": 3, "index": 0, "document": "b.txt", "score": 1 / 3, "logit": -2.0},
            {"rank": 4, "index": 3, "document": "日本", "score": 0.25, "logit": -3.0},
        ],
        "usage": {"total_tokens": 28},
    }


def test_the_table_shows_rank_score_name_and_a_snippet(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = Request(QUERY, ("b.txt", "p.pdf#page=2", "-"), top=3)
    assert rank(request, stdin=b"a passage\n") == 0
    out = capsys.readouterr().out
    rows = [" ".join(row.split()) for row in out.splitlines()]
    assert rows == [
        "rank score logit document",
        "1 1.0000 0.00 p.pdf#page=2",
        "2 0.5000 -1.00 b.txt text of b.txt",
        "3 0.3333 -2.00 -:1 a passage",
    ]


def test_the_table_never_cuts_a_name(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "n" * 200 + ".txt"
    (files / name).write_text("words")
    rank(Request(QUERY, (name,)))
    assert name in capsys.readouterr().out


def test_nothing_in_the_table_steers_the_terminal(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "e\x1b[31m.txt").write_text("x\x1b]0;title\x07 [red]y[/red]\u202e")
    rank(Request(QUERY, ("*.txt",)))
    out = capsys.readouterr().out
    assert not any(char in out for char in "\x1b\x07\u202e")
    assert "[red]y[/red]" in out


def test_a_threshold_leaves_out_what_is_below_it(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("b.txt", "p.pdf")  # scores 1, 1/2 and 1/3
    assert rank(Request(QUERY, arguments, threshold=0.5, json=True)) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [hit["score"] for hit in printed["results"]] == [1.0, 0.5]
    assert printed["below_threshold"]["count"] == 1
    assert printed["below_threshold"]["best"]["document"] == "b.txt"


def test_nothing_here_is_relevant_is_an_answer(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Selection, "choose", lambda _, hits, vectors: ((), tuple(hits)))
    assert rank(Request(QUERY, ("b.txt", "p.pdf"), threshold=0.75)) == 0
    out, err = capsys.readouterr()
    assert out == (
        "Nothing here is relevant: the best of 3 documents has a score of 1.0000, asked for is 0.75"
        " or more (p.pdf#page=1).\n"
    )
    assert err == ""
    assert rank(Request(QUERY, ("b.txt",), threshold=0.75, json=True)) == 0
    assert json.loads(capsys.readouterr().out)["results"] == []


@pytest.mark.parametrize(("strict", "status"), [(False, 0), (True, 1)])
def test_what_cannot_be_read_is_named_and_the_rest_ranked(
    files: Path, capsys: pytest.CaptureFixture[str], strict: bool, status: int
) -> None:
    ranker = LengthRanker(broken=frozenset({"a.md"}))
    request = Request(QUERY, ("a.md", "gone.txt", "b.txt"), strict=strict, json=True)
    assert rank(request, ranker) == status
    out, err = capsys.readouterr()
    assert [hit["document"] for hit in json.loads(out)["results"]] == ["b.txt"]
    assert "left out: gone.txt does not exist." in err
    assert "left out: a.md is broken.\n  Mend it." in err


@pytest.mark.parametrize("broken", ["gone.txt", "b.txt"])
def test_nothing_left_to_rank_is_an_error(
    files: Path, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    with pytest.raises(InputError, match="None of 1 documents"):
        rank(Request(QUERY, (broken,)), LengthRanker(broken=frozenset({"b.txt"})))
    out, err = capsys.readouterr()
    assert out == "" and f"left out: {broken}" in err


class Terminal(io.StringIO):
    """A standard input at which somebody sits."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "arguments", [["rank"], ["rank", "q"], ["rank", "q", "-k", "0", "x"], ["rank", "--no"], ["x"]]
)
def test_wrong_usage_is_status_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    assert status(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Usage" in err


def test_query_image_makes_every_positional_a_document(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ranker = LengthRanker()
    monkeypatch.setattr("sightrank.cli.options.ModelOptions.load", lambda _: ranker)
    assert status("rank", "--query-image", "q.png", "a.md", "b.txt", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["query"] == "q.png"
    assert [hit["document"] for hit in printed["results"]] == ["b.txt", "a.md"]
    assert ranker.asked == [Query.image(Path("q.png"))]


@pytest.mark.parametrize(
    ("raised", "code"),
    [(InputError("Too odd.", "Try less."), 1), (KeyboardInterrupt(), 130)],
)
def test_errors_end_without_a_traceback(
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
) -> None:
    def load(*_: Any) -> LengthRanker:
        raise raised

    monkeypatch.setattr("sightrank.cli.options.ModelOptions.load", load)
    assert status("rank", "q", "b.txt") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("error: Too odd.\n  Try less.\n" if code == 1 else "")
