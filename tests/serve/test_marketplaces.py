"""Each platform's side of its contract, played over ASGI with a ranker that needs no model."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from sightrank.errors import InputError, OptionError, SightrankError
from sightrank.serve.marketplaces import AT_ONCE, Platform, platform_of, router
from sightrank.serve.sagemaker import read_lines

HEALTH = "/v1/endpoints/123/deployedModels/456"
VERTEX = {
    "AIP_HTTP_PORT": "8080",
    "AIP_HEALTH_ROUTE": HEALTH,
    "AIP_PREDICT_ROUTE": f"{HEALTH}:predict",
    "AIP_MODE": "PREDICTION",
    "AIP_STORAGE_URI": "",
}


class BusyError(SightrankError):
    status = 429


@dataclass
class LengthRanker:
    """Ranks by length, the longest first; a token is a character; keeps what it was asked."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    under_way: int = 0
    most: int = 0

    async def __call__(self, body: dict[str, Any], request: Request) -> dict[str, Any]:
        self.asked.append(body)
        if body["query"] == "busy":
            raise BusyError("The queue is full.", "Try again.")
        if not body["documents"] or body.get("top_n", 1) < 1:
            raise InputError("documents is empty, or top_n is below 1.", "Give one.")
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        return self._answer(body)

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        sizes = [len(json.dumps(document)) for document in body["documents"]]
        order = sorted(range(len(sizes)), key=lambda index: -sizes[index])[: body.get("top_n")]
        results: list[dict[str, Any]] = [
            {"index": i, "relevance_score": sizes[i] / 1000, "usage": {"total_tokens": sizes[i]}}
            for i in order
        ]
        if body.get("return_documents", True):
            for result in results:
                result["document"] = body["documents"][result["index"]]
        usage = {"total_tokens": sum(sizes)}
        return {"model": "length", "object": "list", "usage": usage, "results": results}


