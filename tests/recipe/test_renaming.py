"""Words that give way to others: the same everywhere in a step, and asked for by translations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from recipe.asking import Asking, AskingConfig
from recipe.context import GRAIN
from recipe.layout import Special
from recipe.pack import TextPack, build
from recipe.ragged import Ragged
from recipe.ranking import RankingConfig, TextRanking
from recipe.renaming import Renamer
from recipe.words import MOST, SCRIPTS, Words, links
from sightrank.weights import NANO

ENGLISH = 0
PASSAGES = (
    "The printer opens the folder. A printer that opens folders prints the letters of a folder.",
    "The monitor shows the desktop. A monitor that shows desktops hides the letters of a desktop.",
)
WORDS = (
    ("LATIN", "bishop", 0),
    ("LATIN", "harbour", 1),
    ("CYRILLIC", "епископ", 0),
    ("CYRILLIC", "гавань", 1),
    ("CJK", "主教", 0),
    ("LATIN", "zzyzx", -1),
)


@pytest.fixture(scope="module")
def nano() -> Tokenizer:
    return Tokenizer.from_file(str(NANO / "tokenizer.json"))


@pytest.fixture(scope="module")
def pack(nano: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> TextPack:
    """Two passages without titles, whose commonest tokens are their little words."""
    folder = tmp_path_factory.mktemp("text")
    rows = [
        {"group": text[:9], "split": "train", "lang": "en", "text": text, "source": "manual"}
        for text in PASSAGES
    ]
    little = {**rows[0], "group": "little", "text": "the that of A The. " * 30}
    name = {**rows[0], "group": "cldr/one", "text": "one", "source": "cldr"}
    for file, content in (("documents", [*rows, little]), ("queries", []), ("names", [name])):
        text = "".join(json.dumps(row) + "\n" for row in content)
        (folder / f"{file}.jsonl").write_text(text, encoding="utf-8")
    return build(folder, nano, np.zeros((nano.get_vocab_size(), 2), np.float32))


@pytest.fixture(scope="module")
def words(nano: Tokenizer) -> Words:
    scripts = ("LATIN", "CYRILLIC", "CJK")
    spelt = [word if script == "CJK" else " " + word for script, word, _ in WORDS]
    return Words(
        plain=Ragged.of([nano.encode(text).ids for text in spelt]),
        titled=Ragged.of([nano.encode(text.title()).ids for text in spelt]),
        script=np.array([scripts.index(script) for script, _, _ in WORDS], np.int16),
        scripts=scripts,
        weight=np.ones(len(WORDS), np.float32),
        english=np.array([english for *_, english in WORDS], np.int32),
        meant=np.arange(len(WORDS) * 4).reshape(-1, 4).astype(np.int8),
    )


@pytest.fixture
def renamer(
    pack: TextPack, nano: Tokenizer, words: Words, monkeypatch: pytest.MonkeyPatch
) -> Renamer:
    monkeypatch.setattr("recipe.renaming.COMMON", 7)
    return Renamer(pack, nano, words)


def as_text(nano: Tokenizer, tokens: np.ndarray) -> str:
    return str(nano.decode(tokens.tolist()))


def test_a_word_gives_way_to_the_same_everywhere(renamer: Renamer, nano: Tokenizer) -> None:
    renaming = renamer.begin(np.random.default_rng(0), share=1.0)

    def renamed(text: str) -> str:
        return as_text(nano, renaming(np.array(nano.encode(text).ids), ENGLISH))

    new = renamed(" printer").strip()
    assert new in {"bishop", "harbour", "zzyzx"}
    assert renamed(" Printer, the printer.") == f" {new.title()}, the {new}."
    assert renamed(" 12 + (printer)\n") == f" 12 + ( {new})\n"
    assert renamed(" принтер").strip() in {"епископ", "гавань"}
    assert renamed("打印机") == "打印机"  # where words are not spaced, none are told apart
    untouched = renamer.begin(np.random.default_rng(0), share=0.0)
    tokens = np.array(nano.encode(PASSAGES[0]).ids)
    assert np.array_equal(untouched(tokens, ENGLISH), tokens)


def test_words_are_asked_for_by_their_translations(
    renamer: Renamer, pack: TextPack, nano: Tokenizer
) -> None:
    asking = Asking(pack, AskingConfig(question_share=0.0, cloze=1.0))
    meant = {"епископ": "bishop", "гавань": "harbour", "主教": "bishop"}
    rng, met = np.random.default_rng(0), set()
    for _ in range(40):
        renaming = renamer.begin(rng, abroad=True, share=1.0)
        body = renaming(pack.documents[0], ENGLISH)
        shown, query = asking.ask(0, body, rng, renaming)
        assert np.array_equal(shown, body)  # nothing is cut out of it: no other word would be left
        asked = as_text(nano, query)
        found = {word for word in meant if word in asked}
        assert all(meant[word] in as_text(nano, body).casefold() for word in found)
        assert not any(word in asked for word in ("bishop", "harbour")) or not found
        met |= found
    assert met == set(meant)


def test_words_of_other_languages_are_asked_for_in_english(
    renamer: Renamer, nano: Tokenizer
) -> None:
    renaming = renamer.begin(np.random.default_rng(1), abroad=True, share=1.0)
    body = renaming(np.array(nano.encode(" принтер").ids), ENGLISH)
    asked = as_text(nano, renaming.asked(body)).strip()
    assert (as_text(nano, body).strip(), asked) in {("епископ", "bishop"), ("гавань", "harbour")}


def test_a_step_asks_renamed_words_of_renamed_passages(
    renamer: Renamer, pack: TextPack, nano: Tokenizer, special: Special
) -> None:
    config = RankingConfig(question_share=0.0, cloze=0.0, renamed=1.0, abroad=0.0, near=0.0)
    ranking = TextRanking(pack, replace(config, pages=2), special, 100, renamer=renamer)
    for batch in (
        ranking.batch(
            [0, 1],
            np.random.default_rng(2),
            0.0,
            renaming=ranking._renaming(np.random.default_rng(3)),
        ),
        ranking.page_batch(
            [0], np.random.default_rng(2), ranking._renaming(np.random.default_rng(3))
        ),
    ):
        tokens = as_text(nano, batch["tokens"].numpy())
        asked = as_text(nano, batch["query_ids"].numpy())
        assert any(word in tokens.casefold() for word in ("bishop", "harbour", "zzyzx"))
        assert "printer" not in asked
        assert "monitor" not in asked
    assert ranking._renaming(np.random.default_rng(0)) is not None
    ranking.config = replace(config, renamed=0.0)
    assert ranking._renaming(np.random.default_rng(0)) is None


def test_links_are_near_few_a_script_and_of_several_scripts() -> None:
    rng = np.random.default_rng(0)
    concepts = rng.normal(size=(60, 128))
    rows = [(concept, script) for concept in range(40) for script in range(SCRIPTS + 1)]
    rows += [(0, 1)] * (MOST + 3)  # more in one script than a word may have
    rows += [(40, script) for script in range(SCRIPTS)]  # in one script too few
    rows += [(50, 1), (51, 2)]  # near nothing
    which, script = (np.array(column) for column in zip(*rows, strict=True))
    meaning = concepts[which] + 0.05 * rng.normal(size=(len(rows), 128))
    english = (script == 0) & (which <= 40)
    found = links(meaning.astype(np.float32), english, script)
    of_concept = np.array([np.flatnonzero(english & (which == each)) for each in range(41)])[:, 0]
    for concept in range(1, 40):
        assert (found[which == concept] == of_concept[concept]).all()
    assert (found == of_concept[0]).sum() == 1 + MOST + SCRIPTS - 1
    assert (found[which >= 40] == -1).all()


def test_lists_are_of_words_of_one_script(words: Words, nano: Tokenizer) -> None:
    rng, met = np.random.default_rng(0), set()
    for size in (1, 4, 12, 40) * 8:
        tokens, of_word, means = words.listed(rng, size)
        assert len(tokens) == len(of_word) == len(means)
        assert len(tokens) <= size or len(set(of_word.tolist())) == 1
        assert len({int(words.script[word]) for word in of_word}) == 1
        told = as_text(nano, tokens).casefold()
        assert all(WORDS[word][1] in told for word in of_word)
        assert np.array_equal(means * np.float32(GRAIN), words.meant[of_word])
        met |= set(of_word.tolist())
    assert met == set(range(len(WORDS)))


def test_words_are_kept_in_a_file(words: Words, tmp_path: Path) -> None:
    words.save(tmp_path / "words.npz")
    loaded = Words.load(tmp_path / "words.npz")
    assert loaded.scripts == words.scripts
    assert loaded.translations == {0: {1: [2], 2: [4]}, 1: {1: [3]}}
    assert set(loaded.spaced) == {"LATIN", "CYRILLIC"}
    assert np.array_equal(loaded.plain[3], words.plain[3])
    with pytest.raises(SystemExit, match=r"recipe\.words"):
        Words.load(tmp_path / "none.npz")
