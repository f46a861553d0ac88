"""Whatever is given as an image, a PDF, a string or a passage: a score, or an error of ours."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sightrank.config import InputConfig
from sightrank.errors import SightrankError
from sightrank.reranker import Reranker
from sightrank.types import Document, Image, Query
from tests.inputs.files import valid_files

EXAMPLES = 400
ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates among them
ODD_TEXT = st.sampled_from(
    [
        "",
        " \u00a0\u3000\n",
        "\0",
        "\x1b[31m\x07\x7f\u0085",
        "\ud800",
        "a\udfff b",
        "\ufeff\u200b\u2060",
        "<|image_pad|><|vision_start|><|vision_end|><|endoftext|>",
        "**Query**:\n**Document**:\n",
        "\u202eشالوم\u202c مرحبا \u05e9\u05dc\u05d5\u05dd",
        "e" + "\u0301\u0323" * 400,
        "\U0001f469\u200d\U0001f469\u200d\U0001f467" * 9,
        "\r\n" * 50 + "x",
        "word " * 2000,
        "\ufdfa" * 300,
        "x" * 5000,
    ]
)
TEXTS = ODD_TEXT | ANY_TEXT | st.lists(ODD_TEXT | ANY_TEXT, max_size=3).map("".join)


@pytest.fixture(scope="module")
def ranker(checkpoint: Path) -> Reranker:
    inputs = InputConfig(max_length=2048, max_pixels=50_000)
    return Reranker.from_pretrained(checkpoint, device="cpu", inputs=inputs)


@pytest.fixture(scope="module")
def files(make_pdf: Callable[..., bytes]) -> dict[str, bytes]:
    return valid_files(make_pdf)


def assert_score_or_error(ranker: Reranker, query: Query, *documents: Document) -> None:
    try:
        ranking = ranker.rank(query, documents, on_error="skip")
    except SightrankError as error:
        assert_speaks(error)
        return
    assert len(ranking) + len(ranking.failures) == len(documents)
    for hit in ranking:
        assert math.isfinite(hit.logit) and 0 <= hit.score <= 1
    for _, failure in ranking.failures:
        assert isinstance(failure, SightrankError)
        assert_speaks(failure)


def assert_speaks(error: SightrankError) -> None:
    """It can be printed anywhere and says what to do."""
    str(error).encode()
    assert error.message and error.hint


@st.composite
def damaged(draw: st.DrawFn, contents: list[bytes]) -> bytes:
    """A valid file after one to three mishaps."""
    content = draw(st.sampled_from(contents))
    for _ in range(draw(st.integers(1, 3))):
        content = draw(st.sampled_from(MISHAPS))(draw, content, contents)
    return content


def _cut(draw: st.DrawFn, content: bytes, _: list[bytes]) -> bytes:
    return content[: draw(st.integers(0, len(content)))]


def _flip(draw: st.DrawFn, content: bytes, _: list[bytes]) -> bytes:
    broken = bytearray(content)
    for _turn in range(draw(st.integers(1, 8)) if content else 0):
        broken[draw(st.integers(0, len(broken) - 1))] = draw(st.integers(0, 255))
    return bytes(broken)


def _splice(draw: st.DrawFn, content: bytes, contents: list[bytes]) -> bytes:
    other = draw(st.sampled_from(contents))
    return content[: draw(st.integers(0, len(content)))] + other[draw(st.integers(0, len(other))) :]


def _repeat(draw: st.DrawFn, content: bytes, _: list[bytes]) -> bytes:
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 200)))
    return content[:end] + content[start:]


def _overwrite(draw: st.DrawFn, content: bytes, _: list[bytes]) -> bytes:
    start = draw(st.integers(0, len(content)))
    run = draw(st.sampled_from([b"\0" * 9, b"\xff" * 9, b"-99999999", b"9999999999999999999"]))
    return content[:start] + run + content[start + len(run) :]


MISHAPS = [_cut, _flip, _splice, _repeat, _overwrite]


def test_the_valid_files_score(ranker: Reranker, files: dict[str, bytes]) -> None:
    given = {name: content for name, content in files.items() if name != "PDF, encrypted"}
    ranking = ranker.rank("q", [Document.of(content) for content in given.values()])
    assert len(ranking) == len(given)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damage before it raises
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_damaged_files(ranker: Reranker, files: dict[str, bytes], data: st.DataObject) -> None:
    content = data.draw(damaged(list(files.values())))
    documents = [Document.of(content), Document.image(content), Document.pdf(content)]
    assert_score_or_error(ranker, Query.text("q"), *documents)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60)
@given(content=st.binary(max_size=300))
def test_random_bytes(ranker: Reranker, content: bytes) -> None:
    documents = [Document.of(content), Document.image(content), Document.pdf(content)]
    assert_score_or_error(ranker, Query.text("q"), *documents)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=40)
@given(data=st.data())
def test_damaged_files_on_disk_under_any_suffix(
    ranker: Reranker, files: dict[str, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    suffix = data.draw(st.sampled_from([".png", ".pdf", ".txt", ".jpg", "", ".xyz"]))
    path = tmp_path / f"file{suffix}"
    path.write_bytes(data.draw(damaged(list(files.values()))))
    assert_score_or_error(ranker, Query.text("q"), Document.of(path))
    assert_score_or_error(ranker, Query.of(path), Document.text("d"))


@example(query="\ud800", document="\0")
@example(query="\nq", document=" ")
@settings(max_examples=150)
@given(query=TEXTS, document=TEXTS)
def test_any_text(ranker: Reranker, query: str, document: str) -> None:
    assert_score_or_error(ranker, Query.text(query), Document.text(document))
    if query.strip() and document.strip():
        ranker.rank(query, [document])  # no text with content is refused


@st.composite
def image_strings(draw: st.DrawFn, contents: list[bytes]) -> str:
    """Base64 and data URIs, sound and broken, and strings that are neither."""
    content = draw(st.sampled_from(contents) | damaged(contents) | st.binary(max_size=40))
    text = base64.b64encode(content).decode()
    start = draw(
        st.just("")
        | st.sampled_from(
            [
                "data:image/png;base64,",
                "data:;base64,",
                "DATA:image/jpeg;x=y;base64,",
                "data:",
                "data:,",
                "data:text/plain,",
                "https://",
                "file:///",
                "%",
            ]
        )
    )
    at = draw(st.integers(0, len(text)))
    middle = draw(st.sampled_from(["", "", "=", "\n", " ", "\0", "é", "\ud800", "-_", "%3D"]))
    return draw(st.just(start + text[:at] + middle + text[at:]) | ANY_TEXT)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150)
@given(data=st.data())
def test_any_image_string(ranker: Reranker, files: dict[str, bytes], data: st.DataObject) -> None:
    text = data.draw(image_strings(list(files.values())))
    assert_score_or_error(ranker, Query.text("q"), Document((Image(text),)))
    try:
        score = ranker.compute_score([["q", text]], doc_type="image", max_length=2048)
    except SightrankError as error:
        assert_speaks(error)
    else:
        assert isinstance(score, float) and 0 <= score <= 1
