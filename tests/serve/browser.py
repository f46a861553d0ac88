"""Debian's Chromium without a window, driven by Playwright, which brings no browser of its own here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import playwright
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PATIENCE = 60_000
"""Milliseconds after which something is taken not to happen any more."""
NODE = Path(playwright.__file__).parent / "driver" / "node"
"""What Playwright runs its driver with: it runs copied JavaScript too."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser. Skips the test where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=list(OPTIONS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """The page at `url`, loaded. Fails if it breaks its own policy, or asks another host."""
    given: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, **options}
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **given)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.on("console", lambda told: broken.append(told.text) if _is_wrong(told) else None)
    page.on(
        "request",
        lambda sent: (
            None if sent.url.startswith((url, "data:", "blob:")) else broken.append(sent.url)
        ),
    )
    page.goto(url)
    page.locator("#examples button").nth(5).wait_for()
    try:
        yield page
    finally:
        context.close()
    assert not broken


def _is_wrong(told: Any) -> bool:
    """An error of the page; that the server refuses something is what some tests are about."""
    return told.type == "error" and not told.text.startswith("Failed to load resource")
