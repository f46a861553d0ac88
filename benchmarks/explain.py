"""Is an explanation right? Pointing, overlap, deletion and insertion, beside chance and occlusion.

`python benchmarks/explain.py --choose sightrank/nano/explain.json` makes texts and pages whose answering
part is known (`explain_cases.py`), chooses attention heads on one half of them and measures on the
other; the last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from explain_cases import Known, Maker
from machine import describe
from numpy.typing import NDArray
from torch import Tensor

from sightrank import Query, Reranker
from sightrank.analysis.attention import attention, gradient, record
from sightrank.analysis.case import CONTENT_FREE, Attribution, Case, Chosen, Heads
from sightrank.analysis.occlusion import cut, logits, occlusion, paint
from sightrank.analysis.regions import (
    boxes,
    smoothed_grid,
    smoothed_words,
    spans,
    word_starts,
)
from sightrank.inputs.images import ImagePatches

Method = Callable[[Case], Attribution]
MOST_HEADS = 8
LEAST_GAIN = 0.005
"""Of a head that is worth adding: below this the heads differ by chance."""
STEPS = (0.1, 0.2, 0.4, 0.6, 0.8)
SHIFTS = 16


def main() -> None:
    """Choose, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".data"))
    parser.add_argument("--model")
    parser.add_argument("--texts", type=int, default=240)
    parser.add_argument("--pages", type=int, default=80)
    parser.add_argument(
        "--occluded", type=int, default=8, help="texts, and pages, of the second half"
    )
    parser.add_argument("--choose", type=Path, help="write the chosen heads to this file")
    arguments = parser.parse_args()
    ranker = Reranker.from_pretrained(arguments.model)
    maker = Maker(arguments.data, ranker.encoder.tokenizer, seed=7)
    sets = {
        "texts": list(maker.texts(arguments.texts)),
        "pages": list(maker.pages(arguments.pages)),
    }
    halves = {name: (known[::2], known[1::2]) for name, known in sets.items()}
    (text, texts), (image, pages) = (choose_heads(ranker, first) for first, _ in halves.values())
    chosen, history = Heads(text, image), {"texts": texts, "pages": pages}
    if arguments.choose:
        write(arguments.choose, ranker, chosen)
    result = {
        "machine": describe(),
        "model": {"name": ranker.name, "fingerprint": ranker.fingerprint},
        "heads": {"chosen": chosen.to_dict(), "steps": history},
    }
    for name, (first, second) in halves.items():
        count = arguments.occluded
        kept: dict[tuple[Known, str], NDArray[np.float64]] = {}
        methods = the_methods(chosen)
        fast = {key: run for key, run in methods.items() if key != "occlusion"}
        result[name] = {
            "chosen_on": len(first),
            "measured_on": len(second),
            "methods": measure(ranker, second, fast),
            "with_occlusion": {
                "measured_on": len(second[:count]),
                "methods": measure(ranker, second[:count], methods, kept),
                "curves": curves(ranker, second[:count], kept),
            },
        }
        say(name, result[name])
    print(json.dumps(result))


def the_methods(chosen: Heads) -> dict[str, Method]:
    """What is compared: the default, what it is without its two ideas, and the others."""
    return {
        "attention": lambda case: attention(replace(case, heads=chosen)),
        "attention, all heads": lambda case: attention(replace(case, heads=Heads())),
        "attention, not calibrated": lambda case: uncalibrated(replace(case, heads=chosen)),
        "gradient": gradient,
        "occlusion": occlusion,
    }


def uncalibrated(case: Case) -> Attribution:
    """Attention without the subtraction."""
    maps = head_maps(case, case.query)
    heads = case.heads.image if case.is_image.any() else case.heads.text
    chosen = np.ndindex(maps.shape[:2]) if heads is None else heads
    return Attribution(np.mean([maps[head] for head in chosen], axis=0))


def head_maps(case: Case, query: object) -> NDArray[np.float64]:
    """(layers, heads, document tokens): each head's attention, the mean over the query's tokens."""
    found: list[NDArray[np.float64]] = []

    def see(_: int, weights: Tensor) -> None:
        found.append(weights[:, :, : len(case.segment)].mean(dim=1).double().numpy())

    record(case, query, see)  # type: ignore[arg-type]
    return np.stack(found)


