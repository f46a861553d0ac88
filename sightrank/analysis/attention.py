"""Where a query looks in a document: attention, and the same weighted by its gradient.

Both run only the query's tokens again, over the keys and values that the engine kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightrank.analysis.case import CONTENT_FREE, Attribution, Case, Chosen
from sightrank.engine.plans import CachedPrefix
from sightrank.inputs.segments import Segment
from sightrank.model.attention import Attend, plain_weights, weighted
from sightrank.types import Query

See = Callable[[int, Tensor], None]
"""Takes a layer's number and its weights, (heads, queries, keys) in float32."""


class Recorder:
    """The engine's `Extend` for one suffix, in the obvious way, with its weights shown to `see`.

    Keys are the document's tokens that the query sees, then the suffix's own. The last layer has
    one query, the score token; the others have all of the suffix.
    """

    def __init__(self, prefix: CachedPrefix, kept: int, see: See) -> None:
        self._prefix, self._kept, self._see = prefix, kept, see

    def layer(self, index: int) -> Attend:
        """Attention over what was kept for this layer."""
        return partial(self._attend, index)

    def _attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys = torch.cat((self._prefix.keys[layer, : self._kept], k))
        values = torch.cat((self._prefix.values[layer, : self._kept], v))
        weights = plain_weights(q, keys, causal=True)
        self._see(layer, weights)
        return weighted(weights, values)


class HeadMean:
    """Weights of the chosen heads, averaged as they pass by; so one layer's are held at a time.

    Each head counts alike in the mean over rows: the last layer's, which have only the score
    token's row, weigh more there.
    """

    def __init__(self, rows: int, heads: Chosen) -> None:
        self._rows, self._heads = rows, heads
        self._total: Tensor | None = None
        self._count = 0

    def __call__(self, layer: int, weights: Tensor) -> None:
        """Add a layer's weights (heads, queries, keys); the queries are the last rows."""
        every = ((layer, head) for head in range(len(weights)))
        chosen = [
            head for at, head in (every if self._heads is None else self._heads) if at == layer
        ]
        if self._total is None:
            self._total = weights.new_zeros(self._rows, weights.shape[-1])
        if chosen:
            queries = weights.shape[1]
            self._total[-queries:] += weights[chosen].sum(dim=0) * (self._rows / queries)
            self._count += len(chosen)

    def mean(self) -> NDArray[np.float64]:
        """(rows, keys); a row that no chosen head has is zero."""
        total = torch.zeros(self._rows, 0) if self._total is None else self._total
        return (total.cpu().double() / max(self._count, 1)).numpy()


def record(case: Case, query: Segment, see: See) -> float:
    """Run `query` behind the document of `case`, showing every layer's weights; its logit."""
    suffix = case.encoder.suffix(case.segment, query)
    kept = len(case.segment) - suffix.rewind
    with torch.inference_mode():
        embedded = case.engine.embedded(query, suffix)
        plan = Recorder(case.prefix, kept, see)
        return float(case.engine.runner.read([suffix], embedded, plan))


def attention(case: Case) -> Attribution:
    """Mean attention of query and score tokens to each document token, less what no question gets.

    As in In-Context Reranking (Chen et al. 2024, arXiv 2410.02642): the weights are averaged over
    heads and query tokens, and those of a content-free query are subtracted, which takes away what
    draws attention whatever is asked. Heads are those of `case.heads`. Unit: attention weight.
    """
    asked = _looks(case, case.query)
    free = _looks(case, case.encoder.query(Query.text(CONTENT_FREE)))
    by_query = asked - free.mean(axis=0)
    return Attribution(by_query.mean(axis=0), by_query)


def gradient(case: Case) -> Attribution:
    """Positive part of attention times the logit's gradient by it, summed over heads and layers.

    The rule of Chefer et al. 2021 (arXiv 2103.15679) for one layer; here the gradient goes through
    all later layers of the query's tokens, while the document's states stand still. Unit: logits.
    """
    suffix = case.encoder.suffix(case.segment, case.query)
    kept = len(case.segment) - suffix.rewind
    seen: list[Tensor] = []
    with torch.inference_mode(False), torch.enable_grad():
        embedded = case.engine.embedded(case.query, suffix).clone().requires_grad_()
        plan = Recorder(case.prefix, kept, lambda _, weights: seen.append(weights))
        logit = case.engine.runner.read([suffix], embedded, plan)
        gradients = torch.autograd.grad(logit.sum(), seen)
    by_query = np.zeros((len(suffix), len(case.segment)))
    for weights, slope in zip(seen, gradients, strict=True):
        part = (weights.detach() * slope).clamp_min(0).sum(dim=0)[:, :kept]
        by_query[-len(part) :, :kept] += part.cpu().double().numpy()
    return Attribution(by_query.sum(axis=0), by_query)


def _looks(case: Case, query: Segment) -> NDArray[np.float64]:
    """(suffix tokens, document tokens): mean weights of the heads chosen for each token's kind."""
    suffix = case.encoder.suffix(case.segment, query)
    means = {heads: HeadMean(len(suffix), heads) for _, heads in case.heads}

    def see(layer: int, weights: Tensor) -> None:
        for mean in means.values():
            mean(layer, weights)

    record(case, query, see)
    kept = len(case.segment) - suffix.rewind
    rows = np.zeros((len(suffix), len(case.segment)))
    is_image = case.is_image[:kept]
    text, image = (means[heads].mean()[:, :kept] for _, heads in case.heads)
    rows[:, :kept] = np.where(is_image, image, text)
    return rows
