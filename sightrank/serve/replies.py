"""Answers as other services give them, for OpenAPI."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from sightrank.serve.schemas import Item


class Usage(BaseModel):
    """What was charged."""

    total_tokens: int


class JinaResult(BaseModel):
    """`document` is there if asked for, as it was sent."""

    index: int
    relevance_score: float
    document: str | Item | None = None


class JinaReply(BaseModel):
    """Best first; scores in [0, 1], rounded to 8 decimals."""

    model: str
    object: Literal["list"]
    usage: Usage
    results: list[JinaResult]


class CohereResult(BaseModel):
    """`document` is v1's, if asked for."""

    index: int
    relevance_score: float
    document: dict[str, Any] | None = None


class CohereReply(BaseModel):
    """Best first."""

    id: str
    results: list[CohereResult]
    meta: dict[str, Any]


class VllmUsage(BaseModel):
    """What was charged."""

    prompt_tokens: int
    total_tokens: int


class VllmResult(BaseModel):
    """`multi_modal` holds the parts of what was more than a text."""

    index: int
    document: dict[str, Any]
    relevance_score: float


class VllmRerankReply(BaseModel):
    """Best first."""

    id: str
    model: str
    usage: VllmUsage
    results: list[VllmResult]


class VllmScore(BaseModel):
    """Of one pair."""

    index: int
    object: Literal["score"]
    score: float


class VllmScoreReply(BaseModel):
    """In the order of the pairs."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[VllmScore]
    usage: VllmUsage


FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"description": what}
    for status, what in {
        400: "A model that is not served, or a document too long where truncation is false.",
        401: "No key, or one that is unknown.",
        403: "A key whose tokens are used up.",
        408: "A body that did not arrive in time.",
        413: "A body, image or PDF that is too large.",
        422: "A body that does not match, or an item that cannot be read.",
        429: "Too many requests of this key; see Retry-After.",
        503: "Too many requests; see Retry-After.",
        504: "Not answered in time.",
        507: "No room.",
    }.items()
}
