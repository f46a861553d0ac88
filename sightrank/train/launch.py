"""Devices and processes, as accelerate finds them: alone, under torchrun or accelerate launch."""

from __future__ import annotations

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType

from sightrank.errors import OptionError
from sightrank.train.settings import Settings


def make_accelerator(settings: Settings) -> Accelerator:
    """Raises OptionError where a step's batches do not divide among the processes, or where they
    cannot share the weights."""
    section, model = settings.train, settings.model
    plugin = None
    if section.fsdp:
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=["DecoderLayer"],
        )
    unused = DistributedDataParallelKwargs(find_unused_parameters=model.vision or model.merger)
    accelerator = Accelerator(
        # Without a GPU accelerate has to be told, or every process would train alone.
        cpu=section.device == "cpu" or torch.accelerator.current_accelerator() is None,
        mixed_precision="bf16" if section.precision == "bfloat16" else "no",
        fsdp_plugin=plugin,
        kwargs_handlers=[unused],
    )
    several = accelerator.num_processes > 1
    if section.fsdp and several and accelerator.distributed_type != DistributedType.FSDP:
        raise OptionError(
            "train.fsdp is true, and accelerate shards weights among GPUs alone.",
            "Without GPUs leave it out: every process then holds all weights.",
        )
    if section.accumulate % accelerator.num_processes:
        raise OptionError(
            f"train.accumulate is {section.accumulate} and there are"
            f" {accelerator.num_processes} processes.",
            "It must be a multiple of their number: that many batches make a step.",
        )
    return accelerator


def release(accelerator: Accelerator) -> None:
    """End what the processes shared, so that this one may train again with other settings."""
    accelerator.end_training()
    AcceleratorState._reset_state(reset_partial_state=True)
