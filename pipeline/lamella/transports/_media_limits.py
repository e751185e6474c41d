"""What a provider takes of pictures and documents, checked before anything is sent.

A provider says of a request with a picture too many or too large that it is invalid, and not which
picture it means; that takes a round trip with all of them. Only what is sent along is looked at:
what is somewhere else, the provider sees first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from lamella._chat import ChatRequest
from lamella._errors import UnsupportedError
from lamella._image_sizes import image_size
from lamella._parts import File, Image, Part, Text, ToolResult


@attrs.frozen(kw_only=True)
class MediaLimits:
    """The limits of one model. None is no limit, or none that is known.

    Attributes:
        image_types: MIME types of pictures.
        images: Pictures in a request.
        image_bytes: Bytes of each picture.
        image_side: Pixels of the longer side of each.
        crowd: More pictures than this must be smaller.
        crowd_side: Pixels of the longer side of each picture of a crowd.
        files: Documents in a request.
        request_bytes: Bytes of all pictures and documents together, as they are sent: in base64,
            four bytes for three.
    """

    image_types: frozenset[str] | None = None
    images: int | None = None
    image_bytes: int | None = None
    image_side: int | None = None
    crowd: int | None = None
    crowd_side: int | None = None
    files: int | None = None
    request_bytes: int | None = None


@attrs.define
class _Count:
    """What a request has of each."""

    images: int = 0
    files: int = 0
    encoded: int = 0


def check_media(request: object, limits: MediaLimits, *, provider: str) -> None:
    """Refuse pictures and documents that the provider would refuse.

    Args:
        request: Any request; only chat requests have any.
        limits: Of the model that is asked.
        provider: Who is asked.

    Raises:
        UnsupportedError: Naming the place of the first that does not fit.
    """
    if not isinstance(request, ChatRequest):
        return
    found: list[tuple[str, Image | File]] = []
    for index, message in enumerate(request.messages):
        parts = message.parts
        if len(parts) != 1 or type(parts[0]) is not Text:
            found += _media(parts, f"messages[{index}].parts")
    if not found:
        return
    pictures = sum([isinstance(part, Image) for _, part in found])
    side = limits.image_side
    if limits.crowd is not None and pictures > limits.crowd:
        side = limits.crowd_side
    count = _Count()
    for place, part in found:
        if isinstance(part, Image):
            count.images += 1
            _check_picture(part, limits, side, _Fault(place, provider))
        else:
            count.files += 1
        count.encoded += -(-len(part.data or b"") // 3) * 4
        _check_count(count, limits, _Fault(place, provider))


def _media(parts: Sequence[Part], path: str) -> Iterator[tuple[str, Image | File]]:
    for index, part in enumerate(parts):
        if isinstance(part, Image | File):
            yield f"{path}[{index}]", part
        elif isinstance(part, ToolResult):
            yield from _media(part.content, f"{path}[{index}].content")


@attrs.frozen
class _Fault:
    place: str
    provider: str

    def error(self, what: str, hint: str, code: str) -> UnsupportedError:
        message = f"{self.place}: {what}, and {self.provider!r} would refuse it."
        return UnsupportedError(message, hint=hint, code=code, provider=self.provider)


def _check_picture(part: Image, limits: MediaLimits, side: int | None, fault: _Fault) -> None:
    data, kind = part.data, part.media_type
    if data is None:
        return
    types = limits.image_types
    if types is not None and kind is not None and _plain(kind) not in types:
        allowed = ", ".join(sorted(types))
        hint = f"It takes {allowed}: convert it, with Image.of(..., resize=...) for example."
        raise fault.error(f"a picture of type {kind!r}", hint, "unsupported_media")
    if limits.image_bytes is not None and len(data) > limits.image_bytes:
        hint = f"It takes {limits.image_bytes} bytes of each: make it smaller (resize=...)."
        raise fault.error(f"a picture of {len(data)} bytes", hint, "media_too_large")
    size = None if side is None else image_size(data)
    if size is not None and side is not None and max(size) > side:
        hint = f"No side may have more than {side} pixels here: make it smaller (resize=...)."
        raise fault.error(f"a picture of {size[0]} x {size[1]} pixels", hint, "media_too_large")


def _check_count(count: _Count, limits: MediaLimits, fault: _Fault) -> None:
    for what, number, most in (
        ("pictures", count.images, limits.images),
        ("documents", count.files, limits.files),
    ):
        if most is not None and number > most:
            hint = f"It takes {most} in a request: leave out old ones."
            raise fault.error(f"one more than {most} {what}", hint, "too_many_media")
    most = limits.request_bytes
    if most is not None and count.encoded > most:
        hint = f"It takes {most} bytes of a request: leave out old ones, or upload and give ids."
        what = f"with it pictures and documents have {count.encoded} bytes, in base64"
        raise fault.error(what, hint, "media_too_large")


def _plain(kind: str) -> str:
    plain = kind.partition(";")[0].strip().lower()
    return "image/jpeg" if plain == "image/jpg" else plain
