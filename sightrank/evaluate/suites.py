"""The named suites: which tasks of mteb, what is measured, and what was published for the released m0.

Figures are as published, in percent. None means that the source does not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sightrank.errors import OptionError

BLOG = "Jina AI's table of rerankers (jina-reranker-v3's card; model page of m0)"
QWEN = "Qwen3-VL-Reranker's card, read in a copy"
LIGHTON = "LightOn's post on lighton-rerank, at second hand"


@dataclass(frozen=True)
class Published:
    """A figure for jina-reranker-m0 and the protocol behind it."""

    value: float
    metric: str | None
    first_stage: str | None
    depth: int | None
    source: str


@dataclass(frozen=True)
class Suite:
    """Tasks that are measured alike and averaged."""

    name: str
    tasks: tuple[str, ...]
    metric: str
    """As mteb names it; winoground has its own three."""
    depth: int | None = 100
    """Candidates of a query that are reranked; None: all of the task's own."""
    published: tuple[Published, ...] = ()
    unknown: str = ""
    """What is not known of m0's figure, so that nobody takes two protocols for one."""


_V1 = tuple(
    f"Vidore{name}Retrieval"
    for name in (
        "ArxivQA", "DocVQA", "InfoVQA", "Tabfquad", "Tatdqa", "ShiftProject", "SyntheticDocQAAI",
        "SyntheticDocQAEnergy", "SyntheticDocQAGovernmentReports", "SyntheticDocQAHealthcareIndustry",
    )
)  # fmt: skip
_V3_DOMAINS = (
    "FinanceEn", "Industrial", "ComputerScience", "Pharmaceuticals", "Hr", "FinanceFr", "Physics",
    "Energy", "Telecom", "Nuclear",
)  # fmt: skip
_V31_FIRST_STAGES = ("BM25s", "BGEm3", "Qwen3VLEmbedding2B", "Nemotron35Embed8B")
_JINAVDR = (
    "MedicalPrescriptionsRetrieval", "StanfordSlideRetrieval", "DonutVQAISynHMPRetrieval",
    "TableVQARetrieval", "ChartQARetrieval", "TQARetrieval", "OpenAINewsRetrieval",
    "EuropeanaDeNewsRetrieval", "EuropeanaEsNewsRetrieval", "EuropeanaItScansRetrieval",
    "EuropeanaNlLegalRetrieval", "HindiGovVQARetrieval", "AutomobileCatelogRetrieval",
    "BeveragesCatalogueRetrieval", "RamensBenchmarkRetrieval", "JDocQARetrieval",
    "HungarianDocQARetrieval", "ArabicChartQARetrieval", "ArabicInfographicsVQARetrieval",
    "OWIDChartsRetrieval", "MPMQARetrieval", "Jina2024YearlyBookRetrieval",
    "WikimediaCommonsMapsRetrieval", "PlotQARetrieval", "MMTabRetrieval", "CharXivOCRRetrieval",
    "StudentEnrollmentSyntheticRetrieval", "GitHubReadmeRetrieval",
    "TweetStockSyntheticsRetrieval", "AirbnbSyntheticRetrieval", "ShanghaiMasterPlanRetrieval",
    "WikimediaCommonsDocumentsRetrieval", "EuropeanaFrNewsRetrieval",
    "DocQAHealthcareIndustryRetrieval", "DocQAAI", "ShiftProjectRetrieval", "TatQARetrieval",
    "InfovqaRetrieval", "DocVQARetrieval", "DocQAGovReportRetrieval", "TabFQuadRetrieval",
    "DocQAEnergyRetrieval", "ArxivQARetrieval",
)  # fmt: skip


def suites() -> Mapping[str, Suite]:
    """All suites by name."""
    return {suite.name: suite for suite in _table()}


def suite_named(name: str) -> Suite:
    """Raises OptionError listing the names there are."""
    if (suite := suites().get(name)) is None:
        raise OptionError(f"There is no suite {name!r}.", f"Allowed: {', '.join(suites())}.")
    return suite


