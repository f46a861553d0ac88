"""Ranking on rendered documents: text and pictures of text in one list, the vision tower frozen."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor, nn

from recipe.distil import Taught
from recipe.fonts import Fonts
from recipe.grid import join_queries, score_grid
from recipe.layout import Ints, Special
from recipe.lexicon import Lexicon
from recipe.pack import TextPack
from recipe.pictures import PicturePack
from recipe.pictures_sampler import PictureSampler
from recipe.ranking import Body, RankingConfig, TextRanking, distinct, ndcg
from recipe.renaming import Renamer
from recipe.render import render_passage
from recipe.showing import Shown, embed, join
from recipe.trainer import Batch, device_of, to_device
from sightrank.model.multimodal import RerankerModel


@dataclass(frozen=True)
class PageConfig(RankingConfig):
    """A step of ranking in which documents are met as text, as grids of cells and as pictures."""

    picture_share: float = 0.5
    """How many of a step's documents are printed and seen through the vision tower."""
    thing_share: float = 0.0
    """How often a step is made of pictures of things, asked for by their names in any language."""
    things: int = 12
    largest: int = 360
    """Visual tokens of a picture at most."""
    fonts: str | None = None
    """A folder with fonts at any depth; None: the system's."""


class PageRanking(TextRanking):
    """Text ranking in which part of the documents are pictures: of what is alike in the two, the
    model learns to think alike."""

    config: PageConfig

    def __init__(
        self,
        pack: TextPack,
        tokenizer: Tokenizer,
        config: PageConfig,
        special: Special,
        score: int,
        pictures: PicturePack | None = None,
        lexicon: Lexicon | None = None,
        taught: Taught | None = None,
        renamer: Renamer | None = None,
    ) -> None:
        super().__init__(pack, config, special, score, lexicon, taught, renamer)
        self.tokenizer = tokenizer
        self.pictures = pictures
        self.samplers = {
            valid: PictureSampler(pictures, valid) if pictures else None for valid in (False, True)
        }
        self.fonts = Fonts.discover(Path(config.fonts) if config.fonts else None)

    def batches(self, seed: int) -> Iterator[Batch]:
        """Endless steps of training data: of things, or as in `TextRanking`."""
        rng = np.random.default_rng(seed)
        for batch in super().batches(seed):
            if rng.random() < self.config.thing_share:
                yield self.thing_batch(self.config.things, rng, valid=False)
            else:
                yield batch

    def thing_batch(self, count: int, rng: np.random.Generator, valid: bool) -> Batch:
        """Pictures of different things and a name of each; labels (documents, queries)."""
        sampler = self.samplers[valid]
        if sampler is None:
            raise SystemExit("thing_share > 0 needs the picture pack: python -m recipe.pictures")
        chance = random.Random(int(rng.integers(2**31)))
        rows = [sampler.draw(chance, family) for family in chance.sample(sampler.families, count)]
        images = [Image.fromarray(sampler.pixels(row, chance)) for row in rows]
        names = [sampler.pack.names[sampler.name(row, chance)] for row in rows]
        return {
            **join([self._shown(image) for image in images]),
            **join_queries([name[: self.config.query_tokens] for name in names], self.score),
            "labels": torch.eye(count, dtype=torch.bool),
        }

    def _documents_as(
        self, bodies: Sequence[Body], rng: np.random.Generator, grids: float
    ) -> Batch:
        share = self.config.picture_share
        return self.show(bodies, rng, [bool(rng.random() < share) for _ in bodies], grids)

    def show(
        self,
        bodies: Sequence[Body],
        rng: np.random.Generator,
        printed: Sequence[bool],
        grids: float = 0.0,
    ) -> Batch:
        """The documents, those marked in `printed` as pictures."""
        return join(
            [
                self._shown(self._print(body, rng))
                if is_printed
                else self.prefix(body.tokens, rng.random() < grids, rng)
                for body, is_printed in zip(bodies, printed, strict=True)
            ]
        )

    def _shown(self, image: Image.Image) -> Shown:
        return Shown.of(image, self.pack.head, self.pack.tail, self.special)

    def _print(self, body: Body, rng: np.random.Generator) -> Image.Image:
        text = str(self.tokenizer.decode(body.tokens.tolist())).strip() or "-"
        page = render_passage(
            text, random.Random(int(rng.integers(2**31))), self.fonts, self.config.largest
        )
        return Image.fromarray(page.pixels)

    def logits(self, model: RerankerModel, batch: Batch) -> Tensor:
        """(documents, queries); pictures go through the tower first, without gradients."""
        hidden = embed(model, batch, self.config.noise if model.training else 0.0)
        return score_grid(model, hidden, batch)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """nDCG@10 of held-out passages among 20 as text and as pictures, for the same queries; the
        modality gap: mean logit of the relevant text less that of its picture; and how often the
        picture of the right passage loses to the text of a wrong one."""
        assert isinstance(model, RerankerModel)
        rng = np.random.default_rng(1)
        gains: dict[str, list[float]] = {"ndcg_text": [], "ndcg_picture": []}
        gaps, losses = [], []
        for _ in range(3):
            documents = [
                Body(self.pack.documents[i][:100], (i,)) for i in map(int, self._held_out(rng))
            ]
            asked = [self.asking.ask(body.rows[0], body.tokens, rng)[1] for body in documents]
            logits = {}
            for name, printed in (("text", False), ("picture", True)):
                shown = self.show(documents, rng, [printed] * len(documents))
                logits[name] = self._ask(model, shown, asked)
                right = torch.eye(len(documents), dtype=torch.bool)
                gains[f"ndcg_{name}"].append(ndcg(logits[name], right))
            text, picture = logits["text"], logits["picture"]
            gaps.append(float((text.diag() - picture.diag()).mean()))
            wrong = text.masked_fill(torch.eye(len(text), dtype=torch.bool), float("-inf"))
            losses.append(float((wrong.amax(dim=0) > picture.diag()).float().mean()))
        figures = {
            **{name: float(np.mean(values)) for name, values in gains.items()},
            "gap": float(np.mean(gaps)),
            "picture_loses": float(np.mean(losses)),
        }
        if self.samplers[True]:
            figures["ndcg_things"] = self._ndcg_of_things(model, rng)
        return figures

    def _ndcg_of_things(self, model: RerankerModel, rng: np.random.Generator) -> float:
        """nDCG@10 of held-out pictures among 20 for names in any language; chance is about 0.23."""
        gains = []
        for _ in range(3):
            batch = to_device(self.thing_batch(20, rng, valid=True), device_of(model))
            gains.append(ndcg(self.logits(model, batch).float(), batch["labels"]))
        return float(np.mean(gains))

    def _held_out(self, rng: np.random.Generator) -> Ints:
        latin = [self.pack.langs.index(lang) for lang in ("en", "de", "fr", "es")]
        pool = self.valid[np.isin(self.pack.document_lang[self.valid], latin)]
        return distinct(pool, self.pack.document_group, 20, rng)

    def _ask(self, model: RerankerModel, shown: Batch, queries: Sequence[Ints]) -> Tensor:
        batch = {**shown, **join_queries(queries, self.score)}
        return self.logits(model, to_device(batch, device_of(model))).float().cpu()
