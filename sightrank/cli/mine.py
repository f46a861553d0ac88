"""`sightrank mine`: hard negatives and teacher scores for a training set."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from sightrank.cli import options
from sightrank.cli.documents import PageCount, counted_pages, expand
from sightrank.cli.output import print_error, print_json
from sightrank.errors import OptionError

if TYPE_CHECKING:
    from sightrank.evaluate.first_stage import Bm25
    from sightrank.evaluate.run import Scorer
    from sightrank.train.mine import Plan, Relevance
    from sightrank.train.pool import Pool
    from sightrank.types import Document


@dataclass(frozen=True)
class Request:
    """One mining as the command line asks for it."""

    groups: Path
    to: Path
    plan: Plan
    documents: tuple[str, ...] = ()
    corpus: Path | None = None
    files: Path | None = None
    model: options.ModelOptions = options.NANO
    timeout: float = 60
    json: bool = False


@options.model_options
def mine(
    groups: Annotated[
        Path, typer.Argument(metavar="GROUPS.jsonl", help="Queries and positives, as for train.")
    ],
    documents: options.Documents = None,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write; new.")] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A corpus in JSONL. Default: the documents of GROUPS."),
    ] = None,
    files: options.Files = None,
    negatives: Annotated[
        int, typer.Option(metavar="N", help="Negatives mined for a query at most.")
    ] = 7,
    first_stage: Annotated[
        str, typer.Option(metavar="NAME", help="Candidates: bm25 (texts), random, or all.")
    ] = "bm25",
    depth: Annotated[
        int, typer.Option(metavar="N", help="Candidates of a query that the ranker scores.")
    ] = 100,
    ranks: Annotated[
        str | None,
        typer.Option(metavar="A-B", help="Ranks in the ranker's order to take. Default: all."),
    ] = None,
    relative_margin: Annotated[
        float | None,
        typer.Option(metavar="M", help="Relevance at most 1 - M of a positive's. Default: 0.05."),
    ] = None,
    absolute_margin: Annotated[
        float | None,
        typer.Option(metavar="M", help="In its place: a score at least M below a positive's."),
    ] = None,
    sampling: Annotated[
        str, typer.Option(metavar="NAME", help="top: the best that are left; or random.")
    ] = "top",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of what is random.")] = 0,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, help="How long a service may be silent.")
    ] = 60,
    model: options.ModelOptions = options.NANO,
    as_json: options.Json = False,
) -> None:
    """Find hard negatives for queries and positives, and write training data with teacher scores.

    \b
    sightrank mine groups.jsonl --to train.jsonl
    sightrank mine groups.jsonl --corpus corpus.jsonl --to train.jsonl --ranks 5-50
    sightrank mine groups.jsonl notes/ report.pdf --first-stage all --to train.jsonl
    sightrank mine groups.jsonl --model my-model/ --absolute-margin 2 --to train.jsonl
    sightrank mine groups.jsonl --model cross-encoder:NAME --to train.jsonl

    --model takes a model, or of the peers of `compare` bm25, cross-encoder:NAME and
    http+jina:URL#MODEL. A line that has negatives keeps them. Given again after a
    kill, the command goes on where it was.
    """
    from sightrank.train.mine import Plan

    if to is None:
        raise OptionError("Nothing says where to write.", "Add --to FILE.")
    if relative_margin is not None and absolute_margin is not None:
        raise OptionError("There are two margins.", "Give one of them.")
    if absolute_margin is None and relative_margin is None:
        relative_margin = 0.05
    plan = Plan(
        negatives, first_stage, depth, _range(ranks), relative_margin, absolute_margin,
        sampling, seed,
    )  # fmt: skip
    run(
        Request(groups, to, plan, tuple(documents or ()), corpus, files, model, timeout, as_json),
        sys.stdin.buffer,
        counted_pages,
    )


def run(request: Request, stdin: BinaryIO, page_count: PageCount) -> None:
    """Check everything, mine, write. Raises SightrankError."""
    from sightrank.train.data import check, ordered
    from sightrank.train.mine import Known, Miner, make_index
    from sightrank.train.mined import Output
    from sightrank.train.pool import Keys, make_pool

    keys = Keys()
    known = Known(keys)
    checked = check([request.groups], known)
    given = _corpus(request, stdin, page_count)
    pool = make_pool(known.documents.values() if given is None else given, known.documents, keys)
    index = make_index(pool, request.plan, needed=request.model.model == "bm25")
    scorer, relevance, fingerprint = _ranker(request, pool, index)
    facts = {
        "groups": checked.digest,
        "corpus": pool.digest,
        "ranker": fingerprint,
        "plan": request.plan.to_dict(),
    }
    output = Output(request.to, facts)
    first = index if request.plan.first_stage == "bm25" else None
    miner = Miner(pool, first, known, scorer, relevance, request.plan)
    left = ((n, group) for n, group in enumerate(ordered([request.groups])) if n >= output.lines)
    try:
        with options.progress_bar("mining", rate=True) as progress:
            for window in miner.mine(left):
                output.write(window)
                if progress:
                    progress(output.lines, checked.num_groups)
    finally:
        output.close()
    output.finish()
    _print(request, scorer.name, pool, output.counts)


def _corpus(request: Request, stdin: BinaryIO, page_count: PageCount) -> Iterable[Document] | None:
    """Documents of --corpus and those named; None where there are neither."""
    from sightrank.train.pool import read_corpus, with_texts

    if request.corpus is None and not request.documents:
        return None
    found = [] if request.corpus is None else read_corpus(request.corpus, request.files)
    named = expand(request.documents, whole=False, stdin=stdin, page_count=page_count)
    for failure in named.failures:
        print_error(failure, "left out")
    return [*found, *with_texts(named.documents)]


def _ranker(
    request: Request, pool: Pool, index: Bm25 | None
) -> tuple[Scorer, Relevance, dict[str, Any] | str]:
    """The scorer, its scores' scale for a relative margin, and what identifies it."""
    from sightrank.evaluate.peers import (
        CROSS_ENCODER,
        FIRST_STAGE,
        Bm25Scorer,
        check,
        is_peer,
        open_peer,
    )

    name = request.model.model or "nano"
    if not is_peer(name):
        ranker = request.model.load()
        return ranker, ranker.probability, ranker.facts()
    if name == FIRST_STAGE:
        raise OptionError("first-stage scores no positives.", "Name a model, or bm25.")
    task = _as_task(pool)
    check(name, task)
    if name == "bm25":
        assert index is not None
        return Bm25Scorer(pool.documents, index), float, name
    relevance = _sigmoid if name.startswith(CROSS_ENCODER) else float
    return open_peer(name, request.timeout)(task), relevance, name


