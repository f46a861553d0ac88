"""The same server on SageMaker, Azure ML and Vertex AI: each platform's routes and variables.

On a platform, only the platform reaches the container, and it has checked who is calling: its
routes ask for no key. So they exist only where the environment says which platform it is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from sightrank.errors import InputError, OptionError, SightrankError
from sightrank.serve import sagemaker

VARIABLE = "SIGHTRANK_PLATFORM"
NAMES = ("sagemaker", "azureml", "vertex")
HOST = "0.0.0.0"
PORT = 8080
AT_ONCE = 8
"""Requests of one body that are ranked at the same time; more would only wait in the queue."""
PAYLOAD_MB = 6
"""What a batch transform job puts into one body at most, SageMaker's own default."""

Rank = Callable[[dict[str, Any], Request], Awaitable[dict[str, Any]]]
"""Ranks a body of Jina's /v1/rerank and answers in its shape; raises SightrankError. A result may
also have `usage`, {"total_tokens": N}, the tokens of its own document."""


@dataclass(frozen=True)
class Platform:
    """Where the server runs, and what that platform asks for."""

    name: str
    live: str
    """Route that answers 200 as long as the process runs."""
    ready: str
    """Route that answers 200 once the model is loaded, and 503 before; may be the same as `live`."""
    rank: str
    """Route that ranks."""
    port: int = PORT
    model: Path | None = None
    """Folder in which the platform has put a model; None: the server's own choice."""


def platform_of(environment: Mapping[str, str]) -> Platform | None:
    """The platform that the environment tells of, or None. Raises OptionError.

    SIGHTRANK_PLATFORM names it; Vertex AI is also known by the variable AIP_HTTP_PORT.
    """
    name = environment.get(VARIABLE) or ("vertex" if "AIP_HTTP_PORT" in environment else None)
    if name is None:
        return None
    if name not in NAMES:
        raise OptionError(f"{VARIABLE} is {name!r}.", f"Set it to one of {', '.join(NAMES)}.")
    if name == "sagemaker":
        port = _port(environment, "SAGEMAKER_BIND_TO_PORT")
        folder = _model(environment.get("SM_MODEL_DIR", "/opt/ml/model"))
        return Platform(name, "/ping", "/ping", "/invocations", port, folder)
    if name == "azureml":
        scoring = _route(environment, "SIGHTRANK_AZUREML_SCORING_ROUTE", "/azureml/score")
        folder = _model(environment.get("AZUREML_MODEL_DIR"))
        return Platform(name, "/azureml/live", "/azureml/ready", scoring, PORT, folder)
    health = _route(environment, "AIP_HEALTH_ROUTE", "/vertex/health")
    predict = _route(environment, "AIP_PREDICT_ROUTE", "/vertex/predict")
    return Platform(name, health, health, predict, _port(environment, "AIP_HTTP_PORT"))


def router(platform: Platform, rank: Rank, is_ready: Callable[[Request], bool]) -> APIRouter:
    """The platform's routes. The app that mounts them turns SightrankErrors into answers."""
    routes = APIRouter(include_in_schema=False)
    _add_health(routes, platform, is_ready)
    if platform.name == "sagemaker":
        _add_invocations(routes, rank)
    elif platform.name == "azureml":
        _add_scoring(routes, platform.rank, rank)
    else:
        _add_predict(routes, platform.rank, rank)
    return routes


def _add_health(routes: APIRouter, platform: Platform, is_ready: Callable[[Request], bool]) -> None:
    async def live() -> Response:
        return Response(status_code=200)

    async def ready(request: Request) -> Response:
        return Response(status_code=200 if is_ready(request) else 503)

    routes.add_api_route(platform.ready, ready, methods=["GET"])
    if platform.live != platform.ready:
        routes.add_api_route(platform.live, live, methods=["GET"])


def _add_invocations(routes: APIRouter, rank: Rank) -> None:
    async def invocations(request: Request) -> Response:
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
        if kind == "text/csv":
            return JSONResponse(await _batch(await request.body(), rank, request))
        body = await _object(request)
        if "data" not in body:
            return JSONResponse(await rank(body, request))  # Jina's /v1/rerank, as it is
        data = body["data"]
        answers = await _envelope(data if isinstance(data, list) else [data], rank, request)
        return JSONResponse(sagemaker.envelope(answers))

    async def execution_parameters() -> dict[str, Any]:
        return {
            "MaxConcurrentTransforms": AT_ONCE,
            "BatchStrategy": "MULTI_RECORD",
            "MaxPayloadInMB": PAYLOAD_MB,
        }

    routes.add_api_route("/invocations", invocations, methods=["POST"])
    routes.add_api_route("/execution-parameters", execution_parameters, methods=["GET"])


def _add_scoring(routes: APIRouter, path: str, rank: Rank) -> None:
    async def score(request: Request) -> Response:
        return JSONResponse(await rank(await _object(request), request))

    routes.add_api_route(path, score, methods=["POST"])


