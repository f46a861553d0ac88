"""Nano on data held out of its training sources: `python -m recipe.validate`.

Every figure is nDCG@10 of the right document among 20, over rounds of 20 queries, where a random order
has about 0.23; but "first_stage", which is among BM25's best. The last line of stdout is one JSON object.
Nothing under an evaluation set is read here.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

from recipe.distil import standard
from recipe.fetch import DATA
from recipe.fonts import Fonts
from recipe.pack import TextPack
from recipe.pictures import PicturePack
from recipe.pictures_sampler import PictureSampler
from recipe.renaming import Renamer
from recipe.render import render_passage
from recipe.words import Words
from sightrank import Document, Query, Reranker
from sightrank.evaluate.first_stage import Bm25

ASKED = 20
AMONG = 40
"""Passages that BM25 finds for a query, among which the right one is looked for."""
PLACES = 40
"""Passages that are looked for in a round; those that BM25 does not find are left out."""
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
LONG = 150
"""Characters of a passage among them, at least: shorter ones are titles themselves."""
Rows = dict[str, dict[str, list[str]]]
"""Language -> group -> texts."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    ranker = Reranker.from_pretrained(arguments.model)
    report = Validation(ranker, arguments.data, arguments.rounds).report()
    print(json.dumps({"fingerprint": ranker.fingerprint, "rounds": arguments.rounds, **report}))


