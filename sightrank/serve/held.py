"""The models of a server, each with a worker of its own, and the names that requests choose by."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sightrank.errors import OptionError
from sightrank.serve.errors import UnknownModelError
from sightrank.serve.schemas import is_cohere
from sightrank.serve.worker import Watch, Worker

if TYPE_CHECKING:
    from sightrank.reranker import Reranker

OTHERS = ("sightrank", "jina-reranker-m0")
"""Names that the first model has besides its own, unless another one is called so."""


@dataclass(frozen=True)
class Held:
    """A model, what reads and scores for it, and its own name."""

    reranker: Reranker
    worker: Worker
    name: str


class Models:
    """The first answers to every name of other services' models too, so that clients need no change."""

    def __init__(self, rerankers: Sequence[Reranker], passes: int | None, watch: Watch) -> None:
        """`passes` of each at once, None: as many as fill its device. Raises OptionError."""
        self._held: dict[str, Held] = {}
        for reranker in rerankers:
            name = own_name(reranker.name)
            if name in self._held:
                raise OptionError(
                    f"Two models are called {name!r}: {self._held[name].reranker.name} and"
                    f" {reranker.name}.",
                    "Requests choose by the last part of a path: give one folder another name.",
                )
            self._held[name] = Held(reranker, _worker(reranker, passes, watch), name)
        self.first = next(iter(self._held.values()))

    def __iter__(self) -> Iterator[Held]:
        return iter(self._held.values())

    def named(self, name: str | None) -> Held:
        """The model that answers to `name`. Raises UnknownModelError."""
        if name is None:
            return self.first
        if name in self._held:
            return self._held[name]
        if name in OTHERS or name.startswith("jina-reranker-") or is_cohere(name):
            return self.first
        names = [each for held in self for each in self.names(held)]
        raise UnknownModelError(
            f"Model {name[:100]!r} not found. Available models: {', '.join(names)}.",
            "Every other name that begins with jina-reranker- or rerank- stands for the first.",
        )

    def names(self, held: Held) -> list[str]:
        """What a model is called here, its own name first."""
        more = OTHERS if held is self.first else ()
        return [held.name, *(name for name in more if name not in self._held)]

    def start(self) -> None:
        """Start the workers."""
        for held in self:
            held.worker.start()

    async def close(self) -> None:
        """Finish what the workers accepted."""
        await asyncio.gather(*(asyncio.to_thread(held.worker.close) for held in self))


def own_name(name: str) -> str:
    """The last part of a folder or hub id: the rest may be a path of this machine."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2] or "sightrank"


def _worker(reranker: Reranker, passes: int | None, watch: Watch) -> Worker:
    return Worker(
        reranker.score_prepared,
        lambda: reranker.engine.limits.batch_tokens,
        reranker.engine.limits.waiting_bytes,
        watch,
        passes or reranker.threads.passes,
        reranker.threads.share,
    )