def choose_heads(ranker: Reranker, knowns: Sequence[Known]) -> tuple[Chosen, list[dict[str, Any]]]:
    """The heads by which attention points most often at the answer, and how they were found.

    One after another, that head is added which lifts most the share of positive attention that
    falls on the answer, over the answer's share of all tokens. All heads together are kept where
    they point better than those.
    """
    maps = [contrasted(ranker, known) for known in knowns]
    free = list(np.ndindex(maps[0][0].shape[:2]))
    chosen: list[tuple[int, int]] = []
    best, history = -np.inf, []
    while len(chosen) < MOST_HEADS:
        lifts = {head: lift(maps, [*chosen, head]) for head in free if head not in chosen}
        head = max(lifts, key=lambda each: lifts[each])
        if lifts[head] < best + LEAST_GAIN:
            break
        best = lifts[head]
        chosen.append(head)
        history.append({"head": head, "lift": best})
    choices: list[Chosen] = [None, tuple(chosen)]
    points = [measure(ranker, knowns, {"": by(heads)})[""]["pointing"] for heads in choices]
    history.append({"pointing": points[1], "pointing_of_all_heads": points[0]})
    say("heads", history)
    return choices[int(points[1] >= points[0])], history


def by(heads: Chosen) -> Method:
    """Attention of these heads, whatever the content."""
    return lambda case: attention(replace(case, heads=Heads(heads, heads)))


