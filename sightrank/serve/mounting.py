"""A platform's routes on this server: each request of a body is a request of its own."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError

from sightrank.errors import InputError
from sightrank.serve.marketplaces import Platform, router
from sightrank.serve.rerank import jina_answer
from sightrank.serve.routing import service_of
from sightrank.serve.schemas import JinaRequest


def mounted(platform: Platform) -> APIRouter:
    """The platform's routes, for `create_app`."""
    return router(platform, rank_body, lambda request: not service_of(request).stopping)


async def rank_body(body: dict[str, Any], request: Request) -> dict[str, Any]:
    """Rank a body of /v1/rerank, admitted and charged by an id of its own. Raises SightrankError."""
    service = service_of(request)
    asked = _checked({"model": service.models.first.name, **body})
    ticket = await service.admit(uuid.uuid4().hex, request.headers.get("authorization"))
    request.scope["sightrank.ticket"] = ticket
    try:
        return await jina_answer(request, asked, ticket)
    finally:
        await service.leave(ticket)


def _checked(body: dict[str, Any]) -> JinaRequest:
    try:
        return JinaRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(map(str, first["loc"]))[:200] or "body"
        raise InputError(f"{field}: {first['msg']}.", "Send a body of /v1/rerank.") from None
