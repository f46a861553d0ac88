"""Copies: found by words and looks, none between what differs, kept beside an index."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from sightrank.analysis import kept
from sightrank.analysis.dedup import groups
from sightrank.analysis.neighbours import near_pairs
from sightrank.analysis.signatures import Signature, signature, word_vector
from sightrank.config import SIGNATURES_FILE
from sightrank.errors import DamageWarning, MissingExtraError
from sightrank.inputs.files import FileLimits
from sightrank.types import Document
from tests.cli.conftest import DEMO
from tests.command import status

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "one",
    "lazy",
    "dog",
    "while",
    "seven",
    "old",
    "owls",
    "watch",
    "from",
    "their",
    "tree",
]


def text(seed: int, count: int = 60) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, count))


def page(seed: int, size: tuple[int, int] = (420, 588)) -> Image.Image:
    """Lines of different lengths, as print looks from afar."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    y = 60
    while y < size[1] - 60:
        draw.rectangle((50, y, 50 + int(random.integers(40, size[0] - 100)), y + 9), fill="black")
        y += 16 + 20 * int(random.random() < 0.2)
    return image


def sign(*values: object) -> list[Signature]:
    return [signature(Document.of(value), FileLimits()) for value in values]


def places(found: list[Signature]) -> list[list[int]]:
    return [[member.index for member in group.members] for group in groups(found)]


def test_words_are_known_again_in_another_order_and_case() -> None:
    first, second = text(1), text(2)
    moved = f"{second}\n\n{first.upper()}"
    assert places(sign(f"{first}\n{second}", text(3), moved, text(4))) == [[0, 2]]


def test_a_picture_is_known_again_smaller_cropped_and_scanned() -> None:
    whole = page(1)
    noise = np.random.default_rng(0).normal(0, 8, (588, 420, 1))
    turned = whole.rotate(0.8, Image.Resampling.BICUBIC, fillcolor="white")
    pixels = np.clip(np.asarray(turned.filter(ImageFilter.GaussianBlur(0.6))) + noise, 0, 255)
    variants = [
        whole.resize((252, 353)),
        whole.crop((30, 40, 400, 560)),
        Image.fromarray(pixels.astype(np.uint8)),
    ]
    found = sign(whole, page(2), *variants, page(3))
    assert places(found) == [[0, 2, 3, 4]]
    (group,) = groups(found)
    assert group.keep == 0 and group.why == "the first of equals"  # the scan has as many pixels


def test_what_has_neither_ink_nor_words_is_a_copy_of_its_equals_alone() -> None:
    blank = [Image.new("RGB", (60, 60), colour) for colour in ("white", "black", "white")]
    assert places(sign(*blank, "...", "?!")) == [[0, 2]]


def test_equal_documents_are_one_group_however_many() -> None:
    found = sign(*["same words here again"] * 40, "other words stand there")
    assert places(found) == [list(range(40))]
    assert {member.because for member in groups(found)[0].members} == {"content"}


def made(**changes: object) -> Signature:
    values: dict[str, object] = {
        "digest": np.random.default_rng(len(str(changes))).bytes(32),
        "words": np.ones(512, np.int8),
        "look": np.zeros(1024, np.int8),
        "widths": np.full(512, -128, np.int8),
        "num_pixels": 0,
        "num_characters": 10,
    }
    return Signature(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("members", "keep", "why"),
    [
        ([{}, {"num_pixels": 9}, {"num_pixels": 99, "num_characters": 0}], 1, "text layer"),
        ([{"num_characters": 99}, {"num_pixels": 9}], 1, "both"),
        ([{"num_pixels": 9}, {"num_pixels": 99}], 1, "most pixels"),
        ([{}, {"num_characters": 99}], 1, "longest text"),
        ([{}, {"num_characters": 10, "digest": b"x" * 32}], 0, "first of equals"),
    ],
)
def test_which_is_kept_and_why(members: list[dict[str, object]], keep: int, why: str) -> None:
    (group,) = groups([made(**{"digest": bytes([n]) * 32, **m}) for n, m in enumerate(members)])
    assert group.keep == keep and why in group.why


def test_pages_that_look_alike_and_say_other_things_are_no_copies() -> None:
    look = np.ones(1024, np.int8)
    words = np.stack([np.arange(512) % 2, np.arange(512) % 2 == 0]).astype(np.int8)
    found = [made(look=look, words=each, digest=bytes([n]) * 32) for n, each in enumerate(words)]
    assert groups(found) == []
    assert len(groups([found[0], made(look=look, words=words[1] * 0, digest=b"y" * 32)])) == 1


def test_no_documents_have_no_copies() -> None:
    assert groups([]) == []


