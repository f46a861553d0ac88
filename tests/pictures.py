"""The screenshots of the docs: `python -m tests.pictures` ranks the demo and looks at the report."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.browser import alone, chromium
from tests.command import status

PICTURES = Path("docs/pictures")
QUERY = "bitmap and vector drawing programs"
COLOURS = 64
MOST = 150_000
"""Bytes of a picture."""


def main(report: Path | None = None) -> None:
    """Write report.png, the whole list, and report-heat.png, an opened heat map.

    `report` is one that was made before; without it the demo is ranked, which takes a minute.
    """
    with tempfile.TemporaryDirectory() as place:
        if report is None:
            report = Path(place, "report.html")
            assert status("rank", QUERY, "demo", "--html", report) == 0
        size = {"width": 860, "height": 900}
        with (
            chromium() as browser,
            alone(browser, report.absolute().as_uri(), viewport=size) as page,
        ):
            keep("report", page.screenshot())
            entry = page.locator("li:has(details img)").first
            entry.locator("summary").click()
            keep("report-heat", entry.screenshot())


def keep(name: str, shot: bytes) -> None:
    """A PNG of few colours."""
    image = Image.open(io.BytesIO(shot)).convert("RGB")
    path = PICTURES / f"{name}.png"
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < MOST, f"{path} has {path.stat().st_size:,} bytes"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
