"""What the mock server does with each request: choose its faults, note it, answer it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from json import JSONDecodeError, loads
from typing import Any, TypeAlias, cast

import anyio
import attrs

from lamella._mock_rejections import Rejection, error_body
from lamella.testing._faults import Faults
from lamella.testing._http_framing import Reply
from lamella.testing._http_wire import Headers, Received
from lamella.testing._mock_faults import MockFaults, Script
from lamella.testing._mock_replies import CREATED, Job, Replier
from lamella.testing._mock_requests import JSON
from lamella.testing._mock_routes import (
    Place,
    check_key,
    deployment_of,
    find_place,
    is_azure,
    matching,
)
from lamella.testing._mock_sse import json_text

FAULT_HEADER = "x-mock-fault"
"""The request header that says what goes wrong with the answer."""

MODELS = ("mock", "mock-small", "mock-reasoning", "mock-embedding")
_NO_FAULTS = MockFaults()
_LIMITS = (
    ("openai-processing-ms", "1"),
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-reset-requests", "6ms"),
    ("x-ratelimit-limit-tokens", "2000000"),
    ("x-ratelimit-remaining-tokens", "1999900"),
    ("x-ratelimit-reset-tokens", "3ms"),
)

_Chosen: TypeAlias = MockFaults | ValueError | None


@attrs.frozen
class MockRequest:
    """A request as the mock server got it.

    Attributes:
        method: Such as `POST`.
        path: The path, decoded.
        query: The parameters of the address.
        headers: Its headers; their values, which may be keys, do not show in the repr.
        json: Its body read as JSON; None if it has none, or it is not JSON.
        faults: What went wrong with its answer, as a text; empty for nothing.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Headers
    json: Any = attrs.field(repr=False)
    faults: str = ""

    @property
    def model(self) -> str | None:
        """The model that its body names."""
        return _model(self.json)


@attrs.define(kw_only=True)
class MockService:
    """Answers the requests of one server.

    Attributes:
        script: The faults of each request in turn.
        rules: The same for paths that end in the key.
        keys: The keys that are accepted; empty accepts everybody.
        models: The models that there are; None accepts any name.
        latency: Seconds until an answer begins.
        replier: Makes the answers.
        requests: Where requests are noted.
        noted: Told that one has been.
    """

    script: Script
    rules: Mapping[str, Script]
    keys: Collection[str] = attrs.field(repr=False)
    models: Collection[str] | None
    latency: float
    replier: Replier
    requests: deque[MockRequest]
    noted: Callable[[], None]
    _chosen: dict[int, _Chosen] = attrs.field(init=False, factory=dict[int, _Chosen])

    def early(self, received: Received) -> Faults | None:
        """Choose the faults of a request as soon as its headers are there."""
        text = received.headers.get(FAULT_HEADER)
        rule = matching(self.rules, received.path)
        chosen: _Chosen
        if text is None:
            chosen = (self.script if rule is None else self.rules[rule]).next()
        else:
            try:
                chosen = MockFaults.of(text)
            except ValueError as error:
                chosen = error
        wire = chosen.wire if isinstance(chosen, MockFaults) else None
        if wire is not None and wire.blackhole:
            return wire  # nothing of the request will be handled
        self._chosen[received.index] = chosen
        return wire

    async def handle(self, received: Received) -> Reply:
        """Answer one request."""
        chosen = self._chosen.pop(received.index, None)
        body = _json(received.body)
        named = deployment_of(received.path) or _model(body) or ""
        try:
            faults = _aimed(chosen, named)
        except ValueError as error:
            self._note(received, body, _NO_FAULTS)
            rejection = Rejection(400, "mock_fault", str(error), FAULT_HEADER)
            return _with_headers(_error(400, rejection.body), received)
        self._note(received, body, faults)
        try:
            reply = await self._answered(received, body, faults)
        except Rejection as rejection:
            reply = _error(rejection.status, rejection.body)
        return _with_headers(reply, received)

    async def _answered(self, received: Received, body: Any, faults: MockFaults) -> Reply:
        status = faults.wire.status
        if status is not None and status >= 300:
            document = error_body(status, code=faults.error)
            return attrs.evolve(_error(status, document), faults=faults.wire)
        place = find_place(received.method, received.path, received.query)
        check_key(place, received.headers, self.keys)
        if place.api == "models":
            return attrs.evolve(self._models(place.name), faults=faults.wire)
        told = self._told(place, body)
        job = Job(place=place, body=told, number=received.index, faults=faults)
        reply, seconds = self.replier.reply(job)
        if faults.wire.body is not None:
            reply = attrs.evolve(reply, headers={"Content-Type": _kind_of(faults.wire.body)})
        if self.latency + seconds > 0:
            await anyio.sleep(self.latency + seconds)
        return reply

    def _told(self, place: Place, body: Any) -> JSON:
        """What a body says, with the model that is meant."""
        if not isinstance(body, dict):
            raise Rejection(400, None, "The body is not a JSON object.")
        told = cast("JSON", {**body})
        model = (place.name or _model(body) or "").partition(";")[0]
        if model:
            told["model"] = model
        if self.models is not None and model not in self.models:
            if place.azure:
                message = "The API deployment for this resource does not exist."
                raise Rejection(404, "DeploymentNotFound", message)
            raise _no_model(model)
        return told

    def _models(self, name: str | None) -> Reply:
        known = MODELS if self.models is None else tuple(self.models)
        if name is None:
            return _json_reply(
                {"object": "list", "data": [_model_document(each) for each in known]}
            )
        if name not in known:
            raise _no_model(name)
        return _json_reply(_model_document(name))

    def _note(self, received: Received, body: Any, faults: MockFaults) -> None:
        self.requests.append(
            MockRequest(
                received.method,
                received.path,
                received.query,
                received.headers,
                body,
                str(faults),
            )
        )
        self.noted()


