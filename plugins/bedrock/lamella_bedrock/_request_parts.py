"""Converse: how parts of messages become content blocks."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from lamella._errors import UnsupportedError
from lamella._message_dicts import from_data_url
from lamella._parts import (
    Audio,
    File,
    Image,
    JSONObject,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from lamella._prompt_caching import CACHE_MARK
from lamella.transports._dialect import JSON
from lamella.transports._losses import Losses
from lamella.transports._wire_json import is_object
from lamella.transports._wire_parts import fitting_id, told_failure, unsupported
from lamella_bedrock._cache_points import cache_point
from lamella_bedrock._formats import DOCUMENTS, FILMS, PICTURES, of_ending, plain_type
from lamella_bedrock._thoughts import thought

CITATIONS: Final = "citations"
"""In the `extra` of a text: what it cites, as Bedrock said it."""

_CALL_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_NO_NAME: Final = re.compile(r"[^\w\-()\[\] ]|_", re.ASCII)
_MOST_NAME: Final = 180
_TELLS_FAILURE: Final = frozenset({"", "anthropic", "amazon"})
"""Whose models take a tool result's `status`; of an unknown one it is assumed."""


class PartWriter:
    """Writes the parts of one request.

    Args:
        provider: The transport's name.
        family: Whose model is asked; empty if unknown.
        losses: What is left out.
        caches: Whether the model has a prompt cache.
        lasting: Whether that can keep things for an hour.

    Attributes:
        points: Whether cache points have been written.
    """

    __slots__ = ("_caches", "_family", "_lasting", "_losses", "_names", "points", "provider")

    def __init__(
        self, provider: str, family: str, losses: Losses, *, caches: bool, lasting: bool
    ) -> None:
        self.provider = provider
        self._family = family
        self._losses = losses
        self._caches = caches
        self._lasting = lasting
        self._names: set[str] = set()
        self.points = False

    @property
    def documents(self) -> bool:
        """Whether documents have been written."""
        return bool(self._names)

    def blocks(self, part: Part, *, said: bool = False) -> list[JSON]:
        """The content blocks of a part: none, one, or one and the cache point behind it.

        Args:
            part: What is written.
            said: Whether it stands in an assistant's message.

        Raises:
            UnsupportedError: If the API has no words for it.
        """
        block = self._said(part) if said else self._content(part)
        if block is None:  # and no point: there is nothing before it
            return []
        found = [block]
        if not isinstance(part, Opaque) and part.extra:
            found += self.cache_point(part.extra)
        if isinstance(part, ToolResult):  # a point cannot stand inside of a result
            inner = [each for each in part.content if not isinstance(each, Opaque)]
            marked = next((each.extra for each in inner if CACHE_MARK in each.extra), None)
            if marked is not None and CACHE_MARK not in part.extra:
                found += self.cache_point(marked)
        return found

    def cache_point(self, extra: JSONObject, *, tools: bool = False) -> list[JSON]:
        """The block that a mark for prompt caches becomes; none where the model has no cache."""
        mark: Any = extra.get(CACHE_MARK)
        if mark is None:
            return []
        if not self._caches or (tools and self._family == "amazon"):
            self._losses.add(CACHE_MARK, "this model has no cache for it on Bedrock")
            return []
        self.points = True
        return [cache_point(mark, self._losses, lasting=self._lasting)]

    def opaque(self, part: Opaque) -> JSON:
        """A part that only its provider knows, verbatim.

        Raises:
            UnsupportedError: If it is another provider's.
        """
        if not self._losses.is_own(part):
            raise unsupported(
                f"An Opaque part of {part.provider!r}",
                f"to {self.provider!r}",
                "Take it out of the request, or send the request to the provider that made it.",
                provider=self.provider,
            )
        return dict(part.data)

    def own(self, extra: JSONObject, what: str) -> dict[str, Any]:
        """What of a part's `extra` goes out, without its cache mark; see `Losses.own`."""
        if not extra:
            return {}
        found = self._losses.own(extra, what)
        return {name: value for name, value in found.items() if name != CACHE_MARK}

    # --- kinds of parts ----------------------------------------------------------------------

    def _said(self, part: Part) -> JSON | None:
        """The block of a part of an assistant's message; None if it is left out."""
        match part:
            case Reasoning():
                return thought(part, self.provider, self._family, self._losses)
            case ToolCall():
                return self._call(part)
            case Refusal():
                return self._text(Text(part.text))
            case Audio() if part.transcript is not None:
                self._losses.add("Audio", "only its transcript goes back")
                return self._text(Text(part.transcript))
            case Audio() | File():
                hint = "Bedrock takes them in messages of the user only."
                raise self._unsupported(part, "in an assistant's message", hint)
            case Opaque():
                if self._losses.is_own(part):
                    return dict(part.data)
                self._losses.foreign("Opaque")
                return None
            case _:
                return self._content(part)

    def _content(self, part: Part) -> JSON | None:
        match part:
            case Text():
                return self._text(part)
            case Image():
                return self._image(part)
            case File():
                return self._file(part)
            case Audio():
                return self._audio(part)
            case ToolResult():
                return self._result(part)
            case Opaque():
                return self.opaque(part)
            case _:
                hint = "It belongs into an assistant's message."
                raise self._unsupported(part, "in another message", hint)

    def _text(self, part: Text) -> JSON | None:
        if not part.text or part.text.isspace():  # Bedrock refuses it, and it says nothing
            if part.text:
                self._losses.add("Text", "Bedrock takes no blank text")
            return None
        extra = self.own(part.extra, "Text")
        cited = extra.pop(CITATIONS, None)
        if cited is None:
            return {"text": part.text, **extra}
        content = [{"text": part.text}]
        return {"citationsContent": {"content": content, CITATIONS: cited, **extra}}

    def _image(self, part: Image) -> JSON:
        if part.detail is not None:
            self._losses.add("Image.detail", "this API has no word for it")
        media_type, data, url = part.media_type, part.data, part.url
        found = from_data_url(url)
        if found is not None:
            media_type, data, url = found[0], found[1], None
        media_type = plain_type(media_type) or of_ending(url)
        name = PICTURES.get((media_type or "").partition("/")[2])
        if name is None:
            kind = f"An Image of type {media_type!r}" if media_type else "An Image without a type"
            hint = "Bedrock takes png, jpeg, gif and webp: give its media_type."
            if url is None or url.startswith("s3://"):
                raise self._unsupported(kind, "to Bedrock", hint)
        source = self._source(data, url, "An Image")
        return self._nested("image", {"format": name, "source": source}, part)

    def _file(self, part: File) -> JSON:
        if part.id is not None:
            hint = "Give its `data`, or a `url` of S3 (s3://bucket/key)."
            raise self._unsupported("A File with an `id`", "to Bedrock", hint)
        source = self._source(part.data, part.url, "A File")
        media_type = plain_type(part.media_type)
        media_type = media_type or of_ending(part.filename) or of_ending(part.url) or ""
        if media_type in DOCUMENTS:
            body = {
                "format": DOCUMENTS[media_type],
                "name": self._name(part.filename),
                "source": source,
            }
            return self._nested("document", body, part)
        if media_type in FILMS:
            return self._nested("video", {"format": FILMS[media_type], "source": source}, part)
        kind, _, name = media_type.partition("/")
        if kind == "image" and name in PICTURES:
            return self._nested("image", {"format": PICTURES[name], "source": source}, part)
        raise self._unsupported(
            f"A File of type {media_type!r}" if media_type else "A File without a type",
            "to Bedrock",
            f"Give its media_type; Bedrock takes {', '.join(sorted(DOCUMENTS))} and video.",
        )

    def _audio(self, part: Audio) -> JSON:
        if part.data is None or part.format is None:
            hint = "Give its bytes and their format: Audio(data=..., format='wav')."
            raise self._unsupported("An Audio part without data and format", "to Bedrock", hint)
        source = {"bytes": base64.b64encode(part.data).decode()}
        return self._nested("audio", {"format": part.format, "source": source}, part)

    def _source(self, data: bytes | None, url: str | None, what: str) -> JSON:
        if data is not None:
            return {"bytes": base64.b64encode(data).decode()}
        if url is not None and url.startswith("s3://"):
            return {"s3Location": {"uri": url}}
        hint = "Bedrock fetches from S3 only: give the bytes as `data`, or a `url` with s3://."
        raise self._unsupported(f"{what} with such a `url`", "to Bedrock", hint)

    def _name(self, filename: str | None) -> str:
        """A document's name: of the few characters allowed, and unlike those before it."""
        stem = (filename or "").rpartition("/")[2].rpartition(".")
        plain = " ".join(_NO_NAME.sub(" ", stem[0] or stem[2]).split())[:_MOST_NAME] or "document"
        name, number = plain, 1
        while name in self._names:
            number += 1
            name = f"{plain} {number}"
        self._names.add(name)
        return name

    def _result(self, part: ToolResult) -> JSON:
        native = self._family in _TELLS_FAILURE
        content = part.content if native else told_failure(part)
        blocks = [block for inner in content if (block := self._told(inner)) is not None]
        body: JSON = {"toolUseId": fitting_id(part.call_id, _CALL_ID), "content": blocks}
        if part.error and native:
            body["status"] = "error"
        return {"toolResult": {**body, **self.own(part.extra, "ToolResult")}}

    def _told(self, part: Part) -> JSON | None:
        """A part of a tool's result."""
        if isinstance(part, Text | Image | File | Opaque):
            return self._content(part)
        hint = "Bedrock takes text, pictures, documents and films there."
        raise self._unsupported(part, "in a tool's result", hint)

    def _call(self, part: ToolCall) -> JSON:
        if part.kind != "function":
            hint = "Bedrock knows tools with a JSON Schema only."
            raise self._unsupported(f"A call of a {part.kind} tool", "to Bedrock", hint)
        try:
            given: Any = msgspec.json.decode(part.arguments.strip() or "{}")
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            given = None
        if not is_object(given):
            raise UnsupportedError(
                f"The arguments of a call of {part.name!r} are no JSON object.",
                hint="Bedrock takes nothing else: mend them, or take the call out.",
                code="unsupported_value",
                provider=self.provider,
            )
        body: JSON = {"toolUseId": fitting_id(part.id, _CALL_ID), "name": part.name, "input": given}
        return {"toolUse": {**body, **self.own(part.extra, "ToolCall")}}

    def _nested(self, key: str, body: JSON, part: Image | Audio | File) -> JSON:
        extra = self.own(part.extra, type(part).__name__)
        inner: Mapping[str, Any] = extra.pop(key, {})
        return {key: {**body, **inner}, **extra}

    def _unsupported(self, part: object, where: str, hint: str) -> UnsupportedError:
        return unsupported(part, where, hint, provider=self.provider)