def _as_task(pool: Pool) -> Any:
    """All documents of the pool as a set's, for a peer to say what it cannot read."""
    from sightrank.evaluate.datasets import Dataset
    from sightrank.evaluate.run import Task
    from sightrank.types import Query

    keyed = dict(zip(pool.keys, pool.documents, strict=True))
    asked = {"": Query.text("text")}
    return Task(Dataset("the corpus", asked, keyed, {}), {"": dict.fromkeys(keyed, 0.0)})


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > 0 else 1 - 1 / (1 + math.exp(logit))


def _range(given: str | None) -> tuple[int, int]:
    """`10-50` as numbers."""
    if given is None:
        return 1, sys.maxsize
    first, _, last = given.partition("-")
    return options.whole_number(first, "--ranks"), options.whole_number(last or first, "--ranks")


def _print(request: Request, ranker: str, pool: Pool, counts: Counter[str]) -> None:
    names: Sequence[str] = ("groups", "dropped", "negatives", "too_close")
    report = {
        "to": str(request.to),
        "ranker": ranker,
        **{name: counts[name] for name in names},
        "corpus": pool.num_candidates,
        "repeated": pool.repeated,
    }
    if request.json:
        print_json(report)
        return
    print(
        f"{request.to}: {counts['groups']:,} groups with {counts['negatives']:,} negatives out of"
        f" {pool.num_candidates:,} documents; {counts['too_close']:,} candidates too close to a"
        f" positive, {counts['dropped']:,} groups dropped for want of negatives."
    )
