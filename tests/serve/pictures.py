"""Draw docs/pictures/playground*.png: `python -m tests.serve.pictures`, from the built-in model."""

from __future__ import annotations

import io
from pathlib import Path

import PIL.Image
from playwright.sync_api import Page, expect

from sightrank import Reranker
from sightrank.serve.access import NoAccess
from sightrank.serve.app import create_app
from tests.browser import chromium
from tests.serve.browser import opened
from tests.serve.live import live

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
PATIENCE = 120_000
"""Milliseconds that one ranking may take."""


def main() -> None:
    app = create_app(Reranker.from_pretrained(), NoAccess())
    with live(app) as url, chromium() as browser:
        with opened(browser, url) as page:
            rank(page, "Text to mixed")
            page.get_by_role("button", name="Rank", exact=True).click()
            expect(page.get_by_role("status").first).to_contain_text("ranked", timeout=PATIENCE)
            page.get_by_role("button", name="Show why").first.click()
            page.locator(".why img").wait_for(timeout=PATIENCE)
            page.evaluate("scrollTo(0, 0)")
            save(page, "playground")
        with opened(browser, url, color_scheme="dark") as page:
            page.get_by_label("Compare two settings side by side").check()
            rank(page, "Image to mixed")
            page.evaluate("scrollTo(0, 0)")
            save(page, "playground-dark")
        phone = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2}
        with opened(browser, url, **phone) as page:
            rank(page, "Text to image")
            save(page, "playground-phone")


def rank(page: Page, example: str) -> None:
    page.set_default_timeout(PATIENCE)
    page.locator("#examples").get_by_role("button", name=example).click()
    expect(page.get_by_role("status").first).to_contain_text("ranked", timeout=PATIENCE)


def save(page: Page, name: str) -> None:
    """In 256 colours, a third of the bytes; rare ones, as of heat, come out right by k-means."""
    page.mouse.move(0, 0)
    with PIL.Image.open(io.BytesIO(page.screenshot())) as taken:
        few = taken.convert("RGB").quantize(256, kmeans=3, dither=PIL.Image.Dither.NONE)
    few.save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
