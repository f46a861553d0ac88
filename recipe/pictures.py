"""The picture pack: small pictures and what they are called in many languages, in one .npz.

`python -m recipe.pictures` draws and reads them from what `recipe.fetch` left in `.data/packages/`,
tokenises their names with `.data/tokenizer/tokenizer.json` and writes `.data/pack/pictures.npz`.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

from recipe import pictures_clipart, pictures_emoji, pictures_figures
from recipe.corpus import LIMITS
from recipe.corpus_passages import split_of
from recipe.fetch import DATA
from recipe.pictures_names import KINDS, Name, Picture
from recipe.ragged import Ragged, as_arrays, read_fields

SIDE = 112
"""Longest side of a stored picture in pixels; as wide as a small figure on a page."""
MAX_NAME_TOKENS = 24
QUALITY = 66
_LEAST_INK = 0.01


@dataclass(frozen=True)
class PicturePack:
    """Pictures and their names. Row i of the names belongs to one picture; those of a picture are
    consecutive, `first_name[picture]` up to `first_name[picture + 1]`."""

    files: NDArray[np.uint8]
    """All WebP files end to end."""
    offsets: NDArray[np.int64]
    """(pictures + 1,): file i is files[offsets[i]:offsets[i + 1]]."""
    source: NDArray[np.int16]
    family: NDArray[np.int32]
    """Pictures of one family show the same thing: other colours, skin tones, drafts, artists."""
    valid: NDArray[np.bool_]
    """Whole families are set apart for validation."""
    mirrors: NDArray[np.bool_]
    """Whether the mirror image has the same names."""
    names: Ragged
    first_name: NDArray[np.int64]
    name_lang: NDArray[np.int16]
    name_kind: NDArray[np.int16]
    langs: tuple[str, ...]
    sources: tuple[str, ...]
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def image(self, row: int) -> Image.Image:
        """Picture `row` as RGBA."""
        file = self.files[self.offsets[row] : self.offsets[row + 1]]
        return Image.open(io.BytesIO(file.tobytes())).convert("RGBA")

    def names_of(self, row: int) -> range:
        """Rows of `names` that name picture `row`; never empty."""
        return range(int(self.first_name[row]), int(self.first_name[row + 1]))

    @classmethod
    def load(cls, path: Path) -> PicturePack:
        """Read what `save` wrote."""
        return cls(**read_fields(path))

    def save(self, path: Path) -> None:
        """Write one compressed .npz."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **as_arrays(self))


@dataclass(frozen=True)
class Stored:
    """A picture as the pack keeps it."""

    file: bytes
    source: str
    family: str
    mirrors: bool
    names: tuple[Name, ...]


def build(pictures: Iterable[Picture], tokenizer: Tokenizer) -> PicturePack:
    """Shrink, encode and tokenise; blank pictures and repetitions within a source are left out."""
    kept = clear_names(list(store(pictures)))
    families = {key: number for number, key in enumerate(dict.fromkeys(p.family for p in kept))}
    names = [name for picture in kept for name in picture.names]
    langs, sources = sorted({n.lang for n in names}), sorted({p.source for p in kept})
    rows = [encoding.ids for encoding in tokenizer.encode_batch([name.text for name in names])]
    return PicturePack(
        files=np.frombuffer(b"".join(picture.file for picture in kept), np.uint8),
        offsets=_offsets(len(picture.file) for picture in kept),
        source=np.array([sources.index(picture.source) for picture in kept], np.int16),
        family=np.array([families[picture.family] for picture in kept], np.int32),
        valid=np.array([split_of(picture.family) == "valid" for picture in kept], np.bool_),
        mirrors=np.array([picture.mirrors for picture in kept], np.bool_),
        names=Ragged.of([row[:MAX_NAME_TOKENS] for row in rows]),
        first_name=_offsets(len(picture.names) for picture in kept),
        name_lang=np.array([langs.index(name.lang) for name in names], np.int16),
        name_kind=np.array([KINDS.index(name.kind) for name in names], np.int16),
        langs=tuple(langs),
        sources=tuple(sources),
        kinds=KINDS,
    )


def clear_names(pictures: Sequence[Stored]) -> list[Stored]:
    """Pictures less keywords and descriptions that several families share: they single out none."""
    families: dict[tuple[str, str], set[str]] = defaultdict(set)
    for picture in pictures:
        for name in picture.names:
            families[name.lang, name.text.lower()].add(picture.family)
    return [
        replace(
            picture,
            names=tuple(
                name
                for name in picture.names
                if name.kind == "name" or len(families[name.lang, name.text.lower()]) == 1
            ),
        )
        for picture in pictures
    ]


