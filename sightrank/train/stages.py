"""The two stages of a training: which weights learn, and how a stage builds on the one before.

A stage always starts from the start's weights with the results of earlier stages laid over them, so
one that follows in the same process and one that is resumed in another are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from sightrank import weights
from sightrank.model.multimodal import RerankerModel
from sightrank.train.settings import Settings

State = dict[str, Tensor]
"""Trained weights by the names they have in the model of their stage."""
LORA = "lora_"


@dataclass(frozen=True)
class Stage:
    """A run of steps with the same weights learning."""

    name: str
    """"main" or "head"."""
    first: int
    """Steps done before it."""
    steps: int

    @property
    def last(self) -> int:
        """Steps done after it."""
        return self.first + self.steps


def stages(settings: Settings) -> list[Stage]:
    """Those that have steps, in order."""
    main = Stage("main", 0, settings.train.steps)
    head = Stage("head", main.last, settings.head.steps)
    return [stage for stage in (main, head) if stage.steps]


@dataclass(frozen=True)
class Prepared:
    """A model ready for a stage."""

    checkpoint: weights.Checkpoint
    model: RerankerModel
    adapters: PeftModel | None
    """The same model as peft holds it, where it has adapters."""


def prepare(settings: Settings, stage: Stage, earlier: State | None) -> Prepared:
    """The model of a stage on the CPU, with the weights that learn in float32.

    `earlier` is what the main stage trained, for the head stage that follows it.
    """
    checkpoint = start(settings)
    model = checkpoint.model
    if stage.name == "head":
        if earlier is not None:
            model = with_main(settings, checkpoint, earlier).model
        model.requires_grad_(False)
        adapters = None
        model.score.requires_grad_(True)
    else:
        adapters = adapt(settings, model)
        _unfreeze(settings, model)
    _keep_in_float32(model)
    model.model.checkpointing = settings.train.checkpointing
    return Prepared(checkpoint, model, adapters)


def start(settings: Settings) -> weights.Checkpoint:
    """The start's weights: in bfloat16 where that is the precision, with a head in any case."""
    kept = {"float32": torch.float32, "bfloat16": torch.bfloat16}[settings.train.precision]
    section = settings.model
    return weights.load(section.start, torch.device("cpu"), kept, section.head_seed)


def adapt(settings: Settings, model: RerankerModel) -> PeftModel | None:
    """Adapters in the language model's linear layers; at first they change nothing."""
    if settings.model.language != "lora":
        return None
    torch.manual_seed(settings.train.seed)
    return get_peft_model(model, lora_config(settings))


def lora_config(settings: Settings) -> LoraConfig:
    """The adapters' settings in peft's terms."""
    lora = settings.lora
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
    )


def with_main(settings: Settings, checkpoint: weights.Checkpoint, trained: State) -> Prepared:
    """The start with what the main stage trained, adapters merged into the weights."""
    adapters = adapt(settings, checkpoint.model)
    lay_over(checkpoint.model, trained)
    if adapters is not None:
        adapters.merge_and_unload()
    return Prepared(checkpoint, checkpoint.model, None)


def lay_over(model: nn.Module, trained: State) -> None:
    """Copy trained weights to their places. Raises KeyError for a name that is not there."""
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in trained.items():
            own[name].copy_(tensor)


def read_state(path: Path) -> State:
    """Trained weights as `torch.save` wrote them."""
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _unfreeze(settings: Settings, model: RerankerModel) -> None:
    section = settings.model
    for name, parameter in model.named_parameters():
        in_language = name.startswith("model.") and "embed_tokens" not in name
        parameter.requires_grad_(
            LORA in name
            or (section.language == "full" and in_language)
            or (section.merger and name.startswith("visual.merger."))
            or (section.vision and name.startswith(("visual.patch_embed.", "visual.blocks.")))
            or (settings.train.head and name.startswith("score."))
        )


def _keep_in_float32(model: nn.Module) -> None:
    """Small updates would be lost in bfloat16's eight bits."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
