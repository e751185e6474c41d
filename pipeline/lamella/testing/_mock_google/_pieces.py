"""An answer's events as parts of Google's candidates, with the seals of a model that thinks."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from json import JSONDecodeError, loads
from typing import Any, cast

import attrs

from lamella._events import (
    Event,
    MediaDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
)
from lamella._parts import Opaque
from lamella.testing._mock_google._turns import call_seal, text_seal
from lamella.testing._mock_openai._requests import JSON


@attrs.frozen
class Piece:
    """A part, or a piece of one, of a candidate.

    Attributes:
        choice: Which candidate.
        part: As it is sent; None where a call's arguments are no JSON object and nothing is.
        tokens: The tokens that it stands for, of text and of thoughts.
        logprobs: The log probabilities of its tokens.
    """

    choice: int
    part: JSON | None
    tokens: tuple[int, int] = (1, 0)
    logprobs: Sequence[Mapping[str, Any]] = ()


def pieces(events: Sequence[Event], *, ids: bool, thoughts: bool) -> Iterator[Piece]:
    """What events stand for, in order; a function call comes in one piece.

    Args:
        events: The events of one answer.
        ids: Whether function calls have ids.
        thoughts: Whether thoughts are shown.
    """
    thinking = {event.choice for event in events if isinstance(event, ReasoningDelta)}
    calls: dict[int, list[ToolCallDelta]] = {}
    for event in events:
        going = calls.get(event.choice)
        if going and not (isinstance(event, ToolCallDelta) and event.name is None):
            yield _call(calls.pop(event.choice), thinking, ids=ids)
        if isinstance(event, ToolCallDelta):
            calls.setdefault(event.choice, []).append(event)
        elif isinstance(event, ReasoningDelta):
            part = {"text": event.text, "thought": True}
            shown = part if thoughts and event.text else None
            yield Piece(event.choice, shown or {}, (0, bool(event.text)))
        elif (piece := _piece(event)) is not None:
            yield piece
    for left in calls.values():
        yield _call(left, thinking, ids=ids)


def _call(deltas: Sequence[ToolCallDelta], thinking: set[int], *, ids: bool) -> Piece:
    """A function call; the first of a candidate that thinks is sealed."""
    first = deltas[0]
    try:
        arguments = loads("".join([delta.arguments for delta in deltas]) or "{}")
    except JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        return Piece(first.choice, None)
    call: JSON = {"name": first.name, "args": cast("JSON", arguments)}
    part: JSON = {"functionCall": {**({"id": first.id} if ids else {}), **call}}
    if first.choice in thinking:
        thinking.discard(first.choice)
        part["thoughtSignature"] = call_seal(call)
    return Piece(first.choice, part)


def _piece(event: Event) -> Piece | None:
    match event:
        case TextDelta():
            logprobs = event.logprobs or ()
            return Piece(event.choice, {"text": event.text}, (1, 0), logprobs)
        case RefusalDelta():
            return Piece(event.choice, {"text": event.text})
        case MediaDelta():
            kind = event.media_type or f"{event.kind}/*"
            blob = {"mimeType": kind, "data": b64encode(event.data).decode()}
            return Piece(event.choice, {"inlineData": blob})
        case Opaque(content=True):
            return Piece(event.choice, dict(event.data))
        case _:
            return None


def joined(found: Sequence[JSON], *, sealed: bool) -> list[JSON]:
    """Parts whose texts in a row are one.

    Args:
        found: The parts of one candidate.
        sealed: Whether the model has thought, so that its text is sealed unless a call is.
    """
    parts: list[JSON] = []
    for part in found:
        same = parts and _kind(parts[-1]) == _kind(part) is not None
        if same:
            parts[-1] = {**parts[-1], "text": parts[-1]["text"] + part["text"]}
        else:
            parts.append(part)
    seal = seal_of(parts) if sealed else None
    if seal is not None:
        last = max(place for place, part in enumerate(parts) if _kind(part) == "text")
        parts[last] = {**parts[last], "thoughtSignature": seal}
    return parts


def seal_of(parts: Sequence[JSON]) -> str | None:
    """The seal of a candidate's text; None if it says nothing, or a call bears the seal."""
    text = "".join([part["text"] for part in parts if _kind(part) == "text"])
    if not text or any("functionCall" in part for part in parts):
        return None
    return text_seal(text)


def _kind(part: JSON) -> str | None:
    if "text" not in part:
        return None
    return "thought" if part.get("thought") else "text"
