"""The wrapper that others import: one score a pair, each document once, whatever mteb hands over."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from sightrank.errors import InputError, MissingExtraError, OptionError
from sightrank.evaluate.mteb import UNSCORED, MtebReranker, require_mteb
from sightrank.evaluate.suite_data import get_tasks
from sightrank.reranker import Reranker
from tests.evaluate import hub

ABOUT: dict[str, Any] = {"task_metadata": None, "hf_split": "test", "hf_subset": "default"}


def picture(value: int) -> PIL.Image.Image:
    return PIL.Image.new("RGB", (56, 56), (value, value, value))


def test_scores_are_those_of_the_model_in_the_order_of_the_pairs(checkpoint: Path) -> None:
    ranker = Reranker.from_pretrained(checkpoint)
    queries = [{"text": ["one", "one"]}, {"text": ["two", "two"]}]
    documents = [{"image": [picture(0), picture(200)]}, {"image": [picture(200), picture(0)]}]
    scores = MtebReranker(ranker).predict(queries, documents, **ABOUT)
    expected = [
        ranker.score_one(query, picture(value))
        for query, value in (("one", 0), ("one", 200), ("two", 200), ("two", 0))
    ]
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_a_document_that_recurs_is_encoded_once_in_a_window_and_found_again_after(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker = Reranker.from_pretrained(checkpoint)
    run: list[int] = []
    prefill = ranker.runner.prefill

    def counted(documents: Any) -> Any:
        run.append(len(documents))
        return prefill(documents)

    monkeypatch.setattr(ranker.runner, "prefill", counted)
    values = [0, 50, 100, 150]
    queries = [{"text": [text] * 4} for text in ("one", "two", "three")]
    documents = [{"image": [picture(value) for value in values]} for _ in queries]
    whole = MtebReranker(ranker).predict(queries, documents, **ABOUT)
    assert run == [4]
    asked: list[int] = []
    score_matrix = ranker.score_matrix

    def watched(queries: Any, documents: Any, pairs: Any, **given: Any) -> Any:
        asked.append(len(documents))
        return score_matrix(queries, documents, pairs, **given)

    monkeypatch.setattr(ranker, "score_matrix", watched)
    seen: list[tuple[int, int]] = []
    small = MtebReranker(
        ranker,
        window_bytes=3 * 56 * 56,
        progress=lambda done, of: seen.append((done, of)),
    )
    cut = small.predict(queries, documents, **ABOUT)
    assert asked == [2] * 6
    assert seen[-1] == (12, 12)
    assert run == [4]  # what the model remembers is not run again
    np.testing.assert_allclose(cut, whole, atol=1e-4)


def test_blank_documents_come_last_and_blank_queries_are_errors(scorer: Any) -> None:
    model = MtebReranker(scorer)
    texts = {"text": ["a cat", " ", "a dog"]}
    scores = model.predict([{"text": ["a cat"] * 3}], [texts], **ABOUT)
    assert scores.tolist() == [2.0, UNSCORED, 1.0]
    with pytest.raises(InputError, match="query has neither text nor image"):
        model.predict([{"text": [" "]}], [{"text": ["x"]}], **ABOUT)
    with pytest.raises(ValueError, match="shorter"):
        model.predict([{"text": ["a", "b"]}], [{"text": ["x"]}], **ABOUT)


@pytest.mark.parametrize(("show", "kinds"), [("image", ["Image"]), ("text", ["Text"]),
                                             ("both", ["Image", "Text"])])  # fmt: skip
def test_what_is_shown_of_a_page_with_text_beside_it(
    show: Any, kinds: list[str], scorer: Any
) -> None:
    page = {"image": [picture(1)], "text": ["its text"]}
    MtebReranker(scorer, show=show).predict([{"text": ["q"]}], [page], **ABOUT)
    (document,) = scorer.documents
    assert [type(part).__name__ for part in document.parts] == kinds
    with pytest.raises(OptionError, match="Allowed: 'image', 'text', 'both'"):
        MtebReranker(scorer, show="all")  # type: ignore[arg-type]


def test_mteb_takes_it_for_a_cross_encoder(checkpoint: Path) -> None:
    from mteb.models import CrossEncoderProtocol, EncoderProtocol

    model = MtebReranker(Reranker.from_pretrained(checkpoint))
    assert isinstance(model, CrossEncoderProtocol)
    assert not isinstance(model, EncoderProtocol)
    about = model.mteb_model_meta
    assert about.name == f"sightrank/{checkpoint.name}"
    assert about.model_type == ["cross-encoder"]
    assert set(about.modalities) == {"text", "image"}
    assert len(about.revision or "") == 40


def test_without_mteb_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sightrank\[suites\]'"):
        require_mteb()


def test_mteb_evaluates_it_from_its_own_entry(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import mteb

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    configs = hub.texts("dev", "de-") | hub.ranked("dev", "de-", ("dogs", "birds", "cats"))
    hub.write_repository(tmp_path / "mteb/MIRACLReranking", configs)
    (task,) = get_tasks("MIRACLReranking", tmp_path, ("de",))
    model = MtebReranker(Reranker.from_pretrained(checkpoint))
    results = mteb.evaluate(model, task, cache=None, show_progress_bar=False)
    (scores,) = results.task_results[0].scores["dev"]
    assert scores["hf_subset"] == "de"
    assert 0.5 <= scores["ndcg_at_10"] <= 1  # three candidates, one of them right
