"""Debian's Chromium without a window, driven by Playwright, which brings no browser of its own here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
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
def alone(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """The page at `url`. Fails if it asks for anything else, or says anything on its console."""
    context = browser.new_context(**options)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda told: said.append(told.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda sent: said.append(sent.url) if _is_other(sent.url, url) else None)
    page.goto(url)
    try:
        yield page
    finally:
        context.close()
    assert not said


def _is_other(asked: str, url: str) -> bool:
    return asked != url and not asked.startswith("data:")


def problems(page: Page, *rules: str) -> list[str]:
    """What axe-core finds serious or critical for people who see or move otherwise, by these of its
    rules or by all."""
    chosen = {"runOnly": list(rules)} if rules else {}
    found = Axe().run(page, options={"resultTypes": ["violations"], **chosen}).response
    assert len(found["passes"]) >= max(len(rules), 1), "axe has run"
    return [
        f"{each['id']}: {node['html']}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
