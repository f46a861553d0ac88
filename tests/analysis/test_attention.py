"""Recorded attention: on cached documents it is what the whole plain prompt has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

from sightrank import Document, Query, Reranker
from sightrank.analysis.attention import HeadMean, attention, gradient, record
from sightrank.analysis.case import Case, Heads
from sightrank.inputs.images import normalise
from sightrank.model.attention import Attend, plain_weights, weighted
from tests import tolerances


@pytest.fixture(scope="module")
def ranker(checkpoint: Path) -> Reranker:
    return Reranker.from_pretrained(checkpoint, device="cpu")


def picture() -> PIL.Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (84, 112, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


DOCUMENTS = {
    "text": Document.text("Ein Text mit Umlauten: äöü, und 日本."),
    "picture": Document.of([picture(), "and words below"]),
}
QUERIES = {"words": "which words?", "line break": "\nmerges with the prompt", "long": "q " * 40}


class Watch:
    """The plain whole prompt, with its weights kept."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def layer(self, index: int) -> Attend:
        return self._attend

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.weights.append(plain_weights(q, k, causal=True))
        return weighted(self.weights[-1], v)


def whole(ranker: Reranker, query: Query, document: Document) -> tuple[float, list[Tensor]]:
    prompt, model = ranker.encoder.pair(query, document), ranker.runner.model
    watch = Watch()
    with torch.inference_mode():
        ids, positions = torch.from_numpy(prompt.ids).long(), torch.from_numpy(prompt.positions)
        visual = None
        if prompt.images:
            patches = torch.from_numpy(np.concatenate([normalise(each) for each in prompt.images]))
            visual = model.visual(patches, [each.grid for each in prompt.images], plain=True)
        hidden = model.model(model.embed(ids, visual), model.rotary(positions.long()), watch)
        return float(model.score(hidden[-1])), watch.weights


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("query", QUERIES)
def test_weights_over_a_cached_document_are_those_of_the_whole_prompt(
    ranker: Reranker, document: str, query: str
) -> None:
    asked = Query.text(QUERIES[query])
    case = Case.of(ranker, asked, DOCUMENTS[document])
    found: list[Tensor] = []
    logit = record(case, case.query, lambda _, weights: found.append(weights))
    truth, wanted = whole(ranker, asked, DOCUMENTS[document])
    assert abs(logit - truth) < tolerances.ENGINE
    assert len(found) == len(wanted) == ranker.config.num_hidden_layers
    for layer, (here, there) in enumerate(zip(found, wanted, strict=True)):
        last = layer == len(found) - 1
        assert here.shape[1] == (1 if last else len(case.encoder.suffix(case.segment, case.query)))
        torch.testing.assert_close(here, there[:, -here.shape[1] :], rtol=0, atol=tolerances.ENGINE)
        torch.testing.assert_close(here.sum(dim=-1), torch.ones(here.shape[:2]))


def test_a_document_that_was_met_before_is_not_run_again(
    ranker: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = DOCUMENTS["picture"]
    first = ranker.explain("q", document)
    monkeypatch.setattr(ranker.runner, "prefill", None)
    assert ranker.explain("q", document).to_dict(matrix=True) == first.to_dict(matrix=True)


def test_an_index_gives_what_memory_gives(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Words in a file that is indexed.", encoding="utf-8")
    document = Document.of(tmp_path / "a.txt")
    ranker = Reranker.from_pretrained(checkpoint, device="cpu")
    ranker.index([document], tmp_path / "index")
    wanted = ranker.explain("file", document)
    fresh = Reranker.from_pretrained(checkpoint, device="cpu")
    fresh.runner.prefill = None  # type: ignore[assignment, method-assign]
    found = fresh.explain("file", document, index=tmp_path / "index")
    assert found.to_dict(matrix=True) == wanted.to_dict(matrix=True)


def test_the_mean_over_heads_is_taken_of_the_chosen_ones_alone() -> None:
    weights = [torch.rand(4, 3, 7), torch.rand(4, 1, 7)]
    mean = HeadMean(3, ((0, 1), (1, 0), (1, 3)))
    for layer, each in enumerate(weights):
        mean(layer, each)
    rows = [weights[0][1].mean(0), weights[1][0, 0], weights[1][3, 0]]
    torch.testing.assert_close(
        torch.from_numpy(mean.mean().mean(axis=0)), torch.stack(rows).mean(0).double()
    )
    every = HeadMean(3, None)
    every(0, weights[0])
    torch.testing.assert_close(torch.from_numpy(every.mean()), weights[0].mean(0).double())


def test_text_and_pictures_are_looked_at_by_their_own_heads(ranker: Reranker) -> None:
    case = Case.of(ranker, Query.text("words"), DOCUMENTS["picture"])
    one, other = ((0, 0),), ((1, 1),)
    text, image = (
        attention(replace(case, heads=Heads(each, each))).values for each in (one, other)
    )
    found = attention(replace(case, heads=Heads(one, other))).values
    assert np.array_equal(found, np.where(case.is_image, image, text))
    assert 0 < case.is_image.sum() < len(case.is_image)
    assert not np.array_equal(text, image)


def test_the_content_free_query_has_nothing_left_of_its_own(ranker: Reranker) -> None:
    case = Case.of(ranker, Query.text("N/A"), DOCUMENTS["text"])
    assert np.abs(attention(case).values).max() < 1e-7
    other = Case.of(ranker, Query.text("words"), DOCUMENTS["text"])
    assert np.abs(attention(other).values).max() > 1e-4


def test_gradient_is_the_slope_of_the_logit_by_the_weights(ranker: Reranker) -> None:
    """Scale one document token's last-layer weights by 1 + step and look at the logit."""
    case = Case.of(ranker, Query.text("which?"), DOCUMENTS["text"])
    found = gradient(case).by_query
    assert found is not None
    assert (found >= 0).all() and found.max() > 0
    suffix = case.encoder.suffix(case.segment, case.query)
    assert found.shape == (len(suffix), len(case.segment))
    slopes = [slope(case, token) for token in range(4, 10)]
    assert max(map(abs, slopes)) > 1e-4
    # The positive part is taken by head, so it is at least the sum over heads.
    assert all(
        found[-1, token] >= each - 1e-3 for token, each in zip(range(4, 10), slopes, strict=True)
    )


def slope(case: Case, token: int, step: float = 1e-2) -> float:
    """d logit / d log(weight) of the score token's last-layer attention to a document's token."""
    from sightrank.analysis.attention import Recorder

    class Scaled(Recorder):
        def __init__(self, by: float) -> None:
            super().__init__(case.prefix, len(case.segment), lambda *_: None)
            self.by = by

        def _attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if layer != len(case.prefix.keys) - 1:
                return super()._attend(layer, q, k, v)
            keys, values = torch.cat((case.prefix.keys[layer], k)), case.prefix.values[layer]
            weights = plain_weights(q, keys, causal=True)
            weights[:, :, token] *= self.by
            return weighted(weights, torch.cat((values, v)))

    suffix = case.encoder.suffix(case.segment, case.query)
    with torch.inference_mode():
        embedded = case.engine.embedded(case.query, suffix)
        high, low = (
            float(case.engine.runner.read([suffix], embedded, Scaled(1 + sign * step)))
            for sign in (1, -1)
        )
    return (high - low) / (2 * step)
