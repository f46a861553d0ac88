"""What a user would otherwise do with page images: OCR, then BM25 or e5 over the text.

`python benchmarks/ocr.py SET --run run.random.trec --files DIR` reranks the candidates of a set of
pages by each and by nano, and times OCR and nano on the same pages in the same run; `--only-time 8`
times them on that many pages of the set and ranks nothing. OCR is rapidocr's
(`pip install rapidocr onnxruntime`), e5 the teacher that `python -m recipe.fetch` brings. Texts are
kept in `--texts`, so that a run that was stopped goes on. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe
from numpy.typing import NDArray

from recipe.teacher import Teacher
from sightrank import Document, Query, Reranker
from sightrank.evaluate.datasets import text_of
from sightrank.evaluate.first_stage import Bm25
from sightrank.evaluate.run import Task, prepare, rerank
from sightrank.inputs.load import FileLimits, load

PIXELS = 1_100_000
"""The budget that pages are drawn for; they come up to two and a half times as large and stay so."""


def main() -> None:
    """Read, rank and print."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    task = prepare(arguments.set, arguments.run, arguments.files)
    if arguments.only_time:
        step = max(1, len(task.documents) // arguments.only_time)
        print(json.dumps(timed(task.documents[::step][: arguments.only_time], arguments)))
        return
    seconds, texts = read_pages(task, arguments.texts, arguments.threads)
    scorers: list[Any] = [OverTexts("ocr, bm25", texts, bm25), OverTexts("ocr, e5", texts, e5())]
    scorers += [Reranker.from_pretrained(arguments.model)] if arguments.nano else []
    results = []
    for scorer in scorers:
        results.append(rerank(scorer, task).to_dict())
        print(results[-1]["model"], results[-1]["metrics"]["ndcg@10"], file=sys.stderr, flush=True)
    speed = {"ocr": 1 / seconds} if seconds else {}
    if arguments.nano:
        speed |= nano_speed(arguments.model, task.documents[: arguments.timed])
    print(
        json.dumps(
            {
                "machine": describe(),
                "run": arguments.run,
                "ocr_pixels": PIXELS,
                "pages_per_second": speed,
                "results": results,
            }
        )
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", type=Path, help="a folder of a set of pages")
    parser.add_argument("--run", default="run.random.trec")
    parser.add_argument("--files", type=Path, help="where its PDFs are")
    parser.add_argument("--texts", type=Path, default=Path(".data/eval/ocr"))
    parser.add_argument("--model")
    parser.add_argument("--timed", type=int, default=20, help="pages on which nano is timed")
    parser.add_argument("--only-time", type=int, metavar="PAGES", help="time these, rank nothing")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-nano", dest="nano", action="store_false")
    return parser.parse_args()


def timed(pages: Sequence[Document], arguments: argparse.Namespace) -> dict[str, Any]:
    """OCR and nano by turns of the whole list: pages a second, drawing included for both."""
    read = _reader(arguments.threads)
    started = time.perf_counter()
    characters = 0
    for number, document in enumerate(pages):
        (image,) = load(document, FileLimits(), max_pixels=PIXELS)
        characters += len(read(np.asarray(image)[..., ::-1]))
        print(f"\r{number + 1}/{len(pages)} pages", end="", file=sys.stderr, flush=True)
    ocr = len(pages) / (time.perf_counter() - started)
    return {
        "machine": describe(),
        "set": arguments.set.name,
        "pages": len(pages),
        "ocr_pixels": PIXELS,
        "characters_per_page": characters / len(pages),
        "pages_per_second": {"ocr": ocr, **nano_speed(arguments.model, list(pages))},
    }


def read_pages(task: Task, folder: Path, threads: int) -> tuple[float, dict[str, str]]:
    """Median seconds a page in this run (0 if all were read before), and the texts by name."""
    folder.mkdir(parents=True, exist_ok=True)
    read, texts, seconds = _reader(threads), {}, []
    for number, document in enumerate(task.documents):
        kept = folder / f"{Path(document.name or '').name}.txt"
        if not kept.exists():
            (image,) = load(document, FileLimits(), max_pixels=PIXELS)
            started = time.perf_counter()
            text = read(np.asarray(image)[..., ::-1])
            seconds.append(time.perf_counter() - started)
            kept.write_text(text, encoding="utf-8")
            print(
                f"\r{number + 1}/{len(task.documents)} pages", end="", file=sys.stderr, flush=True
            )
        texts[document.name or ""] = kept.read_text(encoding="utf-8")
    return float(np.median(seconds)) if seconds else 0.0, texts


def _reader(threads: int) -> Callable[[NDArray[np.uint8]], str]:
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
    return lambda pixels: "\n".join(engine(pixels).txts or ())


Rank = Callable[[Sequence[str], Sequence[str]], NDArray[np.float64]]
"""Queries and texts to scores (queries, texts)."""


@dataclass(frozen=True)
class OverTexts:
    """A scorer of pages by the text that OCR found on them."""

    name: str
    texts: dict[str, str]
    rank: Rank

    def score_matrix(
        self,
        queries: Sequence[Query],
        documents: Sequence[Document],
        pairs: Sequence[tuple[int, int]],
        *,
        progress: object = None,
    ) -> NDArray[np.float64]:
        """Scores (pairs,); terms are counted over all pages of the set."""
        names = list(self.texts)
        scores = self.rank([text_of(query) for query in queries], list(self.texts.values()))
        place = {name: index for index, name in enumerate(names)}
        return np.array([scores[q, place[documents[d].name or ""]] for q, d in pairs])


def bm25(queries: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
    """BM25 of every text for every query."""
    index = Bm25(texts)
    return np.stack([index.scores(query) for query in queries])


def e5() -> Rank:
    """Cosines of multilingual-e5-small's vectors."""
    teacher = Teacher.load()

    def rank(queries: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
        asked = teacher.encode(queries, "query: ")
        cosines: NDArray[np.float64] = (
            (asked @ teacher.encode(texts, "passage: ").T).double().numpy()
        )
        return cosines

    return rank


def nano_speed(model: str | None, pages: list[Document]) -> dict[str, float]:
    """Pages a second, drawn and scored for the first time and for the next query."""
    ranker = Reranker.from_pretrained(model)
    ranker.rank("warm up", pages[:1])
    speed = {}
    for name, query in (("nano, first query", "the first"), ("nano, next query", "another")):
        started = time.perf_counter()
        ranker.rank(query, pages)
        speed[name] = len(pages) / (time.perf_counter() - started)
    return speed


if __name__ == "__main__":
    main()
