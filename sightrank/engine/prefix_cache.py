"""Documents that have been run, in memory: least recently used go first, by bytes."""

from __future__ import annotations

from collections import OrderedDict

from sightrank.engine.plans import CachedPrefix


def prefix_key(settings: str, digest: str) -> str:
    """The key of a document: all that changes what it means, and its segment's digest."""
    return f"{settings}/{digest}"


class PrefixCache:
    """Document key -> CachedPrefix, within `max_bytes`. Not for several threads at once.

    What the caller holds stays alive while it is held, evicted or not; so a request larger than
    the cache still scores, it only leaves less behind.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._entries: OrderedDict[str, CachedPrefix] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> CachedPrefix | None:
        """The prefix kept under `key`, now the most recently used, or None."""
        prefix = self._entries.get(key)
        if prefix is not None:
            self._entries.move_to_end(key)
        return prefix

    def put(self, key: str, prefix: CachedPrefix) -> None:
        """Keep it, evicting the least recently used; one that is larger than all is not kept."""
        self.drop(key)
        if prefix.num_bytes > self.max_bytes:
            return
        self._entries[key] = prefix
        self.num_bytes += prefix.num_bytes
        while self.num_bytes > self.max_bytes:
            self.drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self.num_bytes = 0

    def drop(self, key: str) -> None:
        """Forget one, if it is there."""
        prefix = self._entries.pop(key, None)
        if prefix is not None:
            self.num_bytes -= prefix.num_bytes
