"""What each token of a prompt stands for, and the words of a PDF page with their boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightrank.errors import InputError
from sightrank.inputs.files import FileLimits
from sightrank.inputs.pdf import page_text, page_words
from sightrank.inputs.prompt import (
    SpecialIds,
    prefix_ids,
    prefix_places,
    query_ids,
    query_places,
)
from sightrank.inputs.tokenizer import Tokenizer

NANO = Path(__file__).parents[2] / "sightrank" / "nano"
TOKENIZER = Tokenizer.from_file(NANO / "tokenizer.json")
SPECIAL = SpecialIds(image=32766, vision_start=32763, vision_end=32764, score=100)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30) | st.sampled_from(
    ["\nstarts", "ends\n", "\n\n", "äöü 日本 👍🏽", "e\u0301", "<|image_pad|>", "**Query**:\n"]
)
PARTS = st.lists(TEXTS | st.integers(1, 5), min_size=1, max_size=4)


@settings(max_examples=40)
@given(PARTS)
def test_places_go_with_the_ids_and_stay_inside_their_parts(parts: list[str | int]) -> None:
    ids, places = prefix_places(parts, TOKENIZER, SPECIAL)
    assert ids == prefix_ids(parts, TOKENIZER, SPECIAL)
    assert len(ids) == len(places.part) == len(places.start) == len(places.end)
    for number, part in enumerate(parts):
        own = places.part == number
        size = len(part) if isinstance(part, str) else part
        assert (places.start[own] >= 0).all() and (places.end[own] <= size).all()
        assert (places.start[own] < places.end[own]).all()
        assert (places.start[own][1:] >= places.start[own][:-1]).all()
        if isinstance(part, int):
            assert places.start[own].tolist() == list(range(part))
            assert all(ids[at] == SPECIAL.image for at in own.nonzero()[0])


@given(st.lists(st.text("abc xyz", min_size=3, max_size=20), min_size=1, max_size=3))
def test_plain_texts_are_covered_by_their_tokens(texts: list[str]) -> None:
    _, places = prefix_places(list(texts), TOKENIZER, SPECIAL)
    for number, text in enumerate(texts):
        own = places.part == number
        covered = {
            at
            for start, end in zip(places.start[own], places.end[own], strict=True)
            for at in range(start, end)
        }
        assert covered >= {at for at, char in enumerate(text) if char != " "}


@settings(max_examples=40)
@given(PARTS)
def test_a_querys_places_go_with_its_ids(parts: list[str | int]) -> None:
    ids, _ = query_ids(parts, TOKENIZER, SPECIAL)
    assert len(query_places(parts, TOKENIZER, SPECIAL).part) == len(ids)


def test_words_stand_where_they_are_printed(make_pdf: Callable[..., bytes]) -> None:
    source = make_pdf(["Two words"], box=(300, 200))
    found = page_words(source, 1, FileLimits())
    assert (found.width, found.height) == (300, 200)
    assert [word.text for word in found.words] == page_text(source, 1, FileLimits()).split()
    one, two = (word.box for word in found.words)
    for left, top, right, bottom in (one, two):
        assert 0 <= left < right <= 300 and 0 <= top < bottom <= 200
    assert one[2] <= two[0]


def test_a_page_outside_is_refused(make_pdf: Callable[..., bytes]) -> None:
    with pytest.raises(InputError, match="no page 2"):
        page_words(make_pdf(["one"]), 2, FileLimits())


def test_words_take_no_more_than_allowed(make_pdf: Callable[..., bytes]) -> None:
    with pytest.raises(InputError, match="Finding the words"):
        page_words(make_pdf(["many words " * 9]), 1, FileLimits(max_text_bytes=1))
