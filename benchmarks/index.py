"""What a page costs in an index at each precision: bytes, seconds to index, seconds to rank.

`python benchmarks/index.py` uses nano; `--shape nano|m0 --tokenizer FILE` random weights of that shape.
The pages are demo/xfig-howto.pdf's. The last line of stdout is one JSON object, its figures per page:

plain    ranking the PDF, nothing remembered: reading, drawing, and running the page
memory   ranking it again in the same process: reading and drawing it, running the query
index    making it part of an index
disk     ranking from the index in a fresh engine, the index's files dropped from the file cache
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from machine import ROOT, describe

from recipe.start import LAYERS, nano_config
from sightrank import Document, Index, Reranker
from sightrank.config import EngineConfig, ModelConfig
from sightrank.engine.engine import Engine
from sightrank.engine.precision import PRECISIONS, Precision
from sightrank.inputs.tokenizer import Tokenizer
from sightrank.model.multimodal import RerankerModel
from sightrank.weights import Checkpoint

PDF = ROOT / "demo" / "xfig-howto.pdf"
QUERY = "how are colours chosen?"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model")
    parser.add_argument("--shape", choices=["nano", "m0"])
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"])
    parser.add_argument("--pages", type=int, default=20)
    arguments = parser.parse_args()
    ranker = loaded(arguments)
    pages = [Document.pdf(PDF, pages=number) for number in range(1, arguments.pages + 1)]
    ranker.rank(QUERY, ["warm up"])
    plain = seconds(lambda: ranker.rank(QUERY, pages))
    memory = seconds(lambda: ranker.rank(QUERY, pages))
    truth = {hit.index: hit.logit for hit in ranker.rank(QUERY, pages)}
    rows = {}
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            rows[precision] = row(ranker, pages, Path(folder) / "pages.index", precision, truth)
        print(precision, rows[precision], file=sys.stderr, flush=True)
    result = {
        "machine": describe(),
        "load_average": os.getloadavg()[0],
        "model": f"{arguments.shape}, random weights" if arguments.shape else ranker.name,
        "dtype": ranker.facts()["dtype"],
        "pages": len(pages),
        "plain_seconds": plain / len(pages),
        "memory_seconds": memory / len(pages),
        "precisions": rows,
    }
    print(json.dumps(result))


def row(
    ranker: Reranker,
    pages: list[Document],
    path: Path,
    precision: Precision,
    truth: dict[int, float],
) -> dict[str, float]:
    """The figures of one precision."""
    forget(ranker)
    indexing = seconds(lambda: ranker.index(pages, path, precision))
    sizes = [held.num_bytes for held in Index(path).documents()]
    for entry in path.glob("entries/*/*"):
        with entry.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    forget(ranker)
    opened = Index(path)
    disk = seconds(lambda: ranker.rank(QUERY, index=opened))
    off = [abs(hit.logit - truth[hit.index]) for hit in ranker.rank(QUERY, index=opened)]
    return {
        "bytes": sum(sizes) / len(sizes),
        "index_seconds": indexing / len(pages),
        "disk_seconds": disk / len(pages),
        "largest_difference": max(off),
        "mean_difference": sum(off) / len(off),
    }


def forget(ranker: Reranker) -> None:
    """An engine that remembers nothing."""
    ranker.engine = Engine(ranker.runner, EngineConfig(), ranker.engine.settings)


def loaded(arguments: argparse.Namespace) -> Reranker:
    """The model asked for, or random weights of a shape."""
    if arguments.shape is None:
        return Reranker.from_pretrained(arguments.model, dtype=arguments.dtype)
    if arguments.tokenizer is None:
        raise SystemExit("--shape needs --tokenizer FILE, a tokenizer.json.")
    dtype = getattr(torch, arguments.dtype or "bfloat16")
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)  # m0's shape takes 4.4 GB in bfloat16, twice that in float32
    model = RerankerModel(config_of(arguments.shape, arguments.tokenizer))
    torch.set_default_dtype(torch.float32)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.7 * parameter.flatten(1).shape[1] ** -0.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    model.requires_grad_(False).eval()
    folder = arguments.tokenizer.parent
    checkpoint = Checkpoint(arguments.shape, folder, model.config, model, "random, seed 0")
    return Reranker(checkpoint, torch.device("cpu"))


def config_of(shape: str, tokenizer: Path) -> ModelConfig:
    """m0's, or nano's with as many words as the tokenizer has."""
    if shape == "m0":
        return ModelConfig()
    return nano_config(len(Tokenizer.from_file(tokenizer)), LAYERS)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
