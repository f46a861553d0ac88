"""What many write first: a CrossEncoder of sentence-transformers behind a route of FastAPI.

python benchmarks/serve_cross_encoder.py FOLDER PORT

Takes and answers Jina's shape, for texts. Requests come in by FastAPI's thread pool and take turns:
each has a call of its own, and the tokenizer does not bear two at once.
"""

import sys
import threading
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import CrossEncoder


class Request(BaseModel):
    """A query and passages."""

    model: str
    query: str
    documents: list[str]


def create_app(folder: str) -> FastAPI:
    """The server around the model in a folder."""
    app, model, turn = FastAPI(), CrossEncoder(folder, device="cpu"), threading.Lock()

    @app.post("/rerank")
    def rerank(body: Request) -> dict[str, Any]:
        pairs = [(body.query, document) for document in body.documents]
        with turn:
            scores = model.predict(pairs, show_progress_bar=False).tolist()
            tokens = sum(map(len, model.tokenizer(pairs)["input_ids"]))
        order = sorted(range(len(pairs)), key=lambda place: -scores[place])
        results = [{"index": place, "relevance_score": scores[place]} for place in order]
        return {"model": body.model, "results": results, "usage": {"total_tokens": tokens}}

    @app.get("/ready")
    def ready() -> dict[str, str]:
        return {"status": "ok"}

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[1]), port=int(sys.argv[2]), log_level="warning")
