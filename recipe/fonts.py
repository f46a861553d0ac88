"""Which installed font can show a text."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont

SYSTEM = Path("/usr/share/fonts")
LATIN = (
    *("DejaVuS", "Liberation", "FreeS", "FreeMono", "NotoSans-", "NotoSerif-", "NotoMono"),
    *(
        "lmroman9",
        "lmroman10",
        "lmroman12",
        "lmsans10",
        "lmmono10",
        "texgyretermes",
        "texgyreheros",
    ),
    *("texgyrepagella", "texgyreschola", "texgyrebonum", "texgyrecursor", "texgyreadventor"),
)
SUFFIXES = {".ttf", ".otf", ".ttc"}
_STYLED = re.compile("bold|italic|oblique|light|black|thin|cond", re.IGNORECASE)
_MISSING = "\U0010fffd"  # no font has it, so it shows as the font's "missing" box


class Fonts:
    """Font files, chosen by what a text needs. Faces are opened once a size."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = sorted(paths)
        self._plain = [path for path in self.paths if not _STYLED.search(path.stem)]
        self.face = lru_cache(maxsize=2048)(_open)
        self._covered: dict[Path, dict[str, bool]] = {path: {} for path in self.paths}

    @classmethod
    def discover(cls, folder: Path | None = None, families: tuple[str, ...] = LATIN) -> Fonts:
        """Fonts of the given families below `folder`, or below the system's folder."""
        found = [
            path
            for path in (folder or SYSTEM).rglob("*")
            if path.suffix.lower() in SUFFIXES and path.stem.startswith(families)
        ]
        if not found:
            raise FileNotFoundError(f"No font below {folder or SYSTEM}; install fonts-dejavu-core.")
        return cls(found)

    def choose(self, text: str, rng: random.Random) -> Path:
        """A font that has every character of `text`; the best of those tried if none has."""
        wanted = {char for char in text if not char.isspace()}
        best, missing = self.paths[0], len(wanted) + 1
        order = rng.sample(self.paths, len(self.paths))
        if rng.random() < 0.5:  # most print is upright and of normal weight
            order[:0] = rng.sample(self._plain, len(self._plain))
        for path in order:
            lacking = sum(not self.has(path, char) for char in wanted)
            if lacking < missing:
                best, missing = path, lacking
            if not missing:
                break
        return best

    def has(self, path: Path, char: str) -> bool:
        """Whether the font shows a character as something else than its "missing" box."""
        known = self._covered[path]
        if char not in known:
            face = self.face(path, 16)
            known[char] = _picture(face, char) != _picture(face, _MISSING)
        return known[char]


def _open(path: Path, size: int) -> FreeTypeFont:
    # The simple layout adds up advances, so the place of each character is exact and drawing is
    # fast. Scripts that need shaping (Arabic, Indic) come out as separate letters.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def _picture(face: FreeTypeFont, char: str) -> bytes:
    return bytes(face.getmask(char))
