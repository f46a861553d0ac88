"""Pages under transformers' Qwen2-VL and under ours: cold, from memory, from disk, at a model's full shape.

    python benchmarks/pages.py --shape nano --pages 4
    python benchmarks/pages.py --shape m0 --pages 1 --threads 1
    python benchmarks/pages.py --shape m0 --part 4

Weights are random, written once in bfloat16 and read by each side with its own loader, one after the
other: 5 GB of memory at m0's shape, 11 GB with `--theirs float32`. `--part 4` takes a quarter of each
tower's layers at full width: a quarter of the time, and the same ratios but for what is in no layer.
Pages are demo/xfig-howto.pdf's, drawn once; both sides read the same PNG files and token ids. Times are
of one pair of page and query, the image processor included: `cpu`, processor time (other programs may
run), and `wall`.

cold         a page that was never seen
memory       another query to it, its keys and values in memory, its file read again
disk         a query to it from an index, in a fresh engine, the index dropped from the file cache
features     the same from an index that keeps the vision tower's output alone
looked       the vision tower alone

`peak` is the speed of matrix products of m0's sizes, measured in the same run, and `fraction` the time
that a pass would take at that speed over the time that it took. The last line of stdout is one JSON
object, after Ctrl-C with what was measured until then.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from linear import peaks
from machine import ROOT, describe
from parity_2b import _reference_head, write_checkpoint
from torch import nn

from sightrank import Document, Index, Query, Reranker
from sightrank.config import MAX_PIXELS, MIN_PIXELS, EngineConfig, ModelConfig, VisionConfig
from sightrank.engine.engine import Engine
from sightrank.engine.precision import Precision
from sightrank.errors import SightrankError
from sightrank.inputs.load import FileLimits
from sightrank.inputs.pdf import render_page
from sightrank.inputs.segments import Encoder, Segment, SpecialIds
from sightrank.inputs.tokenizer import Tokenizer
from sightrank.weights import NANO

PDF = ROOT / "demo" / "xfig-howto.pdf"
QUERIES = (
    "how are colours chosen?",
    "what does the depth of an object do?",
    "printing in landscape",
)
SPARE = 2 * 1024**3


@dataclass(frozen=True)
class Spent:
    """Seconds of processor and of clock."""

    cpu: float
    wall: float

    def each(self, count: int) -> dict[str, float]:
        """For one of so many."""
        return {"cpu": self.cpu / count, "wall": self.wall / count}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=["tiny", "nano", "m0"], default="nano")
    parser.add_argument("--part", type=int, default=1, help="one in so many layers")
    parser.add_argument("--pages", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1, help="pairs at once in transformers")
    parser.add_argument("--theirs", nargs="*", default=["bfloat16", "float32"])
    parser.add_argument("--ours", nargs="*", default=["bfloat16", "int8"])
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    begin = time.perf_counter()
    result: dict[str, Any] = {
        "machine": describe() | {"load_average": os.getloadavg()},
        "versions": {name: version(name) for name in ("transformers", "sentence-transformers")},
        "shape": given.shape,
        "pages": given.pages,
        "batch": given.batch,
        "peak": peaks(),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = shape(given.shape, given.part)
        result["layers"] = [config.num_hidden_layers, config.vision.depth]
        result["parameters"] = write_checkpoint(folder, config)
        shutil.copy(NANO / "tokenizer.json", folder)
        pages = draw(folder, given.pages)
        result["work"] = work(folder, config, pages[0])
        result["cross_encoder"] = cross_encoder(folder)
        sides = [(f"transformers {each}", theirs, each) for each in given.theirs]
        sides[1:1] = [(f"sightrank {each}", ours, each) for each in given.ours]
        try:
            for side, measure, dtype in sides:
                result[side] = fitting(measure, folder, config, pages, dtype, given.batch)
                gc.collect()
                print(side, result[side], file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            result["interrupted_in"] = side
    result |= compared(result, given.ours)
    result["machine"]["load_average_after"] = os.getloadavg()
    result["seconds"] = round(time.perf_counter() - begin)
    print(json.dumps(result))


def shape(name: str, part: int) -> ModelConfig:
    """Of that size, with nano's tokenizer: its special tokens' ids lie in any vocabulary."""
    nano = ModelConfig.from_file(NANO / "config.json")
    ids = {key: getattr(nano, key) for key in vars(nano) if key.endswith("_token_id")}
    tiny: dict[str, Any] = {
        "vision": VisionConfig(depth=2, embed_dim=32, num_heads=2),
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "mrope_section": (2, 3, 3),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
    }
    whole = {"nano": nano, "m0": replace(ModelConfig(), **ids), "tiny": replace(nano, **tiny)}[name]
    vision = replace(whole.vision, depth=max(1, whole.vision.depth // part))
    layers = max(1, whole.num_hidden_layers // part)
    return replace(whole, vision=vision, num_hidden_layers=layers)


def draw(folder: Path, count: int) -> list[Path]:
    """The first pages as PNG files."""
    paths = [folder / f"page-{number}.png" for number in range(1, count + 1)]
    for number, path in enumerate(paths, start=1):
        render_page(PDF, number, FileLimits(), max_pixels=4 * MAX_PIXELS).save(path)
    return paths


def fitting(measure: Callable[..., dict[str, Any]], folder: Path, *others: Any) -> dict[str, Any]:
    """What was measured, or why not: a side that memory has no room for is left out."""
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    needed = weights * (2 if "float32" in others else 1) + SPARE
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * next(int(line.split()[1]) for line in lines if "MemAvailable" in line)
    except OSError:
        pass
    if free < needed:
        return {"left_out": f"needs {needed:,} bytes of memory, {free:,} were free"}
    return measure(folder, *others)


def theirs(
    folder: Path, config: ModelConfig, pages: Sequence[Path], dtype: str, batch: int
) -> dict[str, Any]:
    """transformers' own model, image processor and masks; padded at the left, as the released code."""
    from transformers import Qwen2VLForConditionalGeneration

    model = Qwen2VLForConditionalGeneration.from_pretrained(
        folder, torch_dtype=getattr(torch, dtype), attn_implementation="sdpa"
    ).eval()
    model.lm_head = nn.Identity()  # else it makes words of every token
    head = _reference_head(folder, config).to(model.dtype)
    encode = encoder(folder, config)
    pairs = [(encode.pair(Query.text(QUERIES[0]), Document.image(path)), path) for path in pages]
    logits: list[float] = []

    def run() -> None:
        for start in range(0, len(pairs), batch):
            with torch.inference_mode():
                hidden = model(**padded(pairs[start : start + batch])).logits[:, -1]
                logits.extend(head(hidden.to(model.dtype)).float().flatten().tolist())

    return {"cold": spent(run).each(len(pairs)), "logits": logits}


