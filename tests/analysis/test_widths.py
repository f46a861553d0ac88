"""Copies that only the widths of words tell: print in another font, beside its text, in another order."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from sightrank.analysis import kept
from sightrank.analysis.dedup import groups
from sightrank.analysis.runs import LEAST, common, shared, sketch
from sightrank.analysis.signatures import Signature, signature
from sightrank.analysis.widths import MOST, NONE, of_picture, of_text
from sightrank.analysis.widths import kept as row
from sightrank.config import SIGNATURES_FILE
from sightrank.engine.prefix_store import sealed
from sightrank.inputs.files import FileLimits
from sightrank.types import Document
from tests.command import status

ENGLISH = (
    "The harbour was quiet when the first boats came home in the grey light of the morning. Women"
    " waited on the stones with baskets, and a boy counted the masts aloud as each one passed the"
    " lighthouse.",
    "Nobody spoke about the storm. The old fishermen mended their nets, drank strong coffee from tin"
    " cups and looked at the sky as if it were a neighbour who owes money and never remembers.",
    "Later, after the auction, the market smelled of salt and diesel, and the children were allowed"
    " to choose a crab to carry to the kitchen, where their grandmother pretended to be frightened.",
)
GERMAN = (
    "Der Hafen lag still, als die ersten Boote im grauen Licht des Morgens heimkehrten. Frauen"
    " warteten mit Körben auf den Steinen, und ein Junge zählte laut die Masten, sooft einer am"
    " Leuchtturm vorüberzog.",
    "Über den Sturm sprach niemand. Die alten Fischer flickten ihre Netze, tranken starken Kaffee aus"
    " Blechtassen und sahen zum Himmel, als wäre er ein Nachbar, der Geld schuldet und es vergisst.",
    "Später, nach der Versteigerung, roch der Markt nach Salz und Diesel, und die Kinder durften einen"
    " Krebs aussuchen und in die Küche tragen, wo die Großmutter tat, als erschräke sie.",
)
OTHERS = (
    "A carpenter measures twice because wood does not forgive. She marks the board with a knife and"
    " not with a pencil, since a scratch has no thickness, and only then reaches for the saw that"
    " hangs behind the door.",
    "Glue comes next, thinly, on both faces. Clamps hold everything overnight while the workshop"
    " cools, and in the morning a plane takes off whatever was squeezed out along the seam. Varnish"
    " is optional; patience, as her teacher used to repeat, certainly is not.",
)


def page(paragraphs: tuple[str, ...], font: str = "DejaVuSans", size: int = 13) -> Image.Image:
    """Print on a page of 420 x 588 pixels."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    face = ImageFont.truetype(str(path), size)
    image = Image.new("RGB", (420, 588), "white")
    draw, y = ImageDraw.Draw(image), 40.0
    for paragraph in paragraphs:
        line = ""
        for word in [*paragraph.split(), ""]:
            if not word or face.getlength(f"{line} {word}") > 350:
                draw.text((35, y), line, font=face, fill="black")
                line, y = word, y + 1.4 * size
            else:
                line = f"{line} {word}".strip()
        y += 0.7 * size
    return image


def scanned(picture: Image.Image) -> Image.Image:
    turned = picture.rotate(0.9, Image.Resampling.BICUBIC, fillcolor="white")
    noise = np.random.default_rng(0).normal(0, 8, (picture.height, picture.width, 1))
    pixels = np.asarray(turned.filter(ImageFilter.GaussianBlur(0.5))) + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def sign(*values: object) -> list[Signature]:
    return [signature(Document.of(value), FileLimits()) for value in values]


def places(*values: object) -> list[list[int]]:
    return [[member.index for member in group.members] for group in groups(sign(*values))]


