"""Requests as other services take them, checked and described in OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

MOST_DOCUMENTS = 10_000


class Request(BaseModel):
    """What all have in common. Fields that are not known are left aside, as the services do."""

    model_config = ConfigDict(extra="ignore")


class Item(BaseModel):
    """A text, an image, a PDF, or an image and the text that belongs to it."""

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"examples": [{"text": "A red fox in snow."}]}
    )

    text: str | None = None
    image: str | None = Field(None, description="An http(s) URL, a data URI, or base64.")
    pdf: str | None = Field(None, description="The same, of a PDF; read as one document.")
    pages: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, min_length=1, description="Pages of the PDF, from 1; without it all."
    )


class ImageUrl(BaseModel):
    """Where an image is."""

    url: str = Field(description="An http(s) URL or a data URI.")


class ContentPart(BaseModel):
    """Part of a message, as chat completions have it."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageUrl | None = None


class Content(BaseModel):
    """Text and images in order."""

    content: list[ContentPart] = Field(min_length=1)


TopN = Annotated[int | None, Field(ge=1, description="How many results; without it all.")]
Model = Annotated[str, Field(max_length=200, examples=["jina-reranker-m0"])]
OneItem = str | Item


class JinaRequest(Request):
    """Jina's `/v1/rerank`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "jina-reranker-m0",
                    "query": "how do plants make sugar",
                    "documents": [
                        "Leaves turn light, water and air into sugar.",
                        {"text": "The stock market fell."},
                    ],
                    "top_n": 1,
                    "return_documents": True,
                }
            ]
        }
    )

    model: Model
    query: OneItem = Field(description="Text, {text}, {image}, or an image as a data URI.")
    documents: list[OneItem] = Field(min_length=1, max_length=MOST_DOCUMENTS)
    top_n: TopN = None
    return_documents: bool | None = True
    truncation: bool | None = Field(
        None, description="false: a document that is too long is an error; else it is cut."
    )


class CohereV1Request(Request):
    """Cohere's `/v1/rerank`."""

    model: Model | None = None
    query: str
    documents: list[str | dict[str, Any]] = Field(min_length=1, max_length=MOST_DOCUMENTS)
    top_n: TopN = None
    rank_fields: list[str] | None = None
    return_documents: bool | None = False
    max_chunks_per_doc: int | None = None


class CohereV2Request(Request):
    """Cohere's `/v2/rerank`; documents may be images too."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "rerank-v3.5", "query": "sugar", "documents": ["Leaves.", "Ore."]}
            ]
        }
    )

    model: Model
    query: OneItem
    documents: list[OneItem] = Field(min_length=1, max_length=MOST_DOCUMENTS)
    top_n: TopN = None
    max_tokens_per_doc: int | None = Field(4096, ge=1)
    priority: int | None = Field(0, ge=0, le=999, description="Accepted; all wait alike.")


class VllmRerankRequest(Request):
    """vLLM's `/rerank`: items are strings or {content: [parts]}."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "query": "sugar",
                    "documents": [{"content": [{"type": "text", "text": "Leaves."}]}, "Ore."],
                }
            ]
        }
    )

    model: Model | None = None
    query: str | Content
    documents: Annotated[list[str | Content], Field(min_length=1, max_length=MOST_DOCUMENTS)] | (
        Content
    ) = Field(description="One {content} instead of a list: each part is a document.")
    top_n: int = Field(0, ge=0, description="0: all.")
    max_tokens_per_doc: int | None = Field(None, description="0 or less: as the model allows.")


Side = (
    str | Content | Annotated[list[str | Content], Field(min_length=1, max_length=MOST_DOCUMENTS)]
)


class VllmScoreRequest(Request):
    """vLLM's `/score`: one to many, or pair by pair. Older names of the sides are taken too."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"queries": "sugar", "documents": ["Leaves.", "Ore."]}]}
    )

    model: Model | None = None
    queries: Side | None = None
    documents: Side | None = None
    text_1: Side | None = None
    text_2: Side | None = None
    data_1: Side | None = None
    data_2: Side | None = None
    use_activation: bool | None = Field(True, description="false: logits.")
    max_tokens_per_doc: int | None = None


def v1_dialect(body: Any) -> str:
    """Whose `/v1/rerank` a body is: Jina's unless it holds what only another's does."""
    if isinstance(body, BaseModel):
        kinds = {CohereV1Request: "cohere", VllmRerankRequest: "vllm"}
        return kinds.get(type(body), "jina")
    if not isinstance(body, dict):
        return "jina"
    if _has_content(body):
        return "vllm"
    if {"rank_fields", "max_chunks_per_doc"} & body.keys() or is_cohere(body.get("model")):
        return "cohere"
    return "jina"


def v2_dialect(body: Any) -> str:
    """Whose `/v2/rerank` a body is: Cohere's unless it has content parts."""
    if isinstance(body, BaseModel):
        return "vllm" if isinstance(body, VllmRerankRequest) else "cohere"
    return "vllm" if isinstance(body, dict) and _has_content(body) else "cohere"


def is_cohere(model: object) -> bool:
    """Whether a model's name is one of Cohere's: rerank-v3.5, rerank-english-v3.0..."""
    return isinstance(model, str) and model.startswith("rerank-")


def _has_content(body: dict[str, Any]) -> bool:
    documents = body.get("documents")
    items = [body.get("query"), *(documents if isinstance(documents, list) else [documents])]
    return any(isinstance(item, dict) and "content" in item for item in items)


V1Request = Annotated[
    Annotated[JinaRequest, Tag("jina")]
    | Annotated[CohereV1Request, Tag("cohere")]
    | Annotated[VllmRerankRequest, Tag("vllm")],
    Discriminator(v1_dialect),
]
V2Request = Annotated[
    Annotated[CohereV2Request, Tag("cohere")] | Annotated[VllmRerankRequest, Tag("vllm")],
    Discriminator(v2_dialect),
]
