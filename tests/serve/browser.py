"""The playground in a browser, and the JavaScript that it gives away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import playwright
from playwright.sync_api import Browser, Page

from tests.browser import PATIENCE

NODE = Path(playwright.__file__).parent / "driver" / "node"
"""What Playwright runs its driver with: it runs copied JavaScript too."""


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
