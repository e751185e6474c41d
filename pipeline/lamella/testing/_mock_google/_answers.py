"""Answers in the words of Google's `GenerateContentResponse`, whole and as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from lamella._events import Event, Finish, ReasoningDelta
from lamella._usage import Usage
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_google._fields import UNKNOWN
from lamella.testing._mock_google._pieces import Piece, joined, pieces, seal_of
from lamella.testing._mock_google._usage import usage_document
from lamella.testing._mock_openai._chat import Identity, final_usage
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_sse import Frame, json_text

BLOCKED = "prompt_"
"""Begins a finish reason that says why the prompt was blocked, such as `prompt_safety`."""

_REASONS = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
}
_UNKNOWN = {UNKNOWN: {"known": False}}


@attrs.frozen
class GoogleWriter:
    """Writes one answer.

    Attributes:
        identity: What it is called.
        events: What it consists of.
        faults: What goes wrong with it.
        vertex: Whether Vertex AI gives it.
        thoughts: Whether the client wants to see thoughts.
    """

    identity: Identity
    events: Sequence[Event]
    faults: MockFaults
    vertex: bool = False
    thoughts: bool = False

    # --- whole -------------------------------------------------------------------------------

    def document(self) -> JSON:
        """The answer as one JSON object."""
        if self._blocked is not None:
            return self._block()
        found = self._pieces()
        candidates: list[JSON] = []
        for index in self._indexes:
            own = [piece for piece in found if piece.choice == index]
            parts = joined([each.part for each in own if each.part], sealed=self._sealed(index))
            if self.faults.unknown:
                parts.insert(0, _UNKNOWN)
            logprobs = [each for piece in own for each in piece.logprobs]
            candidates.append(self._candidate(index, parts, logprobs, self._end(index, own)))
        return self._response(candidates, self._usage)

    # --- streamed ----------------------------------------------------------------------------

    def frames(self) -> Iterator[Frame]:
        """The answer as a stream, without in-band errors and cuts."""
        for document, token in self._documents():
            yield Frame(json_text(document), token=token)

    def ping(self) -> str:
        """A chunk that says nothing, as one line of JSON.

        The official SDK takes no comments in a stream, so that this is the only sign of life.
        """
        return json_text(self._response(None, None))

    def _documents(self) -> Iterator[tuple[JSON, bool]]:
        if self._blocked is not None:
            yield self._block(), False
            return
        if self.faults.unknown:
            yield {**self._response(None, None), **_UNKNOWN}, False
            yield self._response([self._candidate(0, [_UNKNOWN], [], {})], None), False
        text = thought = 0
        found = self._pieces()
        for piece in found:
            text, thought = text + piece.tokens[0], thought + piece.tokens[1]
            if piece.part:
                candidate = self._candidate(piece.choice, [piece.part], piece.logprobs, {})
                yield self._response([candidate], self._running((text, thought))), True
        for index in self._indexes:
            own = [piece for piece in found if piece.choice == index]
            seal = seal_of([each.part for each in own if each.part])
            last: JSON = {"text": ""}
            if seal is not None and self._sealed(index):
                last["thoughtSignature"] = seal
            usage = self._usage if index == self._indexes[-1] else self._running((text, thought))
            end = self._end(index, own)
            silent = "safetyRatings" in end and "thoughtSignature" not in last
            yield (
                self._response([self._candidate(index, [] if silent else [last], [], end)], usage),
                False,
            )
        if self.faults.usage == "twice":
            yield self._response(None, self._usage), False

    def _running(self, spent: tuple[int, int]) -> JSON | None:
        usage = self._final
        if usage is None or self.faults.usage == "with_finish":
            return None
        return usage_document(usage, vertex=self.vertex, spent=spent)

    # --- what both consist of ----------------------------------------------------------------

    @property
    def _final(self) -> Usage | None:
        return final_usage(self.events, self.faults)

    @property
    def _usage(self) -> JSON | None:
        usage = self._final
        return None if usage is None else usage_document(usage, vertex=self.vertex)

    @property
    def _finish(self) -> Finish:
        return next((each for each in self.events if isinstance(each, Finish)), Finish("stop"))

    @property
    def _indexes(self) -> list[int]:
        return sorted({0, *(event.choice for event in self.events)})

    @property
    def _blocked(self) -> str | None:
        """Why the prompt is blocked; None if it is not."""
        reason = self.faults.finish or self._finish.reason
        return reason.removeprefix(BLOCKED).upper() if reason.startswith(BLOCKED) else None

    def _pieces(self) -> list[Piece]:
        return list(pieces(self.events, ids=not self.vertex, thoughts=self.thoughts))

    def _sealed(self, index: int) -> bool:
        return any(
            isinstance(event, ReasoningDelta) and event.choice == index for event in self.events
        )

    def _end(self, index: int, own: Sequence[Piece]) -> JSON:
        """What the last chunk of a candidate says besides its content."""
        finish = self._finish
        reason = finish.reasons[index] if index < len(finish.reasons) else finish.reason
        given = self.faults.finish
        if given == "none":
            return {}
        if given is None and any(piece.part is None for piece in own):
            message = "Malformed function call: the arguments are no JSON object."
            return {"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": message}
        said = given or reason
        word = _REASONS.get(said, said.upper())
        return {"finishReason": word, **({"safetyRatings": _ratings()} if word == "SAFETY" else {})}

    def _candidate(
        self, index: int, parts: list[JSON], logprobs: Sequence[Mapping[str, Any]], end: JSON
    ) -> JSON:
        found: JSON = {"index": index, **end}
        if parts:
            found["content"] = {"parts": parts, "role": "model"}
        elif "safetyRatings" not in end:
            found["content"] = {"role": "model"}
        if logprobs:
            found |= _logprobs(logprobs, vertex=self.vertex)
        if self.faults.unknown:
            found |= _UNKNOWN
        return found

    def _block(self) -> JSON:
        feedback: JSON = {"blockReason": self._blocked, "safetyRatings": _ratings()}
        if self.vertex:
            feedback["blockReasonMessage"] = "The prompt could not be submitted."
        usage = self._final
        said: JSON | None = None
        if usage is not None:
            asked = attrs.evolve(usage, text_output=0, reasoning_output=0)
            said = usage_document(asked, vertex=self.vertex, spent=(0, 0))
            del said["candidatesTokenCount"]
        return {"promptFeedback": feedback, **self._response(None, said)}

    def _response(self, candidates: list[JSON] | None, usage: JSON | None) -> JSON:
        found: JSON = {} if candidates is None else {"candidates": candidates}
        if usage is not None:
            found["usageMetadata"] = usage
        found["modelVersion"] = self.identity.model
        found["responseId"] = self.identity.id
        if self.vertex:
            found["createTime"] = datetime.fromtimestamp(self.identity.created, UTC).isoformat()
        return found | (_UNKNOWN if self.faults.unknown else {})


def _ratings() -> list[JSON]:
    category = "HARM_CATEGORY_DANGEROUS_CONTENT"
    return [{"category": category, "probability": "HIGH", "blocked": True}]


def _logprobs(given: Sequence[Mapping[str, Any]], *, vertex: bool) -> JSON:
    total = sum(each["logprob"] for each in given)
    result: JSON = {
        "chosenCandidates": [_logprob(each) for each in given],
        "topCandidates": [
            {"candidates": [_logprob(each) for each in step.get("top_logprobs") or ()]}
            for step in given
        ],
    }
    if not vertex:
        result["logProbabilitySum"] = total
    return {"avgLogprobs": total / len(given), "logprobsResult": result}


def _logprob(given: Mapping[str, Any]) -> JSON:
    token = given["token"]
    number = int.from_bytes(token.encode("utf-8", "surrogatepass")[:3], "big")
    return {"token": token, "tokenId": number, "logProbability": given["logprob"]}
