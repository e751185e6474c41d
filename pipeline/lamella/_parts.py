"""What a message is made of.

Each part is frozen; nested JSON in `extra` and `data` is shared and must not be written to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, cast

import attrs

from lamella._nothing import NOTHING

if TYPE_CHECKING:
    from lamella._image_sizes import Size
    from lamella._media import Given, Resize, Source, Wanted
    from lamella._messages import Content

JSONObject: TypeAlias = Mapping[str, Any]


def extra() -> JSONObject:
    """A field for what only one provider knows, kept verbatim."""
    return attrs.field(default=NOTHING, hash=False, repr=False)


def _frozen(data: bytes | bytearray | memoryview | None) -> bytes | None:
    """Bytes that nobody writes into any more."""
    if data is None or type(data) is bytes:
        return data
    if not isinstance(data, bytes | bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance] - it is the caller's
        msg = f"`data` is {type(data).__name__}; give bytes (base64 and data URLs: `Image.of`)."
        raise TypeError(msg)
    return bytes(data)


@attrs.frozen
class Text:
    """Plain text."""

    type: ClassVar[str] = "text"
    text: str
    extra: JSONObject = extra()


@attrs.frozen
class Image:
    """A picture, by address or by content: exactly one of `url` and `data`.

    Attributes:
        url: Where it is.
        data: Its bytes.
        media_type: Its MIME type, needed with `data`.
        detail: `"low"`, `"high"`, `"auto"` or what else the provider knows; None leaves it to it.
    """

    type: ClassVar[str] = "image"
    url: str | None = None
    data: bytes | None = attrs.field(default=None, converter=_frozen, repr=False)
    media_type: str | None = None
    detail: str | None = None
    extra: JSONObject = extra()

    def __attrs_post_init__(self) -> None:
        _exactly_one(self, "url", "data")
        if not isinstance(cast("object", self.detail), str | None):
            msg = f"Image(detail={self.detail!r}): give a word, as 'low', 'high', 'auto', or None."
            raise TypeError(msg)

    @classmethod
    def of(
        cls,
        source: Source,
        *,
        detail: str | None = None,
        media_type: str | None = None,
        max_bytes: int = 20_000_000,
        resize: Resize | None = None,
    ) -> Self:
        """A picture of a file, bytes or an address; what kind it is, its bytes say.

        Nothing is fetched: an address (`https:`, `http:`, `gs:`, `s3:`) goes to the provider as it
        is. A `data:` URL is read here. A text is never a path; give a `pathlib.Path`.

        Args:
            source: Bytes, a path, a binary file (read from where it stands), or an address as text.
            detail: As the attribute.
            media_type: What it is said to be; the bytes must agree. None leaves it to them.
            max_bytes: The most that it may have, 20 MB; with `resize` ten times as much is read.
            resize: Gets the bytes and their MIME type and gives those to send: makes a picture
                smaller, or another kind of it. It runs before size and kind are checked.

        Raises:
            UnsupportedError: If it is too large, or no PNG, JPEG, GIF or WebP.
            MisuseError: If an event loop runs here, and a file is to be read or `resize` is given:
                use `load`.
            ValueError: If the text is no address.
            TypeError: If it is nothing of all that, or `detail` is no text.
            OSError: If the file cannot be read.
        """
        from lamella._media import taken

        wanted = _pictures(max_bytes, resize)
        return cls._made(taken(source, wanted, media_type), detail)

    @classmethod
    async def load(
        cls,
        source: Source,
        *,
        detail: str | None = None,
        media_type: str | None = None,
        max_bytes: int = 20_000_000,
        resize: Resize | None = None,
    ) -> Self:
        """As `of`, but a file is read, and `resize` runs, in a thread."""
        from lamella._media import loaded

        wanted = _pictures(max_bytes, resize)
        return cls._made(await loaded(source, wanted, media_type), detail)

    @classmethod
    def _made(cls, given: Given, detail: str | None) -> Self:
        return cls(given.url, given.data, given.media_type, detail)

    @property
    def size(self) -> Size | None:
        """Width and height in pixels; None where the content is not here, or does not say."""
        from lamella._image_sizes import image_size

        return None if self.data is None else image_size(self.data)


@attrs.frozen
class Audio:
    """Sound: exactly one of `data` (bytes) and `id` (an answer the provider still holds).

    Attributes:
        format: `"wav"`, `"mp3"` ... as the provider spells it.
        transcript: Its words, where known.
    """

    type: ClassVar[str] = "audio"
    data: bytes | None = attrs.field(default=None, converter=_frozen, repr=False)
    format: str | None = None
    id: str | None = None
    transcript: str | None = None
    extra: JSONObject = extra()

    @classmethod
    def of(
        cls,
        source: Source,
        *,
        transcript: str | None = None,
        media_type: str | None = None,
        max_bytes: int = 25_000_000,
    ) -> Self:
        """Sound of a file or bytes; its format, its bytes say.

        Args:
            source: Bytes, a path, a binary file, or a `data:` URL. Providers take no addresses.
            transcript: As the attribute.
            media_type: What it is said to be; the bytes must agree. None leaves it to them.
            max_bytes: The most that it may have, 25 MB.

        Raises:
            UnsupportedError: If it is too large, of no kind that a provider takes, or an address.
            MisuseError: If a file is to be read where an event loop runs: use `load`.
            ValueError: If the text is no address.
            TypeError: If it is nothing of all that.
            OSError: If the file cannot be read.
        """
        from lamella._media import taken

        return cls._made(taken(source, _sounds(max_bytes), media_type), transcript)

    @classmethod
    async def load(
        cls,
        source: Source,
        *,
        transcript: str | None = None,
        media_type: str | None = None,
        max_bytes: int = 25_000_000,
    ) -> Self:
        """As `of`, but a file is read in a thread."""
        from lamella._media import loaded

        return cls._made(await loaded(source, _sounds(max_bytes), media_type), transcript)

    @classmethod
    def _made(cls, given: Given, transcript: str | None) -> Self:
        from lamella._media import sound_format

        return cls(given.data, sound_format(given), None, transcript)


@attrs.frozen
class File:
    """A document: exactly one of `data`, `id` (uploaded before) and `url`."""

    type: ClassVar[str] = "file"
    data: bytes | None = attrs.field(default=None, converter=_frozen, repr=False)
    id: str | None = None
    url: str | None = None
    filename: str | None = None
    media_type: str | None = None
    extra: JSONObject = extra()

    def __attrs_post_init__(self) -> None:
        _exactly_one(self, "data", "id", "url")

    @classmethod
    def of(
        cls,
        source: Source,
        *,
        filename: str | None = None,
        media_type: str | None = None,
        max_bytes: int = 32_000_000,
    ) -> Self:
        """A document of a file, bytes or an address; what kind it is, its bytes say.

        Args:
            source: Bytes, a path, a binary file, or an address as text (as for `Image.of`).
            filename: What it is called; None takes the file's own name, without its folder.
            media_type: What it is said to be. For text it can say more than the bytes do
                (`"text/markdown"`); otherwise they must agree.
            max_bytes: The most that it may have, 32 MB.

        Raises:
            UnsupportedError: If it is too large, or of no kind that is known and none is said.
            MisuseError: If a file is to be read where an event loop runs: use `load`.
            ValueError: If the text is no address.
            TypeError: If it is nothing of all that.
            OSError: If the file cannot be read.
        """
        from lamella._media import taken

        return cls._made(taken(source, _documents(max_bytes), media_type), filename)

    @classmethod
    async def load(
        cls,
        source: Source,
        *,
        filename: str | None = None,
        media_type: str | None = None,
        max_bytes: int = 32_000_000,
    ) -> Self:
        """As `of`, but a file is read in a thread."""
        from lamella._media import loaded

        return cls._made(await loaded(source, _documents(max_bytes), media_type), filename)

    @classmethod
    def _made(cls, given: Given, filename: str | None) -> Self:
        return cls(given.data, None, given.url, filename or given.name, given.media_type)


@attrs.frozen
class ToolCall:
    """The model asks for a tool.

    Attributes:
        id: What the result must refer to.
        name: The tool.
        arguments: JSON text exactly as the model wrote it; free text for `kind="custom"`.
        kind: `"function"` or `"custom"`.
    """

    type: ClassVar[str] = "tool_call"
    id: str
    name: str
    arguments: str
    kind: str = "function"
    extra: JSONObject = extra()


def _content(given: Content) -> tuple[Part, ...]:
    if isinstance(given, tuple) and all(isinstance(one, PART_TYPES) for one in given):
        return cast("tuple[Part, ...]", given)
    from lamella._messages import Message

    return Message("user", given).parts


@attrs.frozen
class ToolResult:
    """What a tool answered.

    Attributes:
        call_id: The `ToolCall.id` that it answers.
        content: Its parts. Text or dicts are converted.
        error: Whether the tool failed.
        listed: Wire hint: the content was, and is written as, a list. Not part of equality.
    """

    type: ClassVar[str] = "tool_result"
    call_id: str
    content: tuple[Part, ...] = attrs.field(default=(), converter=_content)
    error: bool = False
    extra: JSONObject = extra()
    listed: bool = attrs.field(default=False, eq=False, repr=False)


@attrs.frozen
class Reasoning:
    """The model's thinking, as far as the provider shows it.

    Attributes:
        text: What it shows; may be empty.
        signature: The provider's seal or its encrypted form, which goes back verbatim to the same
            provider and never to another.
        id: The provider's id of it.
        redacted: The provider withheld the text and gave only the sealed form.
    """

    type: ClassVar[str] = "reasoning"
    text: str = ""
    signature: str | None = attrs.field(default=None, repr=False)
    id: str | None = None
    redacted: bool = False
    extra: JSONObject = extra()


@attrs.frozen
class Refusal:
    """The model declines to answer, in its own words."""

    type: ClassVar[str] = "refusal"
    text: str
    extra: JSONObject = extra()


@attrs.frozen
class Opaque:
    """A part or an event that only its provider knows, kept verbatim so that signatures survive.

    Attributes:
        data: The provider's JSON object.
        provider: Whose it is; empty if unknown.
        content: As an event: whether it is part of the answer. Then it commits the answer and
            stays in the message; otherwise it is progress that is only passed on.
        choice: As an event: which of the `n` answers it belongs to.
    """

    type: ClassVar[str] = "opaque"
    data: JSONObject = attrs.field(hash=False)
    provider: str = ""
    content: bool = True
    choice: int = 0

    @property
    def semantic(self) -> bool:
        """Whether, as an event, it commits the answer."""
        return self.content


Part: TypeAlias = Text | Image | Audio | File | ToolCall | ToolResult | Reasoning | Refusal | Opaque
PART_TYPES: tuple[type, ...] = (
    Text, Image, Audio, File, ToolCall, ToolResult, Reasoning, Refusal, Opaque,
)  # fmt: skip


def _pictures(most: int, resize: Resize | None) -> Wanted:
    from lamella._media import Wanted
    from lamella._media_types import IMAGES

    return Wanted("Image", IMAGES, "PNG, JPEG, GIF and WebP", most, resize)


def _sounds(most: int) -> Wanted:
    from lamella._media import Wanted
    from lamella._media_types import SOUNDS

    return Wanted("Audio", SOUNDS, "WAV, MP3, FLAC, OGG, AAC, M4A and AIFF", most)


def _documents(most: int) -> Wanted:
    from lamella._media import Wanted

    return Wanted("File", None, "a PDF, a text, an office document or a picture", most)


def _exactly_one(part: object, *names: str) -> None:
    given = [name for name in names if getattr(part, name) is not None]
    if len(given) != 1:
        kind = type(part).__name__
        choice = " and ".join(f"`{name}`" for name in names)
        found = f"got {', '.join(given)}" if given else "got none"
        msg = f"{kind} takes exactly one of {choice}; {found}."
        raise ValueError(msg)
