"""Encoder: prefix + suffix = pair, truncation, keys, and arbitrary input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sightrank.config import InputConfig
from sightrank.errors import AspectRatioError, SightrankError, TooLongError
from sightrank.inputs import pdf
from sightrank.inputs.segments import Encoder, Segment, SpecialIds
from sightrank.inputs.tokenizer import Tokenizer
from sightrank.types import Document, Query

RED = PIL.Image.new("RGB", (56, 84), "red")
WIDE = PIL.Image.new("RGB", (280, 56), "blue")
LONG = "The total revenue über 4,5 million. " * 400
SHARED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=60,
)
MakeEncoder = Callable[..., Encoder]


def assert_adds_up(encoder: Encoder, query: Query, document: Document) -> tuple[Segment, Segment]:
    prefix = encoder.document(document)
    suffix = encoder.suffix(prefix, encoder.query(query))
    whole = encoder.pair(query, document)
    kept = len(prefix) - suffix.rewind
    np.testing.assert_array_equal(np.concatenate([prefix.ids[:kept], suffix.ids]), whole.ids)
    np.testing.assert_array_equal(
        np.concatenate([prefix.positions[:, :kept], suffix.positions], axis=1), whole.positions
    )
    digests = [image.digest for image in (*prefix.images, *suffix.images)]
    assert digests == [image.digest for image in whole.images]
    assert suffix.next_position == whole.next_position
    assert whole.truncated == (prefix.truncated or suffix.truncated)
    assert len(whole) <= encoder.config.max_length
    assert whole.ids[-1] == encoder.special.score
    assert whole.ids.dtype == whole.positions.dtype == np.int32
    pads = int((whole.ids == encoder.special.image).sum())
    assert pads == sum(image.num_tokens for image in whole.images)
    return prefix, suffix


DOCUMENTS: list[Any] = ["short!", LONG, RED, [RED, "caption", WIDE], [RED, LONG, WIDE, LONG]]
QUERIES: list[Any] = ["what?", "\n\nwhat?", LONG, WIDE, [RED, LONG], ["\nlike", RED], "\r\n" + LONG]


@pytest.mark.parametrize("length", [1024, 10_240])
@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("query", QUERIES)
def test_prefix_and_suffix_are_the_pair(
    make_encoder: MakeEncoder, query: Any, document: Any, length: int
) -> None:
    encoder = make_encoder(max_length=length)
    assert_adds_up(encoder, Query.of(query), Document.of(document))


def test_rewind_is_recorded_and_positions_continue(encoder: Encoder) -> None:
    prefix, suffix = assert_adds_up(encoder, Query.of("\nwhat?"), Document.of(WIDE))
    assert suffix.rewind > 0
    assert suffix.positions[0, 0] == prefix.next_position - suffix.rewind
    assert prefix.next_position < len(prefix) - 5  # 2 x 10 visual tokens advance by 10


def test_a_text_is_cut_as_the_released_model_cuts_it(
    make_encoder: MakeEncoder, tokenizer: Tokenizer
) -> None:
    encoder = make_encoder(max_length=1024, max_doc_length=50)
    ids = tokenizer.encode(LONG)
    prefix = encoder.document(Document.of(LONG))
    expected = f"**Document**:\n{tokenizer.decode(ids[:50])}\n**Query**:\n"
    assert prefix.ids.tolist() == tokenizer.encode(expected)
    assert prefix.truncated
    exact = encoder.document(Document.of(tokenizer.decode(ids[:50])))
    assert not exact.truncated
    assert exact.digest == prefix.digest


def test_a_cut_character_becomes_one_replacement_character(
    make_encoder: MakeEncoder, tokenizer: Tokenizer
) -> None:
    text = "\U0001f600" * 20  # four bytes each, no merges
    encoder = make_encoder(max_length=1024, max_doc_length=6)
    ids = encoder.document(Document.of(text)).ids.tolist()
    assert "\U0001f600\ufffd\n" in tokenizer.decode(ids)


def test_truncation_of_documents_does_not_depend_on_the_query(make_encoder: MakeEncoder) -> None:
    encoder = make_encoder(max_length=1024)
    document = Document.of(LONG)
    prefix = encoder.document(document)
    for text in ("a", LONG):
        whole = encoder.pair(Query.of(text), document)
        np.testing.assert_array_equal(whole.ids[: len(prefix)], prefix.ids)


def test_long_queries_lose_their_end_and_keep_the_score_token(make_encoder: MakeEncoder) -> None:
    encoder = make_encoder(max_length=1024)
    prefix, suffix = assert_adds_up(encoder, Query.of(LONG), Document.of("short"))
    assert suffix.truncated
    assert len(prefix) + len(suffix) == 1024
    assert suffix.ids[:-1].tolist() == encoder.query(Query.of(LONG)).ids[: len(suffix) - 1].tolist()


def test_mixed_documents_lose_text_from_the_end_never_images(make_encoder: MakeEncoder) -> None:
    encoder = make_encoder(max_length=1024, max_doc_length=100)
    prefix = encoder.document(Document.of(["first text", RED, LONG, WIDE]))
    text = encoder.tokenizer.decode(prefix.ids.tolist())
    assert "first text" in text
    assert len(prefix.images) == 2
    assert prefix.truncated
    assert len(prefix) <= 100 + 12
    gone = encoder.document(Document.of([LONG, PIL.Image.new("RGB", (280, 280)), "tail"]))
    assert "tail" not in encoder.tokenizer.decode(gone.ids.tolist())


def test_images_that_do_not_fit_are_refused_with_numbers(make_encoder: MakeEncoder) -> None:
    encoder = make_encoder(max_length=1024)
    page = PIL.Image.new("RGB", (1240, 1754))
    with pytest.raises(TooLongError, match=r"first 2 images .* 1477 tokens, max_length 1024"):
        encoder.document(Document.of([page] * 3))
    prefix = encoder.document(Document.of(page))
    with pytest.raises(TooLongError, match="not text"):
        encoder.suffix(prefix, encoder.query(Query.of(page)))
    with pytest.raises(TooLongError, match="not text"):
        encoder.pair(Query.of(page), Document.of(page))


def test_a_long_pdf_is_refused_before_all_of_it_is_drawn(
    make_encoder: MakeEncoder, make_pdf: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    render = pdf.render_page

    def counting(source: Any, page: int, *args: Any, **kwargs: Any) -> Any:
        drawn.append(page)
        return render(source, page, *args, **kwargs)

    monkeypatch.setattr("sightrank.inputs.load.render_page", counting)
    source = make_pdf([str(page) for page in range(50)])
    with pytest.raises(TooLongError, match="fewer pages"):
        make_encoder(max_length=2048).document(Document.pdf(source))
    assert drawn == [1, 2, 3]


def test_image_errors_name_the_document(encoder: Encoder) -> None:
    thin = PIL.Image.new("RGB", (2010, 10))
    with pytest.raises(AspectRatioError, match=r"^banner: "):
        encoder.document(Document.image(thin, name="banner"))


def test_digest_knows_ids_and_pixels(encoder: Encoder) -> None:
    other = PIL.Image.new("RGB", RED.size, "green")
    documents = [Document.of(value) for value in (RED, other, [RED, "x"], "x", "y")]
    assert len({encoder.document(document).digest for document in documents}) == 5
    assert encoder.document(documents[0]).digest == encoder.document(Document.of(RED)).digest


def test_settings_know_everything_that_shapes_a_prefix(
    tokenizer: Tokenizer, tokenizer_json: str, special: SpecialIds
) -> None:
    other_special = SpecialIds(special.image, special.vision_start, special.vision_end, 7)
    encoders = [
        Encoder(tokenizer, special),
        Encoder(tokenizer, special, InputConfig(max_pixels=100_000)),
        Encoder(tokenizer, special, InputConfig(max_length=2048)),
        Encoder(tokenizer, other_special),
        Encoder(Tokenizer(tokenizer_json + " "), special),
    ]
    assert len({encoder.settings() for encoder in encoders}) == 5
    assert Encoder(tokenizer, special).settings() == encoders[0].settings()


@SHARED
@example(text="\ud800", other="\r\n")
@example(text="\0", other="<|image_pad|>")
@given(
    text=st.text(st.characters(exclude_categories=()), max_size=40),
    other=st.text(max_size=40),
)
def test_any_text_is_a_segment_or_an_error_of_ours(
    make_encoder: MakeEncoder, text: str, other: str
) -> None:
    encoder = make_encoder(max_length=64, max_query_length=20)
    try:
        assert_adds_up(encoder, Query.of(text), Document.of([other, text]))
    except SightrankError as error:
        str(error).encode()
        assert not text.strip()
