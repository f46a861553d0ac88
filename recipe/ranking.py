"""Ranking on text: a grid of documents x queries a step, every document encoded once for all queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from recipe.asking import EMPTY, Asking, AskingConfig, span
from recipe.distil import Taught
from recipe.grid import embed_slots, join_queries, pad_prefixes, score_grid
from recipe.layout import Ints, Prefix, Special, as_grid, as_text
from recipe.lexicon import Lexicon
from recipe.lookalikes import Lookalikes
from recipe.pack import TextPack
from recipe.renaming import Renamer, Renaming
from recipe.trainer import Batch, device_of, to_device
from sightrank.model.multimodal import RerankerModel

ENGLISH_ABROAD = 0.7
"""How often at least a step whose words are asked for in other languages is of English documents."""

RENAMED = 0.75
"""Tokens of a page whose words are renamed, to those it may then have: rarer words have more of them."""


@dataclass(frozen=True)
class RankingConfig(AskingConfig):
    """What a step of text ranking is made of."""

    sizes: tuple[tuple[int, int], ...] = ((14, 48), (12, 80), (8, 160))
    """(documents a step, their tokens at most) of steps with passages; as many queries, each scored
    against every document."""
    page_share: float = 0.2
    """How often a step is made of pages, each a run of neighbouring passages with headings."""
    pages: int = 5
    """Pages a step."""
    page_queries: int = 2
    """Queries asked of each page."""
    page_tokens: tuple[int, int] = (150, 1400)
    """Tokens of a page; as a row of tokens it has at most `row_tokens` of them."""
    row_tokens: int = 320
    name_share: float = 0.1
    """How often a step is made of names and keywords of things, which other languages ask for."""
    names: int = 24
    taught_share: float = 0.0
    """How often a step of passages is one of look-alikes that teachers have scored, for queries of their
    own and for those of as many others that are not there."""
    renamed: float = 0.0
    """How often the words of a step of passages or pages give way to words of the web (`Words`)."""
    abroad: float = 0.4
    """How often such words are then asked for in another language."""
    grid_share: float = 0.4
    """How often a passage is met as a grid of cells instead of a row of tokens; of pages, twice that."""
    alike: float = 0.0
    """How often the documents of a step are those that share rare words with one of them."""
    near: float = 0.5
    """Share of documents drawn from the neighbourhood of another one of the step: hard negatives."""
    noise: float = 0.1
    """Standard deviation of noise on grid cells, whose root mean square is 1."""
    english: float = 0.35


@dataclass(frozen=True)
class Body:
    """Tokens of a document, and the rows of the pack it is made of."""

    tokens: Ints
    rows: tuple[int, ...]


class TextRanking:
    """The task: contrast over rows and columns of the grid, and a calibrated pointwise loss."""

    def __init__(
        self,
        pack: TextPack,
        config: RankingConfig,
        special: Special,
        score: int,
        lexicon: Lexicon | None = None,
        taught: Taught | None = None,
        renamer: Renamer | None = None,
    ) -> None:
        self.pack, self.config, self.special, self.score = pack, config, special, score
        self.renamer = renamer
        self.asking, self.taught = Asking(pack, config, lexicon), taught
        lengths = np.diff(pack.documents.offsets)
        self.usable = usable = ~pack.is_name & (lengths >= 12)
        english = pack.document_lang == pack.langs.index("en")
        self.train = {
            True: np.flatnonzero(usable & english & ~pack.document_valid),
            False: np.flatnonzero(usable & ~english & ~pack.document_valid),
        }
        self.names = np.flatnonzero(pack.is_name & (lengths > 0) & ~pack.document_valid)
        self.valid = np.flatnonzero(usable & pack.document_valid)
        self._lookalikes: dict[bool, Lookalikes] = {}

    # Batches

    def batches(self, seed: int) -> Iterator[Batch]:
        """Endless steps of training data: of passages, of pages or of names."""
        rng = np.random.default_rng(seed)
        config = self.config
        while True:
            kind = rng.random()
            if kind < config.page_share:
                renaming = self._renaming(rng)
                found = self._documents(config.pages, rng, config.alike, renaming)
                yield self.page_batch(found, rng, renaming)
            elif kind < config.page_share + config.name_share:
                chosen = distinct(
                    rng.choice(self.names, 2 * config.names),
                    self.pack.document_group,
                    config.names,
                    rng,
                )
                yield self.batch(chosen, rng, self._grids(rng))
            else:
                count, tokens = config.sizes[int(rng.integers(len(config.sizes)))]
                taught = bool(rng.random() < config.taught_share)
                wanted, alike = (2 * count, 1.0) if taught else (count, config.alike)
                renaming = None if taught else self._renaming(rng)
                found = self._documents(wanted, rng, alike, renaming)
                first, others = found[:count], found[count:]
                yield self.batch(first, rng, self._grids(rng), tokens, others, renaming)

    def _renaming(self, rng: np.random.Generator) -> Renaming | None:
        if self.renamer is None or rng.random() >= self.config.renamed:
            return None
        return self.renamer.begin(rng, bool(rng.random() < self.config.abroad))

    def _grids(self, rng: np.random.Generator) -> float:
        """The share of a step's documents that are grids: half of them or none, as one pads all."""
        mixed = min(2 * self.config.grid_share, 1.0)
        return self.config.grid_share / mixed if rng.random() < mixed else 0.0

    def _documents(
        self,
        count: int,
        rng: np.random.Generator,
        alike: float = 0.0,
        renaming: Renaming | None = None,
    ) -> Ints:
        """Documents of different groups; some lie close together in the corpus: same page or topic."""
        english = max(self.config.english, ENGLISH_ABROAD if renaming and renaming.abroad else 0.0)
        pool = self.train[bool(rng.random() < english)]
        chosen: list[int] = []
        if rng.random() < alike:
            chosen = self.look_alikes(int(rng.choice(pool)), count, rng).tolist()
        groups = set(self.pack.document_group[chosen].tolist())
        attempts = 0
        while len(chosen) < count:
            attempts += 1
            if attempts > 1000 * count:
                raise SystemExit(f"A step needs {count} documents of different groups: more data.")
            if chosen and rng.random() < self.config.near and attempts < 500:
                index = self._neighbour(chosen[int(rng.integers(len(chosen)))], rng)
            else:
                index = int(rng.choice(pool))
            group = int(self.pack.document_group[index])
            fit = self.usable[index] and not self.pack.document_valid[index]
            if fit and group not in groups:
                groups.add(group)
                chosen.append(index)
        return np.array(chosen)

    def look_alikes(
        self, seed: int, count: int, rng: np.random.Generator, valid: bool = False
    ) -> Ints:
        """The document `seed` and at most count - 1 others that a search for it by title, or by
        some of its words, would find, without copies and other versions of any."""
        lookalikes, groups = self._index_of(valid), self.pack.document_group
        body = self.pack.documents[seed]
        words = self.asking.heading(seed, rng)
        if not len(words) or rng.random() < self.config.span_share:
            words = body[slice(*span(body, self.config.query_tokens, rng))]
        found = lookalikes.nearest(words, int(self.pack.document_lang[seed]), 4 * count)
        first, rest = np.split(found, [2 * count])
        chosen = [seed]
        for row in (*rng.permutation(first).tolist(), *rest.tolist()):
            if len(chosen) == count:
                break
            known = groups[row] in groups[chosen]
            if not known and not any(lookalikes.is_copy(row, other) for other in chosen):
                chosen.append(row)
        return np.array(chosen)

    def _index_of(self, valid: bool) -> Lookalikes:
        if valid not in self._lookalikes:  # a minute's work, in the process that makes batches
            rows = self.valid if valid else np.concatenate(list(self.train.values()))
            self._lookalikes[valid] = Lookalikes(self.pack, rows)
        return self._lookalikes[valid]

    def _neighbour(self, index: int, rng: np.random.Generator) -> int:
        """A document at most a few places away in the corpus, where one page's passages lie."""
        return int(np.clip(index + rng.integers(-6, 7), 0, len(self.pack.documents) - 1))

    def batch(
        self,
        documents: Sequence[int] | Ints,
        rng: np.random.Generator,
        grids: float,
        tokens: int = 100,
        others: Sequence[int] | Ints = (),
        renaming: Renaming | None = None,
    ) -> Batch:
        """A passage and a query of each of these documents; and queries of `others`, none of which is
        right, with opinions on all of them."""
        bodies, queries = [], []
        for index in map(int, documents):
            window = self._window(self.pack.documents[index], tokens, rng)
            if renaming:
                window = renaming(window, int(self.pack.document_lang[index]))[:tokens]
            body, query = self.asking.ask(index, window, rng, renaming)
            if rng.random() < self.config.placed:
                body, query = self.asking.place(index, body, query, rng)
            bodies.append(Body(body, (index,)))
            queries.append((query, index))
        for index in map(int, others):
            queries.append((self.asking.ask(index, self.pack.documents[index], rng)[1], index))
        batch = self._join(bodies, queries, rng, grids)
        if len(others) and self.taught:
            batch["taught"] = self._opinions(self.taught, bodies, [query for query, _ in queries])
        return batch

    def _opinions(self, taught: Taught, bodies: Sequence[Body], queries: Sequence[Ints]) -> Tensor:
        lang = int(self.pack.document_lang[bodies[0].rows[0]])  # look-alikes are of one
        tokens = [body.tokens for body in bodies]
        index = self._index_of(valid=False)
        lexical = np.stack([index.scores(query, lang, tokens) for query in queries], axis=1)
        return taught.shares(tokens, queries, lexical)

    def page_batch(
        self,
        documents: Sequence[int] | Ints,
        rng: np.random.Generator,
        renaming: Renaming | None = None,
    ) -> Batch:
        """Pages that begin at these documents, and queries about passages anywhere on them."""
        bodies, queries = [], []
        grids = float(rng.random() < 2 * self.config.grid_share)  # one kind, so of one size
        for first in map(int, documents):
            limit = int(rng.integers(*self.config.page_tokens)) if grids else self.config.row_tokens
            lang = int(self.pack.document_lang[first])
            body = self.page(first, int(limit * RENAMED) if renaming else limit, rng)
            if renaming:
                body = Body(renaming(body.tokens, lang)[:limit], body.rows)
            bodies.append(body)
            for _ in range(self.config.page_queries):
                index = body.rows[int(rng.integers(len(body.rows)))]
                passage = self.pack.documents[index]
                passage = renaming(passage, lang) if renaming else passage
                queries.append((self.asking.ask(index, passage, rng, renaming)[1], index))
        return self._join(bodies, queries, rng, grids)

    def page(self, first: int, limit: int, rng: np.random.Generator) -> Body:
        """Passages from `first` on, of one language and split, most under their heading: together
        at most `limit` tokens."""
        pack = self.pack
        parts: list[Ints] = []
        rows: list[int] = []
        used, index = 0, first
        while used < limit and index < len(pack.documents):
            same = pack.document_lang[index] == pack.document_lang[first]
            if not same or pack.document_valid[index] != pack.document_valid[first]:
                break
            heading = self.asking.heading(index, rng) if rng.random() < 0.7 else EMPTY
            for part in (heading, pack.documents[index]):
                if len(part):
                    parts += [part, self._newline]
                    used += len(part) + 1
            rows.append(index)
            index += 1
        return Body(np.concatenate(parts)[:limit], tuple(rows))

    @property
    def _newline(self) -> Ints:
        return np.array([self.special.blank])

    def _join(
        self,
        bodies: Sequence[Body],
        queries: Sequence[tuple[Ints, int]],
        rng: np.random.Generator,
        grids: float,
    ) -> Batch:
        """Prefixes padded at the right, queries, and labels (documents, queries): a document is
        relevant if it holds the passage that the query is about, in any language."""
        asked = self.pack.document_group[[index for _, index in queries]]
        labels = np.array(
            [np.isin(asked, self.pack.document_group[list(body.rows)]) for body in bodies]
        )
        return {
            **self._documents_as(bodies, rng, grids),
            **join_queries([query for query, _ in queries], self.score),
            "labels": torch.from_numpy(labels),
        }

    def _documents_as(
        self, bodies: Sequence[Body], rng: np.random.Generator, grids: float
    ) -> Batch:
        """What the model sees of the documents."""
        return pad_prefixes(
            [self.prefix(body.tokens, rng.random() < grids, rng) for body in bodies]
        )

    def prefix(self, body: Ints, grid: bool, rng: np.random.Generator) -> Prefix:
        """The prompt around a body, as a row of tokens or as a grid of cells."""
        head, tail = self.pack.head, self.pack.tail
        if grid:
            return as_grid(head, body, tail, self.pack.widths, self.special, rng)
        return as_text(head, body, tail)

    def _window(self, body: Ints, limit: int, rng: np.random.Generator) -> Ints:
        inside = len(body) > limit and rng.random() < 0.3
        start = int(rng.integers(len(body) - limit + 1)) if inside else 0
        return body[start : start + limit]

    # Loss

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Softmax cross-entropy over documents for each query and over queries for each document,
        and a pointwise binary cross-entropy on sigmoid(logit - bias). Half of the first is against
        teachers' shares where there are any."""
        assert isinstance(model, RerankerModel)
        logits = self.logits(model, batch).float()  # (documents, queries)
        labels = batch["labels"].float()
        over_queries = _contrast(logits.T, labels.T)
        every, answered = logits, labels.any(dim=0)  # of other queries only an opinion is known
        logits, labels = logits[:, answered], labels[:, answered]
        over_documents = _contrast(logits, labels)
        if "taught" in batch:
            opinion = -(batch["taught"] * every.log_softmax(dim=0)).sum(dim=0).mean()
            over_documents = (over_documents + opinion) / 2
        odds = logits - model.config.logit_bias
        weight = torch.where(labels > 0, logits.shape[0] / 2.0, 1.0)
        point = F.binary_cross_entropy_with_logits(odds, labels, weight)
        right = (logits.argmax(dim=0) == labels.argmax(dim=0)).float().mean()
        figures = {
            "documents": over_documents.item(),
            "point": point.item(),
            "top1": right.item(),
        }
        return over_documents + 0.5 * over_queries + 0.3 * point, figures

    def logits(self, model: RerankerModel, batch: Batch) -> Tensor:
        """(documents, queries) from one pass: each prefix once, all queries over it."""
        noise = self.config.noise if model.training else 0.0
        hidden = embed_slots(model, batch, noise)  # (documents, slots, size)
        return score_grid(model, hidden, batch)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """nDCG@10 of held-out documents among 20, met as text and as grids; as text among 20 that
        share words with one of them; as text asked for in other languages; with words swapped for
        translations, where there is a lexicon; and where one word of it, the name of a place, is
        asked for in another language."""
        assert isinstance(model, RerankerModel)
        device = device_of(model)
        figures = {}
        plain = replace(self.config, swapped=0.0, placed=0.0)
        for name, grids, config in (
            ("text", 0.0, plain),
            ("grid", 1.0, plain),
            ("alike", 0.0, plain),
            ("cross", 0.0, replace(plain, cross_lingual=1.0)),
            ("swapped", 0.0, replace(plain, swapped=1.0)),
            ("place", 0.0, replace(plain, placed=1.0, alone=1.0)),
        ):
            rng = np.random.default_rng(1)
            held_out = copy(self)
            held_out.config = config
            held_out.asking = self.asking.under(held_out.config)
            gains = []
            for _ in range(4):
                documents = distinct(self.valid, self.pack.document_group, 20, rng)
                if name == "alike":
                    documents = self.look_alikes(int(documents[0]), 20, rng, valid=True)
                batch = held_out.batch(documents, rng, grids)
                moved = to_device(batch, device)
                gains.append(ndcg(self.logits(model, moved).float(), moved["labels"]))
            figures[f"ndcg_{name}"] = float(np.mean(gains))
        return figures


def distinct(pool: Ints, group: NDArray[np.int32], count: int, rng: np.random.Generator) -> Ints:
    """`count` members of the pool, no two of one group."""
    shuffled = rng.permutation(pool)
    _, first = np.unique(group[shuffled], return_index=True)
    return shuffled[np.sort(first)[:count]]


def _contrast(logits: Tensor, labels: Tensor) -> Tensor:
    """-log of the softmax mass (down each column) that falls on relevant rows."""
    relevant = logits.masked_fill(labels == 0, float("-inf"))
    return (logits.logsumexp(dim=0) - relevant.logsumexp(dim=0)).mean()


def ndcg(logits: Tensor, labels: Tensor, depth: int = 10) -> float:
    """Mean nDCG@depth over queries (columns) with binary gains."""
    depth = min(depth, len(logits))
    order = logits.argsort(dim=0, descending=True)
    gains = labels.float().gather(0, order)[:depth]
    discount = 1 / torch.log2(torch.arange(2, depth + 2, device=logits.device).float())[:, None]
    ideal = torch.sort(labels.float(), dim=0, descending=True).values[:depth]
    return float(((gains * discount).sum(0) / (ideal * discount).sum(0)).mean())
