"""Anthropic's Messages API on the mock server: messages, token counts, models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, cast

import attrs

from lamella._chat import ChatRequest
from lamella._events import Event, Finish, UsageReport
from lamella._mock_rejections import Rejection
from lamella._mock_tokens import Draw, input_usage
from lamella._usage import Usage
from lamella.testing._http_framing import Reply
from lamella.testing._http_wire import Received
from lamella.testing._mock_anthropic._answers import AnswerWriter, written
from lamella.testing._mock_anthropic._cache import Cached, PromptCache
from lamella.testing._mock_anthropic._errors import (
    error_document,
    error_frame,
    rejection_document,
    request_id,
)
from lamella.testing._mock_anthropic._fields import mapping
from lamella.testing._mock_anthropic._mind import asked_events
from lamella.testing._mock_anthropic._models import model_document, models_document, no_model
from lamella.testing._mock_anthropic._pieces import Block, BlockWriter, cite
from lamella.testing._mock_anthropic._requests import VERSIONS, read_anthropic
from lamella.testing._mock_anthropic._rules import check_conversation
from lamella.testing._mock_anthropic._search import (
    Search,
    document_citation,
    search,
)
from lamella.testing._mock_dialect import Asked, MockSettings
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_replies import plain, span, streamed, whole, word_for

VERSION: Final = "anthropic-version"
BETA: Final = "anthropic-beta"
REDACT: Final = "ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING"
"""A user's message that begins so makes the model's thoughts be withheld, as it does there."""

_MODEL: Final = re.compile(r"/v1/models/(?P<name>.+)")
_RESET: Final = "2025-01-01T00:00:00Z"


@attrs.define
class MockAnthropic:
    """See the module."""

    settings: MockSettings
    _cache: PromptCache = attrs.field(init=False, factory=PromptCache)

    def speaks(self, received: Received) -> bool:
        """All about messages; of other addresses those that are asked as this API is."""
        path, headers = received.path, received.headers
        if path == "/v1/messages" or path.startswith("/v1/messages/"):
            return True
        return VERSION in headers or "x-api-key" in headers

    def model(self, received: Received, body: Any) -> str | None:
        """The model in the body."""
        told = cast("JSON", body) if isinstance(body, dict) else {}
        model = told.get("model")
        return model if isinstance(model, str) else None

    def answer(self, asked: Asked) -> tuple[Reply, float]:
        """The answer of the API that the path names."""
        received = asked.received
        self._check_key(received)
        version = _version(received)
        match received.method, received.path:
            case "POST", "/v1/messages":
                return self._message(asked, version)
            case "POST", "/v1/messages/count_tokens":
                return self._counted(asked, version), 0.0
            case "GET", "/v1/models":
                document = models_document(self.settings.models, received.query)
                return attrs.evolve(plain(document), faults=asked.faults.wire), 0.0
            case "GET", path if found := _MODEL.fullmatch(path):
                return attrs.evolve(self._model(found["name"]), faults=asked.faults.wire), 0.0
            case method, "/v1/messages" | "/v1/messages/count_tokens" | "/v1/models":
                raise Rejection(405, None, f"Method Not Allowed: {method}")
            case _:
                raise Rejection(404, "not_found", "Not Found")

    def refusal(self, rejection: Rejection, received: Received) -> Reply:
        """An error object with type and message, and the request's id."""
        return plain(rejection_document(rejection, received.index), rejection.status)

    def headers(self, received: Received) -> tuple[tuple[str, str], ...]:
        """The request's id, who asks, and the limits."""
        found = [
            ("request-id", request_id(received.index)),
            ("anthropic-organization-id", "00000000-0000-0000-0000-000000000000"),
        ]
        for name, limit, left in (
            ("requests", 10_000, 9_999),
            ("tokens", 2_400_000, 2_399_000),
            ("input-tokens", 2_000_000, 1_999_000),
            ("output-tokens", 400_000, 399_000),
        ):
            start = f"anthropic-ratelimit-{name}"
            found += [
                (f"{start}-limit", str(limit)),
                (f"{start}-remaining", str(left)),
                (f"{start}-reset", _RESET),
            ]
        return tuple(found)

    # --- messages ----------------------------------------------------------------------------

    def _message(self, asked: Asked, version: str) -> tuple[Reply, float]:
        faults, settings = asked.faults, self.settings
        told, request = self._read(asked, version)
        events, stop = asked_events(request, settings.answer, told)
        cached = self._cache.account(request)
        writer = self._writer(asked, told, request, events)
        writer = attrs.evolve(writer, stop=stop, cached=_fitting(cached, writer.usage))
        code = faults.error or "api_error"
        if told.get("stream"):
            failure = error_frame(code, asked.number)
            pause = settings.latency_per_token
            sent = list(writer.frames())
            return streamed(sent, failure, faults, pause, written=written), 0.0
        failed = error_document(code, asked.number)
        seconds = span(events, settings.latency_per_token)
        return whole(writer.document(), failed, faults), seconds

    def _writer(
        self, asked: Asked, told: JSON, request: ChatRequest, events: Sequence[Event]
    ) -> AnswerWriter:
        word = word_for(asked.number, told)
        thinking = cast("JSON", told.get("thinking") or {})
        pieces = BlockWriter(
            hidden=thinking.get("display") == "omitted", withheld=_withheld(request)
        )
        pieces.write(events)
        found = search(request, Draw.of(word)) if events else None
        reports = (event.usage for event in events if isinstance(event, UsageReport))
        finishes = (event.reason for event in events if isinstance(event, Finish))
        return AnswerWriter(
            id=word,
            model=asked.model,
            blocks=_grounded(pieces.blocks, request, found),
            reason=next(finishes, "length"),
            refusal=pieces.refusal,
            usage=next(reports, input_usage(request)),
            cached=Cached(),
            searches=0 if found is None else 1,
            speed=told.get("speed"),
            faults=asked.faults,
        )

    def _counted(self, asked: Asked, version: str) -> Reply:
        _, request = self._read(asked, version, counting=True)
        document = {"input_tokens": input_usage(request).input_tokens}
        return whole(document, error_document(asked.faults.error, asked.number), asked.faults)

    def _read(
        self, asked: Asked, version: str, *, counting: bool = False
    ) -> tuple[JSON, ChatRequest]:
        """What a body says, with the model that is meant."""
        if asked.body is None:
            raise Rejection(400, None, "The request body is not valid JSON")
        told = {**mapping(asked.body, "")}
        if asked.model:
            told["model"] = asked.model
        beta = BETA in asked.received.headers
        request = read_anthropic(told, version=version, beta=beta, counting=counting)
        check_conversation(told, version=version)
        known = self.settings.models
        if known is not None and asked.model not in known:
            raise no_model(asked.model)
        return told, request

    def _model(self, name: str) -> Reply:
        known = self.settings.models
        document = models_document(known, {"limit": "1000"})
        if name not in {each["id"] for each in document["data"]}:
            raise no_model(name)
        return plain(model_document(name))

    def _check_key(self, received: Received) -> None:
        keys = self.settings.keys
        if not keys:
            return
        scheme, _, bearer = received.headers.get("authorization", "").partition(" ")
        given = received.headers.get("x-api-key")
        if given is None and scheme.lower() != "bearer":
            raise Rejection(401, "invalid_api_key", "x-api-key header is required")
        if (bearer if given is None else given) not in keys:
            words = "invalid bearer token" if given is None else "invalid x-api-key"
            raise Rejection(401, "invalid_api_key", words)