@dataclass
class Container:
    """The server as a platform sees it."""

    platform: Platform
    ranker: LengthRanker = field(default_factory=LengthRanker)
    is_ready: bool = True

    def __post_init__(self) -> None:
        self.app = FastAPI()
        self.app.include_router(router(self.platform, self.ranker, lambda _: self.is_ready))

        @self.app.exception_handler(SightrankError)
        async def answer(_: Request, error: SightrankError) -> Response:
            return JSONResponse({"detail": str(error)}, status_code=error.status)

    def send(self, method: str, path: str, **given: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return await client.request(method, path, **given)

        return asyncio.run(run())


def container(environment: dict[str, str]) -> Container:
    platform = platform_of(environment)
    assert platform is not None
    return Container(platform)


@pytest.fixture
def sagemaker() -> Container:
    return container({"SIGHTRANK_PLATFORM": "sagemaker"})


@pytest.fixture
def azure() -> Container:
    return container({"SIGHTRANK_PLATFORM": "azureml"})


@pytest.fixture
def vertex() -> Container:
    return container(VERTEX)


# SageMaker


def test_ping_is_empty_and_200_once_the_model_is_loaded(sagemaker: Container) -> None:
    sagemaker.is_ready = False
    assert sagemaker.send("GET", "/ping").status_code == 503
    sagemaker.is_ready = True
    answer = sagemaker.send("GET", "/ping")
    assert (answer.status_code, answer.content) == (200, b"")


def test_jinas_envelope(sagemaker: Container) -> None:
    """What the client of Jina's model packages sends, and the answer of its examples."""
    documents = [
        {"text": "I am a text"},
        {"image": "https://example.com/bridge.jpg"},
        {"bytes": "iVBORw0KGgo="},
    ]
    request = {"data": [{"documents": documents, "query": "dog", "top_n": 9}]}
    answer = sagemaker.send("POST", "/invocations", json=request)
    assert answer.status_code == 200
    sizes = [
        len(json.dumps(each))
        for each in ({"text": "I am a text"}, documents[1], {"image": "iVBORw0KGgo="})
    ]
    nothing = dict.fromkeys(("text", "url", "bytes", "image"))
    assert answer.json() == {
        "data": [
            {
                "query_usage": {"total_tokens": 0},
                "docs_usage": {"total_tokens": sum(sizes)},
                "results": [
                    {
                        "index": index,
                        "document": {**nothing, **documents[index]},
                        "relevance_score": sizes[index] / 1000,
                        "usage": {"total_tokens": sizes[index]},
                    }
                    for index in (1, 2, 0)
                ],
            }
        ],
        "header": None,
        "parameters": None,
    }
    assert sagemaker.ranker.asked == [
        {
            "query": "dog",
            "documents": [documents[0], documents[1], {"image": "iVBORw0KGgo="}],
            "top_n": 3,
            "return_documents": False,
        }
    ]


def test_data_may_be_one_object_and_documents_strings(sagemaker: Container) -> None:
    body = {"data": {"query": "q", "documents": ["a", {"url": "https://x/y.png"}], "top_n": None}}
    (answer,) = sagemaker.send("POST", "/invocations", json=body).json()["data"]
    assert [result["document"]["text"] for result in answer["results"]] == [None, "a"]
    assert answer["results"][0]["document"]["url"] == "https://x/y.png"


def test_several_requests_of_a_body_keep_their_order(sagemaker: Container) -> None:
    data = [{"query": str(n), "documents": ["x" * n, "y"]} for n in range(2, 42)]
    answers = sagemaker.send("POST", "/invocations", json={"data": data}).json()["data"]
    assert [len(each["results"][0]["document"]["text"]) for each in answers] == list(range(2, 42))
    assert sagemaker.ranker.most <= AT_ONCE


def test_the_body_of_v1_rerank_is_answered_as_there(sagemaker: Container) -> None:
    answer = sagemaker.send("POST", "/invocations", json={"query": "q", "documents": ["a", "bb"]})
    assert [result["document"] for result in answer.json()["results"]] == ["bb", "a"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "no object"),
        (b'{"data": []}', "`data` is empty"),
        (b'{"data": [1]}', "data[0]: A request is not an object"),
        (b'{"data": [{"query": "q", "documents": ["a"]}, {"query": "q"}]}', "data[1]:"),
        (
            b'{"data": [{"query": "q", "documents": ["a"]}, {"query": "q", "documents": []}]}',
            "data[1]: documents is empty",
        ),
        (
            b'{"data": [{"query": "q", "documents": ["a"], "top_n": 0}]}',
            "data[0]: documents is empty, or top_n",
        ),
    ],
)
def test_bodies_that_cannot_be_ranked(sagemaker: Container, body: bytes, said: str) -> None:
    answer = sagemaker.send("POST", "/invocations", content=body)
    assert answer.status_code == 422 and said in answer.json()["detail"]


def test_a_batch_as_in_jinas_example(sagemaker: Container) -> None:
    """Backslashes before commas and quotes, as in that repository's sample-*-batch-input.csv."""
    content = (
        "0793,where's the dog,"
        r"[{\"text\": \"the dog is in my house\"}\, {\"text\": \"the cat\"}\, {\"text\": \"fish\"}],2"
        "\n"
        r"2860,do you like cat,[{\"text\": \"cash is king\"}\, {\"text\": \"morning\"}],3"
        "\n"
    )
    answer = _transform(sagemaker, content)
    first, second = (each["data"][0]["results"] for each in answer["data"])
    assert answer["errors"] == []
    assert [result["document"]["text"] for result in first] == ["the dog is in my house", "the cat"]
    assert [result["index"] for result in second] == [0, 1]
    assert answer["data"][0].keys() == {"data", "header", "parameters"}
    assert sagemaker.ranker.asked[0]["query"] == "where's the dog"


