"""From a request's body to the reply: the API's words, with what goes wrong worked into them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import attrs

from lamella._chat import ChatRequest
from lamella._chat_answer import fold
from lamella._events import Event, UsageReport
from lamella._messages import Message
from lamella._mock_answers import Answer, chat_events, embedding_events
from lamella._mock_rejections import Rejection, in_band_body
from lamella._mock_tokens import Draw
from lamella.testing import _mock_chat as chat
from lamella.testing import _mock_responses as responses
from lamella.testing._http_framing import Reply
from lamella.testing._mock_azure import filtered_document, filtered_frames
from lamella.testing._mock_embeddings import embeddings_document
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_requests import JSON, chat_request, embedding_request, responses_request
from lamella.testing._mock_routes import Place
from lamella.testing._mock_sse import Frame, json_text, render, reset_place

CREATED = 1_735_689_600
"""The instant that answers state: the beginning of 2025, so that they are always the same."""

KEPT = 1_000
"""How many conversations are kept for `previous_response_id`."""


@attrs.frozen(kw_only=True)
class Job:
    """One request to be answered.

    Attributes:
        place: Where it went.
        body: What it says; the model's name in it is the effective one.
        number: Which request it is, from 0.
        faults: What goes wrong with its answer.
    """

    place: Place
    body: JSON
    number: int
    faults: MockFaults


@attrs.define
class Replier:
    """Answers the requests of all APIs.

    Attributes:
        answer: Asked first for what to say.
        latency_per_token: Seconds before each token but the first.
        reasoning_field: Where the chat API puts reasoning.
    """

    answer: Answer | None
    latency_per_token: float
    reasoning_field: str | None
    _kept: dict[str, list[Message]] = attrs.field(init=False, factory=dict[str, list[Message]])

    def reply(self, job: Job) -> tuple[Reply, float]:
        """The answer, and the seconds that its making takes besides the latency.

        Raises:
            Rejection: If a provider would not accept the request.
        """
        match job.place.api:
            case "chat":
                return self._chat(job)
            case "responses":
                return self._responses(job)
            case _:
                return self._embeddings(job), 0.0

    def _chat(self, job: Job) -> tuple[Reply, float]:
        request = chat_request(job.body)
        events = self._events(request)
        writer = chat.ChatWriter(
            _identity(job), events, job.faults, self.reasoning_field, request.service_tier
        )
        if not job.body.get("stream"):
            document = writer.document()
            whole = filtered_document(document) if job.place.azure else document
            return _whole(whole, job.faults), self._span(events)
        options: JSON = job.body.get("stream_options") or {}
        frames = writer.frames(include_usage=bool(options.get("include_usage")))
        told = list(filtered_frames(frames) if job.place.azure else frames)
        code = job.faults.error or "server_error"
        return self._streamed(told, chat.error_frame(code), job.faults), 0.0

    def _responses(self, job: Job) -> tuple[Reply, float]:
        request = responses_request(job.body, self._kept.get)
        events = self._events(request)
        identity = _identity(job)
        writer = responses.ResponseWriter(identity, job.body, events, job.faults)
        if job.body.get("store") is not False:
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            # Instructions hold for one request only, so that they are no part of what is kept.
            told = [each for each in request.messages if each.role != "system"]
            self._kept[f"resp_{identity.id}"] = [*told, *fold(events).messages]
        if not job.body.get("stream"):
            return _whole(writer.document, job.faults), self._span(events)
        code, place = job.faults.error or "server_error", job.faults.failing_event or 0
        failure = responses.error_frame(code, place)
        return self._streamed(writer.frames, failure, job.faults), 0.0

    def _embeddings(self, job: Job) -> Reply:
        request = embedding_request(job.body)
        events = embedding_events(request)
        packed = job.body.get("encoding_format") == "base64"
        model = _identity(job).model
        return _whole(embeddings_document(model, events, job.faults, packed=packed), job.faults)

    def _events(self, request: ChatRequest) -> tuple[Event, ...]:
        if request.model == "mock-embedding":
            message = "This is not a chat model and thus not supported by this API."
            raise Rejection(404, "model_not_found", message, "model")
        return chat_events(request, self.answer)

    def _span(self, events: Sequence[Event]) -> float:
        usage = next((each.usage for each in events if isinstance(each, UsageReport)), None)
        tokens = 0 if usage is None else usage.output_tokens
        return max(tokens - 1, 0) * self.latency_per_token

    def _streamed(self, frames: Sequence[Frame], failure: Frame, faults: MockFaults) -> Reply:
        told = list(frames)
        if (failing := faults.failing_event) is not None:
            told = [*islice(told, failing), failure]
        if faults.truncate is not None:
            told = told[: faults.truncate]
        chunks = render(told, faults, self.latency_per_token)
        wire = faults.wire
        if faults.reset is not None:
            wire = attrs.evolve(wire, reset_at=reset_place(chunks, faults.reset))
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        return Reply(200, headers, chunks, wire)


def _identity(job: Job) -> chat.Identity:
    """What the answer is called: the same for the same request at the same place in a run."""
    word = Draw.of(job.number, job.body).word("answer")
    return chat.Identity(word, str(job.body.get("model", "")), CREATED)


def _whole(document: JSON, faults: MockFaults) -> Reply:
    """An answer that is not streamed; what would cut a stream cuts it in its middle."""
    if faults.failing_event is not None:
        document = in_band_body(faults.error or "server_error")
    body = json_text(document).encode()
    wire, middle = faults.wire, len(body) // 2
    if faults.truncate is not None:
        wire = attrs.evolve(wire, limit_data=middle if faults.truncate else 0)
    if faults.reset is not None:
        wire = attrs.evolve(wire, reset_at=middle if faults.reset else 0)
    return Reply(200, {"Content-Type": "application/json"}, body, wire)