@dataclass
class Validation:
    """A model, the held-out data, and how often to draw from it."""

    ranker: Reranker
    data: Path
    rounds: int

    def __post_init__(self) -> None:
        self.documents = held_out(self.data / "text" / "documents.jsonl")
        self.queries = held_out(self.data / "text" / "queries.jsonl")
        self.pictures = PicturePack.load(self.data / "pack" / "pictures.npz")
        self.fonts = Fonts.discover(self.data / "packages")

    def report(self) -> dict[str, Any]:
        """Every figure."""
        languages = sorted(self.documents)
        return {
            "same_language": self._languages(languages, lambda lang: lang),
            "to_english": self._languages([x for x in languages if x != "en"], lambda _: "en"),
            "pictures": self._pictures(),
            "modality": self._modality(),
            "first_stage": {
                "titles": self._titles(),
                "sentences": self._sentences(),
                "sentences_renamed": self._sentences(self._renamed()),
            },
        }

    def _languages(
        self, languages: Sequence[str], document_language: Callable[[str], str]
    ) -> dict[str, float]:
        """By language of the query; languages with too few groups held out are left out."""
        figures = {}
        for lang in languages:
            known = self.documents[document_language(lang)]
            groups = sorted(self.queries[lang].keys() & known.keys())
            if len(groups) >= ASKED:
                figures[lang] = self._rounds(partial(self._texts, groups, known, lang))
                print(lang, document_language(lang), figures[lang], file=sys.stderr, flush=True)
        return figures

    def _texts(
        self, groups: list[str], known: dict[str, list[str]], lang: str, rng: random.Random
    ) -> float:
        chosen = rng.sample(groups, ASKED)
        asked = [Query.text(rng.choice(self.queries[lang][group])) for group in chosen]
        return self._ndcg(asked, [Document.text(rng.choice(known[group])) for group in chosen])

    def _pictures(self) -> dict[str, float]:
        """Held-out things by their English names, both ways, and by another picture of the same."""
        sampler = PictureSampler(self.pictures, valid=True)
        several = [family for family in sampler.families if len(family) > 1]

        def named(rng: random.Random) -> tuple[list[Image.Image], list[str]]:
            rows = [sampler.draw(rng, family) for family in rng.sample(sampler.families, ASKED)]
            images = [Image.fromarray(sampler.pixels(row, rng)) for row in rows]
            return images, [self._name(row) for row in rows]

        def name_to_picture(rng: random.Random) -> float:
            images, names = named(rng)
            return self._ndcg([Query.text(x) for x in names], [Document.image(x) for x in images])

        def picture_to_name(rng: random.Random) -> float:
            images, names = named(rng)
            return self._ndcg([Query.image(x) for x in images], [Document.text(x) for x in names])

        def picture_to_picture(rng: random.Random) -> float:
            pairs = [rng.sample(list(family), 2) for family in rng.sample(several, ASKED)]
            images = [
                [Image.fromarray(sampler.pixels(int(x), rng)) for x in pair] for pair in pairs
            ]
            asked = [Query.image(first) for first, _ in images]
            return self._ndcg(asked, [Document.image(second) for _, second in images])

        figures = {
            "name_to_picture": self._rounds(name_to_picture),
            "picture_to_name": self._rounds(picture_to_name),
        }
        if len(several) >= ASKED:
            figures["picture_to_picture"] = self._rounds(picture_to_picture)
        return figures

    def _name(self, row: int) -> str:
        names = self.pictures.names_of(row)
        english = self.pictures.langs.index("en")
        chosen = next((n for n in names if self.pictures.name_lang[n] == english), names[0])
        return self.ranker.encoder.tokenizer.decode(self.pictures.names[chosen].tolist())

    def _modality(self) -> dict[str, float]:
        """The same English passages as text and as pictures, for the same queries."""
        gaps, loses, gains = [], [], defaultdict(list)
        groups = sorted(self.queries["en"].keys() & self.documents["en"].keys())
        for number in range(self.rounds):
            rng = random.Random(number)
            chosen = rng.sample(groups, ASKED)
            asked = [Query.text(rng.choice(self.queries["en"][group])) for group in chosen]
            texts = [self.documents["en"][group][0][:500] for group in chosen]
            text = self._logits(asked, [Document.text(x) for x in texts])
            picture = self._logits(
                asked,
                [
                    Document.image(Image.fromarray(render_passage(x, rng, self.fonts).pixels))
                    for x in texts
                ],
            )
            gains["text"].append(ndcg(text))
            gains["picture"].append(ndcg(picture))
            gaps.append(float((text.diagonal() - picture.diagonal()).mean()))
            wrong = np.where(np.eye(ASKED, dtype=bool), -np.inf, text).max(axis=1)
            loses.append(float((wrong > picture.diagonal()).mean()))
        return {
            "ndcg_text": float(np.mean(gains["text"])),
            "ndcg_picture": float(np.mean(gains["picture"])),
            "mean_logit_of_text_less_picture": float(np.mean(gaps)),
            "right_picture_below_a_wrong_text": float(np.mean(loses)),
        }

    def _titles(self) -> dict[str, float]:
        """English titles of held-out topics among BM25's best passages."""
        english = self.documents["en"]
        passages = [(group, text) for group in english for text in english[group]]
        passages = [(group, text[:1000]) for group, text in passages if len(text) >= LONG]
        titled = sorted(self.queries["en"].keys() & dict(passages).keys())
        rng = random.Random(0)
        chosen = rng.sample(titled, min(self.rounds * PLACES, len(titled)))
        asked = [(rng.choice(self.queries["en"][group]), group) for group in chosen]
        return self._first_stage(asked, passages)

    def _sentences(self, written: Callable[[str], str] = str) -> dict[str, float]:
        """Sentences taken out of held-out English passages, asked of what is left of them among BM25's
        best passages, all of it read as `written`. In a long query rare words must count for more."""
        passages = [
            (group, written(text[:1000]))
            for group, texts in self.documents["en"].items()
            for text in texts
            if len(text) >= 2 * LONG
        ]
        rng = random.Random(0)
        asked: list[tuple[str, str]] = []
        for place in rng.sample(range(len(passages)), len(passages)):
            group, text = passages[place]
            sentences = [x for x in SENTENCE_END.split(text) if 10 <= len(x.split()) <= 25]
            if sentences and len(asked) < self.rounds * PLACES:
                sentence = rng.choice(sentences)
                if len(rest := text.replace(sentence, " ")) >= LONG:
                    passages[place] = group, rest
                    asked.append((sentence, group))
        return self._first_stage(asked, passages)

    def _first_stage(
        self, asked: Sequence[tuple[str, str]], passages: Sequence[tuple[str, str]]
    ) -> dict[str, float]:
        """Queries, each with its group, asked of BM25's best of (group, passage) where the right one is
        one of them: nDCG@10 of BM25's order, of the model's, and of the sum of their scores, each at
        one spread. A reranker that knew all that BM25 knows would gain nothing from that sum."""
        bm25 = Bm25([text for _, text in passages])
        gains: dict[str, list[float]] = defaultdict(list)
        for query, group in asked:
            theirs = bm25.scores(query)
            found = np.argsort(-theirs, kind="stable")[:AMONG]
            right = np.array([passages[row][0] == group for row in found])
            if right.any() and not right.all():
                documents = [Document.text(passages[row][1]) for row in found]
                mine = self._logits([Query.text(query)], documents)[0]
                both = standard(theirs[found]) + standard(mine)
                for name, scores in (("bm25", theirs[found]), ("nano", mine), ("both", both)):
                    gains[name].append(_first_right(scores, right))
        figures = {name: round(float(np.mean(values)), 4) for name, values in gains.items()}
        return {"queries": len(gains["nano"]), **figures}

    def _renamed(self) -> Callable[[str], str]:
        """English texts with other words in place of four in five that are not common."""
        pack = TextPack.load(self.data / "pack" / "text.npz")
        words = Words.load(self.data / "pack" / "words.npz")
        tokenizer = Tokenizer.from_file(str(self.data / "tokenizer" / "tokenizer.json"))
        renaming = Renamer(pack, tokenizer, words).begin(np.random.default_rng(0), share=0.8)
        english = pack.langs.index("en")

        def renamed(text: str) -> str:
            tokens = renaming(np.array(tokenizer.encode(" " + text).ids), english)
            return str(tokenizer.decode(tokens.tolist())).strip()

        return renamed

    def _rounds(self, one: Callable[[random.Random], float]) -> float:
        return round(float(np.mean([one(random.Random(n)) for n in range(self.rounds)])), 4)

    def _ndcg(self, asked: Sequence[Query], documents: Sequence[Document]) -> float:
        return ndcg(self._logits(asked, documents))

    def _logits(self, asked: Sequence[Query], documents: Sequence[Document]) -> NDArray[np.float64]:
        """(queries, documents)"""
        pairs = [(q, d) for q in range(len(asked)) for d in range(len(documents))]
        logits = self.ranker.score_matrix(asked, documents, pairs)
        return logits.reshape(len(asked), len(documents))


def ndcg(logits: NDArray[np.float64], depth: int = 10) -> float:
    """nDCG@depth where document i is the only one relevant to query i; ties count against it."""
    ranks = (logits >= logits.diagonal()[:, None]).sum(axis=1)  # from 1, its own tie included
    return float(_gain(ranks, depth).mean())


def _gain(ranks: NDArray[np.int64], depth: int = 10) -> NDArray[np.float64]:
    """nDCG@depth of what is alone relevant, by its rank from 1."""
    return np.where(ranks <= depth, 1 / np.log2(ranks + 1), 0.0)


def _first_right(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """nDCG@10 where the best of what is right is all that counts; ties count against it."""
    return float(_gain(1 + (scores[~right] >= scores[right].max()).sum()))


def held_out(path: Path) -> Rows:
    """The validation rows of a file of the corpus."""
    rows: Rows = defaultdict(lambda: defaultdict(list))
    with path.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["split"] == "valid":
                rows[row["lang"]][row["group"]].append(row["text"])
    return rows


if __name__ == "__main__":
    main()
