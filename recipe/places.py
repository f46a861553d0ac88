"""Names of places in many languages: what the sources have of words spelt by sound in every script.

Manuals leave names as they are; people do not. A name in a passage and the same name as another language
writes it in the query teach the decoder to match what sounds alike.
"""

from __future__ import annotations

import numpy as np

from recipe.layout import Ints
from recipe.pack import TextPack, by_group


class Places:
    """The places of a pack that are held out, or those that are not."""

    def __init__(self, pack: TextPack, valid: bool) -> None:
        self.pack = pack
        self._names = [
            names
            for names in by_group(pack.place_group).values()
            if len(names) > 1 and pack.place_valid[names[0]] == valid  # a place is held out whole
        ]

    def __len__(self) -> int:
        """Places with two names or more."""
        return len(self._names)

    def draw(self, lang: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """A place's name in `lang`, or where there is none in any, and a name in another language
        that is written differently, where there is one."""
        names = self._names[int(rng.integers(len(self._names)))]
        langs = self.pack.place_lang[names]
        own = names[langs == lang]
        here = int(own[0] if len(own) else rng.choice(names))
        tokens = self.pack.places[here]
        others = rng.permutation(names[langs != self.pack.place_lang[here]])
        for other in map(int, others):
            if not np.array_equal(self.pack.places[other], tokens):
                return tokens, self.pack.places[other]
        return tokens, tokens
