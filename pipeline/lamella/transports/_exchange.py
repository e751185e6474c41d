"""One request and its answer over the HTTP port, in any dialect.

The provider may answer a request for a stream with a complete answer, and one for a complete answer
with a stream; the content type says which came. Whatever goes wrong, the reply is closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar

import anyio
import attrs
import msgspec

from lamella._begin import begin
from lamella._closing import CLEANUP_SECONDS
from lamella._errors import AuthenticationError, LamellaError, MisuseError, ProtocolError
from lamella._events import Finish
from lamella._making import unfrozen
from lamella._requests import Request
from lamella._responses import NO_HEAD, Head, Response
from lamella.transports._dialect import (
    DEFAULT_OPTIONS,
    BaseDialect,
    Dialect,
    DialectOptions,
    Headers,
)
from lamella.transports._headers import headers_beside
from lamella.transports._http import HTTPClient, HTTPReply, HTTPRequest
from lamella.transports._http_errors import request_id
from lamella.transports._stable_tools import with_written
from lamella.transports._stated_bills import learned_by, served_as
from lamella.transports._stream_source import StreamSource, read_all, read_some, whole_of

R = TypeVar("R", bound=Response)

Authorize: TypeAlias = Callable[[HTTPRequest], Awaitable[HTTPRequest]]
"""Gives a request what proves who sends it: a key's header, or a signature over all of it."""

ERROR_BYTES = 64 * 1024
ERROR_SECONDS = 5.0
"""How much of an error's body is read, and for how long."""

_KEPT = ("x-ratelimit-", "anthropic-ratelimit-", "ratelimit-")
_KEPT_NAMES = frozenset(
    {
        "x-request-id",
        "request-id",
        "apim-request-id",
        "x-ms-request-id",
        "x-amzn-requestid",
        "cf-ray",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "openai-processing-ms",
        "openai-version",
        "x-ms-region",
        "x-amzn-bedrock-invocation-latency",
        "anthropic-organization-id",
        "server-timing",
        "date",
    }
)


def _prepared(make: Callable[[Exchange], Any]) -> Any:
    return attrs.field(init=False, repr=False, default=attrs.Factory(make, takes_self=True))


def _known_of(exchange: Exchange) -> Callable[[], Headers | None] | None:
    return getattr(exchange.authorize, "known", None)


def _own_headers_of(exchange: Exchange) -> Callable[[Any], Headers] | None:
    headers = exchange.dialect.headers
    return None if getattr(headers, "__func__", None) is BaseDialect.headers else headers


def _for_whole(exchange: Exchange) -> Headers:
    return (*exchange.headers, *_WHOLE)


def _for_stream(exchange: Exchange) -> Headers:
    accepted = (b"Accept", exchange.dialect.stream_type.encode())
    return (*exchange.headers, accepted, _AS_IT_COMES)


@attrs.frozen(kw_only=True)
class Asked:
    """What one request has of its own on its way.

    Attributes:
        url: Where it goes.
        options: The endpoint's quirks, as they hold for it.
        stream: Whether the answer is asked for as a stream.
        headers: Headers beside those of every request.
    """

    url: str
    options: DialectOptions = DEFAULT_OPTIONS
    stream: bool = False
    headers: Headers = attrs.field(default=(), repr=False)


