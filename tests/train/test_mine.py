"""Mining: which candidates may be negatives, what is written, and that a kill loses nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from sightrank.errors import InputError, OptionError, SightrankError
from sightrank.evaluate.datasets import text_of
from sightrank.train.data import check, ordered
from sightrank.train.mine import Known, Mined, Miner, Plan, make_index
from sightrank.train.mined import Output, row_of
from sightrank.train.needs import needs
from sightrank.train.pool import Keys, make_pool, read_corpus
from sightrank.train.records import document_of, side
from sightrank.types import Document, Query
from tests.command import status
from tests.train.runs import settings


class ByNumber:
    """Scores a text by the number it ends with, whatever is asked."""

    name = "by number"

    def __init__(self, stop_at: int = sys.maxsize) -> None:
        self.windows, self.stop_at = 0, stop_at

    def score_matrix(
        self,
        queries: Sequence[Query],
        documents: Sequence[Document],
        pairs: Sequence[tuple[int, int]],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float64]:
        self.windows += 1
        if self.windows > self.stop_at:
            raise KeyboardInterrupt
        return np.array([float(text_of(documents[at]).split()[-1]) for _, at in pairs])


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def miner(groups: Path, corpus: Sequence[str] | None, plan: Plan, scorer: Any = None) -> Miner:
    keys = Keys()
    known = Known(keys)
    check([groups], known)
    given = known.documents.values() if corpus is None else map(Document.text, corpus)
    pool = make_pool(given, known.documents, keys)
    index = make_index(pool, plan, needed=False)
    return Miner(pool, index, known, scorer or ByNumber(), float, plan)


def mined(groups: Path, corpus: Sequence[str] | None, plan: Plan) -> list[Mined]:
    made = miner(groups, corpus, plan).mine(enumerate(ordered([groups])))
    return [each for window in made for each in window]


def texts(each: Mined) -> list[str]:
    return [text_of(document) for document in each.documents[-each.num_mined :]]


ONE = [{"query": "cat", "positives": ["the cat 10"]}]
CORPUS = ["cat a 9.9", "cat b 9", "cat c 8", "cat d 7", "cat e 6", "dog 9"]


@pytest.mark.parametrize(
    ("plan", "expected", "too_close"),
    [
        (Plan(2), ["cat b 9", "cat c 8"], 1),
        (Plan(2, relative=None), ["cat a 9.9", "cat b 9"], 0),
        (Plan(2, relative=0.2), ["cat c 8", "cat d 7"], 2),
        (Plan(2, relative=None, absolute=3), ["cat d 7", "cat e 6"], 3),
        (Plan(9, ranks=(3, 4)), ["cat c 8", "cat d 7"], 0),
        (Plan(9, depth=2), ["cat b 9", "cat c 8"], 0),
        (Plan(9, first_stage="all"), ["cat b 9", "dog 9", "cat c 8", "cat d 7", "cat e 6"], 1),
    ],
)
def test_negatives_are_taken_by_rank_and_below_the_margin(
    tmp_path: Path, plan: Plan, expected: list[str], too_close: int
) -> None:
    (each,) = mined(write(tmp_path / "g.jsonl", ONE), CORPUS, plan)
    assert texts(each) == expected
    assert each.too_close == too_close
    assert each.scores[0] == 10


def test_the_margin_counts_from_the_lowest_positive(tmp_path: Path) -> None:
    rows = [{"query": "cat", "positives": ["cat 10", "cat x 7"]}]
    (each,) = mined(write(tmp_path / "g.jsonl", rows), CORPUS, Plan(9))
    assert texts(each) == ["cat e 6"]


def test_a_relative_margin_below_zero_is_a_margin_too(tmp_path: Path) -> None:
    rows = [{"query": "cat", "positives": ["the cat -10"]}]
    corpus = ["cat a -9", "cat b -10.4", "cat c -10.6"]
    (each,) = mined(write(tmp_path / "g.jsonl", rows), corpus, Plan(9, first_stage="all"))
    assert texts(each) == ["cat c -10.6"]


def test_positives_their_copies_and_the_query_are_never_negatives(tmp_path: Path) -> None:
    rows = [
        {"query": "cat 1", "positives": ["The  CAT 10"], "negatives": ["cat given 2"]},
        {"query": "CAT  1", "positives": ["cat other 11"]},
    ]
    corpus = ["the cat 10", "cat 1", "cat given 2", "cat other 11", "cat free 3", "CAT free 3"]
    found = mined(write(tmp_path / "g.jsonl", rows), corpus, Plan(9, relative=None))
    assert [texts(each) for each in found] == [["cat free 3"], ["cat free 3", "cat given 2"]]
    assert [each.num_relevant for each in found] == [1, 1]
    assert [text_of(each) for each in found[0].documents] == [
        "The  CAT 10", "cat given 2", "cat free 3",
    ]  # fmt: skip


def test_without_a_corpus_the_files_own_documents_are_one(tmp_path: Path) -> None:
    rows = [
        {"query": "cat", "positives": ["cat 10"], "negatives": ["cat b 2"]},
        {"query": "a cat", "positives": ["cat c 9"]},
    ]
    found = mined(write(tmp_path / "g.jsonl", rows), None, Plan(9))
    assert [texts(each) for each in found] == [["cat c 9"], ["cat b 2"]]


def test_chance_depends_on_the_seed_and_the_line_alone(tmp_path: Path) -> None:
    groups = write(tmp_path / "g.jsonl", ONE * 3)
    corpus = [f"cat {number / 10}" for number in range(80)]
    drawn = {
        seed: [texts(each) for each in mined(groups, corpus, Plan(5, sampling="random", seed=seed))]
        for seed in (0, 1)
    }
    assert drawn[0] != drawn[1] and drawn[0][0] != drawn[0][1]
    plan = Plan(5, sampling="random")
    later = miner(groups, corpus, plan).mine([*enumerate(ordered([groups]))][2:])
    assert [texts(each) for window in later for each in window] == drawn[0][2:]
    picked = [
        texts(mined(groups, corpus, Plan(5, first_stage="random", depth=9, seed=seed))[0])
        for seed in (0, 0, 1)
    ]
    assert picked[0] == picked[1] != picked[2]


def test_what_is_written_is_training_data_for_distillation(
    tmp_path: Path, checkpoint: Path
) -> None:
    rows = [{"query": "cat", "positives": ["cat 10"], "negatives": ["cat z 1"], "labels": [3, 0]}]
    (each,) = mined(write(tmp_path / "g.jsonl", rows), CORPUS, Plan(2))
    row = row_of(each, tmp_path)
    assert row == {
        "query": "cat", "positives": ["cat 10"], "negatives": ["cat z 1", "cat b 9", "cat c 8"],
        "labels": [3, 0, 0, 0], "scores": [10, 1, 9, 8],
    }  # fmt: skip
    path = write(tmp_path / "train.jsonl", [row])
    for loss in ("margin-mse", "kl"):
        config = settings(tmp_path, checkpoint, loss={"name": loss})
        assert check([path], needs(config)).num_documents == 4


@pytest.mark.parametrize("below", [True, False])
def test_sides_are_written_as_they_are_read(tmp_path: Path, below: bool) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    written = ["a text", {"image": "a.png"}, {"pdf": "a.pdf", "page": 2}, ["x", {"image": "b.png"}]]
    for row in written:
        document = document_of(row, "side", folder)
        again = side(document, folder if below else tmp_path / "elsewhere")
        assert document_of(again, "side", folder) == document
        assert (again == row) is (below or row == "a text")


def test_a_corpus_is_a_sets_or_sides(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    rows = [
        {"_id": "1", "text": "body", "title": "Head"}, "plain", {"text": "x"}, {"image": "a.png"},
    ]  # fmt: skip
    found = read_corpus(write(tmp_path / "c.jsonl", rows))
    assert [text_of(each) for each in found] == ["Head body", "plain", "x", ""]
    for bad, says in (({"txt": 1}, "no SIDE"), ({"image": "none.png"}, "does not exist")):
        write(tmp_path / "c.jsonl", ["fine", bad])
        with pytest.raises(InputError, match=rf"c.jsonl, line 2: .*{says}"):
            read_corpus(tmp_path / "c.jsonl")


def test_a_killed_run_goes_on_to_the_same_file(tmp_path: Path) -> None:
    rows = [{"query": f"cat {n}", "positives": [f"cat p{n} 10"]} for n in range(40)]
    groups = write(tmp_path / "g.jsonl", rows)
    plan = Plan(3, sampling="random")

    def run(path: Path, stop_at: int) -> int:
        output = Output(path, {"plan": plan.to_dict()})
        scorer = ByNumber(stop_at)
        left = [*enumerate(ordered([groups]))][output.lines :]
        try:
            for window in miner(groups, CORPUS, plan, scorer).mine(left):
                output.write(window)
        finally:
            output.close()
        output.finish()
        return scorer.windows

    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    assert run(whole, 9) == 3
    with pytest.raises(KeyboardInterrupt):
        run(killed, 1)
    assert not killed.exists()
    with (tmp_path / "killed.jsonl.part").open("ab") as part:
        part.write(b'{"half a li')
    assert run(killed, 9) == 2
    assert killed.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("killed.jsonl.*"))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "other.jsonl", 1)
    with pytest.raises(OptionError, match="begun with another plan"):
        Output(tmp_path / "other.jsonl", {"plan": Plan(4).to_dict()})
    with pytest.raises(OptionError, match="cannot be written"):
        Output(whole, {})


def test_a_score_that_is_no_number_stops_it(tmp_path: Path) -> None:
    groups = write(tmp_path / "g.jsonl", ONE)
    with pytest.raises(SightrankError, match="line 1: by number gives a document the score nan"):
        [*miner(groups, ["cat nan"], Plan()).mine(enumerate(ordered([groups])))]


@pytest.mark.parametrize(
    "wrong",
    [
        {"negatives": 0}, {"depth": 0}, {"ranks": (0, 5)}, {"ranks": (5, 4)}, {"relative": 1.0},
        {"absolute": -1.0}, {"first_stage": "bm26"}, {"sampling": "some"},
    ],
)  # fmt: skip
def test_a_plan_outside_its_ranges_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Plan(**wrong)


# The command


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    rows = [
        {"query": "the lion sleeps", "positives": ["The lion sleeps at noon."]},
        {"query": "sea birds", "positives": ["Gulls are birds of the sea."]},
        {"query": "the sea", "positives": ["The sea is full of water."]},
    ]
    return write(tmp_path / "groups.jsonl", rows)


@pytest.mark.parametrize("model", [None, "bm25"])
def test_the_command_mines_with_a_model_and_with_a_peer(
    tmp_path: Path, groups: Path, checkpoint: Path, model: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    to = tmp_path / "train.jsonl"
    chosen = model or checkpoint
    given = ("--absolute-margin", 0) if model else ("--first-stage", "all", "--ranks", "1-2")
    assert status("mine", groups, "--to", to, "--model", chosen, "--json", *given) == 0
    report = json.loads(capsys.readouterr().out)
    lines = [json.loads(line) for line in to.read_text(encoding="utf-8").splitlines()]
    assert report["groups"] == len(lines) > 0
    assert report["negatives"] == sum(len(line["negatives"]) for line in lines) > 0
    for line in lines:
        assert len(line["scores"]) == 1 + len(line["negatives"])
        assert max(line["scores"][1:]) <= line["scores"][0]
        assert line["positives"][0] not in line["negatives"]


def test_documents_are_a_corpus_too(
    tmp_path: Path, groups: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("A lion eats.", encoding="utf-8")
    PIL.Image.new("RGB", (60, 60), "red").save(tmp_path / "notes" / "b.png")
    to = tmp_path / "train.jsonl"
    arguments = ("mine", groups, tmp_path / "notes", "--first-stage", "all", "--to", to)
    assert status(*arguments, "--model", checkpoint, "--absolute-margin", 0, "--ranks", "1-9") == 0
    found = [side for line in to.read_text().splitlines() for side in json.loads(line)["negatives"]]
    assert all(side in ("A lion eats.", {"image": "notes/b.png"}) for side in found) and found
    check([to], needs(None))


def test_what_is_wrong_is_said_before_the_work(
    tmp_path: Path, groups: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = write(tmp_path / "bad.jsonl", [{"query": "q", "positives": []}, {"query": 1}])
    PIL.Image.new("RGB", (60, 60)).save(tmp_path / "a.png")
    to, picture = ("--to", tmp_path / "t.jsonl"), tmp_path / "a.png"
    for arguments, says in (
        ((groups,), "Add --to FILE"),
        ((bad, *to), "bad.jsonl, line 2"),
        ((groups, *to, "--absolute-margin", 1, "--relative-margin", 0.1), "two margins"),
        ((groups, *to, "--ranks", "x-3"), "--ranks has 'x'"),
        ((groups, *to, "--model", "first-stage"), "scores no positives"),
        ((groups, picture, *to), "has no texts"),
        ((groups, picture, *to, "--model", "http+cohere:http://localhost/#m",
          "--first-stage", "all"), "Documents are texts"),
    ):  # fmt: skip
        assert status("mine", *arguments) == 1
        assert says in capsys.readouterr().err
    assert not (tmp_path / "t.jsonl").exists()
