"""Our network against transformers' Qwen2-VL at jina-reranker-m0's real shape, with random weights.

    python benchmarks/parity_2b.py
    python benchmarks/parity_2b.py --threads 1 --dtypes bfloat16

The weights are drawn once, in bfloat16, and written to a temporary folder as a sharded checkpoint
with the unused lm_head in it (4.9 GB). Each side reads that folder with its own loader, one after
the other, so no more than one copy is in memory: 5 GB in bfloat16, 10 GB in float32. Pixels and
positions of the reference are its own processor's and its own get_rope_index.

The last line on stdout is one JSON object. Status 1: a logit differs by more than the tolerance.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sightrank import weights
from sightrank.config import MAX_PIXELS, MIN_PIXELS, ModelConfig
from sightrank.inputs.images import ImagePatches, normalise, patchify
from sightrank.inputs.positions import positions
from sightrank.model.multimodal import RerankerModel

SHARD_BYTES = 1 << 30
DOCUMENT, QUERY = [334, 7524, 334, 510], [198, 334, 2859, 334, 510]
"""Qwen's ids of the fixed text, `**Document**:\\n` and `\\n**Query**:\\n`."""
TEXT_IDS = 151_643
"""Ids below are text, those above are special."""
TOLERANCE = {"bfloat16": 0.008, "float32": 1e-5}
"""Of a logit of 0.25 to 0.5. bfloat16: four of its steps there, 1/512; the reference is as far from
its own float32 logit. float32: `assert_close`'s default."""


@dataclass(frozen=True)
class Case:
    """A prompt: runs of text ids and pictures, in order."""

    name: str
    parts: tuple[list[int] | PIL.Image.Image, ...]

    @property
    def images(self) -> list[PIL.Image.Image]:
        """The pictures, in prompt order."""
        return [part for part in self.parts if isinstance(part, PIL.Image.Image)]


def cases(config: ModelConfig) -> list[Case]:
    """Text and image on both sides; contents are random, fixed by a seed."""
    rng = np.random.default_rng(0)

    def text(length: int) -> list[int]:
        return [int(token) for token in rng.integers(0, TEXT_IDS, length)]

    def image(width: int, height: int) -> PIL.Image.Image:
        coarse = PIL.Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
        return coarse.resize((width, height), PIL.Image.Resampling.BICUBIC)

    end = [config.score_token_id]
    return [
        Case("text query, text document", ([*DOCUMENT, *text(60), *QUERY, *text(12), *end],)),
        Case(
            "text query, image document",
            (DOCUMENT, image(300, 200), [*QUERY, *text(12), *end]),
        ),
        Case(
            "image query, image document",
            (DOCUMENT, image(224, 224), QUERY, image(150, 260), end),
        ),
    ]


def write_checkpoint(folder: Path, config: ModelConfig) -> int:
    """A random checkpoint in the released layout, in shards; returns its number of parameters."""
    content = config.to_dict() | {"tie_word_embeddings": False, "video_token_id": 151_656}
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in RerankerModel(config).state_dict().items()}
    shapes["lm_head.weight"] = shapes["model.embed_tokens.weight"]
    generator = torch.Generator().manual_seed(0)
    numbers, shard, where = count(1), dict[str, Tensor](), dict[str, str]()

    def flush() -> None:
        name = f"model-{next(numbers):05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        where.update(dict.fromkeys(shard, name))
        shard.clear()

    for name, shape in shapes.items():
        shard[name] = _draw(name, shape, generator)
        if sum(tensor.nbytes for tensor in shard.values()) > SHARD_BYTES:
            flush()
    flush()
    index = {"metadata": {}, "weight_map": where}
    (folder / weights.INDEX).write_text(json.dumps(index), encoding="utf-8")
    return sum(shape.numel() for shape in shapes.values())


def _draw(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Values of a trained network's size, so that no layer drowns the others."""
    noise = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        noise *= 0.7 * shape[1:].numel() ** -0.5
    else:
        noise = noise * 0.1 + (1.0 if name.endswith("weight") else 0.0)
    return noise.to(torch.bfloat16)


def reference_logits(folder: Path, config: ModelConfig, dtype: torch.dtype) -> Iterator[float]:
    """transformers' model with the score head on its last hidden state, as the released wrapper."""
    from transformers import Qwen2VLForConditionalGeneration

    model = Qwen2VLForConditionalGeneration.from_pretrained(
        folder, torch_dtype=dtype, attn_implementation="sdpa"
    ).eval()
    model.lm_head = nn.Identity()
    head = _reference_head(folder, config).to(dtype)
    for case in cases(config):
        with torch.inference_mode():
            out = model(**_reference_inputs(case, config), output_hidden_states=True)
            yield float(head(out.hidden_states[-1][0, -1]).float())


def _reference_head(folder: Path, config: ModelConfig) -> nn.Module:
    where = json.loads((folder / weights.INDEX).read_text(encoding="utf-8"))["weight_map"]
    shards = {where[name] for name in where if name.startswith("score.")}
    tensors = {k: v for name in shards for k, v in load_file(folder / name).items()}
    size = config.hidden_size
    head = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 1))
    head.load_state_dict(
        {k.removeprefix("score."): v for k, v in tensors.items() if k.startswith("score.")}
    )
    return head


