"""Making parts of files, bytes and addresses: `Image.of`, `File.of`, `Audio.of`, and `load`.

What a file is, its bytes say and not its name. Nothing is fetched here: an address goes to the
provider as it is, and layers such as `Guard` see it. A text is always an address and never a path,
so that a text from outside cannot make a program read its own disk; for a file give a
`pathlib.Path`.

`of` reads a file there and then, which belongs into scripts; where an event loop runs it refuses,
and `load` reads in a thread.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path, PurePath
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable
from urllib.parse import unquote_to_bytes

import attrs

from lamella._errors import MisuseError, UnsupportedError
from lamella._loops import current_loop
from lamella._media_types import FORMATS, LOOKED_AT, media_type_of

Resize: TypeAlias = Callable[[bytes, str], bytes]
"""Makes a picture smaller, or another kind: gets its bytes and MIME type, gives new bytes."""

_UNSHRUNK: Final = 10
"""How many times the bound a picture may have that is made smaller."""

_INLINE: Final = 64 * 1024
"""Characters of a data URL that are read on an event loop."""

_WITHOUT_WAITING: Final[int] = getattr(os, "O_NONBLOCK", 0)
"""Opening a pipe waits for somebody to write into it; Windows has none that are opened so."""

_ADDRESSES: Final = ("https://", "http://", "gs://", "s3://")


@runtime_checkable
class Readable(Protocol):
    """A file that is open in binary mode."""

    def read(self, size: int = ..., /) -> bytes: ...


Source: TypeAlias = "str | bytes | bytearray | memoryview | os.PathLike[str] | Readable"
"""What a part may be made of."""


@attrs.frozen
class Given:
    """A file, or an address: exactly one of `data` and `url`."""

    data: bytes | None = None
    url: str | None = None
    media_type: str | None = None
    name: str | None = None


@attrs.frozen
class Wanted:
    """What a part may be made of.

    Attributes:
        part: The part's class, for messages.
        types: MIME types that it may have; None for any.
        allowed: The same in words.
        most: Bytes.
        resize: Makes a picture smaller before it is checked.
    """

    part: str
    types: frozenset[str] | None
    allowed: str
    most: int
    resize: Resize | None = None

    def __attrs_post_init__(self) -> None:
        if self.most < 1:
            msg = f"{self.part}.of(max_bytes={self.most!r}): give 1 or more bytes."
            raise ValueError(msg)

    @property
    def readable(self) -> int:
        """How many bytes are read at most."""
        return self.most * _UNSHRUNK if self.resize is not None else self.most


def taken(source: Source, wanted: Wanted, media_type: str | None) -> Given:
    """What a source holds, read now.

    Raises:
        MisuseError: If it is a file, and an event loop runs here.
        UnsupportedError: If it is too large, or of a kind that is not wanted.
        TypeError: If it is nothing that a part can be made of.
        ValueError: If it is text that is no address.
        OSError: If the file cannot be read.
    """
    slow = "reading a file" if _reads(source) else "resizing" if wanted.resize is not None else None
    if slow is not None and _loop_runs():
        raise MisuseError(
            f"{wanted.part}.of: {slow} would hold up the event loop.",
            hint=f"Use `await {wanted.part}.load(...)`, which does it in a thread.",
        )
    return checked(_held(source, wanted), wanted, media_type)


async def loaded(source: Source, wanted: Wanted, media_type: str | None) -> Given:
    """As `taken`, in a thread; `resize` runs there too, and long base64 is read there."""
    from lamella._ports import run_in_thread

    long = isinstance(source, str) and len(source) > _INLINE
    if not (long or _reads(source) or wanted.resize is not None):
        return taken(source, wanted, media_type)
    return await run_in_thread(lambda: checked(_held(source, wanted), wanted, media_type))


def _reads(source: object) -> bool:
    return isinstance(source, os.PathLike | Readable) and not isinstance(source, io.BytesIO)


def _loop_runs() -> bool:
    try:
        current_loop()
    except RuntimeError:
        return False
    return True


def _held(source: Source, wanted: Wanted) -> Given:
    if isinstance(source, str):
        return _by_address(source, wanted)
    if isinstance(source, bytes | bytearray | memoryview):
        size = source.nbytes if isinstance(source, memoryview) else len(source)
        if size > wanted.readable:  # before it is copied
            raise _too_large(wanted, f"more than {wanted.readable}")
        return Given(bytes(source))
    if isinstance(source, os.PathLike):
        return _of_path(Path(source), wanted)
    if isinstance(source, Readable):  # pyright: ignore[reportUnnecessaryIsInstance]
        name: Any = getattr(source, "name", None)
        named = PurePath(name).name if isinstance(name, str) else None
        return Given(_read(source, wanted), name=named)
    msg = (
        f"{wanted.part}.of({type(source).__name__}): give bytes, a pathlib.Path, a binary file, "
        "or an address as text."
    )
    raise TypeError(msg)


def _of_path(path: Path, wanted: Wanted) -> Given:
    """Of a regular file, or a link to one: pipes and devices may have no end, or never begin."""

    def without_waiting(name: str, flags: int) -> int:
        return os.open(name, flags | _WITHOUT_WAITING)

    with open(path, "rb", opener=without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UnsupportedError(
                f"{wanted.part}: {path.name!r} is a pipe or a device, and no file.",
                hint="Open it, and give the open file; it is read until its end or max_bytes.",
                code="unsupported_media",
            )
        return Given(_read(file, wanted), name=path.name)


def _read(file: Readable, wanted: Wanted) -> bytes:
    """What is left in a file, from where it stands."""
    pieces: list[bytes] = []
    left = wanted.readable + 1
    while left > 0:
        piece: Any = file.read(left)
        if not isinstance(piece, bytes | bytearray):
            raise _no_bytes(piece, wanted)
        if not piece:
            break
        pieces.append(bytes(piece))
        left -= len(piece)
    return b"".join(pieces)


def _no_bytes(piece: Any, wanted: Wanted) -> TypeError | BlockingIOError:
    who = f"{wanted.part}.of"
    if piece is None:
        return BlockingIOError(f"{who}: the file has nothing to read yet; open it to block.")
    if isinstance(piece, str):
        return TypeError(f"{who}: the file is open in text mode; open it with mode 'rb'.")
    if isinstance(piece, Coroutine):
        piece.close()
        return TypeError(f"{who}: the file is read with await: {who}(await file.read()).")
    return TypeError(f"{who}: the file's read gave {type(piece).__name__}; expected bytes.")


def _by_address(text: str, wanted: Wanted) -> Given:
    scheme = text[:8].lower()
    if scheme.startswith("data:"):
        return _of_data_url(text, wanted)
    if scheme.startswith(_ADDRESSES):
        return Given(url=text)
    msg = (
        f"{wanted.part}.of: a text is taken as an address, and this one does not begin with "
        f"{', '.join(_ADDRESSES)} or data:. For a file give a pathlib.Path."
    )
    raise ValueError(msg)


def _of_data_url(text: str, wanted: Wanted) -> Given:
    head, comma, body = text[5:].partition(",")
    media_type = head.partition(";")[0].strip().lower() or None
    if len(body) > 2 * wanted.readable + 64:
        raise _too_large(wanted, f"more than {wanted.readable}")
    try:
        coded = head.lower().endswith(";base64")
        data = base64.b64decode(body, validate=True) if coded else unquote_to_bytes(body)
    except (binascii.Error, ValueError) as error:
        msg = f"{wanted.part}.of: the data URL's base64 is damaged ({error})."
        raise ValueError(msg) from None
    if not comma:
        msg = f"{wanted.part}.of: the data URL has no content; expected data:image/png;base64,..."
        raise ValueError(msg)
    return Given(data, media_type=media_type)


def checked(given: Given, wanted: Wanted, media_type: str | None) -> Given:
    """What was given, resized if wanted, of a kind and size that a part may have.

    Args:
        given: What the source holds.
        wanted: What is allowed.
        media_type: What the caller says that it is; it is held against what the bytes say.

    Raises:
        UnsupportedError: If it is too large, empty, or of a kind that is not wanted.
    """
    data = given.data
    if data is None:
        return attrs.evolve(given, media_type=media_type)
    if len(data) > wanted.readable:
        raise _too_large(wanted, f"more than {wanted.readable}")
    found = _kind(data, media_type or given.media_type, wanted)
    if wanted.resize is not None:
        data = wanted.resize(data, found)
        if not isinstance(data, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] - it is the caller's
            msg = f"{wanted.part}.of(resize=...) gave {type(data).__name__}; expected bytes."
            raise TypeError(msg)
        found = _kind(data, None, wanted)
    if len(data) > wanted.most:
        raise _too_large(wanted, str(len(data)))
    if wanted.types is not None and found not in wanted.types:
        raise UnsupportedError(
            f"{wanted.part} of type {found!r}: providers take {wanted.allowed}.",
            hint="Convert it; or, for a provider that takes more, make the part yourself: "
            f"{wanted.part}(data=..., {'format' if wanted.part == 'Audio' else 'media_type'}=...).",
            code="unsupported_media",
        )
    return attrs.evolve(given, data=data, media_type=found)


def _kind(data: bytes, said: str | None, wanted: Wanted) -> str:
    """The type that the bytes have; the one that was said where they agree, or do not tell."""
    found = media_type_of(data[:LOOKED_AT])
    said = None if said is None else said.partition(";")[0].strip().lower()
    if found is None:
        if said is not None and data and wanted.types is None:
            return said
        what = "is of no kind that is known here" if data else "is empty, or was read to its end"
        or_say = "" if wanted.types is not None else " Or say what it is: media_type='...'."
        raise UnsupportedError(
            f"{wanted.part}: the file {what} ({len(data)} bytes).",
            hint=f"Give {wanted.allowed}.{or_say}",
            code="unsupported_media",
        )
    if said is None or said == found or {said, found} in _ALIASES:
        return found
    if found in _VAGUE and not said.startswith(_SEEN_IN_BYTES):
        return said  # Markdown, CSV, a spreadsheet: the bytes do not say so much
    raise UnsupportedError(
        f"{wanted.part}: it is said to be {said!r}, and its bytes are {found!r}.",
        hint="Leave media_type out: the bytes say what they are.",
        code="unsupported_media",
    )


_VAGUE: Final = frozenset(
    {"text/plain", "text/html", "application/zip", "application/x-ole-storage", "video/mp4"}
)
_SEEN_IN_BYTES: Final = ("image/", "audio/", "application/pdf")
_ALIASES: Final = (
    {"image/jpg", "image/jpeg"},
    {"audio/mp3", "audio/mpeg"},
    {"audio/wave", "audio/wav"},
    {"audio/vnd.wave", "audio/wav"},
    {"audio/m4a", "audio/mp4"},
    {"audio/opus", "audio/ogg"},
    {"image/heif", "image/heic"},
)


def sound_format(given: Given) -> str:
    """What `Audio.format` calls a sound.

    Raises:
        UnsupportedError: If it is somewhere else: no provider takes sound by its address.
    """
    if given.media_type is None or given.data is None:
        raise UnsupportedError(
            "Audio: providers take no address of a sound.",
            hint="Give its bytes. For Google's models, File.of(address) does.",
            code="unsupported_media",
        )
    return FORMATS[given.media_type]


def _too_large(wanted: Wanted, size: str) -> UnsupportedError:
    return UnsupportedError(
        f"{wanted.part}: the file has {size} bytes; allowed are {wanted.most}.",
        hint="Make it smaller (for pictures: resize=...), upload it and give its id, or raise "
        "max_bytes if your provider takes more.",
        code="media_too_large",
    )
