"""A place that speaks OpenAI's APIs: what every request to it has in common, prepared once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import anyio
import attrs

from lamella._boundary import timed_out
from lamella._errors import (
    AttemptTimeout,
    ClosedError,
    ConfigurationError,
    DeadlineExceeded,
    LamellaError,
    UnsupportedError,
)
from lamella._outcomes import Outcome
from lamella._requests import Request
from lamella._responses import Response
from lamella.transports._dialect import Dialect, DialectOptions
from lamella.transports._exchange import Exchange
from lamella.transports._http import HTTPClient, HTTPRequest, can_be_sent
from lamella.transports._parameters import fit, require
from lamella.transports._stream_source import read_some

if TYPE_CHECKING:
    from lamella._card_book import CardBook
    from lamella._context import Context
    from lamella._health import PartHealth
    from lamella.transports._endpoints import Endpoint

R = TypeVar("R", bound=Response)

API: TypeAlias = Literal["chat", "responses"]
Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

HEALTH_SECONDS = 3.0
"""How long an endpoint may take to answer `health` before it counts as unreachable."""


@attrs.frozen(kw_only=True, eq=False)
class Place:
    """See the module.

    Attributes:
        name: The transport's name.
        client: The HTTP port.
        api: Which API answers chat requests.
        apis: Which APIs it has.
        model: The model of requests that name none.
        dialect: Its quirks.
        cards: Where model cards are looked up.
        card_provider: Whose cards hold for its models; None for nobody's.
        endpoint: Its row, whose rules apply after the card's; None without one.
        locate: The URL of an API's path, for a model.
        authenticate: The headers of the key.
        headers: Headers that are always the same.
        attempt_header: Whether the attempt's number is sent.
        deadline_header: The header that says how much time is left; None for none.
        max_message_bytes: The bound on one message of a stream.
        wire_model: What a model is called there; None for its own name.
    """

    name: str
    client: HTTPClient
    api: API
    apis: frozenset[str]
    model: str | None
    dialect: DialectOptions
    cards: CardBook
    card_provider: str | None
    endpoint: Endpoint | None
    locate: Callable[[str, str], str]
    authenticate: Callable[[], Awaitable[Headers]]
    headers: Headers = attrs.field(repr=False)
    attempt_header: bool
    deadline_header: str | None
    max_message_bytes: int
    wire_model: Callable[[str], str] | None = None

    async def run(self, request: Request[R]) -> R:
        """Answer a request.

        Raises:
            LamellaError: Whatever goes wrong before the answer is committed.
        """
        api = self._api(request)
        request = self._with_model(request)
        model = request.model or ""
        provider = self.card_provider
        card = None if provider is None else self.cards.find(provider, model)
        wanted = request.stream or request.context.limits.stream_runs
        stream = wanted and request.streams
        if card is not None:
            require(card, request, api)
            stream = stream and ("streaming" in card.capabilities or not card.capabilities)
        rules = (card, self.endpoint)
        request, options = fit(request, api, self.dialect, rules, layer=self.name)
        if self.wire_model is not None:
            model = self.wire_model(model)
            request = request.evolve(model=model)
        dialect = dialect_of(api, self.name)
        exchange = Exchange(
            client=self.client,
            provider=self.name,
            dialect=dialect,
            options=options,
            url=self.locate(dialect.path, model),
            headers=(*self.headers, *await self.authenticate(), *self._headers_of(request)),
            max_message_bytes=self.max_message_bytes,
        )
        attempt = request.context.attempt
        if attempt is not None and not stream:
            attempt.expect_whole()
        return await exchange.run(request, stream=stream)

    async def health(self) -> PartHealth:
        """Ask for the list of models. Costs nothing; never raises.

        Any answer shows that the endpoint is reachable; it is well unless it fails or refuses the
        key.
        """
        from lamella._health import PartHealth

        detail: dict[str, Any] = {"error": f"no answer in {HEALTH_SECONDS:g} s"}
        well: bool | None = False
        with anyio.move_on_after(HEALTH_SECONDS):
            try:
                headers = (*self.headers, *await self.authenticate())
                url = self.locate("/models", self.model or "")
                reply = await self.client.send(
                    HTTPRequest(method="GET", url=url, headers=headers, provider=self.name)
                )
                try:
                    detail = {"status": reply.status}
                    well = reply.status < 500 and reply.status not in {401, 403}
                    await read_some(reply, 1, HEALTH_SECONDS)
                finally:
                    await reply.aclose()
            except Exception as error:  # noqa: BLE001 - a health report never raises
                detail = {"error": type(error).__name__}
                if isinstance(error, LamellaError):
                    detail["message"] = str(error)
        return PartHealth(well=well, detail=detail)

    def _api(self, request: Request[Any]) -> str:
        api = self.api if request.operation == "chat" else request.operation
        if api not in self.apis or api == "models":
            can = ", ".join(sorted(self.apis - {"models"}))
            msg = f"The transport {self.name!r} cannot do {request.operation or 'this'!r}."
            raise UnsupportedError(msg, hint=f"It has: {can}.", provider=self.name)
        return api

    def _with_model(self, request: Request[R]) -> Request[R]:
        if request.model is not None:
            return request
        if self.model is None:
            msg = f"The request names no model, and the transport {self.name!r} has no default."
            hint = "Give model= to the request, or to the transport."
            raise ConfigurationError(msg, hint=hint, provider=self.name)
        attempt = request.context.attempt
        if attempt is not None:
            attempt.model = self.model
        return request.evolve(model=self.model)

    def _headers_of(self, request: Request[Any]) -> Headers:
        context = request.context
        found: list[tuple[bytes, bytes]] = []
        if context.idempotency_key is not None:
            found += encoded_headers({"Idempotency-Key": context.idempotency_key})
        if self.attempt_header and context.attempt is not None:
            found.append((b"X-Lamella-Attempt", b"%d" % context.attempt.index))
        if self.deadline_header is not None and context.deadline is not None:
            found.append((self.deadline_header.encode(), b"%d" % milliseconds_left(context)))
        return tuple(found)


def milliseconds_left(context: Context) -> int:
    """Whole milliseconds until the call's deadline, or until the attempt's limit if that is sooner.

    Raises:
        DeadlineExceeded: If there is not even one until the deadline.
        AttemptTimeout: If there is not even one until the attempt's limit.
    """
    left, limit = context.left(), context.limits.attempt
    if limit is not None and context.attempt is not None:
        left_of_attempt = limit - (context.trace.now() - context.attempt.start)
        if left_of_attempt < left:
            if left_of_attempt < 0.001:
                raise timed_out(AttemptTimeout, limit, sent=False)
            left = left_of_attempt
    if left < 0.001:
        msg = "The call's deadline passed before the request could be sent."
        raise DeadlineExceeded(msg, phase="local", outcome=Outcome.NOT_SENT)
    return int(min(left, 1e12) * 1000)  # who means "never" has said so by a number


@cache
def dialect_of(api: str, provider: str) -> Dialect:
    """How an API is spoken."""
    if api == "chat":
        from lamella.transports._openai_chat import OpenAIChat

        return OpenAIChat(provider)
    if api == "responses":
        from lamella.transports._openai_responses import OpenAIResponses

        return OpenAIResponses(provider)
    from lamella.transports._openai_embeddings import OpenAIEmbeddings

    return OpenAIEmbeddings(provider)


def dialect_options(endpoint: Endpoint | None, *, send_user: bool) -> DialectOptions:
    """The quirks that an endpoint's row states; OpenAI's own without one."""
    if endpoint is None:
        return DialectOptions(send_user=send_user)
    fields = endpoint.reasoning_fields
    return DialectOptions(
        max_tokens_name=endpoint.max_tokens_name,
        stream_usage=endpoint.stream_usage,
        developer_role=endpoint.developer_role,
        reasoning_field=fields[0] if fields else None,
        send_user=send_user,
        quirks={"send_reasoning": True} if endpoint.return_reasoning and fields else {},
    )


_FRAMING = frozenset({"host", "content-length", "transfer-encoding"})


def static_headers(given: Mapping[str, str | None]) -> Headers:
    """The headers of every request: ours, and those given, which replace ours.

    Raises:
        ConfigurationError: If one cannot stand in a header.
    """
    merged: dict[str, tuple[str, str]] = {
        "content-type": ("Content-Type", "application/json"),
        "user-agent": ("User-Agent", _user_agent()),
    }
    for name, value in given.items():
        if value:
            merged[name.lower()] = (name, value)
    return encoded_headers(dict(merged.values()))


def encoded_headers(given: Mapping[str, str]) -> Headers:
    """Headers as bytes.

    Raises:
        ConfigurationError: If one cannot stand in a header. Values are not shown: they may be keys.
    """
    encoded: list[tuple[bytes, bytes]] = []
    for name, value in given.items():
        # What is not ASCII is refused, lone surrogates included.
        header = name.encode(errors="surrogatepass"), value.encode(errors="surrogatepass")
        if not can_be_sent(*header):
            msg = f"The header {name!r} holds what no header can hold."
            hint = "It must be one line of printable ASCII without spaces around it."
            raise ConfigurationError(msg, hint=hint)
        encoded.append(header)
    return tuple(encoded)


def can_be_headers(_: object, __: object, given: Mapping[Any, Any]) -> None:
    """Validates the headers of a transport's options.

    Raises:
        ConfigurationError: If one cannot stand in a header, or is not the caller's to set.
    """
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            msg = f"The header {name!r} is a {type(value).__name__}."
            raise ConfigurationError(msg, hint="Names and values of headers are text.")
        if name.lower() in _FRAMING:
            msg = f"The header {name!r} says where a request goes or how long it is."
            raise ConfigurationError(msg, hint="It is made from base_url and the request.")
    encoded_headers(given)


_OURS = frozenset({"authorization", "api-key", "content-type", "idempotency-key", "accept"})


def can_be_deadline_header(options: Any, _: object, name: Any) -> None:
    """Validates the name of the header that carries what is left of the deadline.

    Raises:
        ConfigurationError: If it cannot be a header's name, or is that of another header.
    """
    if name is None:
        return
    if not isinstance(name, str) or not can_be_sent(name.encode(errors="surrogatepass"), b"1"):
        msg = f"deadline_header={name!r} is no name of a header."
        raise ConfigurationError(msg, hint='Give one such as "X-Deadline-Ms", or None for none.')
    given = {other.lower() for other in options.headers if isinstance(other, str)}
    if name.lower() in _OURS | _FRAMING | {"x-lamella-attempt"} | given:
        msg = f"deadline_header={name!r} is already the name of another header of the request."
        raise ConfigurationError(msg, hint='Give one of its own, such as "X-Deadline-Ms".')


def closed_error(name: str) -> ClosedError:
    """The error of a transport that is used after it was closed."""
    msg = f"The transport {name!r} was closed."
    return ClosedError(msg, hint="Make a new one; a closed transport stays closed.", provider=name)


@cache
def _user_agent() -> str:
    from importlib.metadata import version

    return f"lamella/{version('lamella')} openai-python/{version('openai')}"
