"""Everything Sightrank raises on purpose: what was found, what is allowed, what to do next."""

from __future__ import annotations


class SightrankError(Exception):
    """Base of all errors raised on purpose.

    `message` names the offender, what was found and what is allowed; `hint` is the next step;
    `status` is the HTTP status a server answers with.
    """

    status = 500

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class InputError(SightrankError):
    """A query or document that cannot be ranked as given."""

    status = 422


class EmptyInputError(InputError):
    """A query or document without content."""


class UnsupportedInputError(InputError):
    """A value or file of a kind that is not text, an image or a PDF."""


class UnreadableImageError(InputError):
    """Bytes that do not decode to an image: truncated, damaged or of another kind."""


class UnreadablePdfError(InputError):
    """Bytes that do not open as a PDF, or a page that does not render."""


class EncryptedPdfError(UnreadablePdfError):
    """A PDF that asks for a password."""


class TooLargeError(InputError):
    """A file, image or PDF beyond a limit on its size, or on the time or memory it may take."""

    status = 413


class TooLongError(InputError):
    """A document whose tokens do not fit the model's limit and cannot be cut."""


class AspectRatioError(InputError):
    """An image whose longer side is over 200 times its shorter side."""


class OptionError(SightrankError):
    """An option or argument outside its allowed values."""

    status = 422


class CheckpointError(SightrankError):
    """A model folder that does not hold exactly the weights its configuration asks for."""


class HubUnavailableError(CheckpointError):
    """A checkpoint on a hub that cannot be reached from here."""

    status = 503


class MissingExtraError(SightrankError):
    """A feature whose optional packages are not installed."""


class IndexFolderError(SightrankError):
    """A folder that is no index, or one that cannot be read or written."""


class OtherModelError(IndexFolderError):
    """An index without documents of the model and settings that ask for them."""

    status = 409


class DiskFullError(IndexFolderError):
    """No room for what an index was to hold; what was acknowledged before is there."""

    status = 507


class OutOfMemoryError(SightrankError):
    """A budget that does not hold the model, or a single document that memory has no room for."""

    status = 507


class PeerError(SightrankError):
    """A reranking service that cannot be reached, refuses, or answers something else than scores."""

    status = 502


class DataUnavailableError(SightrankError):
    """A public set that is neither on this machine nor to be had from its hub."""

    status = 503


class DamageWarning(UserWarning):
    """Part of an index is not as it was written: it is made again or left out, never used."""
