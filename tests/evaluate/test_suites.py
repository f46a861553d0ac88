"""Every suite from a folder to its mean, through mteb's real tasks and their own loaders, offline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sightrank.errors import DataUnavailableError, InputError, OptionError
from sightrank.evaluate.datasets import text_of
from sightrank.evaluate.suite_data import get_tasks
from sightrank.evaluate.suite_run import Choice, run_suite, total
from sightrank.evaluate.suites import suite_named, suites
from sightrank.types import Document, Image, Query
from tests.evaluate import hub

SECOND_AND_THIRD = pytest.approx((1 / np.log2(3) + 1 / np.log2(4)) / 2, abs=1e-5)
"""nDCG of the candidates as they came; mteb rounds to five digits."""


@dataclass
class Reader:
    """Scores the words a query shares with a text, or with the name of a picture's colour."""

    name: str = "reader"
    documents: int = 0

    def score_matrix(
        self,
        queries: Sequence[Query],
        documents: Sequence[Document],
        pairs: Sequence[tuple[int, int]],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float64]:
        self.documents += len(documents)
        asked = [set(text_of(query).split()) for query in queries]
        read = [self._words(document) for document in documents]
        if progress:
            progress(len(pairs), len(pairs))
        return np.array([len(asked[q] & read[d]) for q, d in pairs], np.float64)

    @staticmethod
    def _words(document: Document) -> set[str]:
        words = set(text_of(document).split())
        for part in document.parts:
            if isinstance(part, Image):
                pixel = np.asarray(part.source)[0, 0].tolist()
                names = [name for name, colour in hub.COLOURS.items() if list(colour) == pixel]
                words |= set(names)
        return words


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def ran(name: str, scorer: Any, **choice: Any) -> dict[str, Any]:
    chosen = Choice(suite_named(name), **choice)
    return total(chosen, scorer.name, list(run_suite(scorer, chosen)))


def test_every_task_of_every_suite_is_one_of_mteb() -> None:
    import mteb

    for suite in suites().values():
        assert len(set(suite.tasks)) == len(suite.tasks)
        for name in suite.tasks:
            assert mteb.get_task(name).metadata.name == name


def test_the_suites_are_mtebs_own_benchmarks() -> None:
    import mteb

    for ours, theirs in {
        "beir": "BEIR", "coir": "CoIR", "vidore-v1": "ViDoRe(v1)", "vidore-v2": "ViDoRe(v2)",
        "vidore-v3": "ViDoRe(v3)", "vidore-v3.1-reranking": "ViDoRe(v3.1, reranking)",
        "jinavdr": "JinaVDR",
    }.items():  # fmt: skip
        tasks = mteb.get_benchmark(theirs).tasks
        assert set(suite_named(ours).tasks) == {task.metadata.name for task in tasks}
        assert {task.metadata.main_score for task in tasks} == {suite_named(ours).metric}


def test_what_is_published_is_said_and_what_is_not_known_too() -> None:
    for suite in suites().values():
        assert suite.unknown
        for figure in suite.published:
            assert 0 < figure.value < 100
            assert figure.source
    assert suites()["mldr"].published == ()
    with pytest.raises(OptionError, match=r"no suite 'bier'.*beir, miracl"):
        suite_named("bier")


def test_beir_from_bm25(tmp_path: Path) -> None:
    hub.write_repository(
        tmp_path / "mteb/scifact", hub.texts("test", corpus="corpus", queries="queries")
    )
    report = ran("beir", Reader(), data=tmp_path, tasks=("SciFact",))
    (task,) = report["tasks"]
    (subset,) = task["subsets"]
    assert subset["candidates"] == "BM25"
    assert (subset["queries"], subset["documents"], subset["pairs"]) == (2, 3, 6)
    assert report["score"] == 1.0
    assert report["first_stage"] == pytest.approx(subset["first_stage"]["ndcg_at_10"])
    assert not report["complete"]
    assert report["published"][0]["value"] == 58.95
    json.dumps(report)