def test_a_batch_as_csv_is_written_everywhere(sagemaker: Container) -> None:
    odd = 'a "quoted", text\\ with\nlines, \u2028 and ключ'
    big = "iVBORw0KGgo=" * 50_000
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(["id-1", 'who, "exactly"?', json.dumps([{"text": odd}, {"bytes": big}]), 1])
    writer.writerow(["id-2", "q", json.dumps(["plain"])])
    writer.writerow(["id-3", "q", json.dumps(["plain"]), ""])
    answer = _transform(sagemaker, written.getvalue())
    assert answer["errors"] == [] and len(answer["data"]) == 3
    assert sagemaker.ranker.asked[0]["query"] == 'who, "exactly"?'
    assert sagemaker.ranker.asked[0]["documents"] == [{"text": odd}, {"image": big}]
    assert [asked.get("top_n") for asked in sagemaker.ranker.asked] == [1, None, None]


def test_newlines_inside_an_escaped_document_stay(sagemaker: Container) -> None:
    (line,) = read_lines(r"1,q,[{\"text\": \"two\nlines\, a \\\"word\\\" and a \\\\ \"}],")
    assert line.body is not None
    assert line.body["documents"] == [{"text": 'two\nlines, a "word" and a \\ '}]


def test_a_line_that_cannot_be_ranked_leaves_the_others(sagemaker: Container) -> None:
    good = 'ok,q,"[""a""]",1'
    lines = [good, "", 'bad,q,"[""a""]",many', "only one field", 'none,q,"[]",1', 'x,q,"{}"', good]
    answer = _transform(sagemaker, "\r\n".join(lines))
    assert len(answer["data"]) == 2
    told = [(error["line"], error["id"]) for error in answer["errors"]]
    assert told == [(3, "bad"), (4, "only one field"), (5, "none"), (6, "x")]
    assert "top_n is 'many'" in answer["errors"][0]["message"]


def test_a_full_queue_fails_the_batch_so_that_the_platform_tries_again(
    sagemaker: Container,
) -> None:
    content = 'a,q,"[""a""]",1\nb,busy,"[""a""]",1'
    answer = sagemaker.send("POST", "/invocations", content=content, headers=CSV)
    assert answer.status_code == 429


def test_a_batch_in_another_encoding(sagemaker: Container) -> None:
    answer = sagemaker.send("POST", "/invocations", content=b"a,\xff,[]", headers=CSV)
    assert answer.status_code == 422 and "UTF-8" in answer.json()["detail"]


def test_an_empty_batch(sagemaker: Container) -> None:
    assert _transform(sagemaker, "\n \n") == {"data": [], "errors": []}


def test_execution_parameters(sagemaker: Container) -> None:
    answer = sagemaker.send("GET", "/execution-parameters").json()
    assert answer == {
        "MaxConcurrentTransforms": AT_ONCE,
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": 6,
    }


CSV = {"content-type": "text/csv; charset=utf-8"}


def _transform(container: Container, content: str) -> dict[str, Any]:
    answer = container.send("POST", "/invocations", content=content.encode(), headers=CSV)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


# Azure ML


def test_azure_asks_whether_it_lives_and_whether_it_is_ready(azure: Container) -> None:
    azure.is_ready = False
    assert azure.send("GET", "/azureml/live").status_code == 200
    assert azure.send("GET", "/azureml/ready").status_code == 503
    azure.is_ready = True
    assert azure.send("GET", "/azureml/ready").status_code == 200


def test_azure_passes_the_body_through(azure: Container) -> None:
    body = {"query": "q", "documents": ["a", "bb"], "top_n": 1}
    answer = azure.send("POST", "/azureml/score", json=body).json()
    assert answer["results"][0]["document"] == "bb" and azure.ranker.asked == [body]


def test_azures_scoring_route_is_what_the_deployment_says() -> None:
    moved = container({"SIGHTRANK_PLATFORM": "azureml", "SIGHTRANK_AZUREML_SCORING_ROUTE": "/rank"})
    body = {"query": "q", "documents": ["a"]}
    assert moved.send("POST", "/rank", json=body).status_code == 200
    assert moved.send("POST", "/azureml/score", json=body).status_code == 404


