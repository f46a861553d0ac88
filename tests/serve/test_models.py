"""Several models in one server: who answers to which name, and with whose scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sightrank import Reranker
from sightrank.config import EngineConfig
from sightrank.engine.memory import RUNTIME_BYTES
from sightrank.errors import OptionError, OutOfMemoryError
from sightrank.serve.access import NoAccess
from sightrank.serve.app import create_app
from sightrank.serve.held import own_name
from sightrank.serve.settings import Settings
from tests.serve.conftest import Client

TEXTS = ["Leaves make sugar.", "Iron ore.", "Sugar cane grows in warm places."]
ROUTES = (
    "/v1/rerank",
    "/v2/rerank",
    "/rerank",
    "/cohere/v1/rerank",
    "/cohere/v2/rerank",
    "/v1/rank",
)


def scores(reranker: Reranker) -> list[float]:
    by_place = sorted(reranker.rank("sugar", TEXTS), key=lambda hit: hit.index)
    return [hit.score for hit in by_place]


async def asked(client: Client, path: str, **more: Any) -> list[float]:
    answer = await client.post(path, json={"query": "sugar", "documents": TEXTS, **more})
    assert answer.status_code == 200, answer.text
    results = sorted(answer.json()["results"], key=lambda each: each["index"])
    return [each["relevance_score"] for each in results]


def test_each_route_gives_the_scores_of_the_model_that_is_named(
    ask: Callable[..., Any], reranker: Reranker, other: Reranker
) -> None:
    one, two = scores(reranker), scores(other)
    assert one != pytest.approx(two, abs=1e-3)
    own, second = own_name(reranker.name), own_name(other.name)

    async def test(client: Client) -> None:
        for path in ROUTES:
            for name in (own, "sightrank", "jina-reranker-m0", "jina-reranker-v2", "rerank-v3.5"):
                assert await asked(client, path, model=name) == pytest.approx(one, abs=1e-6)
            assert await asked(client, path, model=second) == pytest.approx(two, abs=1e-6)
        for path in ("/rerank", "/v1/rank"):
            assert await asked(client, path) == pytest.approx(one, abs=1e-6)

    ask(test, also=[other])


def test_scores_and_reasons_are_the_named_models_too(
    ask: Callable[..., Any], reranker: Reranker, other: Reranker
) -> None:
    async def test(client: Client) -> None:
        for model, name in ((reranker, None), (other, own_name(other.name))):
            body = {"queries": "sugar", "documents": TEXTS, "model": name}
            found = (await client.post("/score", json=body)).json()
            given = [each["score"] for each in found["data"]]
            assert given == pytest.approx(scores(model), abs=1e-6)
            assert found["model"] == own_name(model.name)
            body = {"query": "sugar", "document": TEXTS[0], "model": name}
            told = (await client.post("/v1/explain", json=body)).json()
            assert told["model"] == own_name(model.name)
            assert told["logit"] == pytest.approx(model.explain("sugar", TEXTS[0]).logit, abs=1e-4)

    ask(test, also=[other])


def test_all_are_listed_and_others_are_not_found(
    ask: Callable[..., Any], reranker: Reranker, other: Reranker
) -> None:
    async def test(client: Client) -> None:
        listed = (await client.get("/v1/models")).json()["data"]
        names = [(each["id"], each["name"]) for each in listed]
        own, second = own_name(reranker.name), own_name(other.name)
        others = [(name, own) for name in ("sightrank", "jina-reranker-m0")]
        assert names == [(own, own), *others, (second, second)]
        assert (await client.get("/health")).json()["models"] == [own, second]
        body = {"model": "gpt-4", "query": "sugar", "documents": TEXTS}
        answer = await client.post("/v1/rerank", json=body)
        assert answer.status_code == 400 and second in answer.json()["detail"]

    ask(test, also=[other])


def test_a_model_that_is_here_goes_before_a_name_that_stands_for_the_first(
    ask: Callable[..., Any], reranker: Reranker, other: Reranker
) -> None:
    async def test(client: Client) -> None:
        found = await asked(client, "/v1/rerank", model="jina-reranker-m0")
        assert found == pytest.approx(scores(other), abs=1e-6)
        listed = [each["id"] for each in (await client.get("/v1/models")).json()["data"]]
        assert listed == [own_name(reranker.name), "sightrank", "jina-reranker-m0"]

    renamed = other.with_inputs(other.encoder.config)
    renamed.name = "jinaai/jina-reranker-m0"
    ask(test, also=[renamed])


def test_indexes_are_the_first_models(
    ask: Callable[..., Any], reranker: Reranker, other: Reranker, tmp_path: Path
) -> None:
    async def test(client: Client) -> None:
        documents = [{"id": "a", "text": TEXTS[0]}]
        put = {"index": "kept", "documents": documents}
        assert (await client.post("/v1/documents", json=put)).status_code == 200
        body = {"index": "kept", "query": "sugar", "model": own_name(reranker.name)}
        found = (await client.post("/v1/rank", json=body)).json()
        assert found["results"][0]["relevance_score"] == pytest.approx(
            scores(reranker)[0], abs=1e-6
        )
        for path, more in (("/v1/rank", {}), ("/v1/explain", {"id": "a"})):
            refused = await client.post(path, json={**body, **more, "model": own_name(other.name)})
            assert refused.status_code == 422
            assert own_name(reranker.name) in refused.json()["detail"]

    ask(test, also=[other], settings=Settings(data=tmp_path))


def test_two_of_one_name_are_refused(reranker: Reranker) -> None:
    with pytest.raises(OptionError, match="Two models are called"):
        create_app(reranker, NoAccess(), also=[reranker])


def test_models_share_the_memory(checkpoint: Path) -> None:
    config = EngineConfig(memory_bytes=2 * RUNTIME_BYTES + (1 << 27))
    alone, beside = (
        Reranker.from_pretrained(checkpoint, device="cpu", engine=each).engine.limits
        for each in (config, replace(config, models=2))
    )
    assert 2 * beside.cache_bytes < alone.cache_bytes
    with pytest.raises(OutOfMemoryError, match="for 3 models"):
        Reranker.from_pretrained(checkpoint, device="cpu", engine=replace(config, models=3))
    with pytest.raises(OptionError, match="models is 0"):
        EngineConfig(models=0)
