"""`compute_score` keeps the released model's signature and meaning."""

from __future__ import annotations

import base64
import inspect
import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from sightrank import Document, InputConfig, Query, Reranker
from sightrank.errors import InputError, OptionError, SightrankError, UnsupportedInputError
from sightrank.types import Image

NOISE = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))
TINY = PIL.Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))


def png(image: PIL.Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def ranker(checkpoint: Path) -> Reranker:
    return Reranker.from_pretrained(checkpoint, device="cpu")


def test_the_signature_is_the_released_one() -> None:
    parameters = inspect.signature(Reranker.compute_score).parameters
    assert {name: value.default for name, value in parameters.items() if name != "self"} == {
        "pairs": inspect.Parameter.empty,
        "batch_size": 8,
        "max_length": 10_240,
        "max_query_length": 512,
        "max_doc_length": None,
        "query_type": "text",
        "doc_type": "text",
        "normalize_scores": True,
        "show_progress": False,
    }


def test_one_pair_is_a_bare_float_and_many_a_list(ranker: Reranker) -> None:
    alone = ranker.compute_score(["q", "d"])
    assert isinstance(alone, float)
    assert ranker.compute_score([["q", "d"]]) == alone
    assert ranker.compute_score([("q", "d"), ("q", "e"), ("q", "d")]) == pytest.approx(
        [alone, ranker.compute_score(["q", "e"]), alone]
    )


def test_scores_are_those_of_score_and_never_logits(ranker: Reranker) -> None:
    pairs = [["q", "one"], ["r", "two"]]
    assert ranker.compute_score(pairs) == ranker.score([("q", "one"), ("r", "two")])
    assert ranker.compute_score(pairs, normalize_scores=False) == ranker.compute_score(pairs)
    assert ranker.compute_score(pairs, batch_size=1) == ranker.compute_score(pairs)


@pytest.mark.parametrize("image", [NOISE, TINY], ids=["noise", "tiny"])
def test_images_as_path_base64_data_uri_and_objects(
    ranker: Reranker, image: PIL.Image.Image, tmp_path: Path
) -> None:
    path = tmp_path / "picture"  # without a suffix
    path.write_bytes(png(image))
    text = base64.b64encode(png(image)).decode()
    expected = ranker.score([("q", Document((Image(image),)))])[0]
    forms: list[Any] = [path, str(path), png(image), image, text, f"data:image/png;base64,{text}"]
    for form in forms:
        assert ranker.compute_score(["q", form], doc_type="image") == expected


@pytest.mark.parametrize("types", [("text", "image"), ("image", "text"), ("image", "image")])
def test_sides_of_either_kind(ranker: Reranker, types: tuple[Any, Any]) -> None:
    values = {"text": "words", "image": base64.b64encode(png(NOISE)).decode()}
    made = {"text": Document.text("words"), "image": Document((Image(NOISE),))}
    query_type, doc_type = types
    score = ranker.compute_score(
        [[values[query_type], values[doc_type]]], query_type=query_type, doc_type=doc_type
    )
    assert score == ranker.score([(Query.of(made[query_type]), made[doc_type])])[0]


def test_base64_without_a_slash_is_not_taken_for_a_file_name(ranker: Reranker) -> None:
    text = base64.urlsafe_b64encode(png(NOISE)).decode()  # thousands of characters, no slash
    assert len(text) > 255 and "/" not in text
    assert isinstance(ranker.compute_score(["q", text[:4000]], doc_type="text"), float)
    assert isinstance(ranker.compute_score(["q", text], doc_type="image"), float)
    with pytest.raises(InputError, match="truncated or damaged"):
        ranker.compute_score(["q", text[:2000]], doc_type="image")


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        ("https://example.org/a.png", UnsupportedInputError, "nothing is fetched here. Fetch it"),
        ("no/such/picture.png", InputError, "picture.png does not exist"),
        ("a\0b.png", InputError, "cannot be read"),
        ("just words", UnsupportedInputError, "neither base64 nor a data URI"),
        ("", InputError, "empty"),
    ],
)
def test_image_strings_that_are_none(
    ranker: Reranker, value: str, error: type[InputError], says: str
) -> None:
    with pytest.raises(error, match=says):
        ranker.compute_score([["q", value]], doc_type="image")


@pytest.mark.parametrize(
    ("pairs", "options", "says"),
    [
        ((), {}, "pairs must be a list"),
        ([], {}, "not empty"),
        ("qd", {}, "pairs must be a list"),
        ((("q", "d"),), {}, "pairs must be a list"),
        ([["q", "d", "e"]], {}, "Pair 0 is 3 values"),
        (["q"], {}, "Pair 0 is 1 values"),
        ([("q", "d"), "qd"], {}, "Pair 1 is str"),
        ([7], {}, "Pair 0 is int"),
        ([("q", None)], {}, "A text is of type NoneType"),
        ([("q", "d")], {"query_type": "video"}, "query_type is 'video'.*'text', 'image'"),
        ([("q", "d")], {"doc_type": None}, "doc_type is None"),
        ([("q", "d")], {"max_length": 1023}, r"over max_length 1023"),
        ([("q", "d")], {"max_length": 2000, "max_doc_length": 1600}, "max_doc_length 1600"),
        ([("q", "d")], {"max_length": 40_000}, "at most 32768"),
        ([("q", "d")], {"max_length": "1024"}, "max_length is '1024'"),
        ([("q", "d")], {"max_query_length": 0}, "at least 1"),
    ],
)
def test_what_the_released_code_asserts_is_an_error_of_ours(
    ranker: Reranker, pairs: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(OptionError, match=says):
        ranker.compute_score(pairs, **options)


def test_the_smallest_length_is_twice_the_query_s(ranker: Reranker) -> None:
    assert isinstance(ranker.compute_score(["q", "d"], max_length=1024), float)
    small = ranker.compute_score(["q", "d"], max_length=100, max_query_length=50)
    assert small == pytest.approx(ranker.compute_score(["q", "d"]))


def test_limits_cut_documents_as_their_names_say(ranker: Reranker) -> None:
    text = " ".join(f"word{number}" for number in range(900))
    whole, cut = (
        ranker.compute_score(["q", text], max_query_length=50, max_doc_length=limit)
        for limit in (None, 100)
    )
    config = InputConfig(max_query_length=50, max_doc_length=100)
    prefix = ranker.with_inputs(config).encoder.document(Document.text(text))
    assert whole != cut and prefix.truncated
    inner = ranker.encoder.tokenizer.decode(
        ranker.encoder.tokenizer.encode(text)[:100]
    )  # what the released code keeps: the text of the first max_doc_length ids
    assert cut == pytest.approx(ranker.compute_score(["q", inner]), abs=1e-6)


def test_a_document_limit_below_the_query_s_is_warned_of(ranker: Reranker) -> None:
    with pytest.warns(UserWarning, match="max_doc_length 100 is below max_query_length 512"):
        ranker.compute_score(["q", "d"], max_doc_length=100)


def test_progress_goes_to_stderr(ranker: Reranker, capsys: pytest.CaptureFixture[str]) -> None:
    ranker.compute_score([["q", "d"], ["q", "e"]], show_progress=True)
    out, err = capsys.readouterr()
    assert out == "" and err.endswith("2/2 pairs\n")


def test_errors_are_all_of_one_family(ranker: Reranker) -> None:
    for value in (b"", b"junk", 7, object()):
        with pytest.raises(SightrankError):
            ranker.compute_score([["q", value]], doc_type="image")