# Vertex AI


def test_vertex_names_its_own_routes(vertex: Container) -> None:
    vertex.is_ready = False
    assert vertex.send("GET", HEALTH).status_code == 503
    vertex.is_ready = True
    assert vertex.send("GET", HEALTH).status_code == 200


def test_vertex_gets_a_prediction_for_each_instance(vertex: Container) -> None:
    instances = [
        {"query": "q", "documents": ["a", "bb"]},
        {"query": "q", "documents": ["ccc", "dd"], "top_n": 2},
    ]
    body = {"instances": instances, "parameters": {"top_n": 1}}
    answer = vertex.send("POST", f"{HEALTH}:predict", json=body).json()
    assert answer.keys() == {"predictions"}
    ranked = [[result["document"] for result in each["results"]] for each in answer["predictions"]]
    assert ranked == [["bb"], ["ccc", "dd"]]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "no list of instances"),
        ({"instances": []}, "no list of instances"),
        ({"instances": [{"query": "q", "documents": ["a"]}], "parameters": [1]}, "parameters"),
        ({"instances": ["text"]}, "instances[0] is no object"),
        (
            {"instances": [{"query": "q", "documents": ["a"]}, {"query": "q", "documents": []}]},
            "instances[1]: documents",
        ),
    ],
)
def test_instances_that_cannot_be_ranked(vertex: Container, body: Any, said: str) -> None:
    answer = vertex.send("POST", f"{HEALTH}:predict", json=body)
    assert answer.status_code == 422 and said in answer.json()["detail"]


# Which platform it is


def test_no_platform_unless_the_environment_says_so() -> None:
    assert platform_of({"PATH": "/bin", "PORT": "1"}) is None


@pytest.mark.parametrize(
    ("environment", "port", "ready"),
    [
        ({"SIGHTRANK_PLATFORM": "sagemaker"}, 8080, "/ping"),
        ({"SIGHTRANK_PLATFORM": "sagemaker", "SAGEMAKER_BIND_TO_PORT": "9000"}, 9000, "/ping"),
        ({"SIGHTRANK_PLATFORM": "azureml"}, 8080, "/azureml/ready"),
        ({**VERTEX, "AIP_HTTP_PORT": "7080"}, 7080, HEALTH),
        ({"SIGHTRANK_PLATFORM": "vertex"}, 8080, "/vertex/health"),
    ],
)
def test_ports_and_routes(environment: dict[str, str], port: int, ready: str) -> None:
    platform = platform_of(environment)
    assert platform is not None and (platform.port, platform.ready) == (port, ready)


@pytest.mark.parametrize(
    "environment",
    [
        {"SIGHTRANK_PLATFORM": "heroku"},
        {**VERTEX, "AIP_HTTP_PORT": "http"},
        {**VERTEX, "AIP_HTTP_PORT": "70000"},
        {**VERTEX, "AIP_PREDICT_ROUTE": "predict"},
        {**VERTEX, "AIP_HEALTH_ROUTE": "/{path:path}"},
        {"SIGHTRANK_PLATFORM": "azureml", "SIGHTRANK_AZUREML_SCORING_ROUTE": "/a?b"},
    ],
)
def test_variables_that_cannot_be_used(environment: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="Set it to"):
        platform_of(environment)


@pytest.mark.parametrize("inside", [".", "reranker"])
def test_a_model_that_the_platform_has_put_there_is_found(tmp_path: Path, inside: str) -> None:
    folder = tmp_path / inside
    folder.mkdir(exist_ok=True)
    environment = {"SIGHTRANK_PLATFORM": "azureml", "AZUREML_MODEL_DIR": str(tmp_path)}
    found = platform_of(environment)
    assert found is not None and found.model is None
    (folder / "config.json").write_text("{}", encoding="utf-8")
    found = platform_of(environment)
    assert found is not None and found.model == folder