def _reference_inputs(case: Case, config: ModelConfig) -> dict[str, Tensor]:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    seen: dict[str, Any] = {}
    if case.images:
        processor = Qwen2VLImageProcessor(min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
        seen = dict(processor(images=case.images, return_tensors="pt"))
    grids = iter(seen.get("image_grid_thw", torch.empty(0, 3)).tolist())
    ids: list[int] = []
    for part in case.parts:
        ids += part if isinstance(part, list) else _image_ids(config, next(grids)[1:])
    tokens = torch.tensor([ids])
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), **seen}


def _image_ids(config: ModelConfig, grid: list[int]) -> list[int]:
    pads = [config.image_token_id] * (grid[0] * grid[1] // 4)
    return [config.vision_start_token_id, *pads, config.vision_end_token_id]


def our_logits(folder: Path, config: ModelConfig, dtype: torch.dtype) -> Iterator[float]:
    """Our loader, patches, positions and network."""
    model = weights.load(folder, torch.device("cpu"), dtype).model
    for case in cases(config):
        yield _our_logit(model, case)


def movements(folder: Path, config: ModelConfig, dtype: torch.dtype) -> list[dict[str, Any]]:
    """How far our logits move for what must matter: were it nothing, equality would say nothing."""
    model = weights.load(folder, torch.device("cpu"), dtype).model
    rows = []
    for case in cases(config):
        changes = {"two words swapped": _our_logit(model, _swapped(case))}
        if case.images:
            changes["pictures mirrored"] = _our_logit(model, _mirrored(case))
            changes["positions 0, 1, ..."] = _our_logit(model, case, plain_positions=True)
        before = _our_logit(model, case)
        rows += [
            {"pair": case.name, "change": change, "moved": logit - before}
            for change, logit in changes.items()
        ]
    return rows


def _swapped(case: Case) -> Case:
    """The second and third word of the last text of several change places."""
    parts = list(case.parts)
    at = max(i for i, part in enumerate(parts) if isinstance(part, list) and len(part) > 3)
    ids = parts[at]
    assert isinstance(ids, list)
    parts[at] = [ids[0], ids[2], ids[1], *ids[3:]]
    return Case(case.name, tuple(parts))


def _mirrored(case: Case) -> Case:
    turn = PIL.Image.Transpose.FLIP_LEFT_RIGHT
    parts = (p.transpose(turn) if isinstance(p, PIL.Image.Image) else p for p in case.parts)
    return Case(case.name, tuple(parts))


def _our_logit(model: RerankerModel, case: Case, *, plain_positions: bool = False) -> float:
    ids, layout, images = list[int](), list[int | tuple[int, int]](), list[ImagePatches]()
    for part in case.parts:
        if isinstance(part, list):
            ids += part
            layout.append(len(part))
        else:
            images.append(patchify(part, MIN_PIXELS, MAX_PIXELS))
            ids += _image_ids(model.config, list(images[-1].grid))
            layout += [1, images[-1].merged_grid, 1]
    rows, _ = positions([len(ids)] if plain_positions else layout)
    pixels = [torch.from_numpy(normalise(image)) for image in images]
    return model.score_one(
        torch.tensor(ids),
        torch.from_numpy(rows).long(),
        torch.cat(pixels) if pixels else None,
        [image.grid for image in images],
    )


Side = Callable[[Path, ModelConfig, torch.dtype], Iterator[float]]


def run(folder: Path, config: ModelConfig, dtype: str) -> list[dict[str, Any]]:
    """Logits of every case on both sides in one dtype."""
    sides: tuple[tuple[str, Side], ...] = (
        ("transformers", reference_logits),
        ("sightrank", our_logits),
    )
    logits = dict[str, list[float]]()
    for name, side in sides:
        logits[name] = list(side(folder, config, getattr(torch, dtype)))
        gc.collect()
        print(f"{dtype} {name}: {logits[name]}", file=sys.stderr)
    return [
        {
            "pair": case.name,
            "dtype": dtype,
            **{name: values[index] for name, values in logits.items()},
            "difference": abs(logits["transformers"][index] - logits["sightrank"][index]),
        }
        for index, case in enumerate(cases(config))
    ]


def main() -> int:
    """Draw, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtypes", nargs="+", choices=list(TOLERANCE), default=list(TOLERANCE))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    config = ModelConfig()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parameters = write_checkpoint(folder, config)
        print(f"{parameters:,} parameters written", file=sys.stderr)
        rows = [row for dtype in given.dtypes for row in run(folder, config, dtype)]
        moved = movements(folder, config, getattr(torch, given.dtypes[-1]))
    largest = {
        dtype: max(row["difference"] for row in rows if row["dtype"] == dtype)
        for dtype in given.dtypes
    }
    passed = all(value <= TOLERANCE[dtype] for dtype, value in largest.items())
    report = {
        "benchmark": "parity_2b",
        "parameters": parameters,
        "layers": [config.num_hidden_layers, config.vision.depth],
        "pairs": rows,
        "largest_difference": largest,
        "movements": moved,
        "tolerance": {dtype: TOLERANCE[dtype] for dtype in given.dtypes},
        "passed": passed,
        "versions": {
            "python": platform.python_version(),
            **{p: metadata.version(p) for p in ("torch", "transformers", "numpy", "pillow")},
        },
        "seconds": round(time.perf_counter() - begin),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "threads": given.threads},
    }
    print(json.dumps(report))
    return 0 if passed else 1


def _cpu() -> str:
    """The processor's name and what PyTorch uses of it."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        name = next(
            (x.partition(":")[2].strip() for x in lines if x.startswith("model name")), name
        )
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


if __name__ == "__main__":
    sys.exit(main())
