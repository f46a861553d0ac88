"""Every route's answers: shapes, scores, order, what is echoed, and errors."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import PIL.Image
import pytest

from sightrank import Document, Query, Reranker
from tests.serve.conftest import Client

Ask = Callable[..., Any]
TEXTS = ["Leaves turn light into sugar.", "The market fell.", "日本語 \U0001f600", "sugar cane"]


def picture(colour: str = "red", size: tuple[int, int] = (56, 84)) -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def post(ask: Ask, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    async def test(client: Client) -> tuple[int, Any]:
        answer = await client.post(path, json=body, headers=headers)
        return answer.status_code, answer.json()

    found: tuple[int, Any] = ask(test)
    return found


def jina_body(**more: Any) -> dict[str, Any]:
    return {"model": "jina-reranker-m0", "query": "sugar", "documents": TEXTS, **more}


def test_scores_and_order_are_those_of_rank(ask: Ask, reranker: Reranker) -> None:
    status, found = post(ask, "/v1/rerank", jina_body())
    ranking = reranker.rank("sugar", TEXTS)
    assert status == 200
    assert [each["index"] for each in found["results"]] == [hit.index for hit in ranking]
    for each, hit in zip(found["results"], ranking, strict=True):
        assert each["relevance_score"] == pytest.approx(hit.score, abs=1e-6)
        assert each["relevance_score"] == round(each["relevance_score"], 8)
    assert found["usage"] == {"total_tokens": ranking.total_tokens}
    assert (found["model"], found["object"]) == ("jina-reranker-m0", "list")


def test_documents_come_back_as_they_were_sent(ask: Ask) -> None:
    image = base64_of(picture())
    sent = ["text", {"text": "object"}, {"image": image}, {"image": image, "text": "caption"}]
    _, found = post(ask, "/v1/rerank", jina_body(documents=sent))
    assert len(found["results"]) == len(sent)
    for each in found["results"]:
        assert each["document"] == sent[each["index"]]


def test_documents_are_left_out_when_not_asked_for(ask: Ask) -> None:
    _, found = post(ask, "/v1/rerank", jina_body(return_documents=False, top_n=2))
    assert [sorted(each) for each in found["results"]] == [["index", "relevance_score"]] * 2


@pytest.mark.parametrize("wrap", ["{}", "data:image/png;base64,{}"])
def test_images_on_either_side_score_as_in_the_library(
    ask: Ask, reranker: Reranker, wrap: str
) -> None:
    image = wrap.format(base64_of(picture("blue")))
    documents = [{"image": image}, "a text"]
    query = {"image": base64_of(picture("green"))}
    status, found = post(ask, "/v1/rerank", jina_body(query=query, documents=documents))
    assert status == 200
    ranking = reranker.rank(
        Query.image(picture("green")), [Document.image(picture("blue")), Document.text("a text")]
    )
    scores = {each["index"]: each["relevance_score"] for each in found["results"]}
    assert scores == pytest.approx({hit.index: hit.score for hit in ranking}, abs=1e-6)


def test_an_images_data_uri_is_an_image_query_and_a_path_is_text(
    ask: Ask, reranker: Reranker, tmp_path: Path
) -> None:
    uri = f"data:image/png;base64,{base64_of(picture())}"
    assert post(ask, "/v1/rerank", jina_body(query=uri)) == post(
        ask, "/v1/rerank", jina_body(query={"image": uri})
    )
    secret = tmp_path / "secret.txt"
    secret.write_text("sugar " * 50)
    _, found = post(ask, "/v1/rerank", jina_body(documents=[str(secret)]))
    assert found["usage"]["total_tokens"] == reranker.rank("sugar", [str(secret)]).total_tokens


@pytest.mark.parametrize(
    "where", ["/etc/hostname", "file:///etc/hostname", "../x.png", "C:\\x.png"]
)
def test_an_images_path_is_never_opened(ask: Ask, where: str) -> None:
    status, found = post(ask, "/v1/rerank", jina_body(documents=[{"image": where}]))
    assert status == 422
    assert "documents[0]" in found["detail"]
    status, _ = post(ask, "/v1/rerank", jina_body(documents=[{"pdf": where}]))
    assert status == 422


def test_a_document_too_long_is_cut_or_refused(ask: Ask) -> None:
    long = jina_body(documents=["word " * 2000])
    assert post(ask, "/v1/rerank", long)[0] == 200
    assert post(ask, "/v1/rerank", {**long, "truncation": True})[0] == 200
    status, found = post(ask, "/v1/rerank", {**long, "truncation": False})
    assert (status, found["code"]) == (400, "INPUT_TOKEN_LIMIT_EXCEEDED")


@pytest.mark.parametrize("name", ["jina-reranker-v2-base-multilingual", "rerank-v3.5", "sightrank"])
def test_names_of_other_models_are_answered_to(ask: Ask, name: str) -> None:
    status, _ = post(ask, "/v1/rerank", jina_body(model=name))
    assert status == 200


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"model": "gpt-4"}, 400, "INPUT_MODEL_NOT_FOUND"),
        ({"documents": []}, 422, None),
        ({"documents": [{}]}, 422, None),
        ({"documents": ["  "]}, 422, None),
        ({"query": ""}, 422, None),
        ({"top_n": 0}, 422, None),
        ({"query": None}, 422, None),
        ({"documents": [{"image": "!"}]}, 422, None),
        ({"documents": [{"image": base64_of(b"no image")}]}, 422, None),
    ],
)
def test_errors_have_jinas_shape(
    ask: Ask, jina: dict[str, Any], change: dict[str, Any], status: int, code: str | None
) -> None:
    found_status, found = post(ask, "/v1/rerank", jina_body(**change))
    assert found_status == status, found
    validate(jina, "HTTPValidationError" if "errors" in found else "ErrorResponse", found)
    assert found["request_id"]
    if code:
        assert found["code"] == code


@pytest.fixture(scope="session")
def jina() -> dict[str, Any]:
    """What Jina publishes of its rerank and models routes, with no word of its descriptions."""
    content: dict[str, Any] = json.loads((Path(__file__).parent / "jina_shapes.json").read_text())
    return content


def validate(shapes: dict[str, Any], name: str, value: Any) -> None:
    jsonschema.validate(value, {"$ref": f"#/components/schemas/{name}", **shapes})


@pytest.mark.parametrize("more", [{}, {"top_n": 1}, {"return_documents": False}])
def test_answers_validate_against_jinas_description(
    ask: Ask, jina: dict[str, Any], more: dict[str, Any]
) -> None:
    body = jina_body(documents=["a", {"text": "b"}, {"image": base64_of(picture())}], **more)
    validate(jina, "RerankerM0Request", body)
    status, found = post(ask, "/v1/rerank", body)
    assert status == 200
    validate(jina, "RerankingResponse", found)


def test_models_validate_and_hide_the_folder(
    ask: Ask, jina: dict[str, Any], reranker: Reranker
) -> None:
    async def test(client: Client) -> Any:
        return (await client.get("/v1/models")).json()

    found = ask(test)
    validate(jina, "ModelListResponse", found)
    assert str(Path(reranker.name).parent) not in json.dumps(found)


def test_coheres_second_version(ask: Ask, reranker: Reranker) -> None:
    body = {"model": "rerank-v3.5", "query": "sugar", "documents": TEXTS, "top_n": 2}
    for path in ("/v2/rerank", "/cohere/v2/rerank"):
        status, found = post(ask, path, body)
        assert status == 200
        assert [each["index"] for each in found["results"]] == [
            hit.index for hit in reranker.rank("sugar", TEXTS, 2)
        ]
        assert all(sorted(each) == ["index", "relevance_score"] for each in found["results"])
        assert found["meta"]["billed_units"] == {"search_units": 1}
        assert found["meta"]["tokens"]["input_tokens"] > 0


def test_coheres_documents_are_cut_to_max_tokens_per_doc(ask: Ask) -> None:
    body = {"model": "rerank-v3.5", "query": "q", "documents": ["word " * 100]}
    counts = [
        post(ask, "/v2/rerank", {**body, "max_tokens_per_doc": most})[1]["meta"]["tokens"][
            "input_tokens"
        ]
        for most in (10, 50)
    ]
    assert counts[1] - counts[0] == 40


def test_coheres_first_version_is_told_apart(ask: Ask) -> None:
    documents = [{"title": "A", "body": "sugar"}, {"title": "B", "body": "coal"}]
    body = {
        "model": "rerank-english-v3.0",
        "query": "sugar",
        "documents": documents,
        "rank_fields": ["title", "body"],
        "return_documents": True,
    }
    status, found = post(ask, "/v1/rerank", body)
    assert status == 200
    assert {each["index"]: each["document"] for each in found["results"]} == dict(
        enumerate(documents)
    )
    status, found = post(ask, "/cohere/v1/rerank", {**body, "rank_fields": ["none"]})
    assert (status, sorted(found)) == (422, ["id", "message"])


PARTS = [
    {"type": "text", "text": "a caption"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64_of(picture())}"}},
]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_vllms_content_parts(ask: Ask, path: str) -> None:
    body = {"query": "sugar", "documents": [{"content": PARTS}, "a text"]}
    status, found = post(ask, path, body)
    assert status == 200, found
    shown = {each["index"]: each["document"] for each in found["results"]}
    assert shown == {
        0: {"text": "a caption", "multi_modal": PARTS},
        1: {"text": "a text", "multi_modal": None},
    }
    assert found["usage"]["prompt_tokens"] == found["usage"]["total_tokens"] > 0
    status, found = post(ask, path, {"query": "sugar", "documents": {"content": PARTS}, "top_n": 0})
    assert sorted(each["index"] for each in found["results"]) == [0, 1]


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
@pytest.mark.parametrize("names", [("queries", "documents"), ("text_1", "text_2")])
def test_vllms_scores_one_to_many_and_pair_by_pair(
    ask: Ask, reranker: Reranker, path: str, names: tuple[str, str]
) -> None:
    for queries in ("sugar", ["sugar", "coal", "ore", "tin"]):
        status, found = post(ask, path, {names[0]: queries, names[1]: TEXTS})
        each = [queries] * 4 if isinstance(queries, str) else queries
        expected = reranker.score(list(zip(each, TEXTS, strict=True)))
        assert status == 200
        assert [data["score"] for data in found["data"]] == pytest.approx(expected, abs=1e-6)
    raw = post(ask, path, {names[0]: "sugar", names[1]: TEXTS, "use_activation": False})[1]
    expected = reranker.score([("sugar", text) for text in TEXTS], probabilities=False)
    assert [data["score"] for data in raw["data"]] == pytest.approx(expected, abs=1e-4)


def test_vllms_sides_must_make_pairs(ask: Ask) -> None:
    for body in (
        {"queries": ["a", "b"], "documents": ["c"]},
        {"queries": "a"},
        {"queries": "a", "text_1": "b", "documents": "c"},
    ):
        status, found = post(ask, "/score", body)
        assert (status, sorted(found)) == (400, ["error"])


def test_probes_and_metrics(ask: Ask) -> None:
    async def test(client: Client) -> None:
        await client.post("/v1/rerank", json=jina_body())
        for path in ("/live", "/ready", "/health"):
            assert (await client.get(path)).status_code == 200
        page = (await client.get("/metrics")).text
        assert 'sightrank_requests_total{route="/v1/rerank",status="200"} 1.0' in page
        assert "sightrank_documents_total 4.0" in page

    ask(test)


def test_the_description_has_every_route_and_an_example(ask: Ask) -> None:
    async def test(client: Client) -> Any:
        return (await client.get("/openapi.json")).json()

    found = ask(test)
    paths = ("/v1/rerank", "/v2/rerank", "/rerank", "/score", "/v1/models", "/health", "/ready")
    assert set(paths) <= set(found["paths"])
    for name in ("JinaRequest", "CohereV2Request", "VllmRerankRequest", "VllmScoreRequest"):
        assert found["components"]["schemas"][name]["examples"]
