"""Train one stage: `python -m recipe.train STAGE.toml [--seconds N] [--device cuda]`.

A stage is a file in recipe/stages: which task, where it starts from, what is trained and how long.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from recipe.composing import Composing, ComposingConfig
from recipe.context import ContextPack
from recipe.distil import Taught
from recipe.layout import Special
from recipe.lexicon import Lexicon
from recipe.matching import Matching
from recipe.pack import TextPack
from recipe.pages import PageConfig, PageRanking
from recipe.pictures import PicturePack
from recipe.ranking import RankingConfig, TextRanking
from recipe.reading import Reader, Reading, ReadingConfig
from recipe.renaming import Renamer
from recipe.start import fresh, nano_config
from recipe.trainer import Task, TrainConfig, Trainer
from recipe.wiring import WIRED, wire_meaning
from recipe.words import Words
from sightrank.model.multimodal import RerankerModel
from sightrank.weights import read_tensors


def main() -> None:
    """Read the stage, build model and task, lay earlier stages over it, train."""
    arguments = _arguments()
    stage = tomllib.loads(arguments.stage.read_text(encoding="utf-8"))
    config = TrainConfig(**stage.get("train", {}))
    for name in ("seconds", "device", "workers"):
        if (value := getattr(arguments, name)) is not None:
            config = replace(config, **{name: value})
    torch.set_num_threads(arguments.threads)
    pack = TextPack.load(arguments.data / "pack" / "text.npz")
    tokenizer = Tokenizer.from_file(str(arguments.data / "tokenizer" / "tokenizer.json"))
    model = begin(pack, tokenizer, stage.get("layers", WIRED))
    task = make_task(stage, pack, tokenizer, model, arguments.data)
    trained = Reader(model) if isinstance(task, Reading) else model
    carry_over(stage, trained, arguments.runs)
    if stage.get("match_meanings"):
        wire_meaning(model, _query_word(tokenizer))
    unfreeze(stage, model)
    folder = arguments.runs / (arguments.name or arguments.stage.stem)
    Trainer(trained, task, config, folder, {"stage": stage}).run()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", type=Path, help="a .toml file in recipe/stages")
    parser.add_argument("--data", type=Path, default=Path(".data"))
    parser.add_argument("--runs", type=Path, default=Path(".data/runs"))
    parser.add_argument("--name", help="folder of the run; default: the stage's name")
    parser.add_argument("--seconds", type=float, help="time budget instead of the stage's")
    parser.add_argument("--device", help="cpu or cuda instead of the stage's")
    parser.add_argument("--workers", type=int, help="processes that prepare batches")
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads of the training process"
    )
    return parser.parse_args()


def begin(pack: TextPack, tokenizer: Tokenizer, layers: int) -> RerankerModel:
    """A nano that has learned nothing yet."""
    config = nano_config(tokenizer.get_vocab_size(), layers)
    return fresh(config, torch.from_numpy(pack.vectors), _query_word(tokenizer))


def _query_word(tokenizer: Tokenizer) -> int:
    return int(tokenizer.encode("Query").ids[-1])


def carry_over(stage: dict[str, Any], trained: nn.Module, runs: Path) -> None:
    """Lay what earlier stages trained, or a model `folder` holds, over the fresh weights; the
    decoder's layers of a source that is `raised` by some lie so much higher here."""
    for source in stage.get("from", []):
        prefixes = tuple(source["parts"])
        place, saved = _saved(source, runs)
        chosen = {
            _raised(key, source.get("raised", 0)): value
            for key, value in saved.items()
            if key.startswith(prefixes)
        }
        unknown = trained.load_state_dict(chosen, strict=False).unexpected_keys
        if unknown or not chosen:
            raise SystemExit(f"{place} holds no {prefixes} that fit: {unknown[:5]}")


def _saved(source: dict[str, Any], runs: Path) -> tuple[str, dict[str, Tensor]]:
    """Where from, and the weights there: of a `folder`, of a `run`, or the `mean` of several runs,
    which is often better than each (Wortsman et al. 2022, model soups)."""
    if "folder" in source:
        return source["folder"], dict(read_tensors(Path(source["folder"])))
    names = source["mean"] if "mean" in source else [source["run"]]
    several = [
        torch.load(runs / name / "checkpoint.pt", weights_only=True)["model"] for name in names
    ]
    mean = {key: torch.stack([each[key] for each in several]).mean(dim=0) for key in several[0]}
    return ", ".join(names), mean


def _raised(key: str, by: int) -> str:
    return re.sub(r"^(model\.layers\.)(\d+)", lambda m: f"{m[1]}{int(m[2]) + by}", key)


def unfreeze(stage: dict[str, Any], model: RerankerModel) -> None:
    """Let this stage's parts learn, embeddings excepted."""
    trained = tuple(stage["parts"])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(trained) and "embed_tokens" not in name)


def make_task(
    stage: dict[str, Any],
    pack: TextPack,
    tokenizer: Tokenizer,
    model: RerankerModel,
    data: Path = Path(".data"),
) -> Task:
    """The stage's task with its options."""
    options: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in stage.get("options", {}).items()
    }
    blank = tokenizer.encode("\n").ids[0]
    if stage["task"] == "reading":
        reading = ReadingConfig(**options)
        return Reading(pack, tokenizer, reading, blank, _pictures(data, reading.named))
    ids = model.config
    special = Special(ids.vision_start_token_id, ids.vision_end_token_id, blank)
    if stage["task"] == "composing":
        composing, contexts = ComposingConfig(**options), ContextPack.load(data / "pack")
        words = _words(data) if composing.word_share else None
        renamer = Renamer(pack, tokenizer, words) if words else None
        matching = Matching(pack, special, ids.score_token_id, renamer)
        return Composing(pack, contexts, tokenizer, composing, special, words, matching)
    if stage["task"] == "ranking":
        ranking = RankingConfig(**options)
        taught = _taught(tokenizer, ranking)
        lexicon = _lexicon(pack, tokenizer, ranking)
        renamer = _renamer(pack, tokenizer, ranking, data)
        return TextRanking(pack, ranking, special, ids.score_token_id, lexicon, taught, renamer)
    if stage["task"] == "pages":
        pages = PageConfig(**options)
        things = _pictures(data, pages.thing_share)
        taught = _taught(tokenizer, pages)
        lexicon = _lexicon(pack, tokenizer, pages)
        score = ids.score_token_id
        renamer = _renamer(pack, tokenizer, pages, data)
        return PageRanking(pack, tokenizer, pages, special, score, things, lexicon, taught, renamer)
    raise SystemExit(f"task {stage['task']!r} is not one of: reading, composing, ranking, pages")


def _lexicon(pack: TextPack, tokenizer: Tokenizer, config: RankingConfig) -> Lexicon | None:
    return Lexicon(pack.vectors, tokenizer) if config.swapped else None


def _taught(tokenizer: Tokenizer, config: RankingConfig) -> Taught | None:
    return Taught(tokenizer) if config.taught_share else None


def _renamer(
    pack: TextPack, tokenizer: Tokenizer, config: RankingConfig, data: Path
) -> Renamer | None:
    if not config.renamed:
        return None
    return Renamer(pack, tokenizer, _words(data))


def _words(data: Path) -> Words:
    return Words.load(data / "pack" / "words.npz")


def _pictures(data: Path, share: float) -> PicturePack | None:
    return PicturePack.load(data / "pack" / "pictures.npz") if share else None


if __name__ == "__main__":
    main()
