"""The playground, as someone uses it in a browser."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect

from sightrank import Document, Reranker
from sightrank.serve.access import NoAccess
from sightrank.serve.app import create_app
from sightrank.serve.settings import Settings
from tests.browser import chromium, problems
from tests.serve.browser import NODE, opened
from tests.serve.live import live
from tests.serve.test_documents import pdf_of
from tests.serve.test_faults import Ledger
from tests.serve.test_routes import picture

Open = Callable[..., AbstractContextManager[Page]]
PASSAGES = ["Leaves turn light into sugar.", "Iron ore.", "Sugar cane grows in warm places."]
IMAGE = picture("red", size=(112, 112))
PDF = pdf_of(2)


def file(name: str, kind: str, content: bytes) -> FilePayload:
    return FilePayload(name=name, mimeType=kind, buffer=content)


FILES = (
    file("report.pdf", "application/pdf", PDF),
    file("red.png", "image/png", IMAGE),
    file("notes.txt", "text/plain", b"Sugar is sweet."),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def site(reranker: Reranker) -> Iterator[str]:
    with live(create_app(reranker, NoAccess())) as url:
        yield url


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    with opened(browser, site) as page:
        yield page


@pytest.fixture
def guarded(browser: Browser, reranker: Reranker) -> Open:
    """A page of a server with keys, and with little room."""

    @contextmanager
    def start(**options: Any) -> Iterator[Page]:
        settings = Settings(max_body=100_000)
        app = create_app(reranker, Ledger(), settings)
        with live(app) as url, opened(browser, url, **options) as page:
            yield page

    return start


def ask(page: Page, query: str = "sugar", passages: list[str] = PASSAGES) -> None:
    page.get_by_label("Query, as text").fill(query)
    page.get_by_label("A passage").fill("\n\n".join(passages))
    press(page, "Rank")
    ranked(page)


def upload(page: Page, *files: FilePayload) -> None:
    page.get_by_label("Choose files").set_input_files(files)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def ranked(page: Page) -> Locator:
    expect(page.get_by_role("status").first).to_contain_text("ranked")
    return page.locator(".hit")


def scores(hits: Locator) -> list[str]:
    return hits.locator(".score b").all_inner_texts()


def percent(score: float) -> str:
    return f"{100 * score:.1f} %"


def test_files_are_uploaded_and_ranked_in_one_list(page: Page, reranker: Reranker) -> None:
    upload(page, *FILES)
    expect(
        page.get_by_role("list", name="Documents to rank").get_by_role("listitem")
    ).to_have_count(3)
    ask(page, passages=PASSAGES[:1])
    hits = page.locator(".hit")
    documents = [
        *(Document.pdf(PDF, number) for number in (1, 2)),
        Document.image(IMAGE),
        Document.text("Sugar is sweet."),
        Document.text(PASSAGES[0]),
    ]
    names = ["report.pdf page 1", "report.pdf page 2", "red.png", "notes.txt", PASSAGES[0]]
    ranking = reranker.rank("sugar", documents)
    assert scores(hits) == [percent(hit.score) for hit in ranking]
    logits = hits.locator(".score small").all_inner_texts()
    assert logits == [f"logit {hit.logit:.2f}" for hit in ranking]
    for place, hit in enumerate(ranking):
        expect(hits.nth(place)).to_contain_text(names[hit.index])
        pictures = hits.nth(place).locator(".shown img")
        assert pictures.count() == (hit.index < 3)
        if hit.index < 3:
            assert pictures.evaluate("image => image.naturalWidth") > 20
    expect(page.get_by_role("status").first).to_contain_text(f"{ranking.total_tokens:,} tokens")
    expect(page.get_by_role("status").first).to_contain_text(" s, ")


def test_files_are_dropped_and_pasted(page: Page, reranker: Reranker) -> None:
    carry = """(field, [kind, name, type, content]) => {
        const data = new DataTransfer();
        const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
        data.items.add(new File([bytes], name, {type}));
        const init = {bubbles: true, cancelable: true};
        field.dispatchEvent(kind === "paste"
            ? new ClipboardEvent(kind, {...init, clipboardData: data})
            : new DragEvent(kind, {...init, dataTransfer: data}));
    }"""
    image = base64.b64encode(IMAGE).decode()
    text = base64.b64encode(b"Leaves make sugar.").decode()
    page.locator("#documents-field").evaluate(carry, ["drop", "a.txt", "text/plain", text])
    page.locator("#documents-field").evaluate(carry, ["paste", "b.png", "image/png", image])
    page.locator("#query-field").evaluate(carry, ["drop", "asked.png", "image/png", image])
    expect(page.locator("#query-image")).to_contain_text("asked.png")
    expect(page.get_by_label("Query, as text")).to_be_hidden()
    press(page, "Rank")
    given = [Document.text("Leaves make sugar."), Document.image(IMAGE)]
    ranking = reranker.rank(Document.image(IMAGE), given)
    assert scores(ranked(page)) == [percent(hit.score) for hit in ranking]
    press(page, "Remove asked.png")
    expect(page.get_by_label("Query, as text")).to_be_focused()


def test_six_examples_are_ready(page: Page) -> None:
    names = page.locator("#examples b").all_inner_texts()
    kinds = [
        f"{one} to {other}" for one in ("Text", "Image") for other in ("text", "image", "mixed")
    ]
    assert names == kinds
    page.get_by_label("A passage").fill("not part of any example")
    for name in names:
        page.locator("#examples").get_by_role("button", name=name).click()
        hits = ranked(page)
        pictures, texts = hits.locator(".shown img").count(), hits.locator(".text").count()
        assert page.locator("#query-image .item").count() == name.startswith("Image")
        assert bool(pictures) == (not name.endswith("text"))
        assert bool(texts) == (not name.endswith("image"))
        expect(page.locator("#error")).to_be_hidden()
        expect(hits.filter(has_text="not part of any")).to_have_count(0)
        page.get_by_role("status").first.evaluate("told => told.textContent = ''")


def test_two_settings_stand_side_by_side(page: Page, reranker: Reranker) -> None:
    texts = ["Sugar. " * 60, "Iron ore and copper ore. " * 12, PASSAGES[0]]
    page.get_by_label("Compare two settings side by side").check()
    page.get_by_label("Texts at most in B").select_option(label="32 tokens")
    ask(page, passages=[text.strip() for text in texts])
    first, second = page.locator(".list").all()
    given = [text.strip() for text in texts]
    lowered = reranker.with_inputs(reranker.encoder.config.lowered(32))
    before, after = reranker.rank("sugar", given), lowered.rank("sugar", given)
    assert scores(first) == [percent(hit.score) for hit in before]
    assert scores(second) == [percent(hit.score) for hit in after]
    assert before.total_tokens != after.total_tokens
    expect(second).to_contain_text(f"{after.total_tokens:,} tokens")
    expect(second.get_by_role("heading")).to_contain_text("texts up to 32 tokens")
    places = [hit.index for hit in before]
    for place, hit in enumerate(after):
        by = places.index(hit.index) - place
        told = f"{abs(by)} place" if by else "same place"
        expect(second.locator(".moved").nth(place)).to_contain_text(told)


@pytest.mark.parametrize(
    ("language", "suffix"), [("curl", "sh"), ("Python", "py"), ("JavaScript", "mjs")]
)
def test_what_is_copied_runs(
    page: Page, reranker: Reranker, tmp_path: Path, language: str, suffix: str
) -> None:
    odd = 'It\'s "odd": $HOME `id` \\n \u4e2d\u6587 \U0001f98a\nJSON\nEOF'
    upload(page, *FILES)
    ask(page, query="what's $(sugar)?", passages=[odd])
    page.get_by_role("radio", name=language).check()
    press(page, "Copy")
    expect(page.locator("#copied")).to_contain_text(f"Copied, {language}")
    script = tmp_path / f"copied.{suffix}"
    script.write_text(page.evaluate("navigator.clipboard.readText()"), encoding="utf-8")
    program = {"sh": "bash", "py": sys.executable, "mjs": str(NODE)}[suffix]
    done = subprocess.run(
        [program, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    documents = [*(Document.pdf(PDF, number) for number in (1, 2)), Document.image(IMAGE)]
    ranking = reranker.rank("what's $(sugar)?", [*documents, "Sugar is sweet.", odd])
    if suffix == "sh":
        found = [each["relevance_score"] for each in json.loads(done.stdout)["results"]]
    else:
        found = [float(line.split()[0]) for line in done.stdout.splitlines()]
    assert found == pytest.approx([hit.score for hit in ranking], abs=1e-6)


def test_copied_code_takes_the_key_from_the_environment(guarded: Open, tmp_path: Path) -> None:
    with guarded() as page:
        page.get_by_label("This server asks for a key").fill("sr_secret")
        ask(page)
        press(page, "Copy")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert "sr_secret" not in copied
        script = tmp_path / "copied.sh"
        script.write_text(copied, encoding="utf-8")
        for key, told in (("sr_secret", "results"), ("wrong", "AUTH_INVALID_API_KEY")):
            done = subprocess.run(
                ["bash", str(script)],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
                env={**os.environ, "SIGHTRANK_KEY": key},
            )
            assert told in done.stdout


def test_it_shows_why(page: Page, reranker: Reranker) -> None:
    text = "\U0001f98a Foxes eat. Leaves turn light into sugar."
    upload(page, *FILES[:2])
    ask(page, passages=[text])
    of_text = page.locator(".hit", has_text="Foxes")
    of_text.get_by_role("button", name="Show why").click()
    expect(of_text.locator("blockquote")).to_have_text(text)
    found = reranker.explain("sugar", text)
    spans = sorted(found.spans(found.parts[0])[:5], key=lambda span: span.start)  # type: ignore[arg-type]
    assert of_text.locator("mark").all_inner_texts() == [
        text[each.start : each.end] for each in spans
    ]
    of_page = page.locator(".hit", has_text="page 2")
    button = of_page.get_by_role("button", name="Show why")
    button.click()
    heat = of_page.locator(".why img")
    expect(heat).to_have_attribute(
        "alt", "Heat map over report.pdf, page 2: what counted is coloured"
    )
    assert (
        heat.evaluate("async image => { await image.decode(); return image.naturalHeight }") > 100
    )
    expect(button).to_have_attribute("aria-expanded", "true")
    button.click()
    expect(heat).to_be_hidden()


def test_what_goes_wrong_is_shown(guarded: Open) -> None:
    with guarded() as page:
        error = page.get_by_role("alert")
        press(page, "Rank")
        expect(error).to_contain_text("Ask something")
        expect(page.get_by_label("Query, as text")).to_be_focused()
        upload(page, file("empty.txt", "text/plain", b""))
        expect(error).to_contain_text("empty.txt is empty")
        key = page.get_by_label("This server asks for a key")
        key.fill("wrong")
        page.get_by_label("Query, as text").fill("sugar")
        page.get_by_label("A passage").fill("Leaves")
        press(page, "Rank")
        expect(error).to_contain_text("The server needs a valid key")
        expect(key).to_be_focused()
        key.fill("poor")
        press(page, "Rank")
        expect(error).to_contain_text("Too many requests")
        expect(error).to_contain_text("Try again in 7 s.")
        key.fill("sr_good")
        upload(page, file("broken.png", "image/png", b"\x89PNG\xff\xfe"))
        press(page, "Rank")
        expect(error).to_contain_text("broken.png")
        expect(page.locator(".item.bad")).to_contain_text("broken.png")
        press(page, "Remove broken.png")
        upload(page, file("large.txt", "text/plain", b"sugar " * 20_000))
        press(page, "Rank")
        expect(error).to_contain_text("this server takes")
        press(page, "Remove large.txt")
        press(page, "Rank")
        assert ranked(page).count() == 1
        expect(error).to_be_hidden()
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        assert page.evaluate("Object.values(sessionStorage)") == ["sr_good"]


def test_a_server_that_is_gone_is_said(page: Page) -> None:
    page.route("**/v1/rank", lambda route: route.abort("connectionrefused"))
    page.get_by_label("Query, as text").fill("sugar")
    page.get_by_label("A passage").fill("Leaves")
    press(page, "Rank")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    expect(page.get_by_role("button", name="Rank", exact=True)).to_be_enabled()


def test_a_ranking_can_be_stopped(page: Page) -> None:
    page.route("**/v1/rank", lambda route: None)  # never answered
    page.get_by_label("Query, as text").fill("sugar")
    page.get_by_label("A passage").fill("Leaves")
    press(page, "Rank")
    press(page, "Stop")
    expect(page.get_by_role("status").first).to_have_text("Stopped.")
    page.unroute("**/v1/rank")
    press(page, "Rank")
    assert ranked(page).count() == 1


def test_the_keyboard_suffices(page: Page) -> None:
    def focused() -> str:
        told = page.evaluate(
            "[document.activeElement.id, document.activeElement.textContent].map((each) => each.trim())"
        )
        return str(told[0] or told[1])

    def tab_to(wanted: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if wanted in focused():
                return
        raise AssertionError(f"Tab does not lead to {wanted}")

    page.keyboard.press("Tab")
    assert focused() == "Skip to the ranking"
    tab_to("Image to mixed")
    tab_to("query")
    page.keyboard.type("sugar")
    tab_to("query-file")
    tab_to("passage")
    page.keyboard.type(PASSAGES[0])
    tab_to("add")
    page.keyboard.press("Enter")
    assert focused() == "passage"
    page.keyboard.type(PASSAGES[1])
    tab_to("compare")
    page.keyboard.press("Space")
    page.keyboard.press("Control+Enter")
    assert ranked(page).count() == 4
    tab_to("Show why")
    page.keyboard.press("Enter")
    expect(page.locator(".why blockquote")).to_have_count(1)
    page.get_by_role("radio", name="curl").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Python")).to_be_checked()
    tab_to("copy")
    page.keyboard.press("Enter")
    expect(page.locator("#copied")).to_contain_text("Copied")
    page.get_by_role("button", name="Remove Leaves").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Remove Iron ore.")).to_be_focused()
    page.keyboard.press("Enter")
    assert focused() == "passage"


PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


def test_a_phone_is_wide_enough(browser: Browser, site: str) -> None:
    with opened(browser, site, **PHONE) as page:

        def fits() -> bool:
            widths = "[document.documentElement.scrollWidth, innerWidth]"
            return bool(page.evaluate(widths) == [360, 360])

        assert fits()
        page.get_by_label("Compare two settings side by side").check()
        upload(page, *FILES)
        ask(page, passages=["x" * 300, PASSAGES[0]])
        expect(page.locator("#results-title")).to_be_in_viewport()
        page.get_by_role("button", name="Show why").first.click()
        page.locator(".why > *").first.wait_for()
        assert fits()
        small = page.locator("button:visible, .button:visible, select:visible").evaluate_all(
            "all => all.filter((each) => Math.min(each.offsetWidth, each.offsetHeight) < 24)"
            ".map((each) => each.outerHTML)"
        )
        assert small == []


def test_axe_finds_no_serious_problem(guarded: Open) -> None:
    with guarded() as page:
        assert problems(page) == []
        page.get_by_label("This server asks for a key").fill("poor")
        page.get_by_label("Compare two settings side by side").check()
        page.get_by_label("Query, as text").fill("sugar")
        page.get_by_label("A passage").fill("\n\n".join(PASSAGES))
        press(page, "Rank")
        expect(page.get_by_role("alert")).to_contain_text("Too many requests")
        assert problems(page) == []
        page.get_by_label("This server asks for a key").fill("sr_good")
        explained(page)
        assert problems(page) == []


def test_axe_finds_no_serious_problem_on_a_phone(browser: Browser, site: str) -> None:
    with opened(browser, site, **PHONE) as page:
        explained(page)
        assert problems(page) == []


def test_dark_is_dark_and_can_be_read(guarded: Open) -> None:
    with guarded(color_scheme="dark") as page:
        background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert background == "rgb(20, 21, 23)"
        page.get_by_label("This server asks for a key").fill("poor")
        press(page, "Rank")
        assert problems(page, "color-contrast") == []
        page.get_by_label("This server asks for a key").fill("sr_good")
        explained(page)
        assert problems(page, "color-contrast") == []


def explained(page: Page) -> None:
    """Rank all kinds, and open why of a page and of a text."""
    upload(page, *FILES)
    ask(page)
    for kind, shown in (("report.pdf", "img"), (PASSAGES[1], "blockquote")):
        hit = page.locator(".hit", has_text=kind).first
        hit.get_by_role("button", name="Show why").click()
        hit.locator(f".why {shown}").wait_for()
