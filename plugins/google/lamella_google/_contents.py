"""How a conversation is written: `contents` and `systemInstruction`.

Whatever came from this provider goes back as it came, part by part: a `thoughtSignature` may stand
on any part and counts only in its place. Another provider's sealed thoughts and state are left out
with a note in the trace. All results of tools that answer one message go into one content.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from lamella._chat import ChatRequest
from lamella._messages import Message
from lamella._parts import (
    Audio,
    File,
    Image,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from lamella.transports._dialect import JSON
from lamella.transports._losses import Losses
from lamella.transports._wire_json import NOT_THAT, is_object
from lamella.transports._wire_parts import unsupported
from lamella_google._media import RESOLUTIONS, file, image, sound
from lamella_google._signatures import sign


@attrs.frozen(kw_only=True)
class Target:
    """What is known of where a conversation goes.

    Attributes:
        provider: The transport's name.
        vertex: Whether it is Vertex AI.
        signs: Whether the model wants signatures on calls, and knows resolutions of parts: from the
            third generation on.
    """

    provider: str
    vertex: bool
    signs: bool


def write_conversation(request: ChatRequest, target: Target, losses: Losses) -> JSON:
    """The conversation of a request, as `contents` and, where there is one, `systemInstruction`.

    Raises:
        UnsupportedError: If the API has no words for a part, or nothing is asked.
    """
    writer = _Writer(target, losses)
    for message in request.messages:
        writer.message(message)
    if not writer.contents:
        raise unsupported(
            "A conversation without a message of the user's",
            "to Google",
            "Add one; system messages alone are no conversation.",
            provider=target.provider,
        )
    if target.signs:
        sign(writer.contents, losses)
    body: JSON = {"contents": writer.contents}
    if writer.system:
        body["systemInstruction"] = {"parts": writer.system, **writer.system_extra}
    return body


class _Writer:
    __slots__ = (
        "_losses", "_names", "_provider", "_results", "_target", "contents", "system",
        "system_extra",
    )  # fmt: skip

    def __init__(self, target: Target, losses: Losses) -> None:
        self._target = target
        self._provider = target.provider
        self._losses = losses
        self._names: dict[str, str] = {}
        self._results: list[JSON] | None = None
        self.contents: list[JSON] = []
        self.system: list[JSON] = []
        self.system_extra: JSON = {}

    def message(self, message: Message) -> None:
        if message.name is not None and message.role not in {"function", "tool"}:
            raise unsupported(
                "A message's `name`",
                "to Google",
                "Write it into the text.",
                provider=self._provider,
            )
        role = message.role
        if role == "tool":
            self._result(message)
            return
        results, self._results = self._results, None
        if role in {"system", "developer"}:
            self._results = results
            self._instruction(message)
        elif role == "assistant":
            self._add("model", self._said(message), message)
        elif role == "function":
            result = {"name": message.name or "", "response": {"output": message.text}}
            self._add("user", [{"functionResponse": result}], message)
        else:
            parts = [self._part(part) for part in message.parts]
            self._add("user", parts or [{"text": ""}], message)

    # --- messages ----------------------------------------------------------------------------

    def _add(self, role: str, parts: list[JSON], message: Message) -> None:
        if parts:
            extra = self._losses.own(message.extra, "Message")
            self.contents.append({"role": role, "parts": parts, **extra})

    def _instruction(self, message: Message) -> None:
        if self.contents:
            why = "this API takes instructions only before the conversation"
            self._losses.add("position of a system message", why)
        if message.extra:
            self.system_extra.update(self._losses.own(message.extra, "Message"))
        for part in message.parts:
            if not isinstance(part, Text | Opaque):
                hint = "Put it into a user message: instructions are text."
                raise unsupported(part, "in a system message", hint, provider=self._provider)
            self.system.append(self._part(part))

    def _said(self, message: Message) -> list[JSON]:
        parts: list[JSON] = []
        for part in message.parts:
            if isinstance(part, ToolCall):
                parts.append(self._call(part))
            elif isinstance(part, Reasoning):
                self._thought(part, parts)
            elif isinstance(part, Opaque):
                if self._losses.is_own(part):
                    parts.append(dict(part.data))
                else:
                    self._losses.foreign("Opaque")
            elif isinstance(part, Audio) and part.data is None:
                self._unheard(part, parts)
            elif part != _NOTHING_SAID:
                parts.append(self._part(part))
        return parts

    def _thought(self, part: Reasoning, parts: list[JSON]) -> None:
        if not self._losses.is_own(part):
            self._losses.thought(part)
            return
        thought: JSON = {"text": part.text, "thought": True}
        if part.signature is not None:
            thought["thoughtSignature"] = part.signature
        parts.append({**thought, **self._losses.own(part.extra, "Reasoning")})

    def _unheard(self, part: Audio, parts: list[JSON]) -> None:
        """A sound that another provider keeps: its words, where they are known."""
        if not part.transcript:
            hint = "Give its `data` or its `transcript`: Google cannot fetch it by its `id`."
            raise unsupported(part, "to Google", hint, provider=self._provider)
        self._losses.add("Audio", "only its transcript can be sent")
        parts.append({"text": part.transcript})

    # --- tools -------------------------------------------------------------------------------

    def _call(self, call: ToolCall) -> JSON:
        if call.kind != "function":
            hint = "Google knows only functions whose arguments are JSON objects."
            what = f"A tool call of kind {call.kind!r}"
            raise unsupported(what, "to Google", hint, provider=self._provider)
        self._names[call.id] = call.name
        inner: JSON = {"name": call.name, "args": self._arguments(call)}
        if call.id:
            inner["id"] = call.id
        extra = dict(self._losses.own(call.extra, "ToolCall"))
        more: Any = extra.pop("functionCall", None)
        return {"functionCall": {**inner, **more} if is_object(more) else inner, **extra}

    def _arguments(self, call: ToolCall) -> Mapping[str, Any]:
        if not call.arguments.strip():
            return {}
        found: Any = None
        with contextlib.suppress(*NOT_THAT):
            found = msgspec.json.decode(call.arguments)
        if is_object(found):
            return found
        raise unsupported(
            f"A call of {call.name!r} whose arguments are no JSON object",
            "to Google",
            "Take the call and its result out of the conversation, or mend its arguments.",
            provider=self._provider,
        )

    def _result(self, message: Message) -> None:
        result = message.parts[0]
        assert isinstance(result, ToolResult)  # noqa: S101 - a Message of role tool holds nothing else
        extra = dict(self._losses.own(result.extra, "ToolResult"))
        more: Any = extra.pop("functionResponse", None)
        inner = self._response(result, more if is_object(more) else {})
        if self._results is None:
            self._results = []
            self.contents.append({"role": "user", "parts": self._results})
        if message.extra:
            self.contents[-1].update(self._losses.own(message.extra, "Message"))
        self._results.append({"functionResponse": inner, **extra})

    def _response(self, result: ToolResult, more: Mapping[str, Any]) -> JSON:
        name = self._names.get(result.call_id) or more.get("name")
        if not name:
            raise unsupported(
                "A tool's result whose call is not in the conversation",
                "to Google",
                "Keep the assistant's message with the call: its name is needed.",
                provider=self._provider,
            )
        texts = [self._words(part) for part in result.content if isinstance(part, Text)]
        said: Any = "".join(texts) if len(texts) < 2 else texts
        inner: JSON = {"name": name, "response": {"error" if result.error else "output": said}}
        if result.call_id:
            inner["id"] = result.call_id
        media = [self._part(part) for part in result.content if not isinstance(part, Text)]
        if media:
            inner["parts"] = media
        return {**inner, **more}

    def _words(self, part: Text) -> str:
        """A result's text, which has no place for anything beside it."""
        if part.extra and self._losses.own(part.extra, "Text"):
            self._losses.add("Text.extra", "a text in a tool's result has no place for it")
        return part.text

    # --- parts -------------------------------------------------------------------------------

    def _part(self, part: Part) -> JSON:
        match part:
            case Text():
                body: JSON = {"text": part.text}
            case Refusal():
                body = {"text": part.text}
            case Image():
                body = image(part, provider=self._provider, vertex=self._target.vertex)
                self._resolution(part, body)
            case Audio():
                body = sound(part, provider=self._provider)
            case File():
                body = file(part, provider=self._provider, vertex=self._target.vertex)
                if part.filename is not None:
                    self._losses.add("File.filename", "this API has no place for it")
            case Opaque():
                return self._opaque(part)
            case _:
                hint = "It belongs into an assistant's message, or a tool's."
                raise unsupported(part, "there", hint, provider=self._provider)
        if not part.extra:
            return body
        return _joined(body, self._losses.own(part.extra, type(part).__name__))

    def _resolution(self, part: Image, body: JSON) -> None:
        if part.detail in RESOLUTIONS and self._target.signs:
            body["mediaResolution"] = {"level": f"MEDIA_RESOLUTION_{part.detail.upper()}"}
        elif part.detail not in {None, "auto"}:
            self._losses.add("Image.detail", "the model has no resolution of that name")

    def _opaque(self, part: Opaque) -> JSON:
        if not self._losses.is_own(part):
            raise unsupported(
                f"An Opaque part of {part.provider!r}",
                f"to {self._provider!r}",
                "Take it out of the request, or send the request to the provider that made it.",
                provider=self._provider,
            )
        return dict(part.data)


_NOTHING_SAID = Text("")


def _joined(body: JSON, extra: Mapping[str, Any]) -> JSON:
    """A part with what its `extra` adds, inside the objects that it already has as well."""
    joined = dict(body)
    for name, value in extra.items():
        before: Any = joined.get(name)
        joined[name] = {**before, **value} if is_object(before) and is_object(value) else value
    return joined
