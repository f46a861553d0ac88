"""`Reranker.rank` and `score` as users call them, over a tiny random model."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from sightrank import Document, InputConfig, Query, Ranking, Reranker
from sightrank.errors import (
    EmptyInputError,
    InputError,
    OptionError,
    SightrankError,
    TooLongError,
    UnsupportedInputError,
)
from tests.int8 import NEEDS_INT8
from tests.tolerances import ENGINE, INT8_MODEL_LOGIT

PICTURE = PIL.Image.new("RGB", (84, 60), "teal")
PAGE = PIL.Image.new("RGB", (1240, 1754), "white")


@pytest.fixture(scope="module")
def ranker(checkpoint: Path) -> Reranker:
    return Reranker.from_pretrained(checkpoint, device="cpu")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "passage.txt").write_text("A passage in a file.")
    PICTURE.save(tmp_path / "picture.png")
    PICTURE.save(tmp_path / "report.pdf", save_all=True, append_images=[PICTURE, PICTURE])
    return tmp_path


def every_kind(files: Path) -> list[Any]:
    content = io.BytesIO()
    PICTURE.save(content, "JPEG")
    return [
        "a passage",
        files / "passage.txt",
        files / "picture.png",
        content.getvalue(),
        PICTURE,
        Document.pdf(files / "report.pdf", 2),
        Document.pdf(files / "report.pdf"),
        Document.image(files / "picture.png", text="Figure 1: a plain colour."),
        ["first a text", PICTURE, files / "report.pdf"],
    ]


@pytest.mark.parametrize("query", ["what is teal?", PICTURE], ids=["text query", "image query"])
def test_all_kinds_rank_in_one_call_as_the_plain_path_scores_them(
    ranker: Reranker, files: Path, query: Any
) -> None:
    documents = every_kind(files)
    ranking = ranker.rank(query, documents)
    assert isinstance(ranking, Ranking)
    assert [hit.rank for hit in ranking] == list(range(1, len(documents) + 1))
    assert sorted(hit.index for hit in ranking) == list(range(len(documents)))
    logits = [hit.logit for hit in ranking]
    assert logits == sorted(logits, reverse=True) and len(set(logits)) > 4
    for hit in ranking:
        assert hit.logit == pytest.approx(ranker.score_one(query, hit.document), abs=ENGINE)
        assert hit.score == pytest.approx(1 / (1 + math.exp(2.65 - hit.logit)), rel=1e-12)
        assert hit.document == Document.of(documents[hit.index])


def test_parts_of_one_document_are_read_together_and_in_order(
    ranker: Reranker, files: Path
) -> None:
    whole = Document.pdf(files / "report.pdf")
    assert len(ranker.encoder.document(whole).images) == 3
    other = PIL.Image.new("RGB", (60, 84), "red")
    forms = [[PICTURE, "caption"], ["caption", PICTURE], [PICTURE, other], [other, PICTURE]]
    assert len(set(ranker.score([("q", form) for form in forms], probabilities=False))) == 4


def test_ties_keep_the_order_given(ranker: Reranker) -> None:
    documents = ["same", "other", "same", "same"]
    ranking = ranker.rank("q", documents)
    assert [hit.index for hit in ranking if hit.document.parts == Document.of("same").parts] == [
        0,
        2,
        3,
    ]


def test_equal_documents_score_alike_to_the_last_bit_wherever_they_stand(ranker: Reranker) -> None:
    documents = [word for number in range(20) for word in ("same", f"other {'x ' * number}")]
    done: list[tuple[int, int]] = []
    ranking = ranker.rank("q", documents, progress=lambda *counts: done.append(counts))
    assert len({hit.logit for hit in ranking if hit.index % 2 == 0}) == 1
    assert len(ranking) == done[-1][0] == done[-1][1] == 40
    assert len({hit.logit for hit in ranking}) > 15


@pytest.mark.parametrize("count", [0, 1])
def test_few_documents_are_a_ranking_too(ranker: Reranker, count: int) -> None:
    ranking = ranker.rank("q", ["d"] * count)
    assert isinstance(ranking, Ranking) and len(ranking) == count
    assert [hit.rank for hit in ranking] == [1] * count


def test_top_k_cuts_the_ranking_not_the_work(ranker: Reranker) -> None:
    documents = [f"passage {number}" for number in range(5)]
    whole = ranker.rank("q", documents)
    assert ranker.rank("q", documents, top_k=2).hits == whole[:2]
    assert ranker.rank("q", documents, 9).hits == whole.hits
    assert ranker.rank("q", documents, top_k=2).total_tokens == whole.total_tokens


def test_scores_come_in_the_order_given(ranker: Reranker) -> None:
    pairs = [(f"query {n % 3}", f"document {n % 4}") for n in range(12)]
    shuffled = random.Random(0).sample(pairs, len(pairs))
    scores = dict(zip(pairs, ranker.score(pairs, probabilities=False), strict=True))
    assert len(set(scores.values())) == 12
    assert ranker.score(shuffled, probabilities=False) == pytest.approx(
        [scores[pair] for pair in shuffled], abs=ENGINE
    )
    logits, scores_too = (ranker.score(pairs, probabilities=p) for p in (False, True))
    assert scores_too == [ranker.probability(logit) for logit in logits]
    assert ranker.score([]) == []


def test_tokens_are_counted_without_the_score_token(ranker: Reranker) -> None:
    segments = [ranker.encoder.pair(Query.of("q"), Document.of(text)) for text in ("a", PICTURE)]
    ranking = ranker.rank("q", ["a", PICTURE])
    assert ranking.total_tokens == sum(len(segment) - 1 for segment in segments)


def test_what_cannot_be_read_is_raised_by_name_or_skipped(ranker: Reranker, files: Path) -> None:
    documents: list[Any] = ["fine", files / "gone.png", b"junk", "", 7]
    with pytest.raises(InputError, match=r"gone\.png does not exist"):
        ranker.rank("q", documents)
    ranking = ranker.rank("q", documents, on_error="skip")
    assert [hit.index for hit in ranking] == [0]
    assert [index for index, _ in ranking.failures] == [1, 2, 3, 4]
    for _, error in ranking.failures:
        assert isinstance(error, SightrankError) and error.hint


def test_a_document_that_leaves_no_room_for_a_picture_query_is_left_out_alone(
    ranker: Reranker,
) -> None:
    limited = ranker.with_inputs(InputConfig(max_length=1024))
    page = Document.image(PAGE, name="page 9")
    ranking = limited.rank(PAGE, ["text", page], on_error="skip")
    assert [hit.index for hit in ranking] == [0]
    ((index, error),) = ranking.failures
    assert index == 1 and isinstance(error, TooLongError) and "page 9" in error.message
    for call in (lambda: limited.rank(PAGE, [page]), lambda: limited.score([(PAGE, page)])):
        with pytest.raises(TooLongError, match=r"page 9: .*max_length is 1024"):
            call()


@pytest.mark.parametrize("query", ["", " \n", b"junk", None, [], Path("gone.png")])
def test_a_query_that_cannot_be_read_is_an_error(ranker: Reranker, query: Any) -> None:
    with pytest.raises(InputError) as caught:
        ranker.rank(query, ["d"], on_error="skip")
    assert caught.value.hint


Call = Callable[[Reranker], object]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda r: r.rank("q", "one passage"), r"documents is of type str.*\[document\]"),
        (lambda r: r.rank("q", Path("a.pdf")), "expected is a list"),
        (lambda r: r.rank("q", b"..."), "expected is a list"),
        (lambda r: r.rank("q", Document.text("d")), "expected is a list"),
        (lambda r: r.rank("q", None), "takes documents or an index"),
        (lambda r: r.rank("q", ["d"], top_k=0), "top_k is 0"),
        (lambda r: r.rank("q", ["d"], top_k="3"), "top_k is '3'"),
        (lambda r: r.rank("q", ["d"], on_error="ignore"), "on_error is 'ignore'"),
        (lambda r: r.score([("q",)]), r"\(query, document\)"),
        (lambda r: r.score(["qd"]), r"\(query, document\)"),
        (lambda r: r.score([7]), r"\(query, document\)"),
    ],
)
def test_wrong_calls_say_what_is_right(ranker: Reranker, call: Call, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        call(ranker)


def test_documents_may_come_from_a_generator(ranker: Reranker) -> None:
    assert len(ranker.rank("q", (text for text in ("a", "b")))) == 2  # type: ignore[arg-type]


def test_values_of_other_types_are_refused(ranker: Reranker) -> None:
    for value in (7, None, {"text": "a"}, 1.5):
        with pytest.raises(UnsupportedInputError, match=type(value).__name__):
            ranker.rank("q", [value])
    with pytest.raises(EmptyInputError):
        ranker.rank("q", [[]])


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "cpu:x", "cpu:7", "abacus", ""])
def test_a_device_that_is_absent_is_named_with_those_present(
    checkpoint: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(OptionError, match=rf"device is '{name}'.*: cpu\."):
        Reranker.from_pretrained(checkpoint, device=name)


def test_the_best_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from sightrank.reranker import choose_device

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert choose_device(None).type == "cuda"
    assert choose_device("cuda:1").index == 1
    with pytest.raises(OptionError, match="cuda:2"):
        choose_device("cuda:2")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert choose_device(None).type == "mps"


def test_dtypes(checkpoint: Path) -> None:
    kept = Reranker.from_pretrained(checkpoint, device="cpu")
    half = Reranker.from_pretrained(checkpoint, device="cpu", dtype="bfloat16")
    assert (str(kept.dtype), str(half.dtype)) == ("torch.float32", "torch.bfloat16")
    documents = ["one", "two", PICTURE]
    for name in documents:
        pair = [("q", name)]
        assert half.score(pair) == pytest.approx(kept.score(pair), abs=0.01)
    with pytest.raises(OptionError, match=r"float16.*float32, bfloat16, int8"):
        Reranker.from_pretrained(checkpoint, dtype="float16")


@NEEDS_INT8
def test_int8(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Reranker.from_pretrained(checkpoint, device="cpu")
    int8 = Reranker.from_pretrained(checkpoint, device="cpu", dtype="int8")
    assert (int8.numbers, str(int8.dtype)) == ("int8", "torch.float32")
    assert int8.fingerprint == kept.fingerprint
    assert int8.engine.settings != kept.engine.settings
    kinds = [each.facts()["dtype"] for each in (kept, int8)]
    assert kinds == ["float32", "int8"]
    assert int8.engine.limits.fixed_bytes < kept.engine.limits.fixed_bytes
    counts = [sum(p.numel() for p in each.runner.model.parameters()) for each in (kept, int8)]
    assert counts[0] == counts[1]
    pairs = [("q", document) for document in ("one", "two", PICTURE)]
    off = np.array(int8.score(pairs, probabilities=False)) - kept.score(pairs, probabilities=False)
    assert 0 < np.abs(off).max() <= INT8_MODEL_LOGIT
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(OptionError, match=r"int8 runs on cpu, not on cuda"):
        Reranker.from_pretrained(checkpoint, dtype="int8")


def test_other_settings_never_meet_another_s_prefixes(checkpoint: Path, ranker: Reranker) -> None:
    half = Reranker.from_pretrained(checkpoint, device="cpu", dtype="bfloat16")
    small = ranker.with_inputs(InputConfig(max_pixels=10_000))
    shorter = ranker.with_inputs(InputConfig(max_length=2048))
    keys = {each.engine.settings for each in (ranker, half, small, shorter)}
    assert len(keys) == 4
    document = [PIL.Image.new("RGB", (300, 200), "red"), "and text"]
    for each in (ranker, small, shorter, ranker):
        assert each.rank("q", [document])[0].logit == pytest.approx(
            each.score_one("q", document), abs=ENGINE
        )


def test_pictures_of_one_size_are_not_mistaken_for_each_other(ranker: Reranker) -> None:
    red, green = (PIL.Image.new("RGB", (84, 60), colour) for colour in ("red", "green"))
    first = ranker.score([("q", red)], probabilities=False)
    both = ranker.score([("q", green), ("q", red)], probabilities=False)
    assert both[0] != both[1] and both[1] == pytest.approx(first[0], abs=ENGINE)
    assert both[0] == pytest.approx(ranker.score_one("q", green), abs=ENGINE)


def test_neighbours_do_not_move_a_score(ranker: Reranker) -> None:
    neighbours = [PICTURE, "word " * 300, "x", [PICTURE, "and text"]]
    (alone,) = ranker.score([("q", "d")], probabilities=False)
    for count in range(1, 5):
        pairs = [("q", value) for value in [*neighbours[:count], "d"]]
        assert ranker.score(pairs, probabilities=False)[-1] == pytest.approx(alone, abs=ENGINE)
