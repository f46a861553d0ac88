"""What waits, taken in turns from everybody who asks."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class FairQueue(Generic[_Item]):
    """Items by key: first come first served within a key, round robin between keys.

    Not for several threads at once.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str | None, deque[_Item]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def num_keys(self) -> int:
        """Keys that something waits for."""
        return len(self._waiting)

    def totals(self, size: Callable[[_Item], int]) -> dict[str | None, int]:
        """What waits of each key, added up."""
        return {key: sum(map(size, items)) for key, items in self._waiting.items()}

    def put(self, key: str | None, item: _Item) -> None:
        """Behind all of the same key."""
        self._waiting.setdefault(key, deque()).append(item)

    def put_back(self, key: str | None, item: _Item, *, first: bool = False) -> None:
        """Before all of the same key; `first`: and that key before all others.

        Otherwise its turn is over for now.
        """
        self._waiting.setdefault(key, deque()).appendleft(item)
        if first:
            self._waiting.move_to_end(key, last=False)

    def take(self) -> tuple[str | None, _Item]:
        """The next one of the key whose turn it is, which then goes to the end of the line."""
        key, items = self._waiting.popitem(last=False)
        item = items.popleft()
        if items:
            self._waiting[key] = items
        return key, item
