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
from lamella._requests import Request
from lamella._responses import Head, Response
from lamella.transports._dialect import DEFAULT_OPTIONS, Dialect, DialectOptions, Headers
from lamella.transports._headers import headers_beside
from lamella.transports._http import HTTPClient, HTTPReply, HTTPRequest
from lamella.transports._http_errors import request_id
from lamella.transports._stable_tools import with_written
from lamella.transports._stated_bills import learned_by, served_as
from lamella.transports._stream_source import StreamSource, read_all, read_some

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


@attrs.frozen(kw_only=True)
class Exchange:
    """What one request over HTTP needs besides the request itself.

    Attributes:
        client: The HTTP port.
        provider: The transport's name, for errors and the answer's head.
        dialect: Writes the request and reads the answer.
        options: The endpoint's quirks.
        url: Where the request goes.
        authorize: Adds what proves who sends it.
        headers: What else goes with it: content type, user agent.
        max_message_bytes: The bound on one message of a stream.
    """

    client: HTTPClient
    provider: str
    dialect: Dialect
    url: str
    authorize: Authorize = attrs.field(repr=False)
    max_message_bytes: int
    options: DialectOptions = DEFAULT_OPTIONS
    headers: Headers = attrs.field(default=(), repr=False)

    async def run(self, request: Request[R], *, stream: bool) -> R:
        """Send a request; its response, complete or open.

        Args:
            request: What is asked, begun by a pipeline.
            stream: Whether the answer is asked for as server-sent events.

        Raises:
            LamellaError: Whatever goes wrong before the answer is committed.
        """
        sent = await self._authorized(request, self._draft(request, stream=stream))
        attempt = request.context.attempt
        if attempt is not None and attempt.headers:
            # After signing: proxies on the way may change such headers, so they go unsigned.
            sent = sent.with_headers(headers_beside(sent.headers, attempt.headers))
        try:
            return await self._exchanged(request, sent)
        except AuthenticationError:
            await self._have_key_renewed(request, sent)
            raise

    async def _exchanged(self, request: Request[R], sent: HTTPRequest) -> R:
        reply = await self.client.send(sent)
        try:
            return await self._answer(request, reply)
        except BaseException:
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                await reply.aclose()
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

    def _draft(self, request: Request[R], *, stream: bool) -> HTTPRequest:
        context = request.context
        limits, attempt = context.limits, context.attempt
        body = self.dialect.encode(request, stream=stream, options=self.options)

        if attempt is not None:
            attempt.url = self.url

        def sent() -> None:
            if attempt is not None:
                attempt.sent = True

        accepted = (
            ((b"Accept", self.dialect.stream_type.encode()), _AS_IT_COMES) if stream else _WHOLE
        )
        return HTTPRequest(
            method="POST",
            url=self.url,
            headers=(*self.headers, *self.dialect.headers(request), *accepted),
            body=encoded_json(body),
            provider=self.provider,
            connect=limits.connect,
            write=limits.write,
            on_sent=sent,
            ports=context.ports,
        )

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
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == self.dialect.stream_type or (request.stream and kind not in _COMPLETE_KINDS):
            return await self._streamed(request, reply, known)
        if attempt is not None:
            attempt.expect_whole()
        try:
            raw = await read_all(reply)
            events, learned = self.dialect.decode_reply(raw, headers, request)
        except LamellaError as error:
            raise error.copy(request_id=known) from error.__cause__
        if not events or type(events[-1]) is not Finish:
            msg = f"{self.provider} sent an answer that does not say that it has ended."
            raise ProtocolError(msg, provider=self.provider, request_id=known)
        if attempt is not None:
            attempt.saw_event()
        head = self._head(reply, known)
        return request.answer(
            events,
            attrs.evolve(
                head,
                model=learned.model,
                id=learned.id,
                raw=raw,
                service=learned.service or head.service,
                cost=learned.cost,
            ),
        )

    async def _streamed(self, request: Request[R], reply: HTTPReply, known: str | None) -> R:
        decoder = self.dialect.decoder(request)
        reader = self.dialect.reader(self.max_message_bytes)
        source = StreamSource(reply, decoder, reader, known)
        head = self._head(reply, known)
        attempt = request.context.attempt
        if attempt is not None:
            attempt.stated = getattr(decoder, "stated", None)
            if head.service is not None:  # before the answer says so itself
                attempt.service = head.service
            attempt.learned = partial(learned_by, decoder)
        response = await begin(request, source, head)
        learned = learned_by(decoder)
        response.head = attrs.evolve(
            response.head,
            model=learned.model,
            id=learned.id,
            service=learned.service or head.service,
            cost=learned.cost,
        )
        return response

    def _head(self, reply: HTTPReply, known: str | None) -> Head:
        return Head(
            provider=self.provider,
            request_id=known,
            status=reply.status,
            headers=_kept(reply.headers),
            service=served_as(reply.headers.get(self.dialect.service_header)),
        )


_AS_IT_COMES = (b"Accept-Encoding", b"identity")
_WHOLE = ((b"Accept", b"application/json"), (b"Accept-Encoding", b"gzip, deflate"))
_COMPLETE_KINDS = frozenset({"application/json", "text/html", "text/plain"})


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that the library understands."""
    return {
        name: value
        for name, value in headers.items()
        if name in _KEPT_NAMES or name.startswith(_KEPT)
    }


def encoded_json(body: dict[str, Any]) -> bytes:
    """A body as bytes.

    Raises:
        MisuseError: If it holds what JSON cannot say. Nothing of the request is quoted.
    """
    try:
        return msgspec.json.encode(with_written(body), enc_hook=_plain)
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