@attrs.frozen(kw_only=True, eq=False)
class Exchange:
    """What the requests of one dialect over HTTP have in common, prepared once.

    Attributes:
        client: The HTTP port.
        provider: The transport's name, for errors and the answer's head.
        dialect: Writes the request and reads the answer.
        authorize: Adds what proves who sends it. It may have a method `known`, which gives the
            headers for that where nothing has to be awaited, and None otherwise.
        headers: What else goes with each: content type, user agent.
        max_message_bytes: The bound on one message of a stream.
    """

    client: HTTPClient
    provider: str
    dialect: Dialect
    authorize: Authorize = attrs.field(repr=False)
    max_message_bytes: int
    headers: Headers = attrs.field(default=(), repr=False)
    _known: Callable[[], Headers | None] | None = _prepared(_known_of)
    _own_headers: Callable[[Any], Headers] | None = _prepared(_own_headers_of)
    _whole: Headers = _prepared(_for_whole)
    _streamed_headers: Headers = _prepared(_for_stream)
    _joined: dict[bool, tuple[Headers, Headers]] = attrs.field(
        init=False, repr=False, factory=dict[bool, tuple[Headers, Headers]]
    )

    async def run(self, request: Request[R], asked: Asked) -> R:
        """Send a request; its response, complete or open.

        Args:
            request: What is asked, begun by a pipeline.
            asked: Where it goes, and how.

        Raises:
            LamellaError: Whatever goes wrong before the answer is committed.
        """
        attempt = request.context.attempt
        body = encoded_json(
            self.dialect.encode(request, stream=asked.stream, options=asked.options)
        )
        if attempt is not None:
            attempt.url = asked.url
        sent = self._ready(request, asked, body)
        if sent is None:
            sent = await self._authorized(request, self._draft(request, asked, body, ()))
        if attempt is not None and attempt.headers:
            # After signing: proxies on the way may change such headers, so they go unsigned.
            sent = sent.with_headers(headers_beside(sent.headers, attempt.headers))
        try:
            reply = await self.client.send(sent)
            try:
                return await self._answer(request, reply)
            except BaseException:
                with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                    await reply.aclose()
                raise
        except AuthenticationError:
            await self._have_key_renewed(request, sent)
            raise

    async def _have_key_renewed(self, request: Request[R], sent: HTTPRequest) -> None:
        """Ask for another key, if this attempt may; if there is one, another attempt follows."""
        renewed = getattr(self.authorize, "renewed", None)
        attempt = request.context.attempt
        if renewed is None or attempt is None or not attempt.may_renew:
            return
        attempt.preparing = True
        # Whatever is wrong with the source, the provider's word is what the caller has to know.
        with suppress(LamellaError):
            attempt.key_renewed = await renewed(sent)
        attempt.preparing = False
        if attempt.key_renewed:
            request.context.note(self.provider, "key.renewed", provider=self.provider)

    def _ready(self, request: Request[Any], asked: Asked, body: bytes) -> HTTPRequest | None:
        """The request with the key in it, where that is known; None where it has to be awaited."""
        known = None if self._known is None else self._known()
        return None if known is None else self._draft(request, asked, body, known)

    def _draft(
        self, request: Request[Any], asked: Asked, body: bytes, known: Headers
    ) -> HTTPRequest:
        # Nothing here raises: no error's frame holds the key.
        context = request.context
        limits, attempt = context.limits, context.attempt
        own = asked.headers
        if self._own_headers is not None:
            own = (*own, *self._own_headers(request))
        joined = self._joined.get(asked.stream)
        if joined is None or joined[0] is not known:
            joined = self._join(asked.stream, known)
        headers = joined[1]
        draft = object.__new__(_Request)
        draft.method = "POST"
        draft.url = asked.url
        draft.headers = (*headers, *own) if own else headers
        draft.body = body
        draft.provider = self.provider
        draft.connect = limits.connect
        draft.write = limits.write
        draft.on_sent = None if attempt is None else attempt.leaves
        draft.ports = context.ports
        draft.__class__ = HTTPRequest
        return draft  # type: ignore[no-any-return]

    def _join(self, stream: bool, known: Headers) -> tuple[Headers, Headers]:  # noqa: FBT001 - a key of what is kept
        """The headers of every request, the same object as long as the key is the same.

        Who sends them finds out once that they can be sent.
        """
        prepared = self._streamed_headers if stream else self._whole
        joined = self._joined[stream] = known, (*prepared, *known)
        return joined

    async def _authorized(self, request: Request[R], draft: HTTPRequest) -> HTTPRequest:
        attempt = request.context.attempt
        if attempt is None:
            return await self.authorize(draft)
        attempt.preparing = True  # a key may have to be fetched from somewhere
        authorized = await self.authorize(draft)
        attempt.preparing = False
        return authorized

    async def _answer(self, request: Request[R], reply: HTTPReply) -> R:
        headers, attempt = reply.headers, request.context.attempt
        known = request_id(headers)
        if attempt is not None:
            attempt.request_id = known
        if not 200 <= reply.status < 300:
            # In no variable: a body may quote the key, and tracebacks may show variables.
            raise self.dialect.error(
                reply.status,
                await read_some(reply, ERROR_BYTES, ERROR_SECONDS),
                headers,
                now=request.context.ports.wall(),
            )
        kind = headers.get("content-type", "")
        if kind != "application/json":
            kind = kind.partition(";")[0].strip().lower()
        if kind == self.dialect.stream_type or (request.stream and kind not in _COMPLETE_KINDS):
            return await self._streamed(request, reply, known)
        if attempt is not None and attempt.streamed:
            attempt.expect_whole()
        try:
            raw = whole_of(reply)
            if raw is None:
                raw = await read_all(reply)
            events, learned = self.dialect.decode_reply(raw, headers, request)
        except LamellaError as error:
            raise error.copy(request_id=known) from error.__cause__
        if not events or type(events[-1]) is not Finish:
            msg = f"{self.provider} sent an answer that does not say that it has ended."
            raise ProtocolError(msg, provider=self.provider, request_id=known)
        if attempt is not None:
            attempt.saw_event()
        return request.answer(events, self._head(reply, known, learned, raw))

    async def _streamed(self, request: Request[R], reply: HTTPReply, known: str | None) -> R:
        decoder = self.dialect.decoder(request)
        reader = self.dialect.reader(self.max_message_bytes)
        source = StreamSource(reply, decoder, reader, known)
        head = self._head(reply, known, NO_HEAD)
        attempt = request.context.attempt
        if attempt is not None:
            attempt.stated = getattr(decoder, "stated", None)
            if head.service is not None:  # before the answer says so itself
                attempt.service = head.service
            attempt.learned = partial(learned_by, decoder)
        response = await begin(request, source, head)
        response.head = self._head(reply, known, learned_by(decoder))
        return response

    def _head(
        self, reply: HTTPReply, known: str | None, learned: Head, raw: bytes | None = None
    ) -> Head:
        """What is known of an answer: by its headers, and by what it says itself."""
        service = learned.service
        if service is None and self.dialect.service_header:
            service = served_as(reply.headers.get(self.dialect.service_header))
        head = object.__new__(_Head)
        head.model = learned.model
        head.provider = self.provider
        head.request_id = known
        head.id = learned.id
        head.status = reply.status
        head.headers = _kept(reply.headers)
        head.raw = raw
        head.cached = False
        head.service = service
        head.cost = learned.cost
        head.__class__ = Head
        return head  # type: ignore[no-any-return]