def contrasted(ranker: Reranker, known: Known) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Every head's calibrated map over the document's own tokens, and which of them answer."""
    case = Case.of(ranker, Query.of(known.query), known.document)
    free = case.encoder.query(Query.text(CONTENT_FREE))
    maps = head_maps(case, case.query) - head_maps(case, free)
    own = case.places.part == 0
    return maps[..., own], answering(case, known)


def answering(case: Case, known: Known) -> NDArray[np.bool_]:
    """(own tokens,): whether a token lies in the answer; a patch by its centre."""
    own = case.places.part == 0
    if isinstance(case.content[0], str):
        start, end = known.answer[0], known.answer[-1]
        starts = case.places.start[own]
        within: NDArray[np.bool_] = (starts >= start) & (starts < end)
        return within
    return inside(case.content[0], known).ravel()


def inside(patches: ImagePatches, known: Known) -> NDArray[np.bool_]:
    """(rows, columns): whether a visual token's centre lies in the answer's box."""
    rows, columns = patches.merged_grid
    left, top, right, bottom = (float(side) for side in known.answer)
    x, y = np.arange(columns) * 28 + 14, np.arange(rows) * 28 + 14
    return ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))[None]


def lift(
    maps: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]],
    heads: Sequence[tuple[int, ...]],
) -> float:
    """Mean share of positive attention on the answer, less chance."""
    gains = []
    for values, gold in maps:
        hot = np.maximum(np.mean([values[head] for head in heads], axis=0), 0)
        gains.append(hot[gold].sum() / max(hot.sum(), 1e-12) - gold.mean())
    return float(np.mean(gains))


def measure(
    ranker: Reranker,
    knowns: Sequence[Known],
    methods: dict[str, Method],
    kept: dict[tuple[Known, str], NDArray[np.float64]] | None = None,
) -> dict[str, dict[str, float]]:
    """Pointing, overlap and time of each method, and what chance would give.

    The document was met before, save for occlusion, which runs it anew for every window. Time is the
    processor's, as other work may run beside this. Values go into `kept` too.
    """
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    for known in knowns:
        case = Case.of(ranker, Query.of(known.query), known.document)
        for name, method in methods.items():
            started = time.process_time()
            values = method(case).values
            seconds = time.process_time() - started
            rows[name].append({**judge(case, known, values), "processor_seconds": seconds})
            if kept is not None:
                kept[known, name] = values
    return {
        name: {key: float(np.mean([row[key] for row in each])) for key in each[0]}
        for name, each in rows.items()
    }


def judge(case: Case, known: Known, values: NDArray[np.float64]) -> dict[str, float]:
    """Whether the hottest place is in the answer, and how far what is hot overlaps it.

    Chance points at any token, and lays the same hot area at any other place.
    """
    own = case.places.part == 0
    scores, gold = values[own], answering(case, known)
    total = float(np.maximum(scores, 0).sum())
    content = case.content[0]
    if isinstance(content, str):
        starts, ends = case.places.start[own], case.places.end[own]
        first = word_starts(content, starts, ends)
        smoothed = smoothed_words(first, scores)
        hit = gold[first[int(np.argmax(smoothed))]]
        hot = np.zeros(len(content), bool)
        for span in spans(content, starts, ends, scores, total, float(smoothed.max())):
            hot[span.start : span.end] = True
        truth = np.zeros(len(content), bool)
        truth[int(known.answer[0]) : int(known.answer[-1])] = True
    else:
        grid = scores.reshape(content.merged_grid)
        smoothed = smoothed_grid(grid)
        hit = gold[int(np.argmax(smoothed))]
        hot, truth = np.zeros(grid.shape, bool), inside(content, known)
        for box in boxes(grid, total, float(smoothed.max())):
            hot[box.top : box.bottom, box.left : box.right] = True
        hot, truth = hot.ravel(), truth.ravel()
    shifts = (np.arange(SHIFTS) + 0.5) / SHIFTS * len(hot)
    return {
        "pointing": float(hit),
        "pointing_by_chance": float(gold.mean()),
        "iou": overlap(hot, truth),
        "iou_by_chance": float(np.mean([overlap(np.roll(hot, int(s)), truth) for s in shifts])),
        "share_on_answer": float(np.maximum(scores, 0)[gold].sum() / max(total, 1e-12)),
    }


def overlap(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((one & two).sum() / max((one | two).sum(), 1))


def curves(
    ranker: Reranker,
    knowns: Sequence[Known],
    kept: dict[tuple[Known, str], NDArray[np.float64]],
) -> dict[str, dict[str, object]]:
    """Mean logits as the hottest windows are taken away, and as only they are left.

    As in Petsiuk et al. 2018 (arXiv 1806.07421): the faster the first falls and the higher the
    second rises, the better the order. Windows are those of occlusion.
    """
    sums: dict[str, list[NDArray[np.float64]]] = {
        name: [] for name in (*dict.fromkeys(name for _, name in kept), "random")
    }
    rng = np.random.default_rng(0)
    for known in knowns:
        case = Case.of(ranker, Query.of(known.query), known.document)
        windows = list(cut(case))
        for name in sums:
            if name == "random":
                order = rng.permutation(len(windows))
            else:
                values = kept[known, name]
                order = np.argsort([-values[window.tokens].mean() for window in windows])
            counts = [round(step * len(windows)) for step in STEPS]
            groups = [np.concatenate([windows[w].tokens for w in order[:n]]) for n in counts]
            rest = [np.concatenate([windows[w].tokens for w in order[n:]]) for n in counts]
            contents = [without(case, tokens) for tokens in (*groups, *rest)]
            sums[name].append(np.array(logits(case, contents)).reshape(2, -1))
    return {
        name: {
            "taken_away": list(STEPS),
            "deletion": np.mean(each, axis=0)[0].tolist(),
            "insertion": np.mean(each, axis=0)[1].tolist(),
            "deletion_mean": float(np.mean(each, axis=0)[0].mean()),
            "insertion_mean": float(np.mean(each, axis=0)[1].mean()),
        }
        for name, each in sums.items()
    }


def without(case: Case, tokens: NDArray[np.intp]) -> list[str | ImagePatches]:
    """The document without these tokens: words cut out, patches painted over."""
    content = case.content[0]
    if not isinstance(content, str):
        first = int(np.flatnonzero(case.places.part == 0)[0])
        return [paint(content, np.sort(tokens) - first)]
    kept = np.ones(len(content), bool)
    for token in tokens:
        kept[case.places.start[token] : case.places.end[token]] = False
    return ["".join(char for char, keep in zip(content, kept, strict=True) if keep)]


def write(path: Path, ranker: Reranker, heads: Heads) -> None:
    """The file that goes beside the model's weights."""
    content = {"fingerprint": ranker.fingerprint, "heads": heads.to_dict()}
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def say(name: str, result: object) -> None:
    """Progress on stderr."""
    print(name, json.dumps(result, indent=1), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
