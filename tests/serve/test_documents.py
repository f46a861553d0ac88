"""Documents left with the server: kept, ranked by name and id, replaced, deleted, apart by key."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from sightrank import Document, Reranker
from sightrank.serve.settings import Settings
from tests.serve.conftest import Client
from tests.serve.test_faults import Ledger
from tests.serve.test_routes import base64_of, picture

Ask = Callable[..., Any]


def pdf_of(pages: int) -> bytes:
    out = io.BytesIO()
    first, *others = [PIL.Image.new("RGB", (100, 140), (n, 90, 0)) for n in range(pages)]
    first.save(out, "PDF", save_all=True, append_images=others)
    return out.getvalue()


TEXTS = {"hours": "The shop opens at nine.", "sugar": "Leaves make sugar.", "ore": "Iron ore."}


def put(**more: Any) -> dict[str, Any]:
    documents = [{"id": id, "text": text} for id, text in TEXTS.items()]
    return {"index": "handbook", "documents": documents, **more}


def test_ranking_by_name_gives_the_scores_of_rank(
    ask: Ask, reranker: Reranker, tmp_path: Path
) -> None:
    async def test(client: Client) -> None:
        answer = await client.post("/v1/documents", json=put())
        assert answer.status_code == 200, answer.text
        assert [each["id"] for each in answer.json()["data"]] == list(TEXTS)
        assert answer.json()["usage"]["total_tokens"] > 0
        answer = await client.post("/v1/rank", json={"index": "handbook", "query": "sugar"})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        ranking = reranker.rank("sugar", list(TEXTS.values()))
        assert [each["id"] for each in found["results"]] == [
            list(TEXTS)[hit.index] for hit in ranking
        ]
        assert [each["relevance_score"] for each in found["results"]] == pytest.approx(
            [hit.score for hit in ranking], abs=1e-6
        )
        assert found["usage"]["total_tokens"] == ranking.total_tokens

    ask(test, settings=Settings(data=tmp_path))


def test_only_the_ids_asked_for_are_ranked(ask: Ask, tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.post("/v1/documents", json=put())
        body = {"index": "handbook", "query": "sugar", "ids": ["ore", "hours"], "top_n": 5}
        found = (await client.post("/v1/rank", json=body)).json()
        assert sorted(each["id"] for each in found["results"]) == ["hours", "ore"]
        answer = await client.post("/v1/rank", json={**body, "ids": ["ore", "none"]})
        assert (answer.status_code, answer.json()["code"]) == (404, "RESOURCE_NOT_FOUND")

    ask(test, settings=Settings(data=tmp_path))


def test_images_with_text_and_pages_of_a_pdf(ask: Ask, reranker: Reranker, tmp_path: Path) -> None:
    pdf = pdf_of(2)
    documents = [
        {"id": "fox", "image": base64_of(picture("red")), "text": "a red fox"},
        {"id": "report", "pdf": f"data:application/pdf;base64,{base64_of(pdf)}"},
    ]

    async def test(client: Client) -> None:
        answer = await client.post("/v1/documents", json=put(documents=documents))
        assert answer.status_code == 200, answer.text
        ids = [each["id"] for each in answer.json()["data"]]
        assert ids == ["fox", "report#page=1", "report#page=2"]
        body = {"index": "handbook", "query": {"image": base64_of(picture("red"))}}
        found = (await client.post("/v1/rank", json=body)).json()
        scores = {each["id"]: each["relevance_score"] for each in found["results"]}
        fox = Document.image(picture("red"), "a red fox")
        expected = reranker.score([(Document.image(picture("red")), fox)])[0]
        assert scores["fox"] == pytest.approx(expected, abs=1e-6)
        found = (await client.post("/v1/rank", json={**body, "ids": ["report"]})).json()
        assert sorted(each["id"] for each in found["results"]) == ids[1:]

    ask(test, settings=Settings(data=tmp_path / "data"))


def test_files_are_told_by_their_bytes(ask: Ask, tmp_path: Path) -> None:
    files = [
        ("files", ("../../notes.txt", b"Leaves make sugar.")),
        ("files", ("fox.pdf", picture())),
        ("files", ("page", pdf_of(1))),
    ]

    async def test(client: Client) -> None:
        answer = await client.post("/v1/documents/upload", data={"index": "up"}, files=files)
        assert answer.status_code == 200, answer.text
        ids = {each["id"] for each in answer.json()["data"]}
        assert {"fox.pdf", "page#page=1"} < ids
        found = (await client.post("/v1/rank", json={"index": "up", "query": "sugar"})).json()
        assert len(found["results"]) == 3

    ask(test, settings=Settings(data=tmp_path / "data"))
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_documents_are_replaced_listed_and_deleted(ask: Ask, tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        for _ in range(2):
            again = (await client.post("/v1/documents", json=put())).json()
        assert again["usage"]["total_tokens"] == 0, "nothing was run a second time"
        changed = {"id": "ore", "text": "Copper ore, and more."}
        await client.post("/v1/documents", json=put(documents=[changed]))
        listed = (await client.get("/v1/documents", params={"index": "handbook"})).json()["data"]
        assert sorted(each["id"] for each in listed) == sorted(TEXTS)
        image = {"id": "ore", "image": base64_of(picture())}
        await client.post("/v1/documents", json=put(documents=[image]))
        listed = (await client.get("/v1/documents", params={"index": "handbook"})).json()["data"]
        assert sorted(each["id"] for each in listed) == sorted(TEXTS)
        assert (await client.delete("/v1/documents/handbook/ore")).status_code == 200
        assert (await client.delete("/v1/documents/handbook/ore")).status_code == 404
        found = (await client.post("/v1/rank", json={"index": "handbook", "query": "a"})).json()
        assert sorted(each["id"] for each in found["results"]) == ["hours", "sugar"]
        assert (await client.get("/v1/documents")).json()["data"] == [{"index": "handbook"}]
        assert (await client.delete("/v1/documents/handbook")).status_code == 200
        assert (await client.get("/v1/documents")).json()["data"] == []
        answer = await client.post("/v1/rank", json={"index": "handbook", "query": "a"})
        assert answer.status_code == 404

    ask(test, settings=Settings(data=tmp_path))
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_document_that_cannot_be_read_takes_back_those_sent_with_it(
    ask: Ask, tmp_path: Path
) -> None:
    ledger = Ledger()

    async def test(client: Client) -> None:
        documents = [{"id": "good", "text": "good"}, {"id": "bad", "image": "AAAA"}]
        answer = await client.post("/v1/documents", json=put(documents=documents))
        assert answer.status_code == 422
        assert "bad" in answer.json()["detail"]
        assert str(tmp_path) not in answer.text
        answer = await client.get("/v1/documents", params={"index": "handbook"})
        assert answer.json()["data"] == []

    ask(test, settings=Settings(data=tmp_path), access=ledger)
    assert (ledger.charged, ledger.open) == ({}, set())


def test_what_the_disk_lost_is_said_without_naming_the_disk(ask: Ask, tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        rank = {"index": "handbook", "query": "a"}
        await client.post("/v1/documents", json=put())
        for id in TEXTS:
            await client.delete(f"/v1/documents/handbook/{id}")
        answer = await client.post("/v1/rank", json=rank)
        assert (answer.status_code, answer.json()["code"]) == (409, "RESOURCE_STALE")
        assert str(tmp_path) not in answer.text
        (tmp_path / "shared" / "broken" / "files").mkdir(parents=True)
        (tmp_path / "shared" / "broken" / "index").write_text("no index")
        answer = await client.post("/v1/rank", json={**rank, "index": "broken"})
        assert answer.status_code == 500
        assert str(tmp_path) not in answer.text

    ask(test, settings=Settings(data=tmp_path))


def test_each_key_has_indexes_of_its_own(ask: Ask, tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        mine, other = {"Authorization": "Bearer mine"}, {"Authorization": "Bearer other"}
        await client.post("/v1/documents", json=put(), headers=mine)
        rank = {"index": "handbook", "query": "a"}
        assert (await client.post("/v1/rank", json=rank, headers=mine)).status_code == 200
        assert (await client.post("/v1/rank", json=rank, headers=other)).status_code == 404
        assert (await client.get("/v1/documents", headers=other)).json()["data"] == []
        gone = await client.delete("/v1/documents/handbook", headers=other)
        assert gone.status_code == 404

    ask(test, settings=Settings(data=tmp_path), access=Ledger())


@pytest.mark.parametrize("name", ["../x", "..", "", "a/b", "a\0b", ".hidden", "x" * 65, "\u0430"])
def test_no_name_leads_out_of_the_folder(ask: Ask, tmp_path: Path, name: str) -> None:
    async def test(client: Client) -> None:
        answer = await client.post("/v1/documents", json=put(index=name))
        assert answer.status_code == 422
        answer = await client.post("/v1/rank", json={"index": name, "query": "a"})
        assert answer.status_code == 422
        json.loads((await client.get("/v1/documents", params={"index": name})).content)

    ask(test, settings=Settings(data=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_nothing_is_kept(ask: Ask) -> None:
    async def test(client: Client) -> None:
        answer = await client.post("/v1/documents", json=put())
        assert (answer.status_code, answer.json()["code"]) == (404, "RESOURCE_NOT_FOUND")
        assert "--data" in answer.json()["detail"]

    ask(test)
