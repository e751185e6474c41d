"""OpenAI's and Azure's APIs on the mock server: chat, Responses, embeddings, moderation, models."""

from __future__ import annotations

from json import loads
from typing import Any, cast

import attrs

from lamella._chat_answer import fold
from lamella._messages import Message
from lamella._mock_answers import embedding_events
from lamella._mock_moderation import MODERATION_MODEL, judgements
from lamella._mock_rejections import Rejection, in_band_body
from lamella._mock_tokens import input_usage
from lamella.testing._http_framing import Reply
from lamella.testing._http_wire import Received
from lamella.testing._mock_dialect import Asked, MockSettings
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_openai import _chat as chat
from lamella.testing._mock_openai import _responses as responses
from lamella.testing._mock_openai._azure import filtered_document, filtered_frames
from lamella.testing._mock_openai._batches import Batches
from lamella.testing._mock_openai._embeddings import embeddings_document
from lamella.testing._mock_openai._moderation import moderation_document, moderation_request
from lamella.testing._mock_openai._requests import (
    JSON,
    chat_request,
    count_request,
    embedding_request,
    responses_request,
)
from lamella.testing._mock_openai._routes import (
    Place,
    check_key,
    deployment_of,
    find_place,
    is_azure,
)
from lamella.testing._mock_replies import (
    CREATED,
    answer_events,
    plain,
    span,
    streamed,
    whole,
    word_for,
)

KEPT = 1_000
"""How many conversations are kept for `previous_response_id`."""

MODELS = ("mock", "mock-small", "mock-reasoning", "mock-embedding")

_UNNAMED = {"token_count": MODELS[0], "moderation": "omni-moderation-latest"}
"""The models of APIs whose requests need not name one."""

_BATCHED = ("/v1/files", "/v1/batches")
_PLAIN = Place("models")
"""Whose keys files and batches take."""

_LIMITS = (
    ("openai-processing-ms", "1"),
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-reset-requests", "6ms"),
    ("x-ratelimit-limit-tokens", "2000000"),
    ("x-ratelimit-remaining-tokens", "1999900"),
    ("x-ratelimit-reset-tokens", "3ms"),
)


