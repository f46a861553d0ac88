"""Is it there, is it ready, what does it serve, what has it counted."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from sightrank._version import VERSION
from sightrank.serve.dialects import Ascii
from sightrank.serve.held import Held
from sightrank.serve.routing import AdmittedRoute, service_of

router = APIRouter(tags=["server"])
models_router = APIRouter(route_class=AdmittedRoute, tags=["server"])


@router.get("/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/ready")
async def ready(request: Request) -> Response:
    """200 once the model is loaded, 503 while the server stops."""
    return _state(request)


@router.get("/health")
async def health(request: Request) -> Response:
    """The same, with what is served."""
    return _state(request)


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Prometheus's text format."""
    page = service_of(request).metrics.page()
    return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")


@models_router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """The models, each under all names it answers to."""
    models, started = service_of(request).models, request.app.state.started
    data = [_told(held, name, started) for held in models for name in models.names(held)]
    return {"object": "list", "data": data}


def _told(held: Held, name: str, started: int) -> dict[str, Any]:
    reranker = held.reranker
    return {
        "id": name,
        "object": "model",
        "owned_by": "sightrank",
        "name": held.name,
        "hugging_face_id": reranker.name if _is_hub_id(reranker.name) else "",
        "created": started,
        "description": f"{held.name}, a reranker for texts and images",
        "input_modalities": ["text", "image"],
        "output_modalities": ["score"],
        "quantization": str(reranker.dtype).rpartition(".")[2],
        "context_length": reranker.encoder.config.max_length,
        "max_output_length": 1,
        "pricing": dict.fromkeys(_PRICES, "0"),
        "supported_sampling_parameters": [],
        "supported_features": ["rerank"],
        "datacenters": [],
    }


_PRICES = ("prompt", "completion", "image", "request", "input_cache_read", "input_cache_write")


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/"))


def _state(request: Request) -> Response:
    service = service_of(request)
    ready = not service.stopping
    return Ascii(
        {
            "status": "ok" if ready else "stopping",
            "ready": ready,
            "model": service.models.first.name,
            "models": [held.name for held in service.models],
            "device": str(service.models.first.reranker.device),
            "multimodal": True,
            "version": VERSION,
            "seconds_up": round(time.time() - request.app.state.started),
        },
        200 if ready else 503,
    )
