"""Other systems by name: BM25, the run itself, cross-encoders, services over HTTP."""

from __future__ import annotations

import base64
import importlib
import io
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from sightrank.errors import (
    CheckpointError,
    MissingExtraError,
    OptionError,
    PeerError,
    UnsupportedInputError,
)
from sightrank.evaluate.http_peer import PAGE_PIXELS, HttpPeer
from sightrank.evaluate.http_post import post_json
from sightrank.evaluate.peers import check, is_peer, open_peer
from sightrank.evaluate.run import Task, prepare, rerank
from sightrank.inputs.load import FileLimits, load
from sightrank.types import Document, Query
from tests.evaluate.service import by_words, serving

MakeSet = Callable[..., Path]


@pytest.fixture
def task(make_set: MakeSet) -> Task:
    return prepare(make_set(), "run.trec")


@pytest.fixture
def pictures(make_set: MakeSet, tmp_path: Path) -> Task:
    for name in ("a", "b"):
        PIL.Image.new("RGB", (8, 8), (10, 20, ord(name))).save(tmp_path / f"{name}.png")
    folder = make_set(
        corpus=[{"_id": name, "image": f"{name}.png"} for name in ("a", "b")],
        qrels="q1\ta\t1\n",
        run="q1 Q0 a 1 2 x\nq1 Q0 b 2 1 x\n",
    )
    return prepare(folder, "run.trec", tmp_path)


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("bm25", True),
        ("first-stage", True),
        ("cross-encoder:x/y", True),
        ("http+jina:http://h/#m", True),
        ("nano", False),
        ("./bm25", False),
        ("jinaai/jina-reranker-m0", False),
    ],
)
def test_which_names_are_peers(name: str, peer: bool) -> None:
    assert is_peer(name) is peer


def test_the_first_stage_keeps_its_order(task: Task) -> None:
    result = rerank(open_peer("first-stage")(task), task)
    assert {query: list(found) for query, found in result.run.items()} == {
        query: list(found) for query, found in task.candidates.items()
    }
    assert result.per_query == result.first_stage


def test_bm25_knows_the_whole_collection(make_set: MakeSet) -> None:
    """A word in all candidates and in few other documents counts for more than among them alone."""
    corpus = [{"_id": f"x{n}", "text": "sand sand dune"} for n in range(8)]
    corpus += [{"_id": "rare", "text": "owl dune hill hill"}, {"_id": "other", "text": "sand owl"}]
    folder = make_set(
        corpus=corpus,
        queries=[{"_id": "q", "text": "owl hill"}],
        qrels="q\trare\t1\n",
        run="q Q0 other 1 2 x\nq Q0 rare 2 1 x\n",
    )
    task = prepare(folder, "run.trec")
    scores = rerank(open_peer("bm25")(task), task).run["q"]
    assert list(scores) == ["rare", "other"]
    found = prepare(folder).candidates["q"]  # the first stage, which ranks the whole collection
    assert scores == pytest.approx(found)


def test_peers_of_texts_say_so_before_any_work(pictures: Task) -> None:
    for name in ("bm25", "cross-encoder:x", "http+cohere:http://h/#m"):
        with pytest.raises(UnsupportedInputError, match=r"a\.png.*Leave out"):
            check(name, pictures)
    check("first-stage", pictures)
    check("http+jina:http://h/#m", pictures)


def make_cross_encoder(folder: Path, labels: int = 1) -> Path:
    reference: Any = importlib.import_module("transformers")

    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *["the", "cat", "sat", "on", "dog", "and", "sea", "birds"],
    ]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words))
    reference.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    config = reference.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=labels,
    )
    reference.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_a_cross_encoder_gives_its_own_logits(task: Task, tmp_path: Path) -> None:
    import torch

    reference: Any = importlib.import_module("transformers")

    folder = make_cross_encoder(tmp_path / "encoder")
    scorer = open_peer(f"cross-encoder:{folder}")(task)
    queries = [Query.text("cat and dog"), Query.text("sea birds")]
    documents = [Document.text("the cat sat"), Document.text("birds and the sea")]
    pairs = [(1, 0), (0, 1), (1, 1)]
    seen: list[tuple[int, int]] = []
    ours = scorer.score_matrix(
        queries, documents, pairs, progress=lambda done, of: seen.append((done, of))
    )
    tokens = reference.AutoTokenizer.from_pretrained(folder)(
        ["sea birds", "cat and dog", "sea birds"],
        ["the cat sat", "birds and the sea", "birds and the sea"],
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        model = reference.AutoModelForSequenceClassification.from_pretrained(folder).eval()
        theirs = model(**tokens).logits[:, 0]
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)
    assert len(set(ours)) == 3
    assert seen == [(3, 3)]