@attrs.define
class MockOpenAI:
    """See the module; it also answers where nobody else does."""

    settings: MockSettings
    _kept: dict[str, list[Message]] = attrs.field(init=False, factory=dict[str, list[Message]])
    _batches: Batches = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._batches = Batches(self.settings.batches, self._line)

    def speaks(self, received: Received) -> bool:
        """Every address that is nobody else's, so that a wrong one is told in these words."""
        return True

    def model(self, received: Received, body: Any) -> str | None:
        """The deployment in the path, or the model in the body."""
        return deployment_of(received.path) or _model(body)

    def answer(self, asked: Asked) -> tuple[Reply, float]:
        """The answer of the API that the path names."""
        received = asked.received
        if received.path.startswith(_BATCHED):
            check_key(_PLAIN, received.headers, self.settings.keys)
            found = self._batches.reply(received, asked.body)
            if found is not None:
                return attrs.evolve(found, faults=asked.faults.wire), 0.0
        place = find_place(received.method, received.path, received.query)
        check_key(place, received.headers, self.settings.keys)
        if place.api == "models":
            return attrs.evolve(self._models(place.name), faults=asked.faults.wire), 0.0
        told = self._told(place, asked)
        match place.api:
            case "chat":
                return self._chat(place, told, asked)
            case "responses":
                return self._responses(told, asked)
            case "token_count":
                return self._token_count(told, asked), 0.0
            case "moderation":
                return self._moderation(told, asked), 0.0
            case _:
                return self._embeddings(told, asked), 0.0

    def refusal(self, rejection: Rejection, received: Received) -> Reply:
        """An error object with message, type, param and code."""
        return plain(rejection.body, rejection.status)

    def headers(self, received: Received) -> tuple[tuple[str, str], ...]:
        """The request's id, the limits, and who answers."""
        number = f"req_mock_{received.index:06}"
        azure = is_azure(received.path)
        named = ("apim-request-id", number) if azure else ("openai-version", "2020-10-01")
        return (("x-request-id", number), named, *_LIMITS)

    def _line(self, received: Received, path: str, body: JSON) -> tuple[int, Any]:
        """The status and the body of the answer to one line of a batch."""
        name, _, text = str(body.get("model") or "").partition(";")
        faults = MockFaults.of(text) or MockFaults()
        one = attrs.evolve(received, method="POST", path=path)
        try:
            status = faults.wire.status
            if status is not None and status >= 300:
                raise Rejection(status, faults.error, "")
            reply, _ = self.answer(Asked(received=one, body=body, model=name, faults=faults))
        except Rejection as rejection:
            return rejection.status, rejection.body
        assert isinstance(reply.body, bytes)  # noqa: S101 - batches have no streams
        return reply.status, loads(reply.body)

    # --- the APIs ----------------------------------------------------------------------------

    def _chat(self, place: Place, told: JSON, asked: Asked) -> tuple[Reply, float]:
        faults, settings = asked.faults, self.settings
        request = chat_request(told)
        events = answer_events(request, settings.answer)
        writer = chat.ChatWriter(
            _identity(told, asked), events, faults, settings.reasoning_field, request.service_tier
        )
        code = faults.error or "server_error"
        if not told.get("stream"):
            document = writer.document()
            said = filtered_document(document) if place.azure else document
            reply = whole(said, in_band_body(code), faults)
            return reply, span(events, settings.latency_per_token)
        options: JSON = told.get("stream_options") or {}
        frames = writer.frames(include_usage=bool(options.get("include_usage")))
        sent = list(filtered_frames(frames) if place.azure else frames)
        failure = chat.error_frame(code)
        return streamed(sent, failure, faults, settings.latency_per_token), 0.0

    def _responses(self, told: JSON, asked: Asked) -> tuple[Reply, float]:
        faults, settings = asked.faults, self.settings
        request = responses_request(told, self._kept.get)
        events = answer_events(request, settings.answer)
        identity = _identity(told, asked)
        writer = responses.ResponseWriter(identity, told, events, faults)
        if told.get("store") is not False:
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            # Instructions hold for one request only, so that they are no part of what is kept.
            before = [each for each in request.messages if each.role != "system"]
            self._kept[f"resp_{identity.id}"] = [*before, *fold(events).messages]
        code, place = faults.error or "server_error", faults.failing_event or 0
        if not told.get("stream"):
            reply = whole(writer.document, in_band_body(code), faults)
            return reply, span(events, settings.latency_per_token)
        failure = responses.error_frame(code, place)
        return streamed(writer.frames, failure, faults, settings.latency_per_token), 0.0

    def _token_count(self, told: JSON, asked: Asked) -> Reply:
        request = count_request(told, self._kept.get)
        document = {
            "object": "response.input_tokens",
            "input_tokens": input_usage(request).input_tokens,
        }
        return whole(document, in_band_body(asked.faults.error or "server_error"), asked.faults)

    def _embeddings(self, told: JSON, asked: Asked) -> Reply:
        request = embedding_request(told)
        events = embedding_events(request)
        packed = told.get("encoding_format") == "base64"
        model = _identity(told, asked).model
        document = embeddings_document(model, events, asked.faults, packed=packed)
        return whole(document, in_band_body(asked.faults.error or "server_error"), asked.faults)

    def _moderation(self, told: JSON, asked: Asked) -> Reply:
        events = judgements(moderation_request(told))
        document = moderation_document(_identity(told, asked), events)
        return whole(document, in_band_body(asked.faults.error or "server_error"), asked.faults)

    def _told(self, place: Place, asked: Asked) -> JSON:
        """What a body says, with the model that is meant."""
        body: object = asked.body
        if not isinstance(body, dict):
            raise Rejection(400, None, "The body is not a JSON object.")
        told: JSON = {**cast("JSON", body)}
        if asked.model:
            told["model"] = asked.model
        elif place.api in _UNNAMED:
            told["model"] = _UNNAMED[place.api]
            return told
        known = self.settings.models
        if known is not None and asked.model not in known:
            if place.azure:
                message = "The API deployment for this resource does not exist."
                raise Rejection(404, "DeploymentNotFound", message)
            raise _no_model(asked.model)
        return told

    def _models(self, name: str | None) -> Reply:
        given = self.settings.models
        known = (*MODELS, MODERATION_MODEL) if given is None else tuple(given)
        if name is None:
            return plain({"object": "list", "data": [_model_document(each) for each in known]})
        if name not in known:
            raise _no_model(name)
        return plain(_model_document(name))


def _identity(told: JSON, asked: Asked) -> chat.Identity:
    return chat.Identity(word_for(asked.number, told), str(told.get("model", "")), CREATED)


def _model(body: Any) -> str | None:
    model = cast("Any", body).get("model") if isinstance(body, dict) else None
    return model if isinstance(model, str) else None


def _no_model(name: str) -> Rejection:
    message = f"The model {name!r} does not exist or you do not have access to it."
    return Rejection(404, "model_not_found", message, "model")


def _model_document(name: str) -> JSON:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "lamella"}
