"""Ollama's own API on the mock server: chat, generate, embed, and its models.

What it has that others have not: answers are streamed unless a request says otherwise, as lines of
JSON; and a prompt that is longer than the model's window (`options.num_ctx`, 4,096 tokens if nobody
says) is cut without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import attrs

from lamella._chat import ChatRequest
from lamella._chat_answer import fold
from lamella._events import Event
from lamella._mock_rejections import Rejection
from lamella.testing._http_framing import Reply
from lamella.testing._http_wire import Received
from lamella.testing._mock_dialect import Asked, MockSettings
from lamella.testing._mock_ollama._answers import (
    CREATED_AT,
    NDJSON,
    OllamaWriter,
    failure,
    lines_of_json,
)
from lamella.testing._mock_ollama._embeddings import (
    embed_document,
    embedding_window,
    old_document,
)
from lamella.testing._mock_ollama._fields import field, span, typed
from lamella.testing._mock_ollama._models import (
    Memory,
    capabilities,
    is_known,
    show_document,
    tagged,
    tags_document,
)
from lamella.testing._mock_ollama._options import window_of
from lamella.testing._mock_ollama._requests import (
    plain_name,
    read_ollama,
    read_ollama_prompt,
    to_context,
)
from lamella.testing._mock_ollama._window import seen
from lamella.testing._mock_openai._dialect import MODELS
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_replies import answer_events, plain, streamed, whole
from lamella.testing._mock_replies import span as writing
from lamella.testing._mock_sse import Frame, json_text

VERSION = "0.33.0"
"""The version of the server whose behaviour this is."""

_JSON = (("Content-Type", "application/json; charset=utf-8"),)
_TEXT = (("Content-Type", "text/plain"),)
_NO_ADDRESS = "no_such_address"
_OF_EVENTS: tuple[str, ...] = ("pings", "ids", "bom", "no_space", "multiline")
_UNCHANGED = ("pull", "push", "create", "copy", "delete", "blobs")
_USUAL = {
    401: "unauthorized",
    429: "too many requests",
    503: "server busy, please try again.  maximum pending requests exceeded",
}


@attrs.define
class MockOllama:
    """See the module."""

    settings: MockSettings
    _memory: Memory = attrs.field(init=False, factory=Memory)

    def speaks(self, received: Received) -> bool:
        """Everything under `/api`."""
        return received.path.startswith("/api/")

    def model(self, received: Received, body: Any) -> str | None:
        """The model in the body, under its name of today or the one of before."""
        told = cast("JSON", body) if isinstance(body, dict) else {}
        found = told.get("model") or told.get("name")
        return found if isinstance(found, str) else None

    def answer(self, asked: Asked) -> tuple[Reply, float]:
        """The answer of the endpoint that the path names."""
        received = asked.received
        found = self._endpoint(received)
        self._check_key(received)
        _check_faults(asked)
        if found is None:
            message = "The mock provider's models cannot be changed."
            raise Rejection(501, None, message)
        reply, seconds = found(asked)
        kind = _JSON if isinstance(reply.body, bytes) else reply.headers
        return attrs.evolve(reply, headers=kind), seconds

    def refusal(self, rejection: Rejection, received: Received) -> Reply:
        """An object with `error`, a sentence; a wrong address is told in plain text."""
        if rejection.code == _NO_ADDRESS:
            return Reply(rejection.status, _TEXT, rejection.message.encode())
        usual = _USUAL.get(rejection.status) or rejection.body["error"]["message"]
        body = json_text({"error": rejection.message or usual}).encode()
        return Reply(rejection.status, _JSON, body)

    def headers(self, received: Received) -> tuple[tuple[str, str], ...]:
        """None: this API has neither ids of requests nor limits."""
        return ()

    # --- addresses ---------------------------------------------------------------------------

    def _endpoint(self, received: Received) -> Callable[[Asked], tuple[Reply, float]] | None:
        """Who answers; None for what this server does not do."""
        name = received.path.removeprefix("/api/")
        if name.partition("/")[0] in _UNCHANGED:
            return None
        found: dict[str, tuple[str, Callable[[Asked], tuple[Reply, float]]]] = {
            "chat": ("POST", self._chat),
            "generate": ("POST", self._generate),
            "embed": ("POST", self._embed),
            "embeddings": ("POST", self._embed),
            "show": ("POST", self._show),
            "tags": ("GET", self._tags),
            "ps": ("GET", lambda _: (plain(self._memory.document()), 0.0)),
            "version": ("GET", lambda _: (plain({"version": VERSION}), 0.0)),
        }
        if name not in found:
            raise Rejection(404, _NO_ADDRESS, "404 page not found")
        method, endpoint = found[name]
        if received.method not in {method, "HEAD" if method == "GET" else method}:
            raise Rejection(405, _NO_ADDRESS, "405 method not allowed")
        return endpoint

    def _check_key(self, received: Received) -> None:
        scheme, _, given = received.headers.get("authorization", "").partition(" ")
        if self.settings.keys and not (scheme.lower() == "bearer" and given in self.settings.keys):
            raise Rejection(401, "invalid_api_key", "unauthorized")

    # --- what is asked -----------------------------------------------------------------------

    def _chat(self, asked: Asked) -> tuple[Reply, float]:
        told = self._told(asked)
        request = read_ollama(told)
        return self._said(asked, told, request, loads=not request.messages)

    def _generate(self, asked: Asked) -> tuple[Reply, float]:
        told = self._told(asked)
        request = read_ollama_prompt(told)
        return self._said(asked, told, request, loads=not told.get("prompt"))

    def _said(
        self, asked: Asked, told: JSON, request: ChatRequest, *, loads: bool
    ) -> tuple[Reply, float]:
        """The answer to a conversation; one that asks nothing only loads the model, or drops it."""
        chat, model = asked.received.path == "/api/chat", tagged(asked.model)
        keep = span(told.get("keep_alive"))
        stream = field(told, "stream", "bool", "ChatRequest") is not False
        if loads and keep == 0:
            self._memory.drop(model)
            return plain(_nothing(asked.model, "unload", chat=chat)), 0.0
        _must_be_able(request, asked.model, "chat" if chat else "generate")
        self._memory.use(model, window_of(request), keep)
        if loads:
            return plain(_nothing(asked.model, "load", chat=chat)), 0.0
        pause, faults = self.settings.latency_per_token, asked.faults
        events = answer_events(seen(request), self.settings.answer)
        writer = OllamaWriter(
            model=asked.model,
            events=events,
            faults=faults,
            chat=chat,
            context=() if chat or told.get("raw") else _context(request, events),
            pause=pause,
        )
        failed = failure(faults.error or "server_error")
        if not stream:
            return whole(writer.document(), failed, faults), writing(events, pause)
        end = Frame(json_text(failed))
        sent = streamed(writer.frames(), end, faults, pause, kind=NDJSON, written=lines_of_json)
        return sent, 0.0

    def _embed(self, asked: Asked) -> tuple[Reply, float]:
        told = self._told(asked, "model {} not found, try pulling it first", '"')
        self._memory.use(tagged(asked.model), embedding_window(told), span(told.get("keep_alive")))
        failed = failure(asked.faults.error or "server_error")
        old = asked.received.path == "/api/embeddings"
        document = old_document(told) if old else embed_document(told, asked.faults)
        return whole(document, failed, asked.faults), 0.0

    def _tags(self, asked: Asked) -> tuple[Reply, float]:
        known = self.settings.models
        return plain(tags_document(MODELS if known is None else tuple(known))), 0.0

    def _show(self, asked: Asked) -> tuple[Reply, float]:
        self._told(asked)
        return plain(show_document(plain_name(asked.model))), 0.0

    def _told(self, asked: Asked, missing: str = "model {} not found", quote: str = "'") -> JSON:
        """What a body says, of a model that there is."""
        if not asked.received.body:
            raise Rejection(400, None, "missing request body")
        if asked.body is None:
            raise Rejection(400, None, "invalid character: the body is not JSON")
        typed(asked.body, "object", "Request")
        told: JSON = {**asked.body, "model": asked.model}
        if not asked.model:
            raise Rejection(400, None, "model is required", "model")
        if not is_known(asked.model, self.settings.models):
            name = f"{quote}{asked.model}{quote}"
            raise Rejection(404, "model_not_found", missing.format(name), "model")
        return told


def _check_faults(asked: Asked) -> None:
    """Refuse what could only be said in server-sent events."""
    faults = asked.faults
    worded = ("pings", "ids", "bom", "no_space", "multiline")
    names: list[str] = [name for name in worded if name in faults.active()]
    if faults.line_end == "cr":
        names.append("line_end=cr")
    if names:
        message = f"Ollama's API has lines of JSON, in which {', '.join(names)} means nothing."
        raise Rejection(400, "mock_fault", message)


def _must_be_able(request: ChatRequest, model: str, what: str) -> None:
    able = capabilities(plain_name(model))
    if "completion" not in able:
        raise Rejection(400, None, f'"{model}" does not support {what}')
    if request.reasoning_effort not in {None, "none"} and "thinking" not in able:
        raise Rejection(400, None, f'"{model}" does not support thinking', "think")


def _nothing(model: str, reason: str, *, chat: bool) -> JSON:
    said: JSON = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
    return {"model": model, "created_at": CREATED_AT, **said, "done": True, "done_reason": reason}


def _context(request: ChatRequest, events: Sequence[Event]) -> list[int]:
    return to_context([*request.messages, *fold(events).messages])