def _table() -> tuple[Suite, ...]:
    return (
        Suite(
            "beir",
            (
                "TRECCOVID",
                "NFCorpus",
                "NQ",
                "HotpotQA",
                "FiQA2018",
                "ArguAna",
                "Touche2020",
                "CQADupstackRetrieval",
                "QuoraRetrieval",
                "DBPedia",
                "SCIDOCS",
                "FEVER",
                "ClimateFEVER",
                "SciFact",
                "MSMARCO",
            ),
            "ndcg_at_10",
            published=(
                Published(
                    58.95, "nDCG@10", "jina-embeddings-v3, whose own order has 55.81", 100, BLOG
                ),
                Published(51.97, None, "BM25", 100, f'{LIGHTON}: its "clean mean"'),
            ),
            unknown="which of BEIR's sets are in the mean.",
        ),
        Suite(
            "miracl",
            ("MIRACLReranking",),
            "ndcg_at_10",
            depth=None,
            published=(Published(66.75, "nDCG@10", None, None, f"{BLOG}; 18 languages"),),
            unknown="the published figure's candidates; here they are the task's own.",
        ),
        Suite(
            "mldr",
            ("MultiLongDocReranking",),
            "ndcg_at_10",
            depth=None,
            unknown="no figure for m0 could be found.",
        ),
        Suite(
            "mkqa",
            ("MKQARetrieval",),
            "recall_at_10",
            published=(Published(68.19, "recall@10", None, None, f"{BLOG}; 26 languages"),),
            unknown="the published figure's candidates and depth.",
        ),
        Suite(
            "coir",
            (
                "AppsRetrieval",
                "CodeFeedbackMT",
                "CodeFeedbackST",
                "CodeSearchNetCCRetrieval",
                "CodeTransOceanContest",
                "CodeTransOceanDL",
                "CosQA",
                "COIRCodeSearchNetRetrieval",
                "StackOverflowQA",
                "SyntheticText2SQL",
            ),
            "ndcg_at_10",
            published=(Published(63.55, "nDCG@10", None, None, BLOG),),
            unknown="the published figure's candidates and depth.",
        ),
        Suite(
            "vidore-v1",
            _V1,
            "ndcg_at_5",
            published=(
                Published(
                    91.02, "nDCG@5", None, None, "m0's model page, as a third party quotes it"
                ),
            ),
            unknown="the published figure's candidates and depth.",
        ),
        Suite(
            "vidore-v2",
            tuple(
                f"Vidore2{name}Retrieval"
                for name in ("ESGReports", "EconomicsReports", "BioMedicalLectures", "ESGReportsHL")
            ),
            "ndcg_at_5",
            unknown="no figure for m0 could be found.",
        ),
        Suite(
            "vidore-v3",
            tuple(f"Vidore3{domain}Retrieval" for domain in _V3_DOMAINS),
            "ndcg_at_10",
            published=(
                Published(
                    57.8,
                    "nDCG@10",
                    "jina-embeddings-v4 on page images, whose own order has 57.6",
                    None,
                    "the ViDoRe V3 paper, table 2",
                ),
                Published(57.8, "nDCG@10", "Qwen3-VL-Embedding-2B", 100, QWEN),
                Published(
                    59.4, "nDCG@10", "ColQwen2.5", 100, f"{LIGHTON}; English and French sets"
                ),
            ),
            unknown="the paper's depth. Two of the ten sets, Telecom and Nuclear, are not public.",
        ),
        Suite(
            "vidore-v3.1-reranking",
            tuple(
                f"Vidore3{domain}{stage}Reranking.v2"
                for stage in _V31_FIRST_STAGES
                for domain in _V3_DOMAINS
            ),
            "ndcg_at_10",
            depth=None,
            unknown="m0 is not registered there. Candidates are the tasks' own, 50 a query.",
        ),
        Suite(
            "jinavdr",
            tuple(f"JinaVDR{name}" for name in _JINAVDR),
            "ndcg_at_5",
            published=(Published(82.2, None, "Qwen3-VL-Embedding-2B", 100, QWEN),),
            unknown="the published figure's metric.",
        ),
        Suite(
            "winoground",
            ("Winoground",),
            "group",
            depth=None,
            unknown="no figure for m0 could be found. Chance has 25 for text and image, 16.67 for group.",
        ),
    )