COPIES = {
    "another font": page(ENGLISH, "STIXGeneral", 16),
    "another font, scanned": scanned(page(ENGLISH, "DejaVuSerif", 14)),
    "paragraphs moved": page(ENGLISH[1:] + ENGLISH[:1]),
    "light on dark": page(ENGLISH, "STIXGeneral", 15).point(lambda level: 255 - level),
    "its text": "\n".join(ENGLISH),
    "its text, moved": "\n\n".join(ENGLISH[1:] + ENGLISH[:1]),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
def test_a_picture_of_print_is_known_again(copy: object) -> None:
    found = sign(page(OTHERS), page(ENGLISH), page(GERMAN), copy, "\n".join(OTHERS[::-1]))
    assert [[m.index for m in group.members] for group in groups(found)] == [[0, 4], [1, 3]]
    assert {m.because for group in groups(found) for m in group.members} == {"widths"}


def test_a_translation_is_another_document_whatever_it_looks_like() -> None:
    assert places(page(ENGLISH), page(GERMAN), "\n".join(GERMAN)) == [[1, 2]]


def test_pages_that_look_alike_and_have_other_words_are_no_copies() -> None:
    one, other, unread = sign(page(ENGLISH), page(OTHERS), Image.new("RGB", (9, 9)))
    look = np.ones(1024, np.int8)
    almost = np.where(np.arange(1024) < 60, -1, 1).astype(np.int8)  # a cosine of 0.88
    same, alike, unknown = (
        Signature(each.digest, each.words, seen, each.widths, 1, 0)
        for each, seen in ((one, look), (other, almost), (unread, almost))
    )
    assert groups([same, alike]) == []
    assert len(groups([same, unknown])) == 1, "without words the look decides"


def test_what_says_too_little_is_no_copy_of_anything() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    few = " ".join(ENGLISH[0].split()[: LEAST - 1])
    blank = Image.new("RGB", (300, 200), "white")
    assert places(page((few,)), few, blank, Image.fromarray(photo), "tea", page(("tea",))) == []
    assert not len(of_picture(blank))


def test_words_all_as_wide_as_another_tell_nothing() -> None:
    table = row(np.full(60, 3.0))
    assert shared(table, table) is None and not sketch(table).any()


def test_a_text_that_is_a_small_part_of_another_is_no_copy() -> None:
    long = row(of_text(" ".join(ENGLISH + OTHERS)))
    assert shared(row(of_text(ENGLISH[0])), long) is None


def test_widths_are_of_the_words_in_order() -> None:
    assert of_text("ill WORM  être") == pytest.approx([1.5, 6.6, 3.4])
    assert not len(of_text(" \n"))
    found = of_picture(page(ENGLISH))
    words = of_text(" ".join(ENGLISH))
    assert len(found) == len(words)
    assert np.corrcoef(found, words)[0, 1] > 0.98


def test_columns_are_read_one_after_the_other() -> None:
    sheet = Image.new("RGB", (860, 588), "white")
    for left, paragraphs in ((0, ENGLISH), (430, OTHERS)):
        sheet.paste(page(paragraphs), (left, 0))
    assert places(sheet, "\n".join(ENGLISH + OTHERS)) == [[0, 1]]


def test_the_first_words_of_a_long_document_are_kept() -> None:
    some = row(np.array([1.0, 2.0, 4.0]))
    assert some[:3].tolist() == [-16, 0, 16] and (some[3:] == NONE).all()
    assert (row(np.arange(1.0, 2 * MOST)) != NONE).all()


def test_only_pairs_with_one_that_is_asked_for_are_compared() -> None:
    rows = np.stack([row(of_text("\n".join(each))) for each in (ENGLISH, ENGLISH[::-1], OTHERS)])
    assert common(rows, np.zeros(3, bool), 0.5) == []
    assert [pair[:2] for pair in common(rows, np.array([False, True, False]), 0.5)] == [(0, 1)]


def test_an_index_keeps_widths_and_takes_an_older_file_for_none(
    tmp_path: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    folder, pages = tmp_path / "i.index", tmp_path / "pages"
    pages.mkdir()
    page(ENGLISH).save(pages / "a.png")
    assert status("index", pages, "--to", folder, "--model", checkpoint) == 0
    assert status("dedup", "--index", folder) == 0
    (one,) = kept.read(folder).values()
    assert (one.widths != NONE).sum() == sum(len(each.split()) for each in ENGLISH)
    older = sealed({"keys": torch.zeros(1, 32, dtype=torch.int8)}, "signatures 1")
    (folder / SIGNATURES_FILE).write_bytes(older)
    assert kept.read(folder) == {}
    (tmp_path / "a.txt").write_text("\n".join(ENGLISH))
    capsys.readouterr()
    assert status("dedup", tmp_path / "a.txt", "--index", folder, "--json") == 0
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert group["keep"] == str(pages / "a.png") and len(kept.read(folder)) == 1
    assert not recwarn.list
