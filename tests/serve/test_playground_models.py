"""The playground of a server with two models: both side by side."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from sightrank import Reranker
from sightrank.serve.access import NoAccess
from sightrank.serve.app import create_app
from sightrank.serve.held import own_name
from tests.browser import chromium, problems
from tests.serve.browser import opened
from tests.serve.live import live
from tests.serve.test_playground import PASSAGES, PHONE, ask, percent, press, scores

BOTH = "Compare two models or settings side by side"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def site(reranker: Reranker, other: Reranker) -> Iterator[str]:
    with live(create_app(reranker, NoAccess(), also=[other])) as url:
        yield url


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    with opened(browser, site) as page:
        yield page


def test_two_models_stand_side_by_side(page: Page, reranker: Reranker, other: Reranker) -> None:
    names = [own_name(each.name) for each in (reranker, other)]
    expect(page.locator("#facts")).to_contain_text(f"{names[0]} on cpu, float32; {names[1]} on cpu")
    page.get_by_label(BOTH).check()
    for side, name in zip("AB", names, strict=True):
        expect(page.get_by_label(f"Model in {side}")).to_have_value(name)
    ask(page)
    for shown, model in zip(page.locator(".list").all(), (reranker, other), strict=True):
        ranking = model.rank("sugar", PASSAGES)
        assert scores(shown.locator(".hit")) == [percent(hit.score) for hit in ranking]
        expect(shown.get_by_role("heading")).to_contain_text(own_name(model.name))
    second = page.locator(".list").nth(1).locator(".hit").first
    best = PASSAGES[other.rank("sugar", PASSAGES)[0].index]
    expect(second).to_contain_text(best)
    with page.expect_response("**/v1/explain") as answered:
        second.get_by_role("button", name="Show why").click()
    assert answered.value.json()["model"] == names[1]
    second.locator(".why blockquote").wait_for()
    code = page.get_by_role("region", name="The same request")
    for side, name in zip("AB", names, strict=True):
        code.get_by_role("radiogroup", name="Side").get_by_label(side, exact=True).check()
        expect(code.locator("code")).to_contain_text(f'"model": "{name}"')
    assert problems(page) == []


def test_the_keyboard_chooses_a_model_and_what_is_copied_names_it(
    page: Page, other: Reranker, tmp_path: Path
) -> None:
    choice = page.get_by_role("combobox", name="Model", exact=True)
    choice.focus()
    page.keyboard.press("ArrowDown")
    expect(choice).to_be_focused()
    expect(choice).to_have_value(own_name(other.name))
    ask(page)
    ranking = other.rank("sugar", PASSAGES)
    assert scores(page.locator(".hit")) == [percent(hit.score) for hit in ranking]
    press(page, "Copy")
    script = tmp_path / "copied.sh"
    script.write_text(page.evaluate("navigator.clipboard.readText()"), encoding="utf-8")
    done = subprocess.run(
        ["bash", str(script)], capture_output=True, text=True, timeout=60, check=True
    )
    answer = json.loads(done.stdout)
    assert answer["model"] == own_name(other.name)
    found = [each["relevance_score"] for each in answer["results"]]
    assert found == pytest.approx([hit.score for hit in ranking], abs=1e-6)


def test_a_chosen_model_stays_when_a_second_side_comes(page: Page, other: Reranker) -> None:
    page.get_by_role("combobox", name="Model", exact=True).select_option(own_name(other.name))
    page.get_by_label("Texts at most").select_option("32")
    page.get_by_label(BOTH).check()
    expect(page.get_by_label("Model in A")).to_have_value(own_name(other.name))
    expect(page.get_by_label("Texts at most in A")).to_have_value("32")


def test_two_models_fit_a_phone(browser: Browser, site: str) -> None:
    with opened(browser, site, **PHONE) as page:
        page.get_by_label(BOTH).check()
        ask(page)
        widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths == [360, 360]
        small = page.locator("select:visible").evaluate_all(
            "all => all.filter((each) => Math.min(each.offsetWidth, each.offsetHeight) < 24).length"
        )
        assert small == 0
        assert problems(page) == []
