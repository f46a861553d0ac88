"""Documents that come with a request to our own ranking, and why each has its score."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from sightrank import Document, Reranker
from sightrank.config import InputConfig
from sightrank.serve import rank
from sightrank.serve.settings import Settings
from tests.serve.conftest import Client
from tests.serve.test_documents import pdf_of, put
from tests.serve.test_faults import Ledger
from tests.serve.test_routes import base64_of, picture

Ask = Callable[..., Any]


def opened(uri: str) -> PIL.Image.Image:
    kind, _, content = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    return PIL.Image.open(io.BytesIO(base64.b64decode(content)))


def test_texts_images_and_pages_are_ranked_in_one_list(ask: Ask, reranker: Reranker) -> None:
    pdf = pdf_of(3)
    documents = [
        "Leaves make sugar.",
        {"id": "fox", "image": base64_of(picture("red"))},
        {"id": "report", "pdf": base64_of(pdf), "pages": [3, 1]},
        {"image": base64_of(picture("blue")), "text": "a blue sky"},
    ]
    same = [
        Document.text("Leaves make sugar."),
        Document.image(picture("red")),
        *(Document.pdf(pdf, page) for page in (3, 1)),
        Document.image(picture("blue"), "a blue sky"),
    ]
    called = [
        {"id": "0", "index": 0},
        {"id": "fox", "index": 1},
        {"id": "report#page=3", "index": 2, "page": 3},
        {"id": "report#page=1", "index": 2, "page": 1},
        {"id": "3", "index": 3},
    ]

    async def test(client: Client) -> None:
        body = {"query": "sugar", "documents": documents, "thumbnails": 32}
        answer = await client.post("/v1/rank", json=body)
        assert answer.status_code == 200, answer.text
        found, ranking = answer.json(), reranker.rank("sugar", same)
        assert found["usage"]["total_tokens"] == ranking.total_tokens
        for result, hit in zip(found["results"], ranking, strict=True):
            assert called[hit.index].items() <= result.items()
            assert result["relevance_score"] == pytest.approx(hit.score, abs=1e-6)
            assert result["logit"] == pytest.approx(hit.logit, abs=1e-5)
            assert ("thumbnail" in result) == (hit.index != 0)
        shown = {each["id"]: each.get("thumbnail") for each in found["results"]}
        assert max(opened(shown["report#page=3"]).size) == 32
        red, green, blue = opened(shown["fox"]).convert("RGB").resize((1, 1)).tobytes()
        assert red > 200 and green < 60 and blue < 60
        answer = await client.post("/v1/rank", json={**body, "thumbnails": None, "top_n": 2})
        assert [each["id"] for each in answer.json()["results"]] == list(shown)[:2]
        assert not any("thumbnail" in each for each in answer.json()["results"])

    ask(test)


def test_limits_can_be_lowered_and_never_raised(ask: Ask, reranker: Reranker) -> None:
    image = picture("red", size=(112, 112))
    documents = [{"image": base64_of(image)}, "Leaves make sugar. " * 40]
    body = {"query": "sugar", "documents": documents}
    given = [Document.image(image), documents[1]]

    async def test(client: Client) -> None:
        whole = (await client.post("/v1/rank", json=body)).json()
        low = {"max_pixels": 28 * 28 * 4, "max_tokens_per_doc": 50}
        lowered = (await client.post("/v1/rank", json={**body, **low})).json()
        own = reranker.encoder.config.lowered(50, 28 * 28 * 4)
        ranking = reranker.with_inputs(own).rank("sugar", given)
        assert lowered["usage"]["total_tokens"] == ranking.total_tokens
        assert ranking.total_tokens < whole["usage"]["total_tokens"]
        assert [each["index"] for each in lowered["results"]] == [hit.index for hit in ranking]
        assert [each["logit"] for each in lowered["results"]] == pytest.approx(
            [hit.logit for hit in ranking], abs=1e-5
        )
        high = {"max_pixels": 10**9, "max_tokens_per_doc": 10**9}
        assert (await client.post("/v1/rank", json={**body, **high})).json() == whole
        answer = await client.post("/v1/rank", json={**body, "max_pixels": 5})
        assert answer.status_code == 422
        assert "max_pixels" in answer.json()["detail"]

    ask(test)


def test_a_lowered_limit_leaves_the_others(reranker: Reranker) -> None:
    limits = InputConfig()
    assert limits.lowered() == limits
    assert limits.lowered(max_pixels=4000) == InputConfig(max_pixels=4000)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"query": "a"}, "index"),
        ({"query": "a", "index": "x", "documents": ["b"]}, "index"),
        ({"query": "a", "documents": ["b"], "ids": ["c"]}, "ids"),
        ({"query": "a", "index": "handbook", "max_pixels": 4000}, "max_pixels"),
        ({"query": "a", "documents": [{"image": "AAAA"}]}, "documents[0]"),
        ({"query": "a", "documents": ["b", {"pdf": "AAAA"}]}, "documents[1]"),
        ({"query": "a", "documents": [{"pdf": base64_of(pdf_of(1)), "text": "b"}]}, "alone"),
        ({"query": "a", "documents": [{"pdf": base64_of(pdf_of(1)), "pages": [2]}]}, "2"),
    ],
)
def test_what_cannot_be_ranked_is_said_and_not_charged(
    ask: Ask, tmp_path: Path, body: dict[str, Any], told: str
) -> None:
    ledger = Ledger()

    async def test(client: Client) -> None:
        answer = await client.post("/v1/rank", json=body)
        assert answer.status_code == 422, answer.text
        assert told in answer.json()["detail"]

    ask(test, settings=Settings(data=tmp_path), access=ledger)
    assert (ledger.charged, ledger.open) == ({}, set())


def test_too_many_pages_are_refused(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank, "MOST_PAGES", 3)
    body = {"query": "a", "documents": [{"pdf": base64_of(pdf_of(2))}] * 2}

    async def test(client: Client) -> None:
        answer = await client.post("/v1/rank", json=body)
        assert answer.status_code == 413
        assert "3 pages" in answer.json()["detail"]

    ask(test)


def test_an_explanation_is_that_of_the_library_and_charged_once(
    ask: Ask, reranker: Reranker
) -> None:
    ledger = Ledger()
    text = "The shop opens at nine. It closes at six."
    image = picture("red", size=(112, 84))

    async def test(client: Client) -> None:
        for method in ("attention", "gradient"):
            document = {"image": base64_of(image), "text": text}
            body = {"query": "opens", "document": document, "method": method, "heat_map": 64}
            answer = await client.post("/v1/explain", json=body)
            assert answer.status_code == 200, answer.text
            found = answer.json()
            same = reranker.explain("opens", Document.image(image, text), method)
            page, passage = found["parts"]
            assert found["logit"] == pytest.approx(same.logit, abs=1e-5)
            assert passage["text"] == text
            assert passage["relevant_spans"] == same.to_dict(5)["parts"][1]["relevant_spans"]
            assert opened(page["heat_map"]).size == (64, 48)
            assert page["grid"] == pytest.approx(same.pages[0].scores, abs=1e-5)
            tokens = reranker.rank("opens", [Document.image(image, text)]).total_tokens
            assert found["usage"]["total_tokens"] == tokens
            assert ledger.charged[answer.headers["x-request-id"]] == tokens

    ask(test, access=ledger)
    assert len(ledger.charged) == 2


def test_documents_of_an_index_are_explained_by_id_and_shown(
    ask: Ask, reranker: Reranker, tmp_path: Path
) -> None:
    documents = [
        {"id": "hours", "text": "The shop opens at nine."},
        {"id": "report", "pdf": base64_of(pdf_of(2))},
    ]

    async def test(client: Client) -> None:
        assert (await client.post("/v1/documents", json=put(documents=documents))).is_success
        asked = {"index": "handbook", "query": "opens"}
        ranked = (await client.post("/v1/rank", json={**asked, "thumbnails": 40})).json()
        logits = {each["id"]: each["logit"] for each in ranked["results"]}
        shown = {each["id"]: each.get("thumbnail") for each in ranked["results"]}
        assert opened(shown["report#page=2"]).height == 40 and shown["hours"] is None
        for id in ("hours", "report#page=2"):
            body = {**asked, "id": id, "heat_map": 32}
            found = (await client.post("/v1/explain", json=body)).json()
            assert found["logit"] == pytest.approx(logits[id], abs=1e-5)
        answer = await client.post("/v1/explain", json={**asked, "id": "none"})
        assert answer.status_code == 404
        for path in (tmp_path / "shared" / "handbook" / "files").iterdir():
            path.write_bytes(b"%PDF-broken" if path.suffix == ".pdf" else b"\xff")
        for id in ("hours", "report#page=2"):
            answer = await client.post("/v1/explain", json={**asked, "id": id})
            assert answer.status_code == 422
            assert id.partition("#")[0] in answer.json()["detail"]
            assert str(tmp_path) not in answer.text

    ask(test, settings=Settings(data=tmp_path))


@pytest.mark.parametrize(
    "body",
    [
        {"query": "a"},
        {"query": "a", "document": "b", "index": "c", "id": "d"},
        {"query": "a", "index": "c"},
        {"query": "a", "index": "c", "id": "d", "max_pixels": 4000},
        {"query": "a", "document": "b", "method": "occlusion"},
    ],
)
def test_what_cannot_be_explained_is_refused(ask: Ask, body: dict[str, Any]) -> None:
    async def test(client: Client) -> None:
        assert (await client.post("/v1/explain", json=body)).status_code == 422

    ask(test)
