"""What the mock server does with each request: choose its faults, note it, answer it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from json import JSONDecodeError, loads
from typing import Any, TypeAlias, cast

import anyio
import attrs

from lamella._mock_rejections import Rejection
from lamella.testing._faults import Faults
from lamella.testing._http_framing import Reply
from lamella.testing._http_wire import Headers, Received
from lamella.testing._mock_dialect import Asked, MockDialect
from lamella.testing._mock_faults import MockFaults, Script
from lamella.testing._mock_openai._routes import matching

FAULT_HEADER = "x-mock-fault"
"""The request header that says what goes wrong with the answer."""

_NO_FAULTS = MockFaults()

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
        latency: Seconds until an answer begins.
        dialects: The APIs that it speaks; the last one answers where no other does.
        requests: Where requests are noted.
        noted: Told that one has been.
    """

    script: Script
    rules: Mapping[str, Script]
    latency: float
    dialects: Sequence[MockDialect]
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
        dialect = next(each for each in self.dialects if each.speaks(received))
        named = dialect.model(received, body) or ""
        try:
            faults = _aimed(chosen, named)
        except ValueError as error:
            self._note(received, body, _NO_FAULTS)
            rejection = Rejection(400, "mock_fault", str(error), FAULT_HEADER)
            return _with_headers(dialect.refusal(rejection, received), dialect, received)
        self._note(received, body, faults)
        model = named.partition(";")[0]
        asked = Asked(received=received, body=body, model=model, faults=faults)
        try:
            reply = await self._answered(dialect, asked)
        except Rejection as rejection:
            reply = dialect.refusal(rejection, received)
        return _with_headers(reply, dialect, received)

    async def _answered(self, dialect: MockDialect, asked: Asked) -> Reply:
        faults = asked.faults
        status = faults.wire.status
        if status is not None and status >= 300:
            wait = Headers(faults.wire.headers).get("retry-after")
            rejection = Rejection(status, faults.error, "", retry_after=wait)
            refused = dialect.refusal(rejection, asked.received)
            return attrs.evolve(refused, faults=faults.wire)
        reply, seconds = dialect.answer(asked)
        if faults.wire.body is not None:
            reply = attrs.evolve(reply, headers={"Content-Type": _kind_of(faults.wire.body)})
        if self.latency + seconds > 0:
            await anyio.sleep(self.latency + seconds)
        return reply

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


def _kind_of(body: bytes) -> str:
    """What a body that replaces an answer is, by its first characters."""
    start = body.lstrip(b"\xef\xbb\xbf\r\n\t ")
    if start.startswith((b"data:", b"event:", b"id:", b"retry:", b":")):
        return "text/event-stream; charset=utf-8"
    if start.startswith((b"{", b"[")):
        return "application/json"
    return "text/html" if start.startswith(b"<") else "text/plain"


def _with_headers(reply: Reply, dialect: MockDialect, received: Received) -> Reply:
    return attrs.evolve(reply, headers=(*dialect.headers(received), *reply.headers))
