"""The configuration of a training: a TOML file of sections, each a frozen dataclass."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from sightrank.config import MAX_PIXELS, MIN_PIXELS, InputConfig
from sightrank.errors import OptionError

LANGUAGE = ("lora", "full", "frozen")
PRECISION = ("float32", "bfloat16")
DISTILLING = ("margin-mse", "kl")
LOSSES = ("bce", "ranknet", "margin", "listnet", "infonce", *DISTILLING)
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class ModelSection:
    """What training starts from, and which of its parts learn. The default is m0's recipe."""

    start: str = "nano"
    """nano, a folder or a hub id: a reranker, or Qwen2-VL-2B-Instruct, which has no score head."""
    language: str = "lora"
    """"lora": adapters on its linear layers; "full": its layers; "frozen". Embeddings never learn."""
    vision: bool = False
    """Whether the vision tower's blocks learn."""
    merger: bool = False
    """Whether the projector between vision tower and language model learns."""
    head_seed: int = 0
    """Of the random score head, where the start has none."""


@dataclass(frozen=True)
class DataSection:
    """The groups, and how much of each is looked at."""

    train: tuple[str, ...]
    """JSONL files; paths are relative to the configuration."""
    valid: tuple[str, ...] = ()
    """JSONL files for nDCG@10; all documents of a group are ranked."""
    shuffle: int = 10_000
    """Lines held while the order is shuffled."""
    positives: int = 1
    """Relevant documents of a group that a step sees at most."""
    negatives: int = 7
    """Other documents of a group that a step sees at most."""
    in_batch: int = 0
    """Documents of the other groups in a batch that are added to each group as irrelevant."""
    max_length: int = 2048
    """Tokens of a prompt."""
    max_query_length: int = 512
    """Tokens kept free for the query when a document is cut."""
    min_pixels: int = MIN_PIXELS
    max_pixels: int = MAX_PIXELS
    """Lower it to train at a low resolution; the trained model takes any."""
    workers: int = 0
    """Processes that read and encode beside the training process; 0: it does so itself."""


@dataclass(frozen=True)
class LossSection:
    """What is descended."""

    name: str = "infonce"
    temperature: float = 1.0
    """Of listnet (its labels), infonce and kl."""
    margin: float = 1.0
    """Of margin, in logits."""


@dataclass(frozen=True)
class LoraSection:
    """Adapters, as peft calls their settings."""

    rank: int = 32
    alpha: float = 64.0
    dropout: float = 0.05
    targets: tuple[str, ...] = LINEARS
    """Linear layers of the language model."""


@dataclass(frozen=True)
class TrainSection:
    """The first stage, and what holds for both."""

    to: str
    """Folder of the result, relative to the configuration."""
    steps: int = 1000
    """0 leaves the first stage out."""
    groups: int = 4
    """Groups that run together."""
    accumulate: int = 4
    """Such batches a step, over all processes."""
    learning_rate: float = 1e-4
    head: bool = True
    """Whether the score head learns beside the other parts."""
    head_learning_rate: float = 1e-4
    warmup: float = 0.05
    """Share of the steps in which the rate rises; then it falls as a half cosine to a tenth."""
    weight_decay: float = 0.01
    clip: float = 1.0
    precision: str = "float32"
    """bfloat16: autocast, with the weights that do not learn kept in it."""
    checkpointing: bool = False
    """Keep only the input of each decoder layer, run it again in the backward pass."""
    fsdp: bool = False
    """Shard weights, gradients and optimizer over the processes."""
    device: str = "auto"
    """auto: GPUs where there are any; or cpu."""
    seed: int = 0
    save_every: int = 200
    """Steps between states that a killed run goes on from."""
    validate_every: int = 200
    log_every: int = 10


@dataclass(frozen=True)
class HeadSection:
    """The second stage: the score head alone, on the merged model."""

    steps: int = 200
    """0 leaves it out."""
    learning_rate: float = 1e-4


@dataclass(frozen=True)
class Settings:
    """A whole training."""

    data: DataSection
    train: TrainSection
    model: ModelSection = field(default_factory=ModelSection)
    loss: LossSection = field(default_factory=LossSection)
    lora: LoraSection = field(default_factory=LoraSection)
    head: HeadSection = field(default_factory=HeadSection)

    @classmethod
    def from_file(cls, path: Path) -> Settings:
        """Read a TOML file; paths in it become absolute. Raises OptionError."""
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise OptionError(
                f"{path} cannot be read: {error.strerror}.", "Check the path."
            ) from error
        except ValueError as error:
            raise OptionError(f"{path} is not TOML: {error}.", "See docs/training.md.") from error
        return cls.from_dict(raw, path.parent)

    @classmethod
    def from_dict(cls, raw: dict[str, Any], folder: Path) -> Settings:
        """Sections out of plain values; relative paths start from `folder`. Raises OptionError."""
        _known(raw, [each.name for each in fields(cls)], "the configuration", "section")
        sections = {"model": ModelSection, "data": DataSection, "loss": LossSection}
        sections |= {"lora": LoraSection, "train": TrainSection, "head": HeadSection}
        made: dict[str, Any] = {
            name: _section(name, kind, raw.get(name, {})) for name, kind in sections.items()
        }
        settings = cls(**made)
        _check(settings)
        return _absolute(settings, folder)

    def inputs(self) -> InputConfig:
        """The limits of prompts."""
        data = self.data
        return InputConfig(
            max_length=data.max_length,
            max_query_length=data.max_query_length,
            min_pixels=data.min_pixels,
            max_pixels=data.max_pixels,
        )

    def to_dict(self) -> dict[str, Any]:
        """Every value, ready for JSON."""
        return asdict(self)

    def digest(self) -> str:
        """SHA-256 (hex) of all that decides what is trained; not where it goes or how it is run."""
        facts = self.to_dict()
        for name in ("to", "device", "fsdp", "save_every", "validate_every", "log_every"):
            del facts["train"][name]
        del facts["data"]["workers"]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