_Request = unfrozen(HTTPRequest)
_Head = unfrozen(Head)
_AS_IT_COMES = (b"Accept-Encoding", b"identity")
_WHOLE = ((b"Accept", b"application/json"), (b"Accept-Encoding", b"gzip, deflate"))
_COMPLETE_KINDS = frozenset({"application/json", "text/html", "text/plain"})


class _Names(dict[str, bool]):
    """Whether the library understands a header, found out once for each name."""

    def __missing__(self, name: str) -> bool:
        if len(self) >= _MOST_NAMES:  # names come from servers
            self.clear()
        kept = self[name] = name in _KEPT_NAMES or name.startswith(_KEPT)
        return kept


_MOST_NAMES = 1_000
_UNDERSTOOD = _Names()


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that the library understands."""
    understood = _UNDERSTOOD
    kept: dict[str, str] = {}
    for name in headers:  # a comprehension would be one more call
        if understood[name]:
            kept[name] = headers[name]
    return kept


def encoded_json(body: dict[str, Any]) -> bytes:
    """A body as bytes.

    Raises:
        MisuseError: If it holds what JSON cannot say. Nothing of the request is quoted.
    """
    try:
        return _ENCODER.encode(with_written(body))
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError) as error:
        # Its text may quote the request.
        msg = f"The request holds something that JSON cannot say ({type(error).__name__})."
        hint = "Look at `extra`, tool schemas and response_format; text must be valid Unicode."
        raise MisuseError(msg, hint=hint) from None


def _plain(value: object) -> object:
    """What msgspec does not know and JSON does."""
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    msg = f"a {type(value).__name__}"
    raise TypeError(msg)


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)
