"""`sightrank calibrate` and `rank --threshold` as a user runs them, with a tiny checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightrank.errors import InputError
from sightrank.evaluate.labels import read_labels, score
from sightrank.reranker import Reranker
from tests.command import status


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture
def labels(tmp_path: Path, checkpoint: Path) -> Path:
    """Texts and pictures, called relevant where the model scores them above its median."""
    Image.new("RGB", (60, 60), "teal").save(tmp_path / "p.png")
    documents: list[object] = ["tea", {"text": "coffee"}, {"image": "p.png"}, "milk", "juice"]
    rows = [
        {"query": f"drink {number}", "document": document, "relevant": 0}
        for number in range(8)
        for document in documents
    ]
    path = write(tmp_path / "labels.jsonl", rows)
    pairs, _ = score(Reranker.from_pretrained(checkpoint), read_labels(path))
    middle = sorted(pairs.logits)[len(rows) // 2]
    for number, (row, logit) in enumerate(zip(rows, pairs.logits, strict=True)):
        row["relevant"] = int((logit > middle) != (number % 7 == 0)) * 2
    return write(path, rows)


def test_what_is_fitted_beside_the_model_is_what_ranking_uses(
    tmp_path: Path, checkpoint: Path, labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(checkpoint, tmp_path / "model")
    drawn = tmp_path / "r.html"
    assert status("calibrate", labels, "--model", model, "--diagram", drawn, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["calibration"] == str(model / "calibration.json")
    assert printed["fitted"]["queries"] == printed["held_out"]["queries"] == 4
    assert "<svg" in drawn.read_text()

    (tmp_path / "tea.txt").write_text("tea")
    arguments = ("rank", "drink 0", tmp_path / "tea.txt", "--model", model)
    assert status(*arguments, "--threshold", 0, "--json") == 0
    (hit,) = json.loads(capsys.readouterr().out)["results"]
    (again,) = Reranker.from_pretrained(model).rank(
        "drink 0", ["tea"], threshold=0, calibration=model / "calibration.json"
    )
    assert hit["probability"] == pytest.approx(again.probability)
    assert again.probability != again.score

    assert status(*arguments, "--threshold", 1) == 0
    assert capsys.readouterr().out.startswith("Nothing here is relevant: the one document has a")
    assert status(*arguments, "--threshold", 1, "--json") == 0
    assert json.loads(capsys.readouterr().out)["results"] == []


def test_it_lies_in_an_index_and_is_refused_for_another_model(
    tmp_path: Path, checkpoint: Path, labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "i.index"
    assert status("index", tmp_path / "p.png", "--to", folder, "--model", checkpoint) == 0
    assert status("calibrate", labels, "--index", folder, "--model", checkpoint) == 0
    out = capsys.readouterr().out
    assert "held-out queries   calibration error" in out and "(used)" in out
    ranked = ("rank", "drink", "--index", folder, "--threshold", 0)
    assert status(*ranked, "--model", checkpoint, "--json") == 0
    assert "probability" in json.loads(capsys.readouterr().out)["results"][0]
    assert status("index", tmp_path / "p.png", "--to", folder) == 0  # still an index, now of nano's
    assert status(*ranked) == 1
    assert "The calibration was fitted to" in capsys.readouterr().err


def test_lines_that_were_scored_need_no_document(tmp_path: Path, checkpoint: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"logit": n % 5, "relevant": int(n % 5 > 1), "query": f"q{n // 5}"} for n in range(40)
    ]
    rows += [{"logit": 0.5, "relevant": 0.5}, {"logit": 0.5, "relevant": True}]
    pairs, keys = score(
        Reranker.from_pretrained(checkpoint), read_labels(write(tmp_path / "l.jsonl", rows))
    )
    assert keys == [*(f'"q{n}"' for n in range(8)), "line 41", "line 42"]
    assert pairs.relevant.tolist() == [row["relevant"] >= 1 for row in rows]
    assert pairs.logits.tolist() == [row["logit"] for row in rows]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[]", "this is not a JSON object"),
        ("{", "Expecting property name"),
        ('{"query": "q", "document": "d"}', "relevant is null"),
        ('{"query": "q", "document": "d", "relevant": "yes"}', 'relevant is "yes"'),
        ('{"query": "q", "document": "d", "relevant": NaN}', "relevant is NaN"),
        ('{"query": "q", "relevant": 1}', "document is null"),
        ('{"query": " ", "document": "d", "relevant": 1}', "the text of query is empty"),
        ('{"query": {"pdf": "x.pdf", "page": 1}, "document": "d", "relevant": 1}', "one of text"),
        ('{"query": "q", "document": {"image": "no.png"}, "relevant": 1}', "does not exist"),
        ('{"query": "q", "document": {"image": "/etc/x.png"}, "relevant": 1}', "inside the folder"),
        ('{"query": "q", "document": {"pdf": "a.pdf"}, "relevant": 1}', "page is None"),
        ('{"logit": "high", "relevant": 1}', 'logit is "high"'),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-")
    path = tmp_path / "labels.jsonl"
    path.write_text('{"query": "q", "document": "d", "relevant": 1}\n\n' + line)
    with pytest.raises(InputError, match="line 3: ") as raised:
        read_labels(path)
    assert problem in raised.value.message


def test_a_file_without_lines_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text("\n")
    with pytest.raises(InputError, match="has no lines"):
        read_labels(tmp_path / "labels.jsonl")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "1.5", "--to", "c.json"], "--precision is 1.5"),
        (["--method", "magic", "--to", "c.json"], "method is 'magic'"),
        (["--to", "c.json", "--index", "i"], "both say where to write"),
        ([], "nano is no folder of yours"),
    ],
)
def test_options_that_cannot_be_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    rows = [{"logit": n % 3, "relevant": int(n % 3 > 1), "query": f"q{n // 3}"} for n in range(30)]
    assert status("calibrate", write(tmp_path / "l.jsonl", rows), *options) == 1
    assert said in capsys.readouterr().err