# --- what is said -----------------------------------------------------------------------------


def _version(received: Received) -> str:
    """The version of the API that a request speaks."""
    version = received.headers.get(VERSION)
    if version is None:
        raise Rejection(400, None, f"{VERSION}: header is required")
    if version not in VERSIONS:
        raise Rejection(400, None, f'{VERSION}: "{version}" is not a valid version')
    return version


def _withheld(request: ChatRequest) -> bool:
    said = [message.text for message in request.messages if message.role == "user"]
    return bool(said) and REDACT in said[-1]


def _grounded(blocks: list[Block], request: ChatRequest, found: Search | None) -> list[Block]:
    """The blocks with a search before what is said, and with what it rests on."""
    citation = document_citation(request) if found is None else found.citation
    text = next((block for block in blocks if block.kind == "text"), None)
    if citation is not None and text is not None:
        cite(text, [citation])
    if found is None:
        return blocks
    thoughts = [block for block in blocks if block.kind.endswith("thinking")]
    return [*thoughts, *found.blocks, *[block for block in blocks if block not in thoughts]]


def _fitting(cached: Cached, usage: Usage) -> Cached:
    """What the cache did, unless an answer that was given says itself what it did."""
    if usage.cache_read or usage.cache_write:
        lives = {life or "5m": count for life, count in usage.cache_write.items()}
        return Cached(usage.cache_read, lives)
    return cached
