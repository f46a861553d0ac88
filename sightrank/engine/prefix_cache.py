"""Documents that have been run, in memory: least recently used go first, by bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict

import torch

from sightrank.engine.plans import CachedPrefix


def prefix_key(settings: str, digest: str) -> str:
    """The key of a document: all that changes what it means, and its segment's digest."""
    return f"{settings}/{digest}"


class PrefixCache:
    """Document key -> CachedPrefix, within `max_bytes`. Several threads may use it at once.

    What the caller holds stays alive while it is held, evicted or not; so a request larger than
    the cache still scores, it only leaves less behind. `host` is where prefixes on a GPU go when
    they are evicted, and come back from: bringing one back costs less than running it again.
    """

    def __init__(self, max_bytes: int, host: PrefixCache | None = None) -> None:
        self.max_bytes, self.host = max_bytes, host
        self.num_bytes = 0
        self._entries: OrderedDict[str, CachedPrefix] = OrderedDict()
        self._device = torch.device("cpu")
        self._lock = threading.RLock()  # taken before the host's, never the other way round

    def __len__(self) -> int:
        return len(self._entries) + (0 if self.host is None else len(self.host))

    def get(self, key: str) -> CachedPrefix | None:
        """The prefix kept under `key`, now the most recently used, or None."""
        with self._lock:
            prefix = self._entries.get(key)
            if prefix is not None:
                self._entries.move_to_end(key)
            elif self.host is not None and (away := self.host.get(key)) is not None:
                self.host.drop(key)
                prefix = away.to(self._device)
                self.put(key, prefix)
            return prefix

    def put(self, key: str, prefix: CachedPrefix) -> None:
        """Keep it, evicting the least recently used; one that is larger than all is not kept."""
        with self._lock:
            self.drop(key)
            self._device = prefix.keys.device
            if prefix.num_bytes > self.max_bytes:
                self._give(key, prefix)
                return
            self._entries[key] = prefix
            self.num_bytes += prefix.num_bytes
            self._shrink(self.max_bytes)

    def shed(self) -> None:
        """Hold nothing here any more; what `host` has room for goes there."""
        with self._lock:
            self._shrink(0)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()
            self.num_bytes = 0
            if self.host is not None:
                self.host.clear()

    def drop(self, key: str) -> None:
        """Forget one, if it is there."""
        with self._lock:
            prefix = self._entries.pop(key, None)
            if prefix is not None:
                self.num_bytes -= prefix.num_bytes
            if self.host is not None:
                self.host.drop(key)

    def _shrink(self, max_bytes: int) -> None:
        while self.num_bytes > max_bytes:
            key, prefix = self._entries.popitem(last=False)
            self.num_bytes -= prefix.num_bytes
            self._give(key, prefix)

    def _give(self, key: str, prefix: CachedPrefix) -> None:
        if self.host is not None and prefix.num_bytes <= self.host.max_bytes:
            self.host.put(key, prefix.to(torch.device("cpu")))
