"""The facts that `sightrank doctor` reports, as plain values ready for JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from importlib import metadata, resources
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sightrank._version import VERSION

if TYPE_CHECKING:
    from sightrank.config import ModelConfig
    from sightrank.reranker import Reranker
    from sightrank.types import Document, Query

PACKAGES = (
    "torch",
    "numpy",
    "tokenizers",
    "safetensors",
    "pillow",
    "pypdfium2",
    "typer",
    "rich",
    "huggingface_hub",
)
GOLDEN_TOLERANCE = 0.011
"""The two published runs of the same weights differ by up to 0.008 in score: bf16 steps."""


def versions() -> dict[str, str | None]:
    """Versions of what runs here; None for a package that is not installed."""
    return {
        "sightrank": VERSION,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """Processor features that torch uses, its threads, and the accelerators it sees."""
    import torch

    devices = ["cpu"]
    devices += [
        f"cuda:{index} ({torch.cuda.get_device_name(index)})"
        for index in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_features": torch.backends.cpu.get_cpu_capability(),
        "devices": devices,
    }


def model(ranker: Reranker) -> dict[str, Any]:
    """What was loaded: name, digest, size, where it runs."""
    parameters = list(ranker.runner.model.parameters())
    return {
        "name": ranker.name,
        "fingerprint": ranker.fingerprint,
        "parameters": sum(parameter.numel() for parameter in parameters),
        "bytes": sum(parameter.nbytes for parameter in parameters),
        "device": str(ranker.device),
        "dtype": ranker.numbers,
        "vocabulary": len(ranker.encoder.tokenizer),
    }


def pair(ranker: Reranker, query: Query, document: Document) -> dict[str, Any]:
    """The exact prompt and token ids of a pair, and what the model makes of it."""
    segment = ranker.encoder.pair(query, document)
    ids = segment.ids.tolist()
    logit = ranker.score_one(query, document)
    return {
        "prompt": _prompt(ids[:-1], ranker.config.image_token_id, ranker.encoder.tokenizer.decode),
        "ids": ids,
        "score_token": ids[-1],
        "tokens": len(ids),
        "image_tokens": sum(image.num_tokens for image in segment.images),
        "truncated": segment.truncated,
        "logit": logit,
        "score": ranker.probability(logit),
    }


def _prompt(ids: list[int], image: int, decode: Callable[[list[int]], str]) -> str:
    """The text of ids, a run of image tokens written once with its length."""
    pieces = []
    for is_image, run in groupby(ids, key=lambda token: token == image):
        tokens = list(run)
        pieces.append(f"{decode(tokens[:1])}x{len(tokens)}" if is_image else decode(tokens))
    return "".join(pieces)


def golden(ranker: Reranker) -> dict[str, Any] | None:
    """Published scores of the released weights against ours; None for any other shape of model."""
    if not _released_shape(ranker.config):
        return None
    content = json.loads(resources.files("sightrank").joinpath("golden.json").read_text("utf-8"))
    return compare(ranker, content)


def _released_shape(config: ModelConfig) -> bool:
    from dataclasses import replace

    from sightrank.config import ModelConfig

    released = ModelConfig()
    return released == replace(  # neither of these changes what a score means
        config,
        tie_word_embeddings=released.tie_word_embeddings,
        torch_dtype=released.torch_dtype,
    )


def compare(ranker: Reranker, content: dict[str, Any]) -> dict[str, Any]:
    """Scores and token counts of golden cases, published and ours."""
    rows = [row for case in content["cases"] for row in _case(ranker, case)]
    largest = max(abs(row["score"] - row["published"]) for row in rows)
    counted = all(row["tokens"] == row["published_tokens"] for row in rows)
    return {
        "source": content["source"],
        "scores": rows,
        "largest_difference": largest,
        "tolerance": GOLDEN_TOLERANCE,
        "passed": largest <= GOLDEN_TOLERANCE and counted,
    }


def _case(ranker: Reranker, case: dict[str, Any]) -> Iterator[dict[str, Any]]:
    from sightrank.config import InputConfig

    limited = ranker.with_inputs(InputConfig(max_length=case["max_length"]))
    published = zip(case["scores"], case["prompt_tokens_without_score_token"], strict=True)
    for text, (score, tokens) in zip(case["documents"], published, strict=True):
        ranking = limited.rank(case["query"], [text])
        yield {
            "query": case["query"],
            "document": text,
            "published": score,
            "score": ranking[0].score,
            "published_tokens": tokens,
            "tokens": ranking.total_tokens,
        }
