"""Pictures, sound, video and documents: by content (`inlineData`) or by address (`fileData`)."""

from __future__ import annotations

import base64
from typing import Final

from lamella._message_dicts import from_data_url
from lamella._parts import Audio, File, Image
from lamella.transports._dialect import JSON
from lamella.transports._wire_parts import unsupported

_TYPES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "gif": "image/gif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "mp3": "audio/mp3",
    "wav": "audio/wav",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
    "aac": "audio/aac",
    "mp4": "video/mp4",
    "mov": "video/mov",
    "webm": "video/webm",
    "mpeg": "video/mpeg",
}
"""The types of files by the ending of their address, as Google spells them."""

RESOLUTIONS: Final = ("low", "medium", "high", "ultra_high")
"""What `Image.detail` may ask for as a part's `mediaResolution`."""


def image(part: Image, *, provider: str, vertex: bool) -> JSON:
    """A picture.

    Raises:
        UnsupportedError: If it is not said what kind it is.
    """
    if part.data is not None:
        return _inline(part.data, _known(part.media_type, "Image", "image/png", provider))
    return _by_url(part.url or "", part.media_type, provider=provider, vertex=vertex)


def sound(part: Audio, *, provider: str) -> JSON:
    """A sound.

    Raises:
        UnsupportedError: If it has no content, or it is not said what kind it is.
    """
    if part.data is None:
        hint = "Give its bytes and their format: Audio(data=..., format='wav')."
        raise unsupported("An Audio part without `data`", "to Google", hint, provider=provider)
    kind = part.format
    if kind is not None and "/" not in kind:
        kind = f"audio/{kind}"
    return _inline(part.data, _known(kind, "Audio", "wav", provider))


def file(part: File, *, provider: str, vertex: bool) -> JSON:
    """A document, or whatever has its own type: video, sound.

    Raises:
        UnsupportedError: If it is not said what kind it is.
    """
    if part.data is not None:
        return _inline(part.data, _known(part.media_type, "File", "application/pdf", provider))
    return _by_url(part.url or part.id or "", part.media_type, provider=provider, vertex=vertex)


def _inline(data: bytes, media_type: str) -> JSON:
    return {"inlineData": {"mimeType": media_type, "data": base64.b64encode(data).decode()}}


def _by_url(url: str, media_type: str | None, *, provider: str, vertex: bool) -> JSON:
    if url.startswith("data:"):
        decoded = from_data_url(url)
        if decoded is not None:
            known = _known(decoded[0] or media_type, "File", "application/pdf", provider)
            return _inline(decoded[1], known)
        hint = "Give the bytes themselves as `data`, with their `media_type`."
        raise unsupported("A data URL without base64", "to Google", hint, provider=provider)
    given: JSON = {"fileUri": url}
    path = url.partition("#")[0].partition("?")[0]
    kind = media_type or _TYPES.get(path.rpartition(".")[2].lower())
    if kind is None and vertex:
        raise unsupported(
            "A file by address of unknown type",
            "to Vertex AI",
            "Say what it is: File(url=..., media_type='video/mp4').",
            provider=provider,
        )
    if kind is not None:
        given["mimeType"] = kind
    return {"fileData": given}


def _known(kind: str | None, what: str, example: str, provider: str) -> str:
    if kind is None:
        field = "format" if what == "Audio" else "media_type"
        raise unsupported(
            f"{what} with `data` but no `{field}`",
            "to Google",
            f"Say what it is: {what}(data=..., {field}={example!r}).",
            provider=provider,
        )
    return kind
