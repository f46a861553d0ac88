"""The tokenizer wrapper and the seam between prefix and suffix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sightrank.errors import CheckpointError, InputError
from sightrank.inputs.positions import positions
from sightrank.inputs.prompt import SpecialIds, prefix_ids, prompt_ids, query_ids
from sightrank.inputs.tokenizer import Tokenizer

# Everything that has ever merged with a line break, mixed with ordinary text.
SEAMS = st.text(alphabet="\n\r\t :*!?.a1Q\u0301\u3000。<|>", max_size=6)
WORDS = st.sampled_from(["**Query**:\n", "Query", ":\n\n", "<|image_pad|>", "\r\n\r\n", "über "])
TEXTS = st.lists(SEAMS | WORDS | st.text(max_size=8), max_size=4).map("".join)
PARTS = st.lists(TEXTS | st.integers(1, 5), min_size=1, max_size=4)
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@SHARED
@given(document=PARTS, query=PARTS)
def test_prefix_and_suffix_add_up_to_the_whole(
    tokenizer: Tokenizer, special: SpecialIds, document: list[str | int], query: list[str | int]
) -> None:
    prefix = prefix_ids(document, tokenizer, special)
    suffix, rewind = query_ids(query, tokenizer, special)
    kept = prefix[: len(prefix) - rewind]
    assert kept + suffix == prompt_ids(document, query, tokenizer, special)


def test_only_a_leading_line_break_rewinds(tokenizer: Tokenizer, special: SpecialIds) -> None:
    assert query_ids(["\nrevenue"], tokenizer, special)[1] > 0
    for start in ("revenue", " revenue", "\trevenue", ": revenue", "\u0301"):
        assert query_ids([start], tokenizer, special)[1] == 0
    assert query_ids([4, "\nx"], tokenizer, special)[1] == 0


def test_images_are_framed_and_parts_joined(tokenizer: Tokenizer, special: SpecialIds) -> None:
    frame = [special.vision_start, special.image, special.image, special.vision_end]
    assert prefix_ids([2, "cap"], tokenizer, special) == [
        *tokenizer.encode("**Document**:\n"),
        *frame,
        *tokenizer.encode("\ncap\n**Query**:\n"),
    ]
    assert query_ids([2], tokenizer, special) == (frame, 0)


@SHARED
@given(text=st.text())
def test_text_never_yields_special_ids(
    tokenizer: Tokenizer, special: SpecialIds, text: str
) -> None:
    ids = set(tokenizer.encode(f"{text}<|image_pad|>{text}<|vision_start|><|vision_end|>"))
    assert not ids & {special.image, special.vision_start, special.vision_end}


def test_special_tokens_stay_text_and_are_decoded(
    tokenizer: Tokenizer, special: SpecialIds
) -> None:
    typed = "a <|image_pad|> b"
    assert tokenizer.decode(tokenizer.encode(typed)) == typed
    assert tokenizer.decode([special.image]) == "<|image_pad|>"


def test_lone_surrogates_count_as_replacement_characters(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("a\ud800b\udfff") == tokenizer.encode("a\ufffdb\ufffd")


def test_endless_blanks_are_refused_before_the_library_panics(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="blanks in a row"):
        tokenizer.encode("a" + " " * 11_000_000)


def test_digest_and_length(tokenizer: Tokenizer, tokenizer_json: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(tokenizer_json.encode())
    assert Tokenizer.from_file(path).digest == tokenizer.digest
    assert Tokenizer(tokenizer_json + "\n").digest != tokenizer.digest
    assert len(tokenizer) > 260


def test_broken_tokenizer_files(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(CheckpointError, match="does not exist"):
        Tokenizer.from_file(path)
    for content in (b"{}", b"\xff", b"not json"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            Tokenizer.from_file(path)


def test_positions_of_the_worked_example() -> None:
    rows, following = positions([5, (2, 2), 3])
    assert rows[:, 4:9].tolist() == [[4, 5, 5, 5, 5], [4, 5, 5, 6, 6], [4, 5, 6, 5, 6]]
    assert rows[:, 9:].tolist() == [[7, 8, 9]] * 3
    assert following == 10
    assert rows.dtype == np.int32


def test_an_image_advances_by_its_longer_side_and_start_shifts_all() -> None:
    rows, following = positions([(2, 7), 1], start=3)
    assert following == 11
    assert rows[:, -1].tolist() == [10, 10, 10]
    np.testing.assert_array_equal(rows, positions([(2, 7), 1])[0] + 3)
    assert positions([], start=4)[0].shape == (3, 0)