Section = TypeVar("Section")


def _section(name: str, kind: type[Section], raw: Any) -> Section:
    if not isinstance(raw, dict):
        raise OptionError(f"[{name}] is {raw!r:.60}.", f"It must be a section: [{name}].")
    hints = get_type_hints(kind)
    listed = fields(kind)  # type: ignore[arg-type]
    _known(raw, [each.name for each in listed], f"[{name}]", "key")
    needed = [e.name for e in listed if e.default is MISSING and e.name not in raw]
    if needed:
        raise OptionError(f"[{name}] lacks {', '.join(needed)}.", "See docs/training.md.")
    values = {key: _value(f"{name}.{key}", hints[key], value) for key, value in raw.items()}
    return kind(**values)


def _known(raw: dict[str, Any], allowed: list[str], place: str, what: str) -> None:
    if unknown := [key for key in raw if key not in allowed]:
        raise OptionError(
            f"{place} has an unknown {what}: {', '.join(unknown)}.",
            f"Allowed: {', '.join(allowed)}.",
        )


def _value(name: str, kind: Any, value: Any) -> Any:
    if get_origin(kind) is tuple:
        (inner, _) = get_args(kind)
        listed = value if isinstance(value, list) else [value]
        return tuple(_value(name, inner, each) for each in listed)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}
        raise OptionError(f"{name} is {value!r:.60}.", f"It must be {words[kind]}.")
    return value


def _check(settings: Settings) -> None:
    """Raise OptionError for a value outside its range."""
    model, data, loss = settings.model, settings.data, settings.loss
    lora, train, head = settings.lora, settings.train, settings.head
    _among("model.language", model.language, LANGUAGE)
    _among("loss.name", loss.name, LOSSES)
    _among("train.precision", train.precision, PRECISION)
    _among("train.device", train.device, ("auto", "cpu"))
    for target in lora.targets:
        _among("lora.targets", target, LINEARS)
    rules = {
        "data.train": (len(data.train), 1),
        "data.shuffle": (data.shuffle, 0),
        "data.positives": (data.positives, 1),
        "data.negatives": (data.negatives, 0),
        "data.in_batch": (data.in_batch, 0),
        "data.workers": (data.workers, 0),
        "lora.rank": (lora.rank, 1),
        "lora.dropout": (lora.dropout, 0),
        "train.steps": (train.steps, 0),
        "train.groups": (train.groups, 1),
        "train.accumulate": (train.accumulate, 1),
        "train.weight_decay": (train.weight_decay, 0),
        "train.warmup": (train.warmup, 0),
        "train.save_every": (train.save_every, 1),
        "train.validate_every": (train.validate_every, 1),
        "train.log_every": (train.log_every, 1),
        "head.steps": (head.steps, 0),
    }
    for name, (value, least) in rules.items():
        if value < least:
            raise OptionError(f"{name} is {value}.", f"It must be at least {least}.")
    for name, number in {
        "loss.temperature": loss.temperature,
        "loss.margin": loss.margin,
        "lora.alpha": lora.alpha,
        "train.clip": train.clip,
        "train.learning_rate": train.learning_rate,
        "train.head_learning_rate": train.head_learning_rate,
        "head.learning_rate": head.learning_rate,
    }.items():
        if not 0 < number < float("inf"):
            raise OptionError(f"{name} is {number}.", "It must be above 0.")
    _check_together(settings)


def _check_together(settings: Settings) -> None:
    model, data, train = settings.model, settings.data, settings.train
    settings.inputs()
    learns = model.language != "frozen" or model.vision or model.merger or train.head
    if train.steps and not learns:
        raise OptionError(
            "train.steps is above 0 and nothing learns.",
            "Set train.steps = 0 to train the head alone, or let a part learn.",
        )
    if not train.steps + settings.head.steps:
        raise OptionError("train.steps and head.steps are both 0.", "Set one of them.")
    if data.in_batch and settings.loss.name in DISTILLING:
        raise OptionError(
            f"data.in_batch is {data.in_batch} and the loss is {settings.loss.name}.",
            "A teacher scored only a group's own documents: set in_batch = 0.",
        )
    if data.in_batch and train.groups < 2:
        raise OptionError("data.in_batch needs train.groups of 2 or more.", "Raise it.")


def _among(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise OptionError(f"{name} is {value!r}.", f"Allowed: {', '.join(allowed)}.")


def _absolute(settings: Settings, folder: Path) -> Settings:
    def place(name: str) -> str:
        return str((folder / name).absolute())

    start = settings.model.start
    if (folder / start).is_dir():
        start = place(start)
    data = settings.data
    return replace(
        settings,
        model=replace(settings.model, start=start),
        data=replace(
            data, train=tuple(map(place, data.train)), valid=tuple(map(place, data.valid))
        ),
        train=replace(settings.train, to=place(settings.train.to)),
    )
