"""Training data: what a line may be, what is said of bad ones, and the order in which they come."""

from __future__ import annotations

import base64
import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from sightrank.errors import InputError
from sightrank.train.data import check, ordered, stream
from sightrank.train.records import Group
from sightrank.types import Image, Pdf, Text

DEMO = Path(__file__).parents[2] / "demo"


def anything(group: Group) -> str | None:
    return None


def relevant(group: Group) -> str | None:
    return None if group.num_relevant else "no document is relevant"


def write(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "pictures" / "a.png"
    path.parent.mkdir()
    PIL.Image.new("RGB", (40, 30), "red").save(path)
    return path


def test_every_kind_of_side_is_read(tmp_path: Path, picture: Path) -> None:
    encoded = base64.b64encode(picture.read_bytes()).decode()
    (tmp_path / "how.pdf").write_bytes((DEMO / "xfig-howto.pdf").read_bytes())
    row = {
        "query": {"image": "pictures/a.png"},
        "positives": ["a text", {"text": "another"}, ["a caption", {"image": encoded}]],
        "negatives": [{"pdf": "how.pdf", "page": 2}, {"image": f"data:image/png;base64,{encoded}"}],
        "labels": [3, 1, 2.5, 0, 0],
        "scores": [9.5, 1, 2, -3, -4],
    }
    path = write(tmp_path / "train.jsonl", [row])
    checked = check([path], anything)
    assert (checked.num_groups, checked.num_documents) == (1, 5)
    (group,) = ordered([path])
    assert group.query.parts == (Image(picture),)
    documents = [each.document.parts for each in group.candidates]
    assert documents[:3] == [
        (Text("a text"),),
        (Text("another"),),
        (Text("a caption"), Image(encoded)),
    ]
    assert documents[3] == (Pdf(tmp_path / "how.pdf", (2,)),)
    assert [each.label for each in group.candidates] == [3, 1, 2.5, 0, 0]
    assert [each.teacher for each in group.candidates] == [9.5, 1, 2, -3, -4]
    assert group.name == f"{path}, line 1"


def test_positives_are_relevant_where_no_labels_are_given(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"query": "q", "positives": ["x"], "negatives": ["y"]}])
    (group,) = ordered([path])
    assert [(each.label, each.teacher) for each in group.candidates] == [(1, None), (0, None)]


def test_equal_documents_have_equal_keys_in_any_group(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "positives": ["x"], "negatives": [{"text": "y"}]},
        {"query": "r", "positives": ["y"], "negatives": [{"image": "pictures/a.png"}]},
    ]
    first, second = ordered([write(tmp_path / "a.jsonl", rows)])
    assert first.candidates[1].key == second.candidates[0].key
    assert len({each.key for each in (*first.candidates, *second.candidates)}) == 3


BAD: list[tuple[Any, str]] = [
    ("{", "Expecting property name"),
    ("[1]", "not a JSON object"),
    ({"positives": ["x"]}, "query is missing"),
    ({"query": "q"}, "neither positives nor negatives"),
    ({"query": "q", "positives": "x"}, "positives is no list"),
    ({"query": " ", "positives": ["x"]}, "query is empty"),
    ({"query": "q", "positives": ["x"], "negatives": [""]}, "negatives[0] is empty"),
    ({"query": "q", "positives": [[]]}, "positives[0] is empty"),
    ({"query": "q", "positives": [7]}, "positives[0] is 7"),
    ({"query": "q", "positives": [{"txt": "x"}]}, 'positives[0] is {"txt": "x"}'),
    ({"query": "q", "positives": ["x"], "negative": ["y"]}, "'negative' is unknown"),
    ({"query": "q", "positives": ["x"], "labels": [1, 2]}, "labels must be 1 numbers"),
    ({"query": "q", "positives": ["x"], "labels": ["1"]}, 'labels hold "1"'),
    ({"query": "q", "positives": ["x"], "labels": [-1]}, "a grade is 0 or more"),
    ('{"query": "q", "positives": ["x"], "scores": [NaN]}', "scores hold NaN"),
    ({"query": "q", "positives": ["x"], "labels": [0]}, "no document is relevant"),
    ({"query": "q", "positives": [{"image": "none.png"}]}, "none.png does not exist"),
    ({"query": "q", "positives": [{"image": "http://a/b"}]}, "web address"),
    ({"query": "q", "positives": [{"image": "!!"}]}, "neither base64"),
    ({"query": "q", "positives": [{"image": "broken.png"}]}, "no image of a known format"),
    ({"query": "q", "positives": [{"pdf": "how.pdf", "page": 0}]}, "pages count from 1"),
    ({"query": "q", "positives": [{"pdf": "how.pdf", "page": 999}]}, "so no page 999"),
    ({"query": "q", "positives": [{"pdf": "none.pdf", "page": 1}]}, "none.pdf does not exist"),
]


