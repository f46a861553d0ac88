"""Pictures keep their names, families keep to one side, and every draw is fit for the tower."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, models, pre_tokenizers

from recipe import pictures_clipart, pictures_emoji, pictures_figures
from recipe.fetch import DATA
from recipe.pictures import SIDE, PicturePack, build, crop, is_repetition, thumbnail
from recipe.pictures_clipart import Label
from recipe.pictures_names import Name, Picture, can_mirror, kind_of_thing
from recipe.pictures_sampler import PictureSampler, SamplerConfig, canvas_size, paper_for

WORDS = ("apple", "red", "green", "Apfel", "pear", "fruit", "box", "round")


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "apple"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def _disc(colour: str, size: tuple[int, int] = (200, 160)) -> Callable[[], Image.Image]:
    def open_() -> Image.Image:
        image = Image.new("RGBA", size)
        box = (20, 30, size[0] - 30, size[1] - 20)
        ImageDraw.Draw(image).ellipse(box, fill=colour, outline="black", width=6)
        return image

    return open_


def _square() -> Image.Image:
    image = Image.new("RGBA", (90, 90), "white")
    ImageDraw.Draw(image).rectangle((10, 20, 60, 70), fill="navy")
    return image


def _names(*names: tuple[str, str, str]) -> tuple[Name, ...]:
    return tuple(Name(*name) for name in names)


RED = _names(("en", "red apple", "name"), ("en", "round fruit", "more"), ("de", "Apfel", "name"))
GREEN = _names(("en", "green apple", "name"), ("en", "fruit", "more"))
BOX = _names(("en", "box", "name"), ("en", "fruit", "more"))


def _pictures() -> list[Picture]:
    return [
        Picture("clipart", "thing/apple", True, RED, _disc("red")),
        Picture("clipart", "thing/apple", True, GREEN, _disc("green")),
        Picture("clipart", "thing/again", True, GREEN, _disc("green")),
        Picture("figures", "gimp-help/box", False, BOX, _square),
        Picture("figures", "gimp-help/blank", False, BOX, lambda: Image.new("RGBA", (50, 50))),
    ]


def _pack() -> PicturePack:
    return build(_pictures(), _tokenizer())


def _named(pack: PicturePack, row: int) -> list[tuple[str, str, list[int]]]:
    return [
        (pack.langs[pack.name_lang[n]], pack.kinds[pack.name_kind[n]], pack.names[n].tolist())
        for n in pack.names_of(row)
    ]


def test_a_pack_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    pack = _pack()
    pack.save(tmp_path / "pictures.npz")
    loaded = PicturePack.load(tmp_path / "pictures.npz")
    assert loaded.__dict__.keys() == pack.__dict__.keys()
    assert (loaded.langs, loaded.sources, loaded.kinds) == (pack.langs, pack.sources, pack.kinds)
    assert [_named(loaded, row) for row in range(3)] == [_named(pack, row) for row in range(3)]
    assert loaded.image(1).tobytes() == pack.image(1).tobytes()


def test_blank_pictures_and_repetitions_are_left_out() -> None:
    pack = _pack()
    assert [pack.sources[number] for number in pack.source] == ["clipart", "clipart", "figures"]
    assert pack.family.tolist() == [0, 0, 1]
    assert _named(pack, 0) == [("en", "name", [1, 0]), ("en", "more", [7, 5]), ("de", "name", [3])]


def test_keywords_that_several_families_have_are_left_out() -> None:
    assert _named(_pack(), 2) == [("en", "name", [6])]


def test_a_stored_picture_is_cropped_and_small() -> None:
    image = _pack().image(0)
    assert max(image.size) == SIDE
    assert np.asarray(image.getchannel("A"))[:, 0].max() > 0


def test_white_paper_is_cropped_like_clear_paper() -> None:
    cropped = crop(_square())
    assert cropped is not None
    assert cropped.size == (51, 51)
    assert crop(Image.new("RGBA", (50, 50), "white")) is None


def test_a_repetition_is_known_at_another_size_but_not_in_another_colour() -> None:
    red, large = thumbnail(_disc("red")()), thumbnail(_disc("red")().resize((300, 240)))
    assert is_repetition(large, [thumbnail(_square()), red])
    assert not is_repetition(thumbnail(_disc("green")()), [red])
    assert not is_repetition(thumbnail(_disc("red", (200, 120))()), [red])


def test_colours_sizes_and_numbers_make_no_family() -> None:
    assert kind_of_thing("Green Apple 2") == kind_of_thing("red apple") == "apple"
    assert kind_of_thing("black medium square") == "square"
    assert kind_of_thing("Black") == "black"


def test_directions_and_writing_are_not_mirrored() -> None:
    assert can_mirror(["dog", "pet"])
    assert not can_mirror(["backhand index pointing left"])
    assert not can_mirror(["seven o’clock"])


XML = """<ldml><annotations>
<annotation cp="🍎">fruit | red apple | apple</annotation>
<annotation cp="🍎" type="tts">red apple</annotation>
<annotation cp="🍏">↑↑↑</annotation><annotation cp="🍏" type="tts">↑↑↑</annotation>
</annotations></ldml>"""


def test_annotations_hold_names_and_other_keywords(tmp_path: Path) -> None:
    for folder in ("annotations", "annotationsDerived"):
        (tmp_path / folder).mkdir()
    (tmp_path / "annotations" / "pt.xml").write_text(XML, "utf-8")
    overlay = XML.replace("red apple<", "maçã<")
    (tmp_path / "annotations" / "pt_PT.xml").write_text(overlay, "utf-8")
    known = pictures_emoji.read_annotations(tmp_path, "pt-br")
    assert known == {"🍎": pictures_emoji.Annotation("red apple", ("fruit", "apple"))}
    assert pictures_emoji.read_annotations(tmp_path, "pt")["🍎"].name == "maçã"
    assert pictures_emoji.read_annotations(tmp_path, "xx") == {}


def test_variants_of_an_emoji_are_one_family() -> None:
    english = {
        char: pictures_emoji.Annotation(name, ())
        for char, name in {
            "🧑‍🚒": "firefighter",
            "💚": "green heart",
            "❤": "red heart",
            "🕐": "one o’clock",
            "🕧": "twelve-thirty",
        }.items()
    }
    families = {pictures_emoji.family(char, english) for char in ("👨🏽‍🚒", "👩‍🚒", "🧑‍🚒")}
    assert families == {"firefighter"}
    assert pictures_emoji.family("💚", english) == pictures_emoji.family("❤\ufe0f", english)
    assert pictures_emoji.family("🕐", english) == pictures_emoji.family("🕧", english)


def test_one_skin_tone_of_five_is_kept() -> None:
    tones = [chr(0x1F3FB + number) for number in range(5)]
    assert sum(pictures_emoji.keeps_tone("👋" + tone) for tone in tones) == 1
    assert pictures_emoji.keeps_tone("👋")
    assert not any(pictures_emoji.keeps_tone(f"👩{a}‍🤝‍👨{b}") for a in tones for b in tones)


def _label(path: str, title: str, author: str = "Nicu Buculei") -> Label:
    return Label(PurePosixPath(path), title, author, "")


@pytest.mark.parametrize(
    ("path", "title", "name"),
    [
        ("food/potato_nicu_buculei_01.png", "potato", "potato"),
        ("games/dice.png", "Clipart by Nicu Buculei - piggybank", "dice"),
        ("games/smiley116.png", "Clipart by Nicu Buculei - smiley111", "smiley"),
        ("people/red_car_nicu_bucule_.png", "RedCar", "Red Car"),
        ("food/flan_bw.png", "flan bw", "flan"),
        ("signs/aiga_lost_and_found1.png", "AIGA Symbol Signs", "lost and found"),
        ("games/x_7.png", "card", ""),
    ],
)
def test_clip_art_is_named_by_its_title_or_its_file(path: str, title: str, name: str) -> None:
    assert (
        pictures_clipart.name_of(_label(path, title), {title: 20 if "AIGA" in title else 1}) == name
    )


def test_keywords_leave_out_the_name_and_where_they_come_from() -> None:
    drawing = "".join(
        f"<rdf:li>{word}</rdf:li>"
        for word in ("fruit", "red_apple", "", "hash", "a@b.org", "fruit")
    )
    assert pictures_clipart.keywords_of(drawing, "Red Apple") == ["fruit"]


def test_the_language_of_a_title_is_that_of_most_words() -> None:
    known = {"en": {"cat", "house"}, "it": {"gatto", "casa"}}
    assert pictures_clipart.language_of("Gatto nero", known) == "it"
    assert pictures_clipart.language_of("zzz", known) == "en"


FIGURE = ('<div class="figure"><p class="title">Figure 17.41. {title}</p>{objects}</div>').format
OBJECT = (
    '<div class="mediaobject"><img src="{src}" /><div class="caption"><p>{text}</p></div></div>'
).format


def test_a_figure_is_called_by_title_and_caption() -> None:
    both = OBJECT(src="a.png", text="Before") + OBJECT(src="b.png", text="After")
    page = FIGURE(title="Red eyes", objects=both) + FIGURE(
        title="Blur", objects=OBJECT(src="c.png", text="Blurred")
    )
    captions = {"a.png": "Red eyes: Before", "b.png": "Red eyes: After", "c.png": "Blur"}
    assert pictures_figures.captions_of(f"<html>{page}</html>") == captions


def test_figures_that_cannot_be_told_apart_are_left_out() -> None:
    page = FIGURE(title="Noise", objects=OBJECT(src="a.png", text=""))
    page += FIGURE(title="Noise", objects=OBJECT(src="b.png", text=""))
    assert pictures_figures.captions_of(f"<html>{page}</html>") == {}
    assert pictures_figures.captions_of("<html><p></html>") == {}


def test_captions_left_in_english_are_no_translations() -> None:
    english = "Example for layer mode “Hard light”"
    assert pictures_figures.is_translated("Beispiel für den Modus »Faser«", english)
    assert not pictures_figures.is_translated("Example for layer mode «Hard light»", english)
    assert not pictures_figures.is_translated("Here the brush follows the pointer", english)


def test_draws_fit_the_tower_and_repeat_with_the_seed() -> None:
    sampler = PictureSampler(_pack())
    rng, again = random.Random(3), random.Random(3)
    for _ in range(60):
        pixels, name = sampler.picture(rng)
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
        assert all(side % 28 == 0 and 56 <= side <= 168 for side in pixels.shape[:2])
        assert pixels.std() > 2
        assert len(name)
        same, same_name = sampler.picture(again)
        assert np.array_equal(pixels, same)
        assert np.array_equal(name, same_name)


def test_families_are_drawn_equally_and_english_is_favoured() -> None:
    pack, rng = _pack(), random.Random(0)
    sampler = PictureSampler(pack, config=SamplerConfig(english=0.7, more=0.0))
    rows = [sampler.draw(rng) for _ in range(600)]
    assert 230 < sum(pack.family[row] == 1 for row in rows) < 370
    langs = [pack.langs[pack.name_lang[sampler.name(0, rng)]] for _ in range(600)]
    assert 370 < langs.count("en") < 470
    assert langs.count("de") == 600 - langs.count("en")


def test_an_empty_side_is_an_error() -> None:
    with pytest.raises(ValueError, match="none for validation"):
        PictureSampler(_pack(), valid=True)


def test_paper_never_hides_the_picture() -> None:
    rng = random.Random(0)
    for ink in ("white", "black", "grey"):
        image = Image.new("RGBA", (40, 40), ink)
        for _ in range(50):
            paper = np.array(paper_for(image, rng))
            assert np.abs(paper - np.array(image.convert("RGB"))[0, 0]).max() >= 60


def test_a_canvas_is_about_as_oblong_as_its_picture() -> None:
    rng = random.Random(0)
    sizes = [canvas_size((100, 40), (56, 112, 168), rng) for _ in range(200)]
    assert np.mean([width >= height for width, height in sizes]) > 0.95


def test_the_pack_holds_what_it_says() -> None:
    path = DATA / "pack" / "pictures.npz"
    if not path.exists():
        pytest.skip("the pictures are not here; make them with recipe.fetch and recipe.pictures")
    pack = PicturePack.load(path)
    assert path.stat().st_size < 14 * 2**20
    assert set(pack.sources) <= {"emoji", "clipart", "figures"}
    assert (np.diff(pack.first_name) > 0).all()
    assert not set(pack.family[pack.valid].tolist()) & set(pack.family[~pack.valid].tolist())
    assert np.diff(pack.names.offsets).min() > 0
    for valid in (False, True):
        sampler, rng = PictureSampler(pack, valid), random.Random(1)
        for _ in range(20):
            row = sampler.draw(rng)
            assert pack.valid[row] == valid
            assert sampler.pixels(row, rng).std() > 1


def test_emoji_are_drawn_from_the_font() -> None:
    if not (DATA / "packages" / pictures_emoji.FONT).exists():
        pytest.skip("the emoji font is not here; fetch it with python -m recipe.fetch")
    found = {
        name.text: picture
        for picture in pictures_emoji.emoji(DATA / "packages", ["en", "de"])
        for name in picture.names
        if name.kind == "name"
    }
    apple = found["roter Apfel"]
    red, green, _ = np.asarray(apple.open().convert("RGB"), np.int64).sum(axis=(0, 1))
    assert red > 2 * green
    assert apple.family == found["green apple"].family
    assert "en dash" not in found
