"""What it costs that PDFs are read in a process of their own.

`python benchmarks/pdf.py` draws demo/xfig-howto.pdf both ways, in turns, and holds the pixels equal.
The last line of stdout is one JSON object, its figures seconds:

start    the first question: starting the process, then counting the pages; to be paid once
page     drawing a page at the size that the released model reads: here, in the other process from
         a path, and from bytes, which are handed over for each page
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import PIL.Image

from sightrank.config import MAX_PIXELS
from sightrank.inputs import pdf, pdfium
from sightrank.inputs.images import MAX_ASPECT_RATIO
from sightrank.inputs.load import FileLimits
from sightrank.inputs.pdf_process import PdfProcess, Work

PDF = Path(__file__).resolve().parents[1] / "demo" / "xfig-howto.pdf"
LIMITS = FileLimits()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    content = PDF.read_bytes()
    count = pdf.page_count(PDF, LIMITS)
    ways: dict[str, Callable[[int], PIL.Image.Image]] = {
        "here": draw_here,
        "process": lambda page: pdf.render_page(PDF, page, LIMITS, max_pixels=MAX_PIXELS),
        "process_bytes": lambda page: pdf.render_page(content, page, LIMITS, max_pixels=MAX_PIXELS),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for page in range(1, count + 1):
            images = set()
            for name, draw in ways.items():
                begin = time.perf_counter()
                image = draw(page)
                seconds[name].append(time.perf_counter() - begin)
                images.add(image.tobytes())
            if len(images) != 1:
                sys.exit(f"page {page} is not the same both ways")
    middle = {name: statistics.median(found) for name, found in seconds.items()}
    report = {
        "benchmark": "pdf",
        "start": statistics.median(start() for _ in range(11)),
        "page": middle,
        "overhead": {
            name: statistics.median(
                other - here for other, here in zip(found, seconds["here"], strict=True)
            )
            for name, found in seconds.items()
            if name != "here"
        },
        "pages": count,
        "rounds": rounds,
        "bytes": len(content),
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg()[0],
            "python": platform.python_version(),
            "pypdfium2": version("pypdfium2"),
        },
    }
    print(json.dumps(report))


def draw_here(page: int) -> PIL.Image.Image:
    """As `pdf.render_page`, in this process."""
    request = {
        "do": "draw",
        "path": str(PDF),
        "page": page,
        "pixels": MAX_PIXELS,
        "oversampling": pdf.OVERSAMPLING,
        "max_scale": pdf.MAX_DPI / 72,
        "max_ratio": MAX_ASPECT_RATIO,
    }
    frames = pdfium.answer(request, bytearray())
    next(frames)
    header, body = next(frames)  # valid until the next is asked for
    size, stride = (header["width"], header["height"]), header["stride"]
    image = PIL.Image.frombuffer("RGB", size, bytes(body), "raw", "RGB", stride, 1)
    list(frames)  # to its end, where the document is closed
    return image


def start() -> float:
    """Seconds until a process that is not there yet has answered."""
    process = PdfProcess()
    request = {"do": "count", "path": str(PDF), "page": None}
    work = Work(request, b"", LIMITS.max_pdf_seconds, LIMITS.max_pdf_memory_bytes, 0)
    begin = time.perf_counter()
    process.ask(work)
    seconds = time.perf_counter() - begin
    process.close()
    return seconds


if __name__ == "__main__":
    main()
