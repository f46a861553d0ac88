"""Near-duplicates: what is found of changed copies, and time and memory of many documents.

`python benchmarks/dedup.py` draws pages from aligned English and German passages (needs `make data`),
changes them, and asks for groups: as pictures, and in PDFs with a text layer. `--states N` also
compares what the model makes of N pages. The last line of stdout is one JSON object. Sizes are of
random signatures, half texts and half pictures, 2 % of them changed copies of others: only the
search for neighbours is measured there.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dedup_pages import Pages, scanned
from layers import misread, pdf
from machine import describe
from memory import peak
from PIL import Image

from recipe.fetch import DATA
from sightrank import Document, Reranker
from sightrank.analysis.dedup import groups
from sightrank.analysis.signatures import Signature, signature
from sightrank.analysis.states import centred, document_vectors
from sightrank.analysis.widths import NONE, kept
from sightrank.inputs.files import FileLimits
from sightrank.inputs.pdf import page_count, page_text

PDF = Path("demo/xfig-howto.pdf")
SAME = (
    "smaller",
    "larger",
    "cropped",
    "cut",
    "scanned",
    "other font",
    "other font scanned",
    "moved",
    "its text",
    "its text moved",
)
TRANSLATED = ("translated", "its text translated")
SIZES = (1_000, 10_000, 100_000)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--pages", type=int, default=60)
    parser.add_argument("--states", type=int, default=0, metavar="N")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--size", type=int, help="measure one size and print it")
    arguments = parser.parse_args()
    if arguments.size:
        print(json.dumps(sized(arguments.size)))
        return
    pages = list(Pages(arguments.data).draw(arguments.pages))
    report = {
        "machine": describe(),
        "pages": len(pages),
        **quality(pages),
        "with_text_layers": layered(pages),
        "pdf": text_layers(),
    }
    print(json.dumps(report), file=sys.stderr, flush=True)  # the sizes take long
    if arguments.states:
        report["states"] = by_states(pages[: arguments.states])
    report["sizes"] = [in_a_process(size) for size in arguments.sizes]
    print(json.dumps(report))


def quality(pages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """By kind of copy: the share found, each beside all originals and all of its kind."""
    start, count = time.perf_counter(), 0
    signed: dict[str, list[Signature]] = defaultdict(list)
    for page in pages:
        for name, content in page.items():
            signed[name].append(sign(content))
            count += 1
    seconds = time.perf_counter() - start
    rows = {}
    for name in (*SAME, *TRANSLATED):
        base = "its text" if name in ("its text moved", "its text translated") else "page"
        right, wrong = pairs_of(signed[base] + signed[name], len(pages))
        rows[name] = {"same_as": base, "merged": right / len(pages), "other_pages_merged": wrong}
    everything = [one for name in ("page", *SAME, *TRANSLATED) for one in signed[name]]
    return {
        "copies": rows,
        "together": together(everything, len(pages), len(SAME) + 1),
        "signature_seconds_a_document": seconds / count,
    }


def sign(content: Image.Image | str) -> Signature:
    """The signature of a page or a text."""
    return signature(Document.of(content), FileLimits())


def pairs_of(signatures: Sequence[Signature], count: int) -> tuple[int, int]:
    """(pages found again, pairs of different pages merged), of originals and then their copies."""
    right = wrong = 0
    for group in groups(signatures):
        places = [member.index for member in group.members]
        pages = [place % count for place in places]
        right += sum(pages.count(page) == 2 for page in set(pages))
        wrong += sum(a < b for a in set(pages) for b in set(pages))
    return right, wrong


def together(signatures: Sequence[Signature], count: int, languages: int) -> dict[str, float]:
    """Precision and recall over all pairs of all documents, translations, all those from the kind
    numbered `languages` on, being others."""
    truth = [(at % count, at // count >= languages) for at in range(len(signatures))]
    sizes: dict[tuple[int, bool], int] = defaultdict(int)
    for what in truth:
        sizes[what] += 1
    # A page and the text of its translation are no copies, and neither can be told from the other
    # without reading; they are left out of the recall's pairs of translations.
    wanted = sum(
        size * (size - 1) // 2 for (_, translated), size in sizes.items() if not translated
    )
    merged = right = found = 0
    for group in groups(signatures):
        places = [member.index for member in group.members]
        for i, a in enumerate(places):
            for b in places[:i]:
                merged += 1
                right += truth[a] == truth[b]
                found += truth[a] == truth[b] and not truth[a][1]
    return {"precision": right / max(merged, 1), "recall": found / wanted, "pairs": merged}


LAYERS = {
    "page": "its text",
    "smaller": "its text",
    "scanned": "misread",
    "other font": "its text",
    "moved": "its text moved",
    "translated": "its text translated",
}
"""Picture -> the text of its layer."""


def layered(pages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The same, every picture in a PDF that has its text behind it; that of a scan as it was misread."""
    signed: dict[str, list[Signature]] = defaultdict(list)
    for number, page in enumerate(pages):
        texts = {**page, "misread": misread(page["its text"], random.Random(number))}
        for name, layer in LAYERS.items():
            document = Document.pdf(pdf(page[name], texts[layer]), 1)
            signed[name].append(signature(document, FileLimits()))
        for name in ("its text", "its text moved", "its text translated"):
            signed[name].append(sign(page[name]))
    rows = {}
    for name, copies in signed.items():
        if name != "page":
            right, wrong = pairs_of(signed["page"] + copies, len(pages))
            rows[name] = {"merged": right / len(pages), "other_pages_merged": wrong}
    order = [name for name in signed if name not in TRANSLATED]
    everything = [one for name in (*order, *TRANSLATED) for one in signed[name]]
    return {"copies": rows, "together": together(everything, len(pages), len(order))}


