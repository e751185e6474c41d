"""Answers in the words of Ollama's API, whole and as lines of JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from json import JSONDecodeError, loads
from typing import Any, cast

import attrs

from lamella._events import (
    Event,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from lamella._parts import Opaque
from lamella._usage import Usage
from lamella.testing._http_body import Chunk, Pause
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_openai._chat import final_usage
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_sse import Frame, json_text

CREATED_AT = "2025-01-01T00:00:00Z"
"""The instant that answers state, so that they are always the same."""

NDJSON = "application/x-ndjson"

_MILLISECOND = 1_000_000
_FAILED = "an error was encountered while running the model"


@attrs.frozen
class Piece:
    """What one line of an answer says."""

    content: str = ""
    thinking: str = ""
    calls: tuple[JSON, ...] = ()
    logprobs: tuple[JSON, ...] = ()


@attrs.frozen(kw_only=True)
class OllamaWriter:
    """Writes one answer.

    Attributes:
        model: The model that is said to have answered.
        events: What the answer consists of.
        faults: What goes wrong with it.
        chat: Whether it is one of `/api/chat`, and not of `/api/generate`.
        context: What `/api/generate` hands back of the conversation.
        pause: Seconds that each token takes.
    """

    model: str
    events: Sequence[Event]
    faults: MockFaults
    chat: bool = True
    context: Sequence[int] = ()
    pause: float = 0.0

    def document(self) -> JSON:
        """The answer as one JSON object."""
        pieces = list(self._pieces())
        whole = Piece(
            "".join(piece.content for piece in pieces),
            "".join(piece.thinking for piece in pieces),
            tuple([call for piece in pieces for call in piece.calls]),
            tuple([each for piece in pieces for each in piece.logprobs]),
        )
        return self._last(whole)

    def frames(self) -> list[Frame]:
        """The answer as a stream, without in-band errors and cuts."""
        lines = [self._line(piece) for piece in self._pieces()]
        if self.faults.usage == "twice" and lines:
            lines[-1] |= self._counts()
        found = [Frame(json_text(line), token=True) for line in lines]
        if self.faults.unknown:
            unknown = {**self._line(Piece()), "mock_unknown": {"known": False}}
            found.insert(1, Frame(json_text(unknown)))
        if not self.faults.no_done:
            found.append(Frame(json_text(self._last(Piece()))))
        return found

    # --- lines -------------------------------------------------------------------------------

    def _line(self, piece: Piece, *, done: bool = False) -> JSON:
        said: JSON = {"content" if self.chat else "response": piece.content}
        if piece.thinking:
            said["thinking"] = piece.thinking
        if piece.calls:
            said["tool_calls"] = list(piece.calls)
        if self.faults.unknown:
            said["mock_unknown"] = {"known": False}
        if self.chat:
            said = {"message": {"role": "assistant", **said}}
        line: JSON = {"model": self.model, "created_at": CREATED_AT, **said, "done": done}
        if piece.logprobs:
            line["logprobs"] = list(piece.logprobs)
        return line

    def _last(self, piece: Piece) -> JSON:
        line = self._line(piece, done=True)
        reason = self._reason()
        if reason is not None:
            line["done_reason"] = reason
        if self.context:
            line["context"] = list(self.context)
        return {**line, **self._counts()}

    def _reason(self) -> str | None:
        given = self.faults.finish
        if given is not None:
            return None if given == "none" else given
        found = next((event for event in self.events if isinstance(event, Finish)), Finish("stop"))
        # A call of tools is no reason of its own here.
        return "stop" if found.reason == "tool_calls" else found.reason

    def _counts(self) -> JSON:
        usage = final_usage(self.events, self.faults)
        if usage is None:
            return {}
        return counts(usage, self.pause)

    # --- pieces ------------------------------------------------------------------------------

    def _pieces(self) -> Iterator[Piece]:
        for key, group in groupby(self.events, _call_of):
            if key is not None:
                yield _called(cast("list[ToolCallDelta]", list(group)))
                continue
            for event in group:
                piece = _piece(event)
                if piece is not None:
                    yield piece


def counts(usage: Usage, pause: float) -> JSON:
    """What was consumed, and the nanoseconds that it is said to have taken."""
    prompt, answer = usage.input_tokens, usage.output_tokens
    thinking = prompt * _MILLISECOND
    writing = answer * round(max(pause, 0.001) * 1e9)
    return {
        "total_duration": thinking + writing + _MILLISECOND,
        "load_duration": _MILLISECOND,
        "prompt_eval_count": prompt,
        "prompt_eval_duration": thinking,
        "eval_count": answer,
        "eval_duration": writing,
    }


def _call_of(event: Event) -> int | None:
    return event.index if isinstance(event, ToolCallDelta) else None


def _called(deltas: Sequence[ToolCallDelta]) -> Piece:
    """A whole call on one line; what the end of the answer has cut off is text, as it came."""
    name = next((delta.name for delta in deltas if delta.name), "")
    identity = next((delta.id for delta in deltas if delta.id), "")
    written = "".join(delta.arguments for delta in deltas)
    try:
        arguments: Any = loads(written or "{}")
    except JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        return Piece(f'{{"name":{json_text(name)},"arguments":{written}')
    function: JSON = {"index": deltas[0].index, "name": name, "arguments": arguments}
    return Piece(calls=({"id": identity, "function": function},))


def _piece(event: Event) -> Piece | None:
    """What an event says; None for those that this API does not show."""
    match event:
        case TextDelta():
            return Piece(event.text, logprobs=tuple([_logprob(e) for e in event.logprobs or ()]))
        case RefusalDelta():
            return Piece(event.text)
        case ReasoningDelta():
            return Piece(thinking=event.text) if event.text else None
        case UsageReport() | Finish() | Opaque(content=False):
            return None
        case _:
            raise TypeError(f"MockServer has no words for {type(event).__name__} in Ollama's chat")


def _logprob(given: Mapping[str, Any]) -> JSON:
    found = {name: given[name] for name in ("token", "logprob", "bytes") if name in given}
    others = [_logprob(each) for each in given.get("top_logprobs") or ()]
    return {**found, **({"top_logprobs": others} if others else {})}


def failure(code: str) -> JSON:
    """What stands in an answer instead of the rest where the model has failed."""
    return {"error": f"{_FAILED}: {code}"}


def lines_of_json(frames: Sequence[Frame], faults: MockFaults, pause: float = 0.0) -> list[Chunk]:
    """The bytes of a stream, one chunk for each line, with the pauses between them.

    Args:
        frames: The lines.
        faults: Says how they end.
        pause: Seconds before each line that is a token, except the first.
    """
    end = "\r\n" if faults.line_end == "crlf" else "\n"
    chunks: list[Chunk] = []
    tokens = 0
    for frame in frames:
        if frame.token:
            if tokens and pause > 0:
                chunks.append(Pause(pause))
            tokens += 1
        chunks.append(f"{frame.data}{end}".encode())
    return chunks