def many(count: int, copies: int) -> NDArray[np.int8]:
    """Random bytes; the last `copies` rows are the first ones, a little changed."""
    random = np.random.default_rng(0)
    vectors = random.integers(-90, 91, (count, 64))
    vectors[count - copies :] = vectors[:copies] + random.integers(-5, 6, (copies, 64))
    return vectors.astype(np.int8)


@pytest.mark.parametrize("count", [300, 2500])
def test_all_pairs_and_an_index_find_the_same(count: int) -> None:
    found = near_pairs(many(count, 40), 0.9)
    assert [(i, j) for i, j, _ in found] == [(n, count - 40 + n) for n in range(40)]
    assert all(0.9 <= cosine <= 1.001 for _, _, cosine in found)


def test_without_usearch_few_documents_do_and_many_are_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    assert len(near_pairs(many(300, 40), 0.9)) == 40
    with pytest.raises(MissingExtraError, match="2,500 documents") as raised:
        near_pairs(many(2500, 40), 0.9)
    assert raised.value.hint == "pip install 'sightrank[dedup]'"


def test_rows_of_zeros_are_near_nothing() -> None:
    assert near_pairs(np.zeros((4, 8), np.int8), 0.5) == []


def test_the_cosine_of_words_is_near_the_share_of_common_runs() -> None:
    first, second = text(1, 400), text(2, 400)
    half = word_vector(first + " " + second), word_vector(first + " " + text(3, 400))
    cosine = half[0] @ half[1] / np.linalg.norm(half[0]) / np.linalg.norm(half[1])
    assert cosine == pytest.approx(0.5, abs=0.12)


def test_a_page_and_its_text_are_copies_by_its_text_layer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sightrank.inputs.pdf import page_text

    pdf = DEMO / "xfig-howto.pdf"
    (tmp_path / "p3.txt").write_text(page_text(pdf, 3, FileLimits()), encoding="utf-8")
    assert status("dedup", tmp_path, f"{pdf}#pages=2-4", "--json") == 0
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert group["keep"] == f"{pdf}#page=3" and "text layer" in group["why"]
    assert [member["index"] for member in group["members"]] == [0, 2]


def test_only_new_documents_of_an_index_are_read(
    tmp_path: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, notes = tmp_path / "i.index", tmp_path / "notes"
    notes.mkdir()
    for name, seed in (("a", 1), ("b", 2)):
        (notes / f"{name}.txt").write_text(text(seed))
    index = ("index", notes, "--to", folder, "--model", checkpoint)
    assert status(*index) == 0
    assert status("dedup", "--index", folder) == 0
    assert "No copies among 2 documents." in capsys.readouterr().out
    (notes / "c.txt").write_text(text(1) + " more")
    assert status(*index) == 0
    asked: list[str | None] = []

    def watched(document: Document, limits: FileLimits) -> Signature:
        asked.append(document.name)
        return signature(document, limits)

    monkeypatch.setattr("sightrank.analysis.signatures.signature", watched)
    capsys.readouterr()
    assert status("dedup", "--index", folder) == 0
    assert asked == [str(notes / "c.txt")]
    out = capsys.readouterr().out
    assert "3 documents, 1 with copies; 1 could go." in out
    assert f"keep {notes / 'c.txt'}  (the longest text)" in out
    assert status(*index) == 0, "it is still an index"


def test_what_is_kept_comes_back_and_damage_is_noticed(tmp_path: Path) -> None:
    found = {bytes([n]) * 32: one for n, one in enumerate(sign(text(1), page(1)))}
    kept.write(tmp_path, found)
    again = kept.read(tmp_path)
    assert again.keys() == found.keys()
    for key, one in found.items():
        assert (again[key].digest, again[key].num_pixels) == (one.digest, one.num_pixels)
        np.testing.assert_array_equal(again[key].words, one.words)
        np.testing.assert_array_equal(again[key].look, one.look)
        np.testing.assert_array_equal(again[key].widths, one.widths)
    path = tmp_path / SIGNATURES_FILE
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.warns(DamageWarning, match="made anew"):
        assert kept.read(tmp_path) == {}


def test_states_of_the_model_join_what_it_sees_alike(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in (("a", "tea and milk"), ("b", "milk and tea"), ("c", text(5))):
        (tmp_path / f"{name}.txt").write_text(content)
    arguments = ("dedup", tmp_path, "--model", checkpoint, "--json")
    assert status(*arguments) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == []
    assert status(*arguments, "--states", 0.9) == 0
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert [member["because"] for member in group["members"]] == ["states", "states"]


def test_what_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("tea")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert status("dedup", tmp_path, "--strict") == 1
    out, err = capsys.readouterr()
    assert "No copies among 1 document." in out and "bad.png" in err
    assert status("dedup", tmp_path / "bad.png") == 1
    assert "None of 1 documents could be read" in capsys.readouterr().err
