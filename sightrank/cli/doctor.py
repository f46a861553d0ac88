"""`sightrank doctor`: what is installed, what is loaded, and what exactly the model is shown."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightrank._version import VERSION
from sightrank.cli import options

if TYPE_CHECKING:
    from sightrank.reranker import Reranker

PACKAGES = ("torch", "tokenizers", "safetensors", "numpy", "pillow", "pypdfium2")
GOLDEN = Path(__file__).parent.parent / "golden.json"
GOLDEN_TOLERANCE = 0.011
"""Between bf16 kernels the published scores themselves differ by up to this much."""


def doctor(
    query: Annotated[str, typer.Option(help="The pair whose prompt is shown.")] = "slm markdown",
    document: Annotated[str, typer.Option()] = "A passage about small language models.",
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    as_json: options.Json = False,
) -> None:
    """Show versions, device, the model's fingerprint, the exact prompt of a pair and golden scores.

    Examples:

        sightrank doctor

        sightrank doctor --model jinaai/jina-reranker-m0 --dtype bfloat16 --json
    """
    ranker = options.load(model, device, dtype)
    report = {
        "versions": _versions(),
        "model": _model(ranker),
        "pair": _pair(ranker, query, document),
        "golden": golden(ranker),
    }
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        _print(report)


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in PACKAGES}
    return {"sightrank": VERSION, "python": platform.python_version(), **packages}


def _model(ranker: Reranker) -> dict[str, Any]:
    import torch

    model = ranker.runner.model
    return {
        "name": ranker.name,
        "device": str(ranker.device),
        "dtype": str(ranker.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "fingerprint": ranker.fingerprint,
    }


def _pair(ranker: Reranker, query: str, document: str) -> dict[str, Any]:
    from sightrank.types import Document, Query

    encoder = ranker.encoder
    prompt = encoder.pair(Query.text(query), Document.text(document))
    ids = prompt.ids.tolist()
    logit = ranker.score_one(query, document)
    (packed,) = ranker.score([(query, document)], probabilities=False)
    return {
        "prompt": encoder.tokenizer.decode(ids[:-1]),
        "ids": ids,
        "tokens": [encoder.tokenizer.decode([number]) for number in ids],
        "logit": logit,
        "score": ranker.probability(logit),
        "logit_from_cache": packed,
    }


def golden(ranker: Reranker) -> dict[str, Any]:
    """The published text scores against ours, where the loaded model is the released one's shape."""
    from sightrank.config import ModelConfig

    cases = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]
    if ranker.config.hidden_size != ModelConfig().hidden_size:
        return {"checked": 0, "reason": f"{ranker.name} is not jina-reranker-m0"}
    rows = []
    for case in cases:
        pairs = [[case["query"], document] for document in case["documents"]]
        ours = ranker.compute_score(pairs, max_length=case["max_length"])
        rows += list(zip(case["scores"], ours if isinstance(ours, list) else [ours], strict=True))
    worst = max(abs(published - mine) for published, mine in rows)
    return {
        "checked": len(rows),
        "largest_difference": worst,
        "passed": worst <= GOLDEN_TOLERANCE,
        "scores": [{"published": published, "ours": mine} for published, mine in rows],
    }


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for title, content in report.items():
        table = Table(title=title, show_header=False, box=None, title_justify="left")
        for key, value in content.items():
            table.add_row(key, Text(value if isinstance(value, str) else json.dumps(value)))
        console.print(table)
        console.print()