@pytest.mark.parametrize(("row", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_line_is_named_with_its_number(tmp_path: Path, row: Any, message: str) -> None:
    (tmp_path / "how.pdf").write_bytes((DEMO / "xfig-howto.pdf").read_bytes())
    (tmp_path / "broken.png").write_bytes(b"this is no picture")
    good = {"query": "q", "positives": ["x"]}
    path = write(tmp_path / "train.jsonl", [good, "", row, good])
    with pytest.raises(InputError) as caught:
        check([path], relevant)
    assert f"{path}, line 3: " in caught.value.message
    assert message in caught.value.message
    assert caught.value.message.startswith("1 line is")


def test_bad_bytes_are_a_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"query": "q", "positives": ["x"]}\n{"query": "\xff"}\n')
    with pytest.raises(InputError, match=r"line 2: byte 12 is not UTF-8"):
        check([path], anything)


def test_ten_bad_lines_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", ["{"] * 13)
    with pytest.raises(InputError) as caught:
        check([path], anything)
    message = caught.value.message
    assert message.startswith("13 lines are")
    assert "line 10:" in message and "line 11:" not in message
    assert message.endswith("and 3 more")


def test_no_lines_and_no_file_are_errors(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", [""])
    with pytest.raises(InputError, match="no lines"):
        check([path], anything)
    with pytest.raises(InputError, match="No such file"):
        check([tmp_path / "none.jsonl"], anything)


def test_the_digest_follows_lines_and_files(tmp_path: Path, picture: Path) -> None:
    rows = [{"query": "q", "positives": [{"image": "pictures/a.png"}]}]
    path = write(tmp_path / "train.jsonl", rows)
    first = check([path], anything).digest
    assert check([path], anything).digest == first
    PIL.Image.new("RGB", (400, 300), "blue").save(picture)
    second = check([path], anything).digest
    write(path, [{**rows[0], "query": "other"}])
    assert len({first, second, check([path], anything).digest}) == 3


def numbered(path: Path, count: int) -> Path:
    return write(path, [{"query": str(n), "positives": ["x"]} for n in range(count)])


def asked(groups: list[Group]) -> list[str]:
    return [part.text for group in groups for part in group.query.parts if isinstance(part, Text)]


@pytest.mark.parametrize("buffer", [0, 3, 1000])
def test_a_pass_of_the_stream_holds_every_line_once(tmp_path: Path, buffer: int) -> None:
    paths = [numbered(tmp_path / "a.jsonl", 20), numbered(tmp_path / "b.jsonl", 10)]
    groups = list(islice(stream(paths, 0, buffer), 60))
    one, two = groups[:30], groups[30:]
    assert Counter(g.name for g in one) == Counter(g.name for g in two)
    assert len({g.name for g in one}) == 30
    if buffer:
        assert [g.name for g in one] != [g.name for g in two]
    again = islice(stream(paths, 0, buffer), 60)
    assert [g.name for g in again] == [g.name for g in groups]


def test_the_buffer_bounds_how_early_a_line_comes(tmp_path: Path) -> None:
    path = numbered(tmp_path / "a.jsonl", 200)
    order = list(map(int, asked(list(islice(stream([path], 1, 8), 200)))))
    assert all(number <= place + 8 for place, number in enumerate(order))
    assert order != sorted(order)


def test_a_stream_reads_no_further_than_its_buffer(tmp_path: Path) -> None:
    path = numbered(tmp_path / "a.jsonl", 50)
    with path.open("a") as file:
        file.write("{this would be an error\n" * 10_000)
    assert len(list(islice(stream([path], 0, 10), 30))) == 30
