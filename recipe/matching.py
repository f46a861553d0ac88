"""What composed states alone can rank: the figure to watch while layers learn to compose.

How often the nearest word is the right one tells less: states that share something lie nearer to all
others, and a document without the word then seems no farther than one with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recipe.asking import EMPTY
from recipe.layout import Special, as_text
from recipe.pack import TextPack
from recipe.ranking import RankingConfig, TextRanking, ndcg
from recipe.renaming import Renamer
from recipe.showing import join
from recipe.trainer import Batch

ASKED = 20
"""English passages of a round that share words, each asked for once."""
TOKENS = 140
RENAMED = 0.8
"""Share of the words that give way to words of the web."""


class Matching:
    """Held-out passages asked for in other languages: by spans of their translations and, renamed, by
    translations of their words."""

    def __init__(
        self,
        pack: TextPack,
        special: Special,
        score: int,
        renamer: Renamer | None = None,
        rounds: int = 24,
    ) -> None:
        config = RankingConfig(
            query_tokens=40, span_share=1.0, cross_lingual=1.0, question_share=0.0
        )
        self.pack, self.renamer, self.rounds = pack, renamer, rounds
        self.ranking = TextRanking(pack, config, special, score, renamer=renamer)
        versions, valid = self.ranking.asking.versions, self.ranking.valid
        english = valid[pack.document_lang[valid] == pack.langs.index("en")]
        several = [len(versions[int(pack.document_group[row])]) > 1 for row in english]
        self.asked = english[np.array(several, bool)]

    def figures(self, states: Callable[[Batch], Tensor]) -> dict[str, float]:
        """nDCG@10 of the right passage, by `states` of a batch of prompts: (prompts, slots, size)."""
        kinds: dict[str, Renamer | None] = {"translated": None}
        if self.renamer:
            kinds["renamed"] = self.renamer
        return {
            f"matched_{name}": float(
                np.mean([self._ndcg(batch, states) for batch in self._batches(renamer)])
            )
            for name, renamer in kinds.items()
        }

    def _batches(self, renamer: Renamer | None) -> Iterator[Batch]:
        rng = np.random.default_rng(3)
        for _ in range(self.rounds):
            found = self.ranking.look_alikes(int(rng.choice(self.asked)), ASKED, rng, valid=True)
            renaming = renamer.begin(rng, abroad=True, share=RENAMED) if renamer else None
            yield self.ranking.batch(found, rng, 0.0, TOKENS, renaming=renaming)

    def _ndcg(self, batch: Batch, states: Callable[[Batch], Tensor]) -> float:
        head, tail = self.pack.head, self.pack.tail
        together = batch["query_ids"].split(batch["query_lengths"].tolist())
        asked = [row[:-1].numpy() for row in together]  # without the token that scores
        alone = join([as_text(head, EMPTY, np.concatenate((tail, row))) for row in asked])
        start = len(head) + len(tail)
        queries = [
            row[start : start + len(query)] for row, query in zip(states(alone), asked, strict=True)
        ]
        ends = (batch["prefix_lengths"] - len(tail)).tolist()
        documents = states({**batch, "grids": []})
        bodies = [row[len(head) : end] for row, end in zip(documents, ends, strict=True)]
        scores = [[best_matches(query, body) for query in queries] for body in bodies]
        return ndcg(torch.tensor(scores), batch["labels"])


def best_matches(query: Tensor, document: Tensor) -> float:
    """Mean over the states of a query (n, size) of its length times its largest cosine to a state of the
    document (m, size): what is uncertain is short and counts for less."""
    cosines = F.normalize(query, dim=-1) @ F.normalize(document, dim=-1).T
    return float((cosines.amax(dim=1) * query.norm(dim=1)).mean())
