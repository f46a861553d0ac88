"""Other ways to serve a reranker of text, with random weights of nano's size: speed alone counts."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from serve_process import NotStartedError, Process, run

from sightrank.config import ModelConfig
from sightrank.weights import NANO

NAMES = ("sentence-transformers", "infinity")


class CannotRunError(Exception):
    """A server that is not to be had here, and why."""


@dataclass(frozen=True)
class Peer:
    """Another server."""

    name: str
    what: str
    checkpoint: Path
    program: str | None
    threads: int

    @contextmanager
    def run(self) -> Iterator[Process]:
        """It, when it is ready. Raises CannotRunError."""
        if self.name == "infinity" and self.program is None:
            raise CannotRunError("--infinity did not name its program.")
        try:
            with self._started() as server:
                yield server
        except NotStartedError as error:
            raise CannotRunError(str(error)) from error

    @contextmanager
    def _started(self) -> Iterator[Process]:
        model = str(self.checkpoint)
        environment = {
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "OMP_NUM_THREADS": str(self.threads),
        }
        if self.name == "infinity":
            arguments = ["v2", "--model-id", model, "--served-model-name", "random"]
            arguments += ["--engine", "torch", "--device", "cpu", "--dtype", "float32"]
            arguments += ["--no-bettertransformer", "--no-model-warmup", "--port", "{port}"]
            environment["INFINITY_ANONYMOUS_USAGE_STATS"] = "0"
            started = run(
                arguments,
                environment,
                ready="/health",
                rank="/rerank",
                model="random",
                program=self.program or "",
            )
        else:
            program = str(Path(__file__).with_name("serve_cross_encoder.py"))
            arguments = [program, model, "{port}"]
            started = run(arguments, environment, ready="/ready", rank="/rerank", model="random")
        with started as server:
            yield server


def chosen(folder: Path, options: argparse.Namespace) -> list[Peer]:
    """The servers asked for, around one checkpoint that is made here."""
    if not options.peers:
        return []
    size = make_checkpoint(folder / "bert")
    model = f"a BERT of {size / 1e6:.1f} million random weights, nano's vocabulary, float32"
    what = {
        "sentence-transformers": f"CrossEncoder.predict of sentence-transformers"
        f" {version('sentence-transformers')}, a call a request, one after another, in a plain"
        f" route of FastAPI {version('fastapi')}: {model}",
        "infinity": f"infinity-emb {_version_of(options.infinity)}, engine torch: {model}",
    }
    return [
        Peer(name, what[name], folder / "bert", options.infinity, options.threads)
        for name in options.peers
    ]


def _version_of(program: str | None) -> str:
    if program is None:
        return "(none)"
    code = "from importlib.metadata import version; print(version('infinity-emb'))"
    python = str(Path(program).with_name("python"))
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def make_checkpoint(folder: Path) -> int:
    """A cross-encoder as wide and deep as nano's decoder; returns how many weights it has."""
    import torch

    transformers = import_module("transformers")
    torch.manual_seed(0)
    nano = ModelConfig.from_file(NANO / "config.json")
    config = transformers.BertConfig(
        vocab_size=_make_tokenizer(folder),
        hidden_size=384,
        num_hidden_layers=nano.num_hidden_layers,
        num_attention_heads=6,
        intermediate_size=1280,  # two matrices of it are as large as nano's three of 1024
        max_position_embeddings=512,
        num_labels=1,
    )
    model = transformers.BertForSequenceClassification(config)
    model.save_pretrained(folder)
    return sum(int(parameter.numel()) for parameter in model.parameters())


def _make_tokenizer(folder: Path) -> int:
    """Nano's own, with BERT's special tokens around; returns the size of its vocabulary."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    special = ["[CLS]", "[SEP]", "[PAD]"]
    tokenizer.add_special_tokens(special)
    places = [(token, tokenizer.token_to_id(token)) for token in special[:2]]
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=places
    )
    import_module("transformers").PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        model_max_length=512,
    ).save_pretrained(folder)
    size: int = tokenizer.get_vocab_size()
    return size