def text_layers() -> dict[str, Any]:
    """Pages of a real PDF beside their text, and beside their pictures."""
    limits = FileLimits()
    numbers = range(1, page_count(PDF, limits) + 1)
    texts = [page_text(PDF, number, limits) for number in numbers]
    pages = [number for number, text in zip(numbers, texts, strict=True) if len(text.split()) > 20]
    signed = [signature(Document.pdf(PDF, number), limits) for number in pages]
    words = [sign(texts[number - 1]) for number in pages]
    pictures = [sign(scanned(drawn(number), random.Random(number))) for number in pages]
    found = {"its text": words, "scanned": pictures}
    rows = {}
    for name, copies in found.items():
        right, wrong = pairs_of(signed + copies, len(pages))
        rows[name] = {"merged": right / len(pages), "other_pages_merged": wrong}
    return {"pages": len(pages), **rows}


def drawn(number: int) -> Image.Image:
    """A page of the PDF as a picture."""
    from sightrank.inputs.pdf import render_page as draw

    return draw(PDF, number, FileLimits(), max_pixels=602_112)


def by_states(pages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How often a copy is nearer to its page than all other pages are, by nano's first layer."""
    ranker = Reranker.from_pretrained()
    names = ("page", "smaller", "other font", "moved", "its text", "its text moved", "translated")
    vectors = {}
    for name in (*names, "its text translated"):
        found = document_vectors(ranker, [Document.of(page[name]) for page in pages])
        vectors[name] = centred(found)
        ranker.engine.cache.clear()
        print(f"states of {name}", file=sys.stderr, flush=True)
    rows = {}
    for name, rivals in vectors.items():
        base = "its text" if name in ("its text moved", "its text translated") else "page"
        if name == base == "page":
            continue
        cosines = vectors[base] @ rivals.T
        own = cosines.diagonal()
        others = np.where(np.eye(len(own), dtype=bool), -1, cosines).max(axis=1)
        rows[name] = {
            "same_as": base,
            "nearest_of_all": float((own > others).mean()),
            "median_cosine": float(np.median(own)),
            "highest_of_another": float(others.max()),
        }
    return {"pages": len(pages), "fingerprint": ranker.fingerprint, "copies": rows}


def in_a_process(size: int) -> dict[str, Any]:
    """One size in a process of its own, so that its memory is its own."""
    command = [sys.executable, __file__, "--size", str(size)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    print(f"{size}: {ran.stdout.strip()}", file=sys.stderr, flush=True)
    result: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return result


def sized(size: int) -> dict[str, Any]:
    """Time and memory of finding planted copies among `size` documents."""
    rng = np.random.default_rng(0)
    copies = size // 50
    signatures = [random_signature(rng, at % 2 == 0) for at in range(size - copies)]
    signatures += [changed(signatures[at], rng) for at in range(copies)]
    before, start, cpu = peak(), time.perf_counter(), time.process_time()
    found = groups(signatures)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    pairs = {tuple(member.index for member in group.members) for group in found}
    planted = {(at, size - copies + at) for at in range(copies)}
    return {
        "documents": size,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_bytes": peak(),
        "peak_bytes_before": before,
        "planted": copies,
        "found": len(pairs & planted),
        "wrong_groups": len(pairs - planted),
    }


def random_signature(rng: np.random.Generator, is_text: bool) -> Signature:
    """Of a text with some 150 runs of words, or of a picture; both of as many widths."""
    words, look = np.zeros(512, np.int8), np.zeros(1024, np.int8)
    if is_text:
        np.add.at(words, rng.integers(0, 512, 150), rng.choice((-30, 30), 150).astype(np.int8))
    else:
        look = np.clip(rng.normal(0, 30, 1024), -127, 127).astype(np.int8)
    widths = kept(np.exp(rng.normal(0, 0.6, 150)))
    size = (0, 900) if is_text else (500_000, 0)
    return Signature(rng.bytes(32), words, look, widths, *size)


def changed(one: Signature, rng: np.random.Generator) -> Signature:
    """A copy at a cosine of about 0.95, in another font."""
    words, look, widths = [
        np.where(there, np.clip(v + rng.normal(0, by, len(v)), -127, 127), v).astype(np.int8)
        for v, by, there in (
            (one.words, 9, one.words != 0),
            (one.look, 9, one.look != 0),
            (one.widths, 2, one.widths != NONE),
        )
    ]
    return Signature(rng.bytes(32), words, look, widths, one.num_pixels, one.num_characters)


if __name__ == "__main__":
    main()