def _offsets(lengths: Iterable[int]) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(list(lengths), dtype=np.int64)))


def store(pictures: Iterable[Picture]) -> Iterator[Stored]:
    """What of `pictures` is worth keeping, cropped to its ink and at most SIDE pixels wide."""
    known: dict[str, list[NDArray[np.int16]]] = defaultdict(list)
    for picture in pictures:
        image = crop(picture.open())
        if image is None or not picture.names:
            continue
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        look = thumbnail(image)
        if not is_repetition(look, known[picture.source]):
            known[picture.source].append(look)
            yield Stored(
                encode(image), picture.source, picture.family, picture.mirrors, picture.names
            )


def crop(image: Image.Image) -> Image.Image | None:
    """The part of an RGBA picture that shows something; None if hardly anything does."""
    if image.getchannel("A").getextrema() == (255, 255):  # paper may still be white, not clear
        white = Image.new("RGBA", image.size, "white")
        shown = np.abs(np.asarray(image, np.int16) - np.asarray(white, np.int16)).max(axis=2) > 8
    else:
        shown = np.asarray(image.getchannel("A")) > 8
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    if shown.mean() < _LEAST_INK:
        return None
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    cropped = image.crop(box)
    return cropped if min(cropped.size) * 8 >= max(cropped.size) else None


def thumbnail(image: Image.Image) -> NDArray[np.int16]:
    """A picture's look in 577 numbers: 12 by 12 pixels, their opacity, and how oblong it is."""
    tiny = np.asarray(image.resize((12, 12), Image.Resampling.BOX), np.int16)
    ink = tiny[..., :3] * (tiny[..., 3:] / 255)
    oblong = 64 * np.log2(image.width / image.height)
    return np.concatenate((ink.ravel(), tiny[..., 3].ravel(), [oblong])).astype(np.int16)


def is_repetition(look: NDArray[np.int16], known: Sequence[NDArray[np.int16]]) -> bool:
    """Whether a known picture differs in nothing but size and a little noise."""
    if not known:
        return False
    difference = np.abs(np.stack(known) - look)
    return bool(((difference.mean(axis=1) < 2) & (difference.max(axis=1) < 32)).any())


def encode(image: Image.Image) -> bytes:
    """A WebP file: of the formats with transparency by far the smallest."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, alpha_quality=QUALITY, method=4)
    return buffer.getvalue()


def read_all(packages: Path, langs: Sequence[str]) -> Iterator[Picture]:
    """Pictures of every source; one that is missing is named on stderr and skipped."""
    sources = {
        "emoji": partial(pictures_emoji.emoji, packages, langs),
        "clipart": partial(pictures_clipart.clipart, packages),
        "figures": partial(pictures_figures.figures, packages, langs),
    }
    for name, source in sources.items():
        try:
            yield from source()
        except OSError as error:
            hint = "fetch it with python -m recipe.fetch"
            print(f"{name}: cannot be read ({error}); {hint}", file=sys.stderr)


def summary(pack: PicturePack) -> dict[str, Any]:
    """Counts of pictures by source and of names by language."""
    sizes = np.diff(pack.offsets)
    return {
        "pictures": len(pack),
        "families": len(set(pack.family.tolist())),
        "valid": int(pack.valid.sum()),
        "mirrors": int(pack.mirrors.sum()),
        "sources": {
            name: {
                "pictures": int((pack.source == number).sum()),
                "valid": int((pack.valid & (pack.source == number)).sum()),
                "bytes": int(sizes[pack.source == number].sum()),
            }
            for number, name in enumerate(pack.sources)
        },
        "names": len(pack.names),
        "kinds": _counts(pack.name_kind, pack.kinds),
        "tokens": len(pack.names.flat),
        "langs": _counts(pack.name_lang, pack.langs),
    }


def _counts(numbers: NDArray[np.int16], labels: Sequence[str]) -> Mapping[str, int]:
    counts = Counter(numbers.tolist())
    return {labels[number]: count for number, count in counts.most_common()}


def main() -> None:
    """Build the picture pack and print what is in it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    data = parser.parse_args().data
    tokenizer = Tokenizer.from_file(str(data / "tokenizer" / "tokenizer.json"))
    langs = [lang for lang in LIMITS if lang != "code"]
    pack = build(read_all(data / "packages", langs), tokenizer)
    path = data / "pack" / "pictures.npz"
    pack.save(path)
    print(json.dumps({**summary(pack), "bytes": path.stat().st_size}))


if __name__ == "__main__":
    main()
