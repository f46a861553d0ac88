"""A byte-level BPE tokenizer in which a user's text never yields a special id."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import tokenizers

from sightrank.errors import CheckpointError, InputError

_SURROGATES = re.compile("[\ud800-\udfff]")
# The pre-tokenizer's regular expression gives up, by a panic that no `except Exception` catches,
# on ten million blanks in a row.
_MAX_BLANKS = 5_000_000
_BLANKS = re.compile(rf"[^\S\r\n]{{{_MAX_BLANKS + 1}}}")


class Tokenizer:
    """Wraps a `tokenizer.json`. Immutable once built, so threads may share it."""

    def __init__(self, content: str) -> None:
        """`content` is the JSON of a `tokenizer.json`; raises CheckpointError if it is none."""
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(content)
        except Exception as error:  # the library raises nothing more precise
            raise CheckpointError(
                f"tokenizer.json does not describe a tokenizer: {error}.",
                "Fetch the checkpoint again.",
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # `<|image_pad|>` and its like, typed by a user, are split into ordinary pieces.
        self._tokenizer.encode_special_tokens = True
        self.digest = hashlib.sha256(content.encode()).hexdigest()
        """SHA-256 (hex) of the tokenizer's JSON."""

    @classmethod
    def from_file(cls, path: Path) -> Tokenizer:
        """Read a `tokenizer.json`; raises CheckpointError."""
        try:
            content = path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            raise CheckpointError(
                f"{path} does not exist.",
                "A model folder holds config.json, tokenizer.json and safetensors files.",
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}.") from error
        return cls(content)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, nothing added. Lone surrogates count as U+FFFD. Raises InputError."""
        return list(self._encode(text).ids)

    def encode_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids as `encode` gives, and the characters [start, end) of `text` that each stands for.

        Where a character is cut into several tokens, each of them has all of it.
        """
        encoding = self._encode(text)
        return list(encoding.ids), list(encoding.offsets)

    def _encode(self, text: str) -> tokenizers.Encoding:
        if len(text) > _MAX_BLANKS and _BLANKS.search(text):
            raise InputError(
                f"A text holds more than {_MAX_BLANKS:,} blanks in a row.", "Take them out."
            )
        try:
            return self._tokenizer.encode(_SURROGATES.sub("\ufffd", text), add_special_tokens=False)
        except Exception as error:  # the library raises nothing more precise
            raise InputError(
                f"A text of {len(text)} characters cannot be split into tokens: {error}.",
                "Shorten it.",
            ) from error

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`: special tokens kept, no clean-up, a cut character becomes U+FFFD."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def has(self, token: str) -> bool:
        """Whether the vocabulary holds exactly this token."""
        return self._tokenizer.token_to_id(token) is not None

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))