def test_a_task_of_several_parts_is_one_task(tmp_path: Path) -> None:
    """CQADupstack: twelve repositories, each read by its own class, and one mean."""
    parts = get_tasks("CQADupstackRetrieval")
    assert len(parts) == 12
    for number, part in enumerate(parts):
        configs = hub.texts("test", corpus="corpus", queries="queries")
        if number < 3:  # the right document is one that no word leads to
            configs["default"]["test"] = [{"query-id": "q2", "corpus-id": "birds", "score": 1}]
            configs["corpus"]["corpus"][2]["text"] = "swans"
        hub.write_repository(tmp_path / part.metadata.dataset["path"], configs)
    report = ran("beir", Reader(), data=tmp_path, tasks=("CQADupstackRetrieval",))
    (task,) = report["tasks"]
    assert [each["name"] for each in task["subsets"]] == [part.metadata.name for part in parts]
    assert report["score"] == 9 / 12
    # The parts that mteb shares are as they were.
    assert parts[0].metadata.dataset["path"].startswith("mteb/")
    assert get_tasks("CQADupstackRetrieval")[0].metadata.dataset == parts[0].metadata.dataset


def test_a_query_that_is_a_document_does_not_find_itself(tmp_path: Path) -> None:
    configs = hub.texts("test", corpus="corpus", queries="queries")
    configs["queries"]["queries"] = [{"_id": "cats", "text": hub.TEXTS["cats"]}]
    configs["default"]["test"] = [{"query-id": "cats", "corpus-id": "birds", "score": 1}]
    hub.write_repository(tmp_path / "mteb/arguana", configs)
    report = ran("beir", Reader(), data=tmp_path, tasks=("ArguAna",))
    assert report["tasks"][0]["subsets"][0]["pairs"] == 2


@pytest.mark.parametrize(
    ("suite", "task", "path", "split"),
    [
        ("miracl", "MIRACLReranking", "mteb/MIRACLReranking", "dev"),
        ("mldr", "MultiLongDocReranking", "mteb/MultiLongDocReranking", "test"),
    ],
)
def test_text_reranking_of_two_languages(
    suite: str, task: str, path: str, split: str, tmp_path: Path
) -> None:
    configs: dict[str, Any] = {}
    for language in ("de", "ja"):
        configs |= hub.texts(split, f"{language}-")
        order = ("dogs", "birds", "cats") if language == "de" else ("dogs", "cats", "birds")
        configs |= hub.ranked(split, f"{language}-", order)
    hub.write_repository(tmp_path / path, configs)
    report = ran(suite, Reader(), data=tmp_path, subsets=("de", "ja"))
    assert [each["subset"] for each in report["tasks"][0]["subsets"]] == ["de", "ja"]
    assert {each["candidates"] for each in report["tasks"][0]["subsets"]} == {"the task's own"}
    assert report["score"] == 1.0
    assert report["first_stage"] == SECOND_AND_THIRD
    cut = ran(suite, Reader(), data=tmp_path, subsets=("de",), depth=1)
    assert cut["score"] == 0
    assert cut["tasks"][0]["task"] == task


def test_mkqa_from_bm25_by_language(tmp_path: Path) -> None:
    configs = hub.texts("train", "de-") | hub.texts("train", "zh_tw-")
    hub.write_repository(tmp_path / "mteb/MKQARetrieval", configs)
    report = ran("mkqa", Reader(), data=tmp_path, subsets=("de", "zh_tw"))
    assert (report["metric"], report["score"]) == ("recall_at_10", 1.0)
    assert report["published"][0]["value"] == 68.19


def test_coir_with_the_standard_loader_and_one_of_its_own(tmp_path: Path) -> None:
    hub.write_repository(
        tmp_path / "CoIR-Retrieval/cosqa", hub.texts("test", corpus="corpus", queries="queries")
    )
    own = hub.texts("test", "go-", corpus="corpus", queries="queries")
    for row in own["go-queries"]["queries"]:
        row["partition"] = "test"
    hub.write_repository(tmp_path / "CoIR-Retrieval/CodeSearchNet", own)
    standard = ran("coir", Reader(), data=tmp_path, tasks=("CosQA",))
    special = ran(
        "coir", Reader(), data=tmp_path, tasks=("COIRCodeSearchNetRetrieval",), subsets=("go",)
    )
    assert standard["score"] == special["score"] == 1.0