def test_cross_encoders_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cross_encoder(tmp_path / "three", labels=3)
    with pytest.raises(CheckpointError, match="three has 3 outputs and no single"):
        open_peer(f"cross-encoder:{folder}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"none cannot be loaded"):
        open_peer(f"cross-encoder:{tmp_path / 'none'}")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sightrank\[peers\]'"):
        open_peer("cross-encoder:x/y")


@pytest.mark.parametrize("shape", ["jina", "cohere"])
def test_a_service_is_asked_once_a_query(
    shape: str, task: Task, scorer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv({"jina": "JINA_API_KEY", "cohere": "CO_API_KEY"}[shape], "secret")
    with serving(by_words) as service:
        result = rerank(open_peer(f"http+{shape}:{service.url}#some/model")(task), task)
    assert result.run == rerank(scorer, task).run
    assert service.keys == ["Bearer secret"] * 2
    assert service.paths == ["/v1/rerank"] * 2
    asked = {body["query"]: body for body in service.bodies}
    assert set(asked) == {"cat and dog", "sea birds"}
    body = asked["sea birds"]
    assert body["model"] == "some/model"
    assert sorted(body["documents"]) == ["birds of the sea", "the cat sat on the mat"]
    assert body["top_n"] == 2
    assert body.get("return_documents") == (False if shape == "jina" else None)


def test_images_are_sent_in_jinas_shape(
    pictures: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    with serving(by_words) as service:
        rerank(open_peer(f"http+jina:{service.url}#m")(pictures), pictures)
    assert service.keys == [None]
    for sent, name in zip(service.bodies[0]["documents"], ("a", "b"), strict=True):
        content = io.BytesIO(base64.b64decode(sent["image"]))
        with PIL.Image.open(content) as image, PIL.Image.open(tmp_path / f"{name}.png") as original:
            assert image.format == "PNG"
            assert image.convert("RGB").tobytes() == original.tobytes()


def test_a_page_of_a_pdf_is_drawn_and_sent() -> None:
    page = Document.pdf(Path(__file__).parents[2] / "demo" / "xfig-howto.pdf", 1)
    (drawn,) = load(page, FileLimits(), max_pixels=PAGE_PIXELS)
    assert isinstance(drawn, PIL.Image.Image)
    with serving(by_words) as service:
        peer = HttpPeer.of(f"http+jina:{service.url}#m")
        peer.score_matrix([Query.text("q")], [page], [(0, 0)])
    (sent,) = service.bodies[0]["documents"]
    with PIL.Image.open(io.BytesIO(base64.b64decode(sent["image"]))) as image:
        assert image.mode == drawn.mode == "RGB"
        assert image.tobytes() == drawn.tobytes()


def test_a_busy_service_is_asked_again_after_as_long_as_it_says() -> None:
    def busy(_: Any, number: int) -> tuple[int, bytes, dict[str, str]]:
        return (200, b"[1]", {}) if number == 3 else (503, b"later", {"Retry-After": "7"})

    waits: list[float] = []
    with serving(busy) as service:
        assert post_json(service.url, {}, None, 5, "KEY", waits.append) == [1]
        assert waits == [7, 7]
    with serving(lambda *_: (429, b"too many", {"Retry-After": "3600"})) as service:
        with pytest.raises(PeerError, match=r"answered 429 .*too many.*--max-queries"):
            post_json(service.url, {}, None, 5, "KEY", waits.append)
        assert len(service.bodies) == 4
    assert waits == [7, 7, 30, 30, 30]


def test_a_redirect_is_an_error_and_the_key_goes_nowhere_else() -> None:
    def elsewhere(*_: Any) -> tuple[int, bytes, dict[str, str]]:
        return 302, b"", {"Location": "/elsewhere"}

    expected = pytest.raises(PeerError, match=r"answered 302 .*Name the address it redirects to")
    with serving(elsewhere) as service, expected:
        post_json(service.url, {}, "secret", 5, "KEY")
    assert service.paths == ["/v1/rerank"]


def test_a_silent_service() -> None:
    release = threading.Event()

    def wait(*_: Any) -> tuple[int, bytes, dict[str, str]]:
        release.wait(30)
        return 200, b"", {}

    with serving(wait) as service:
        with pytest.raises(PeerError, match=r"was silent for 0\.05 s"):
            post_json(service.url, {}, None, 0.05, "KEY")
        release.set()


def test_a_service_that_is_not_there() -> None:
    with serving(by_words) as service:
        pass
    with pytest.raises(PeerError, match=r"cannot be reached: .*refused"):
        post_json(service.url, {}, None, 5, "KEY")


GOOD = {"index": 0, "relevance_score": 0.5}


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (401, {"detail": "no key"}, r"answered 401 .*no key.*Set JINA_API_KEY"),
        (404, {}, r"answered 404 .*Name the rerank endpoint itself"),
        (200, "<html>", r"answered no JSON"),
        (200, [], r"something else than results"),
        (200, {"results": [{"index": 0}]}, r"something else than results"),
        (200, {"results": [{"index": True, "relevance_score": 1}]}, r"something else than results"),
        (200, {"results": [{"index": 0, "relevance_score": "high"}]}, r"something else"),
        (200, {"results": []}, r"gave 0 scores for 1 documents"),
        (200, {"results": [GOOD, GOOD]}, r"gave 1 scores for 1 documents"),
        (200, {"results": [{"index": 1, "relevance_score": 1}]}, r"gave 1 scores for 1 documents"),
    ],
)
def test_answers_that_are_no_scores(status: int, answer: Any, message: str) -> None:
    content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
    with serving(lambda *_: (status, content, {})) as service:
        peer = HttpPeer.of(f"http+jina:{service.url}#m")
        with pytest.raises(PeerError, match=message):
            peer.score_matrix([Query.text("q")], [Document.text("d")], [(0, 0)])


@pytest.mark.parametrize(
    "name",
    ["http+jina:http://h/v1", "http+voyage:http://h#m", "http+jina:file:///etc/passwd#m", "http+"],
)
def test_malformed_names(name: str) -> None:
    with pytest.raises(OptionError, match=r"Expected is http\+jina:URL#MODEL"):
        open_peer(name)


def test_a_document_that_the_interface_has_no_field_for(pictures: Task) -> None:
    mixed = Document.image(next(iter(pictures.documents)).parts[0].source, text="x")  # type: ignore[union-attr]
    with serving(by_words) as service:
        peer = HttpPeer.of(f"http+jina:{service.url}#m")
        with pytest.raises(UnsupportedInputError, match="one image as a document"):
            peer.score_matrix([Query.text("q")], [mixed], [(0, 0)])
    assert not service.bodies
