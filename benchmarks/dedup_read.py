"""Copies by what the model reads of a page: a try, not used by `sightrank dedup`.

A visual token is taken for the words whose embeddings it lies nearest to, both less their means. A
page is the bag of these words, a text the bag of its own; rare words count more. Printed is, for
copies of pages that are pictures, how often a copy is nearer than all other pages, and what share
lies above every pair of different pages, so that a threshold there would find it and nothing that is
wrong. Needs `make data`.

The last line of stdout is one JSON object; run it again for other weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dedup import Pages
from machine import describe
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from recipe.fetch import DATA
from sightrank import Document, Reranker

KINDS = ("page", "other font", "moved", "its text", "translated")
WORDS = 3
"""Nearest words of a token."""
SHARPNESS = 12.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--pages", type=int, default=24)
    arguments = parser.parse_args()
    ranker = Reranker.from_pretrained(arguments.model)
    pages = list(Pages(arguments.data).draw(arguments.pages))
    tokens = {kind: [read(ranker, page[kind]) for page in pages] for kind in KINDS}
    vectors = weighted(bags(ranker, tokens))
    print(
        json.dumps(
            {
                "machine": describe(),
                "fingerprint": ranker.fingerprint,
                "pages": len(pages),
                "copies": {kind: judged(vectors["page"], vectors[kind]) for kind in KINDS[1:]},
            }
        )
    )


@torch.inference_mode()
def read(ranker: Reranker, content: Any) -> Tensor:
    """(tokens, size): visual tokens of a picture, embeddings of a text."""
    segment = ranker.encoder.document(Document.of(content))
    embedded = ranker.runner.embed(ranker.runner.look([segment])).float()
    if segment.images:
        ids = torch.from_numpy(segment.ids.astype(np.int64))
        return embedded[ids == ranker.config.image_token_id]
    return embedded


@torch.inference_mode()
def bags(ranker: Reranker, tokens: dict[str, list[Tensor]]) -> dict[str, NDArray[np.float32]]:
    """Kind -> (pages, vocabulary) how much of each word is read."""
    table = ranker.runner.model.model.embed_tokens.weight.float()
    words = normalize(table - table.mean(dim=0), dim=1)
    seen = torch.cat([each for kind in KINDS if kind != "its text" for each in tokens[kind]])
    found = {}
    for kind in KINDS:
        middle = table.mean(dim=0) if kind == "its text" else seen.mean(dim=0)
        rows = []
        for each in tokens[kind]:
            cosines, at = (normalize(each - middle, dim=1) @ words.T).topk(WORDS, dim=1)
            weights = torch.softmax(SHARPNESS * cosines, dim=1) * cosines.clamp(min=0)
            bag = torch.zeros(len(table)).scatter_add_(0, at.flatten(), weights.flatten())
            rows.append(bag.sqrt().numpy())
        found[kind] = np.stack(rows)
    return found


def weighted(found: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Unit vectors, each word by the logarithm of the share of documents that it is read in."""
    everything = np.concatenate(list(found.values()))
    rare = np.log((len(everything) + 1) / ((everything > 0).sum(axis=0) + 1))
    scaled = {kind: rows * rare for kind, rows in found.items()}
    return {
        kind: rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        for kind, rows in scaled.items()
    }


def judged(pages: NDArray[np.float32], copies: NDArray[np.float32]) -> dict[str, float]:
    """How well copies are told from other pages."""
    cosines = pages @ copies.T
    own = cosines.diagonal()
    others = np.where(np.eye(len(own), dtype=bool), -1, cosines)
    return {
        "nearest_of_all": float((own > others.max(axis=1)).mean()),
        "above_every_other_pair": float((own > others.max()).mean()),
        "median_cosine": float(np.median(own)),
        "highest_cosine": float(own.max()),
        "highest_of_another": float(others.max()),
    }


if __name__ == "__main__":
    main()
