"""The file that mining writes: it appears whole, and what a killed run had done is not done again."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightrank.errors import OptionError
from sightrank.train.mine import Mined, tally
from sightrank.train.records import side


class Output:
    """Lines go to FILE.part, and after each window FILE.state says how far they are good."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        """Take up what an earlier run with the same facts has left.

        Raises OptionError where the file is there, or was begun with other facts.
        """
        self.path = path
        self._part = path.with_name(f"{path.name}.part")
        self._state = path.with_name(f"{path.name}.state")
        self._facts = facts
        if path.exists() or not path.absolute().parent.is_dir():
            raise OptionError(f"{path} cannot be written.", "Name a new file in a folder there is.")
        self.lines, self.counts, size = 0, Counter[str](), 0
        if self._state.exists() and self._part.exists():
            kept = json.loads(self._state.read_text(encoding="utf-8"))
            if kept["facts"] != facts:
                differ = next(name for name in facts if kept["facts"].get(name) != facts[name])
                raise OptionError(
                    f"{self._part} was begun with another {differ}.",
                    f"Name another file, or remove it and {self._state.name}.",
                )
            self.lines, self.counts, size = kept["lines"], Counter(kept["counts"]), kept["bytes"]
        self._file = self._part.open("ab")
        self._file.truncate(size)

    def write(self, mined: Sequence[Mined]) -> None:
        """A window of groups; they are safe when this returns."""
        for each in mined:
            if each.teaches:
                row = json.dumps(row_of(each, self.path.parent), ensure_ascii=False)
                self._file.write(f"{row}\n".encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.lines += len(mined)
        self.counts += tally(mined)
        kept = {
            "facts": self._facts,
            "lines": self.lines,
            "bytes": self._file.tell(),
            "counts": self.counts,
        }
        fresh = self._state.with_suffix(".tmp")
        fresh.write_text(json.dumps(kept), encoding="utf-8")
        fresh.replace(self._state)

    def finish(self) -> None:
        """Give the file its name."""
        self._file.close()
        self._part.replace(self.path)
        self._state.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the part to a later run."""
        self._file.close()


def row_of(mined: Mined, folder: Path) -> dict[str, Any]:
    """A line of training data in `folder`; labels only where they are more than 1 and 0."""
    sides = [side(document, folder) for document in mined.documents]
    count = mined.num_relevant
    plain = [1.0] * count + [0.0] * (len(sides) - count)
    graded = {} if list(mined.labels) == plain else {"labels": list(mined.labels)}
    return {
        "query": side(mined.group.query, folder),
        "positives": sides[:count],
        "negatives": sides[count:],
        **graded,
        "scores": [round(score, 6) for score in mined.scores],
    }
