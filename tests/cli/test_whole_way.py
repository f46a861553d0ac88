"""The commands as a user runs them, over the demo documents, with a tiny checkpoint."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from sightrank.cli import checkup
from sightrank.reranker import Reranker
from tests.cli.conftest import DEMO
from tests.command import status
from tests.int8 import NEEDS_INT8
from tests.tolerances import INT8_MODEL_LOGIT


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert status(*arguments, "--json") == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_files_pages_and_pictures_rank_together(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = (DEMO / "passages", DEMO / "pictures", f"{DEMO}/xfig-howto.pdf#pages=19-20")
    printed = answer(capsys, "rank", "rest", *documents, "--model", checkpoint)
    count = len(list(DEMO.glob("p*/*"))) + 2
    assert sorted(hit["index"] for hit in printed["results"]) == list(range(count))
    logits = [hit["logit"] for hit in printed["results"]]
    assert logits == sorted(logits, reverse=True)
    again = [hit["document"] for hit in printed["results"][:3]]
    repeated = answer(capsys, "rank", "rest", *again, "--model", checkpoint)
    assert [hit["document"] for hit in repeated["results"]] == again


def test_a_picture_asks(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = DEMO / "pictures"
    query = pictures / "violin.png"
    printed = answer(capsys, "rank", "--query-image", query, pictures, "--model", checkpoint)
    assert printed["query"] == str(query)
    assert len(printed["results"]) == len(list(pictures.iterdir()))


def test_the_model_that_comes_with_the_package_ranks(capsys: pytest.CaptureFixture[str]) -> None:
    printed = answer(capsys, "rank", "vacaciones pagadas", DEMO / "passages")
    assert printed["model"] == "nano"
    assert len(printed["results"]) == len(list((DEMO / "passages").iterdir()))


def test_standard_input_is_ranked(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = io.TextIOWrapper(io.BytesIO(b"one\ntwo\n"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", lines)
    printed = answer(capsys, "rank", "q", "--model", checkpoint)
    assert sorted(hit["document"] for hit in printed["results"]) == ["one", "two"]


def test_damaged_files_are_left_out(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG no more")
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.4 no more")
    (tmp_path / "c.txt").write_text("fine")
    assert status("rank", "q", tmp_path, "--strict", "--model", checkpoint) == 1
    out, err = capsys.readouterr()
    assert "c.txt" in out
    assert "a.png" in err and "b.pdf" in err and "Traceback" not in err


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "no/such/folder"],
        ["--device", "abacus"],
        ["--dtype", "float8"],
        ["--max-pixels", "5"],
        ["--max-length", "100000"],
    ],
)
def test_options_out_of_range_are_errors(
    options: list[str], checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [] if "--model" in options else ["--model", str(checkpoint)]
    assert status("rank", "q", DEMO / "passages", *model, *options) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and len(err.splitlines()) == 2


def test_doctor_shows_the_exact_prompt(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = ("--query", "what?", "--document", "a <|image_pad|> b")
    printed = answer(capsys, "doctor", *pair, "--model", checkpoint)
    prompt = "**Document**:\na <|image_pad|> b\n**Query**:\nwhat?"
    assert printed["pair"]["prompt"] == prompt
    assert printed["pair"]["ids"][-1] == printed["pair"]["score_token"] == 100
    assert printed["pair"]["image_tokens"] == 0
    assert printed["golden"] is None
    assert len(printed["model"]["fingerprint"]) == 64
    assert printed["versions"].keys() >= {"sightrank", "python", "torch", "tokenizers"}


@NEEDS_INT8
def test_int8_by_name(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--model", checkpoint, "--device", "cpu", "--dtype", "int8")
    pair = ("--query", "what?", "--document", "a lion")
    printed = answer(capsys, "doctor", *pair, *options)
    exact = answer(capsys, "doctor", *pair, "--model", checkpoint, "--device", "cpu")
    assert [each["model"]["dtype"] for each in (printed, exact)] == ["int8", "float32"]
    assert printed["model"]["parameters"] == exact["model"]["parameters"]
    off = abs(printed["pair"]["logit"] - exact["pair"]["logit"])
    assert 0 < off <= INT8_MODEL_LOGIT


def test_doctor_for_people_says_why_no_published_scores(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = DEMO / "pictures" / "seahorse.png"
    assert status("doctor", "--document", picture, "--model", checkpoint) == 0
    out = capsys.readouterr().out
    assert "jinaai/jina-reranker-m0" in out
    assert "<|vision_start|><|image_pad|>x35<|vision_end|>" in out  # 148 x 200 pixels: 5 x 7 blocks


def test_golden_scores_are_compared_in_score_and_tokens(checkpoint: Path) -> None:
    ranker = Reranker.from_pretrained(checkpoint)
    (hit,) = ranking = ranker.rank("q", ["d"])
    case = {
        "query": "q",
        "documents": ["d"],
        "max_length": 1024,
        "scores": [hit.score],
        "prompt_tokens_without_score_token": [ranking.total_tokens],
    }
    assert checkup.compare(ranker, {"source": "here", "cases": [case]})["passed"]
    for change in ({"scores": [hit.score + 0.02]}, {"prompt_tokens_without_score_token": [3]}):
        content = {"source": "here", "cases": [case | change]}
        assert not checkup.compare(ranker, content)["passed"]
