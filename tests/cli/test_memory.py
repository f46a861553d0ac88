"""`--memory`, and what is said before long work."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightrank.cli import options
from sightrank.errors import OptionError, OutOfMemoryError
from sightrank.types import Document


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("2GiB", 2 * 1024**3),
        ("512MB", 512_000_000),
        ("1.5 gb", 1_500_000_000),
        ("10kib", 10_240),
        ("1TB", 10**12),
        ("7b", 7),
        ("1000000", 1_000_000),
    ],
)
def test_sizes(written: str, count: int) -> None:
    assert options.parse_bytes(written) == count


@pytest.mark.parametrize("written", ["", "GiB", "-2GiB", "2Gi", "2 giga", "2G", "1,5GB", "nan"])
def test_other_sizes_are_refused_with_an_example(written: str) -> None:
    with pytest.raises(OptionError, match="2GiB"):
        options.parse_bytes(written)


def test_the_option_sets_the_budget(checkpoint: Path) -> None:
    ranker = options.ModelOptions(str(checkpoint), "cpu", memory="600MiB").load()
    limits = ranker.engine.limits
    assert limits.fixed_bytes + limits.cache_bytes < 600 * 1024**2
    with pytest.raises(OutOfMemoryError):
        options.ModelOptions(str(checkpoint), "cpu", memory="6MiB").load()


def test_long_work_is_announced_at_a_terminal(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker = options.ModelOptions(str(checkpoint), "cpu").load()
    many = [Document.text("a b c")] * options.MANY
    options.announce(ranker, many)
    assert capsys.readouterr().err == "", "nobody watches"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    options.announce(ranker, many[1:])
    options.announce(object(), many)
    assert capsys.readouterr().err == "", "it is short, or not ours"
    options.announce(ranker, many)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("50 documents, about ") and "MB of memory" in err