@pytest.mark.parametrize(
    ("suite", "task", "path", "language", "subset"),
    [
        ("vidore-v1", "VidoreArxivQARetrieval", "mteb/arxivqa_test_subsampled_beir", None, "default"),
        (
            "vidore-v2", "Vidore2EconomicsReportsRetrieval", "vidore/economics_reports_v2",
            "english", "english",
        ),
    ],
)  # fmt: skip
def test_pages_of_vidore_from_a_run(
    suite: str, task: str, path: str, language: str | None, subset: str, tmp_path: Path
) -> None:
    hub.write_repository(tmp_path / path, hub.pages_beir(language))
    run = tmp_path / "runs"
    chosen = {"data": tmp_path, "tasks": (task,), "subsets": (subset,)}
    with pytest.raises(InputError, match=rf"{task} has images and no candidates.*--run FOLDER"):
        ran(suite, Reader(), **chosen)
    queries = [f"query-test-{number}" for number in (0, 1)]
    keys = [f"corpus-test-{number}" for number in (1, 0, 2)]
    hub.write_run(run, task, subset, queries, keys)
    report = ran(suite, Reader(), run=run, **chosen)
    assert report["score"] == 1.0
    assert report["first_stage"] == SECOND_AND_THIRD
    assert report["tasks"][0]["subsets"][0]["candidates"] == f"{task}.{subset}.trec"


def test_pages_of_jinavdr(tmp_path: Path) -> None:
    folder = tmp_path / "jinaai/stanford_slide_beir"
    configs = hub.pages_beir()
    hub.write_repository(folder, {f"default/{name}": splits for name, splits in configs.items()})
    (folder / "README.md").unlink()  # there, folders and not configurations are named
    task = "JinaVDRStanfordSlideRetrieval"
    hub.write_run(
        tmp_path / "runs", task, "default",
        ["query-test-0", "query-test-1"], ["corpus-test-1", "corpus-test-0", "corpus-test-2"],
    )  # fmt: skip
    report = ran("jinavdr", Reader(), data=tmp_path, run=tmp_path / "runs", tasks=(task,))
    assert report["score"] == 1.0
    assert report["published"][0]["metric"] is None


def test_pages_of_vidore_v3_from_mtebs_predictions(tmp_path: Path) -> None:
    task = "Vidore3HrRetrieval"
    hub.write_repository(
        tmp_path / "vidore/vidore_v3_hr_mteb_format", hub.pages("french-", text=False)
    )
    (tmp_path / "runs").mkdir()
    row = {"green": 3.0, "red": 2.0, "blue": 1.0}
    (tmp_path / "runs" / f"{task}_predictions.json").write_text(
        json.dumps({"mteb_model_meta": {}, "french": {"test": {"q1": row, "q2": row}}})
    )
    chosen = {"data": tmp_path, "run": tmp_path / "runs", "tasks": (task,)}
    report = ran("vidore-v3", Reader(), subsets=("french",), **chosen)
    assert report["score"] == 1.0
    assert report["first_stage"] == SECOND_AND_THIRD


def test_reranking_of_vidore_v3_1_reads_a_page_once(tmp_path: Path, checkpoint: Path) -> None:
    task = "Vidore3HrBM25sReranking.v2"
    configs = hub.pages("english-", text=True)
    configs |= hub.ranked("test", "english-", ("green", "red", "blue"))
    hub.write_repository(tmp_path / f"mteb/{task}", configs)
    chosen: dict[str, Any] = {"data": tmp_path, "tasks": (task,), "subsets": ("english",)}
    scorer = Reader()
    report = ran("vidore-v3.1-reranking", scorer, **chosen)
    assert report["score"] == 1.0
    assert scorer.documents == 3  # for six pairs
    # The text beside the picture is ranked where that is asked for. Here it says nothing, and of
    # equal scores mteb takes the highest id first: red, green, blue.
    report = ran("vidore-v3.1-reranking", Reader(), show="text", **chosen)
    assert report["score"] == 0.75