def _add_predict(routes: APIRouter, path: str, rank: Rank) -> None:
    async def predict(request: Request) -> Response:
        body = await _object(request)
        bodies = _instances(body)
        answers = await _each(rank, bodies, request)
        return JSONResponse({"predictions": _all_of(answers, "instances")})

    routes.add_api_route(path, predict, methods=["POST"])


def _instances(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each instance as a body to rank; `parameters` hold for those that do not say otherwise."""
    instances, parameters = body.get("instances"), body.get("parameters") or {}
    if not isinstance(instances, list) or not instances or not isinstance(parameters, dict):
        raise InputError(
            "The body has no list of instances, or its parameters are no object.",
            'Send {"instances": [{"query": ..., "documents": [...]}], "parameters": {"top_n": 3}}.',
        )
    for place, instance in enumerate(instances):
        if not isinstance(instance, dict):
            raise InputError(f"instances[{place}] is no object.", "Give it query and documents.")
    return [{**parameters, **instance} for instance in instances]


async def _envelope(requests: list[Any], rank: Rank, request: Request) -> list[dict[str, Any]]:
    if not requests:
        raise InputError("`data` is empty.", "Give it an object or a list of objects.")
    bodies = []
    for place, each in enumerate(requests):
        try:
            bodies.append(sagemaker.to_jina(each))
        except InputError as error:
            raise InputError(f"data[{place}]: {error.message}", error.hint) from None
    answers = _all_of(await _each(rank, bodies, request), "data")
    return [sagemaker.from_jina(*pair) for pair in zip(requests, answers, strict=True)]


async def _batch(content: bytes, rank: Rank, request: Request) -> dict[str, Any]:
    """Answers to the lines of a batch, in order, and what was wrong with the others.

    What a line cannot help, such as a full queue, fails the whole body: the platform tries it again.
    """
    try:
        lines = list(sagemaker.read_lines(content.decode("utf-8-sig")))
    except UnicodeDecodeError:
        raise InputError("The batch is not UTF-8.", "Save the CSV file as UTF-8.") from None
    asked = [line for line in lines if line.body is not None]
    bodies = [sagemaker.to_jina(line.body) for line in asked]
    data, errors = [], [_problem(line, line.error) for line in lines if line.error is not None]
    for line, answer in zip(asked, await _each(rank, bodies, request), strict=True):
        if isinstance(answer, SightrankError) and _is_its_own(answer):
            errors.append(_problem(line, answer))
        elif isinstance(answer, BaseException):
            raise answer
        else:
            data.append(sagemaker.envelope([sagemaker.from_jina(line.body or {}, answer)]))
    return {"data": data, "errors": sorted(errors, key=lambda error: error["line"])}


def _is_its_own(error: SightrankError) -> bool:
    """Whether an error is about the body itself, so that trying it again is no use."""
    return 400 <= error.status < 500 and error.status not in (408, 429)


def _problem(line: sagemaker.Line, error: SightrankError) -> dict[str, Any]:
    return {"line": line.number, "id": line.id, "message": str(error)}


async def _each(
    rank: Rank, bodies: Iterable[dict[str, Any]], request: Request
) -> list[dict[str, Any] | BaseException]:
    """What ranking each body came to, in order, AT_ONCE of them at a time."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(body: dict[str, Any]) -> dict[str, Any]:
        async with places:
            return await rank(body, request)

    return await asyncio.gather(*map(one, bodies), return_exceptions=True)


def _all_of(answers: list[dict[str, Any] | BaseException], name: str) -> list[dict[str, Any]]:
    """The answers; raises the first error, with the place of what it is about."""
    good = []
    for place, answer in enumerate(answers):
        if isinstance(answer, SightrankError):
            answer.message = f"{name}[{place}]: {answer.message}"
        if isinstance(answer, BaseException):
            raise answer
        good.append(answer)
    return good


async def _object(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise InputError("The body is not JSON.", "Send an object as application/json.") from None
    if not isinstance(body, dict):
        raise InputError("The body is JSON, but no object.", "Send {...}.")
    return body


def _port(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name) or str(PORT)
    if not value.isdecimal() or not 0 < int(value) < 65536:
        raise OptionError(f"{name} is {value!r}.", "Set it to a port, 1 to 65535.")
    return int(value)


def _route(environment: Mapping[str, str], name: str, default: str) -> str:
    value = environment.get(name) or default
    if not value.startswith("/") or set(value) & set("{}?#") or not value.isprintable():
        raise OptionError(f"{name} is {value!r}.", "Set it to a path such as /predict.")
    return value


def _model(folder: str | None) -> Path | None:
    """The folder, or the only folder in it, if that holds a model."""
    if not folder or not Path(folder).is_dir():
        return None
    inside = [path for path in Path(folder).iterdir() if path.is_dir()]
    candidates = [Path(folder), *(inside if len(inside) == 1 else [])]
    return next((path for path in candidates if (path / "config.json").is_file()), None)