def padded(pairs: Sequence[tuple[Segment, Path]]) -> dict[str, Any]:
    """A batch as the released code makes it."""
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    processor = Qwen2VLImageProcessor(min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
    pictures = [PIL.Image.open(path).convert("RGB") for _, path in pairs]
    longest = max(len(segment) for segment, _ in pairs)
    ids = torch.zeros(len(pairs), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (segment, _) in enumerate(pairs):
        ids[row, longest - len(segment) :] = torch.from_numpy(segment.ids).long()
        mask[row, longest - len(segment) :] = 1
    seen = dict(processor(images=pictures, return_tensors="pt"))
    return {"input_ids": ids, "attention_mask": mask, "use_cache": False, **seen}


def ours(
    folder: Path, config: ModelConfig, pages: Sequence[Path], dtype: str, batch: int
) -> dict[str, Any]:
    """Our loader and engine."""
    ranker = Reranker.from_pretrained(folder, device="cpu", dtype=dtype)
    documents = [Document.image(path) for path in pages]
    ranker.rank(QUERIES[0], ["warm up"])
    logits: list[float] = []

    def cold() -> None:
        scores = ranker.score([(QUERIES[0], each) for each in documents], probabilities=False)
        logits.extend(scores)

    row: dict[str, Any] = {"cold": spent(cold).each(len(pages)), "logits": logits}
    print(row, file=sys.stderr, flush=True)
    row["memory"] = spent(lambda: ranker.rank(QUERIES[1], documents)).each(len(pages))
    many = [(query, each) for each in documents for query in QUERIES * 4]
    row["memory, 12 queries"] = spent(lambda: ranker.score(many)).each(len(many))
    states: dict[Precision, str] = {"exact": "disk", "features": "features"}
    for precision, state in states.items():
        path = folder / f"{dtype}-{precision}.index"
        made = spent(partial(ranker.index, documents, path, precision))
        if precision == "features":
            row["looked"] = made.each(len(pages))
        row[state] = from_disk(ranker, path, logits)
        shutil.rmtree(path)
    return row


def from_disk(ranker: Reranker, path: Path, logits: Sequence[float]) -> dict[str, Any]:
    """A query to all pages of an index in a fresh engine, nothing of it in memory."""
    dropped = True
    for entry in path.glob("entries/*/*"):
        with entry.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        dropped = dropped and not in_cache(entry)
    before = ranker.engine
    ranker.engine = Engine(ranker.runner, EngineConfig(), before.settings)
    opened = Index(path)
    sizes = [held.num_bytes for held in opened.documents()]
    hits: dict[int, float] = {}
    timed = spent(
        lambda: hits.update((hit.index, hit.logit) for hit in ranker.rank(QUERIES[0], index=opened))
    )
    ranker.engine = before
    off = max(abs(hits[place] - logit) for place, logit in enumerate(logits))
    return timed.each(len(logits)) | {
        "bytes": sum(sizes) / len(sizes),
        "dropped_from_file_cache": dropped,
        "largest_difference_from_cold": off,
    }


def in_cache(path: Path) -> bool:
    """Whether any page of a file is in the file cache, as `fincore` says; True if it is not there."""
    import subprocess

    try:
        found = subprocess.run(
            ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return True
    return int(found.stdout) > 0


def cross_encoder(folder: Path) -> str:
    """Whether sentence-transformers runs such a model, or why not."""
    from sentence_transformers import CrossEncoder

    try:
        CrossEncoder(str(folder), device="cpu", model_kwargs={"torch_dtype": "bfloat16"})
    except Exception as error:
        says = " ".join(str(error).split())
        return f"does not load it: {type(error).__name__}: {says[:300]}"
    return "loads it"


def encoder(folder: Path, config: ModelConfig) -> Encoder:
    """Ours, without a model."""
    return Encoder(Tokenizer.from_file(folder / "tokenizer.json"), SpecialIds.of(config))


def work(folder: Path, config: ModelConfig, page: Path) -> dict[str, float]:
    """Floating-point operations of a page and a query: linear maps, and attention."""
    segment = encoder(folder, config).pair(Query.text(QUERIES[0]), Document.image(page))
    patches = sum(image.grid[0] * image.grid[1] for image in segment.images)
    tokens, vision, size = len(segment), config.vision, config.hidden_size
    block = vision.embed_dim**2 * (4 + 2 * vision.mlp_ratio)
    merged = (4 * vision.embed_dim) ** 2 + 4 * vision.embed_dim * size
    kv_size = config.num_key_value_heads * config.head_dim
    layer = 2 * size**2 + 2 * size * kv_size + 3 * size * config.intermediate_size
    return {
        "tokens": tokens,
        "patches": patches,
        "vision_linear": 2 * patches * (vision.depth * block + merged / 4),
        "vision_attention": 4 * vision.depth * patches**2 * vision.embed_dim,
        "decoder_linear": 2 * tokens * config.num_hidden_layers * layer,
        "decoder_attention": 2 * config.num_hidden_layers * tokens**2 * size,  # half is masked
    }


def compared(result: dict[str, Any], ours: Sequence[str]) -> dict[str, Any]:
    """Ratios to transformers, fractions of the peak, and differences between the logits."""
    rows: dict[str, Any] = {}
    measured = {name: row for name, row in result.items() if isinstance(row, dict)}
    theirs = {
        name.split()[1]: row
        for name, row in measured.items()
        if name.startswith("transformers ") and "cold" in row
    }
    for dtype in ours:
        row = measured.get(f"sightrank {dtype}", {})
        if "cold" not in row:
            continue
        rows[dtype] = {
            "times_faster_than_transformers": {
                f"{state}, {clock}, {other}": round(base["cold"][clock] / row[state][clock], 2)
                for other, base in theirs.items()
                for state in ("cold", "memory", "memory, 12 queries", "disk", "features")
                for clock in ("cpu", "wall")
            },
            "fraction_of_peak": fractions(result, row, dtype),
            "largest_difference_of_logits": {
                other: max(abs(a - b) for a, b in zip(row["logits"], base["logits"], strict=True))
                for other, base in theirs.items()
            },
        }
    return {"compared": rows}


def fractions(result: dict[str, Any], row: dict[str, Any], dtype: str) -> dict[str, float]:
    """Time at the measured speed of products over the time taken, by passes."""
    peak, amount = result["peak"], result["work"]
    best = max(peak["float32"], peak["bfloat16"])
    linear = peak["int8"] if dtype == "int8" else best
    vision = amount["vision_linear"] / linear + amount["vision_attention"] / best
    decoder = amount["decoder_linear"] / linear + amount["decoder_attention"] / best
    asked = vision + decoder
    tokens = amount["tokens"] - amount["patches"] / 4
    query = amount["decoder_linear"] / linear * tokens / amount["tokens"]
    taken = {state: row[state]["cpu"] * 1e9 for state in ("cold", "looked", "features", "memory")}
    return {
        "cold": asked / taken["cold"],
        "looked": vision / taken["looked"],
        "features": decoder / taken["features"],
        "memory, an upper bound": query / taken["memory"],
    }


def spent(run: Callable[[], object]) -> Spent:
    """How long it takes."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return Spent(time.process_time() - cpu, time.perf_counter() - wall)


if __name__ == "__main__":
    try:
        main()
    except SightrankError as failure:
        sys.exit(f"error: {failure}")