def test_a_model_of_ours_on_pages(tmp_path: Path, checkpoint: Path) -> None:
    from sightrank.reranker import Reranker

    task = "Vidore3HrBM25sReranking.v2"
    configs = hub.pages("english-", text=True)
    configs |= hub.ranked("test", "english-", ("green", "red", "blue"))
    hub.write_repository(tmp_path / f"mteb/{task}", configs)
    ranker = Reranker.from_pretrained(checkpoint)
    chosen: dict[str, Any] = {"data": tmp_path, "tasks": (task,), "subsets": ("english",)}
    report = ran("vidore-v3.1-reranking", ranker, **chosen)
    scores = {
        query: [ranker.score_one(query, hub.picture(name)) for name in hub.COLOURS]
        for query in ("the red page", "a blue one")
    }
    places = [
        sorted(scores[query], reverse=True).index(scores[query][right]) + 1
        for query, right in (("the red page", 0), ("a blue one", 2))
    ]
    expected = np.mean([1 / np.log2(place + 1) for place in places])
    assert report["score"] == pytest.approx(expected, abs=1e-5)


def test_winoground(tmp_path: Path) -> None:
    rows = [
        {"id": 0, "caption_0": "red", "caption_1": "blue",
         "image_0": hub.picture("red"), "image_1": hub.picture("blue")},
        {"id": 1, "caption_0": "blue", "caption_1": "green",  # the first picture is not what it says
         "image_0": hub.picture("red"), "image_1": hub.picture("green")},
    ]  # fmt: skip
    hub.write_repository(tmp_path / "facebook/winoground", {"default": {"test": rows}})
    scorer = Reader()
    report = ran("winoground", scorer, data=tmp_path)
    assert report["complete"]
    assert report["tasks"][0]["metrics"] == {"text": 0.5, "image": 0.5, "group": 0.5, "examples": 2}
    assert scorer.documents == 4  # for eight pairs


def test_data_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        DataUnavailableError,
        match=r"SciFact are not in .*mteb/scifact.*hf download --repo-type dataset mteb/scifact"
        r" --revision \w+ --local-dir .*mteb/scifact",
    ):
        ran("beir", Reader(), data=tmp_path, tasks=("SciFact",))
    with pytest.raises(
        DataUnavailableError, match=r"SciFact \(mteb/scifact\) cannot be had.*hf download"
    ):
        ran("beir", Reader(), tasks=("SciFact",))
    (tmp_path / "mteb/scifact").mkdir(parents=True)
    with pytest.raises(DataUnavailableError, match="cannot be had"):
        ran("beir", Reader(), data=tmp_path, tasks=("SciFact",))


def test_runs_that_do_not_fit(tmp_path: Path) -> None:
    hub.write_repository(
        tmp_path / "mteb/scifact", hub.texts("test", corpus="corpus", queries="queries")
    )
    run = tmp_path / "runs"
    run.mkdir()
    chosen: dict[str, Any] = {"data": tmp_path, "run": run, "tasks": ("SciFact",)}
    with pytest.raises(
        InputError, match=r"neither SciFact_predictions.json nor SciFact.default.trec"
    ):
        ran("beir", Reader(), **chosen)
    hub.write_run(run, "SciFact", "default", ["q1"], ["cows"])
    with pytest.raises(InputError, match=r"SciFact has no document 'cows'"):
        ran("beir", Reader(), **chosen)
    hub.write_run(run, "SciFact", "default", ["q9"], ["cats"])
    with pytest.raises(InputError, match="candidates for no query"):
        ran("beir", Reader(), **chosen)
    (run / "SciFact_predictions.json").write_text('{"default": {}}')
    with pytest.raises(InputError, match="has no predictions for subset default, split test"):
        ran("beir", Reader(), **chosen)
    with pytest.raises(OptionError, match="SciFact has no subset xx"):
        ran("beir", Reader(), data=tmp_path, tasks=("SciFact",), subsets=("xx",))