def _aimed(chosen: _Chosen, named: str) -> MockFaults:
    """The faults of a request: those in its model's name count more than the others."""
    _, semicolon, text = named.partition(";")
    if semicolon:
        chosen = MockFaults.of(text)
    if isinstance(chosen, ValueError):
        raise chosen
    return chosen or _NO_FAULTS


def _json(body: bytes) -> Any:
    if not body:
        return None
    try:
        return loads(body)
    except (JSONDecodeError, UnicodeDecodeError, RecursionError):
        return None


def _model(body: Any) -> str | None:
    model = cast("Any", body).get("model") if isinstance(body, dict) else None
    return model if isinstance(model, str) else None


def _no_model(name: str) -> Rejection:
    message = f"The model {name!r} does not exist or you do not have access to it."
    return Rejection(404, "model_not_found", message, "model")


def _model_document(name: str) -> JSON:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "lamella"}


def _json_reply(document: JSON, status: int = 200) -> Reply:
    return Reply(status, {"Content-Type": "application/json"}, json_text(document).encode())


def _error(status: int, document: JSON) -> Reply:
    return _json_reply(document, status)


def _kind_of(body: bytes) -> str:
    """What a body that replaces an answer is, by its first characters."""
    start = body.lstrip(b"\xef\xbb\xbf\r\n\t ")
    if start.startswith((b"data:", b"event:", b"id:", b"retry:", b":")):
        return "text/event-stream; charset=utf-8"
    if start.startswith((b"{", b"[")):
        return "application/json"
    return "text/html" if start.startswith(b"<") else "text/plain"


def _with_headers(reply: Reply, received: Received) -> Reply:
    azure = is_azure(received.path)
    number = f"req_mock_{received.index:06}"
    named = ("apim-request-id", number) if azure else ("openai-version", "2020-10-01")
    headers = (("x-request-id", number), named, *_LIMITS, *reply.headers)
    return attrs.evolve(reply, headers=headers)
