"""What documents and sound count as where no rule of a model says more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lamella._sound_lengths import COMPRESSED

if TYPE_CHECKING:
    from lamella._parts import File

AUDIO_TOKENS: Final = 10
"""Tokens of a second of sound, where no card says more: OpenAI's audio models."""
AUDIO_BYTES: Final = COMPRESSED // AUDIO_TOKENS
"""Of compressed sound for a token."""
FILE_BYTES: Final = 20
"""Of a document for a token; documents are mostly not text."""

_TEXTUAL: Final = frozenset(
    {"application/json", "application/xml", "application/yaml", "application/javascript"}
)
_UNSAID: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})


def kind_of(part: File) -> str:
    """The MIME type of a document: as it says, or else as its bytes do; empty if neither does."""
    said = (part.media_type or "").partition(";")[0].strip().lower()
    if said not in _UNSAID or not part.data:
        return said
    from lamella._media_types import LOOKED_AT, media_type_of

    return media_type_of(part.data[:LOOKED_AT]) or ""


def is_text(media_type: str | None) -> bool:
    """Whether a document of that type is read as the text that it is."""
    if media_type is None:
        return False
    plain = media_type.partition(";")[0].strip().lower()
    return plain.startswith("text/") or plain in _TEXTUAL or plain.endswith(("+json", "+xml"))
