"""Google's Gemini API on the mock server, as AI Studio and as Vertex AI speak it."""

from __future__ import annotations

from typing import Any

import attrs

from lamella._mock_rejections import Rejection
from lamella._mock_tokens import input_usage
from lamella.testing._http_framing import Reply
from lamella.testing._http_wire import Received
from lamella.testing._mock_dialect import Asked, MockSettings
from lamella.testing._mock_google._answers import GoogleWriter
from lamella.testing._mock_google._embeddings import embeddings_document
from lamella.testing._mock_google._errors import error_body, in_band_body
from lamella.testing._mock_google._json import read_message
from lamella.testing._mock_google._models import models_document
from lamella.testing._mock_google._requests import (
    answerable,
    check_google,
    read_google,
    thoughts_shown,
)
from lamella.testing._mock_google._routes import (
    Place,
    check_key,
    find_place,
    is_google,
    model_of,
)
from lamella.testing._mock_google._streams import (
    ARRAY,
    EVENTS,
    array_written,
    as_array,
    error_frame,
    events_written,
)
from lamella.testing._mock_google._turns import check_contents
from lamella.testing._mock_google._usage import prompt_details
from lamella.testing._mock_openai._chat import Identity
from lamella.testing._mock_openai._dialect import MODELS
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_replies import (
    CREATED,
    answer_events,
    plain,
    span,
    streamed,
    whole,
    word_for,
)


@attrs.frozen
class MockGoogle:
    """See the module."""

    settings: MockSettings

    def speaks(self, received: Received) -> bool:
        """What begins as Google's addresses do, and the list of models for Google's clients."""
        return is_google(received)

    def model(self, received: Received, body: Any) -> str | None:
        """The model in the path."""
        return model_of(received)

    def answer(self, asked: Asked) -> tuple[Reply, float]:
        """The answer of the method that the path names."""
        place = find_place(asked.received)
        check_key(place, asked.received, self.settings.keys)
        faults, known = asked.faults, self.settings.models
        if place.method == "models":
            document = models_document(place, asked.received.query, known or MODELS)
            return attrs.evolve(plain(document), faults=faults.wire), 0.0
        if known is not None and asked.model not in known:
            raise Rejection(404, "model_not_found", "")
        failure = in_band_body(faults.error or "INTERNAL")
        match place.method:
            case "generateContent" | "streamGenerateContent":
                return self._generated(place, asked, failure)
            case "countTokens":
                return whole(_counted(place, asked), failure, faults), 0.0
            case _:
                document = embeddings_document(place, asked.body, faults)
                return whole(document, failure, faults), 0.0

    def refusal(self, rejection: Rejection, received: Received) -> Reply:
        """A `google.rpc.Status`, in a list where the answer would have been an array."""
        try:
            place = find_place(received)
        except Rejection:
            place = None
        body = error_body(rejection, place)
        return plain([body] if place is not None and place.array else body, rejection.status)

    def headers(self, received: Received) -> tuple[tuple[str, str], ...]:
        """What Google's servers say of themselves. There is no id: that is in the answer."""
        return (
            ("Server", "scaffolding on HTTPServer2"),
            ("Server-Timing", "gfet4t7; dur=1"),
            ("Vary", "Origin, X-Origin, Referer"),
            ("X-Content-Type-Options", "nosniff"),
        )

    def _generated(self, place: Place, asked: Asked, failure: JSON) -> tuple[Reply, float]:
        faults, pause = asked.faults, self.settings.latency_per_token
        model = asked.model
        given = check_google(asked.body, model=model, vertex=place.vertex)
        request = read_google(asked.body, model=model, vertex=place.vertex)
        events = answer_events(answerable(request), self.settings.answer)
        identity = Identity(word_for(asked.number, asked.body), model, CREATED)
        shown = thoughts_shown(given)
        writer = GoogleWriter(identity, events, faults, place.vertex, shown)
        if place.method == "generateContent":
            return whole(writer.document(), failure, faults), span(events, pause)
        frames, ping = list(writer.frames()), writer.ping()
        if place.array:
            sent, kind, written = as_array(frames, faults), ARRAY, array_written(ping)
        else:
            sent, kind, written = frames, EVENTS, events_written(ping)
        error = error_frame(failure)
        return streamed(sent, error, faults, pause, kind=kind, written=written), 0.0


def _counted(place: Place, asked: Asked) -> JSON:
    """How many tokens a conversation has."""
    given = read_message(asked.body, "CountTokensRequest", vertex=place.vertex)
    inner = given.pop("generateContentRequest", None)
    if inner is not None and given.get("contents"):
        message = "Only one of contents and generateContentRequest may be set."
        raise Rejection(400, None, message, "generate_content_request")
    prompt: JSON = given if inner is None else inner
    if inner is not None and str(inner.get("model", "")).partition(";")[0] != place.resource:
        message = f"generateContentRequest.model is {place.resource!r}, as in the address."
        raise Rejection(400, None, message, "generate_content_request.model")
    check_contents(prompt.get("contents") or [], seals_needed=False)
    request = read_google(prompt, model=asked.model, vertex=place.vertex)
    usage = input_usage(request)
    found: JSON = {"totalTokens": usage.input_tokens, "promptTokensDetails": prompt_details(usage)}
    if place.vertex:
        texts = "".join([message.text for message in request.messages])
        found["totalBillableCharacters"] = len("".join(texts.split()))
    return found
