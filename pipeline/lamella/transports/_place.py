"""A place where APIs are spoken over HTTP: what all requests to it share, prepared once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import anyio
import attrs

from lamella._boundary import timed_out
from lamella._errors import (
    AttemptTimeout,
    AuthenticationError,
    ConfigurationError,
    DeadlineExceeded,
    LamellaError,
    UnsupportedError,
)
from lamella._outcomes import Outcome
from lamella._requests import Request
from lamella._responses import Response
from lamella._shared_cards import shared_cards
from lamella.transports._dialect import Dialect, DialectOptions, Headers
from lamella.transports._exchange import ERROR_BYTES, Asked, Authorize, Exchange
from lamella.transports._headers import encoded_headers
from lamella.transports._http import HTTPClient, HTTPReply, HTTPRequest
from lamella.transports._media_limits import check_media
from lamella.transports._parameters import fit, require
from lamella.transports._stream_source import read_some

if TYPE_CHECKING:
    from lamella._card_book import CardBook
    from lamella._cards import ModelCard
    from lamella._context import Context
    from lamella._health import PartHealth
    from lamella._parameter_rules import HasRules
    from lamella._prompt_caching import PromptCaching
    from lamella.transports._http_transport import TransportOptions

R = TypeVar("R", bound=Response)

HEALTH_SECONDS = 3.0
"""How long an endpoint may take to answer `health` before it counts as unreachable."""


def _quirks(place: Place) -> DialectOptions:
    given = place.given
    return given.dialect or DialectOptions(
        send_user=given.send_user, refuse_foreign=given.refuse_foreign
    )


def _check_media(dialect: Dialect, card: ModelCard, request: Request[Any], name: str) -> None:
    """Refuse pictures and documents that a known model does not take."""
    limits_of = getattr(dialect, "media_limits", None)  # which dialects need not have
    limits = None if limits_of is None else limits_of(card)
    if limits is not None:
        check_media(request, limits, provider=name)


def _card_book(place: Place) -> CardBook:
    return place.given.cards or shared_cards()


def _exchanges(place: Place) -> Mapping[str, Exchange]:
    return {
        operation: Exchange(
            client=place.client,
            provider=place.name,
            dialect=dialect,
            authorize=place.authorize,
            headers=place.headers,
            max_message_bytes=place.given.http.max_message_bytes,
        )
        for operation, dialect in place.dialects.items()
    }


def _tells(place: Place) -> bool:
    """Whether requests have headers that say how far their call is."""
    return place.given.attempt_header or place.given.deadline_header is not None


_MOST_WAYS = 1_000
"""Models and ways to ask them of which the addresses are remembered."""


@attrs.frozen(kw_only=True, eq=False)
class Place:
    """See the module.

    Attributes:
        name: The transport's name.
        client: The HTTP port.
        given: The transport's options: cards, what is said in headers, bounds.
        dialects: Which API answers each operation.
        model: The model of requests that name none, unless the dialect has a default.
        options: The quirks of its dialects; as `given` says by default.
        card_provider: Whose cards hold for its models; None for nobody's.
        rules: What it does with parameters, applied after the card's; None for nothing.
        locate: The URL of an API's path, for a model.
        authorize: Adds to a request what proves who sends it.
        models_url: Where the list of models is, which `health` asks for; None if there is none.
        headers: Headers that are always the same.
        wire_model: What a model is called there; None for its own name.
        card_model: What the cards call a model; None for the name in the request.
    """

    name: str
    client: HTTPClient
    given: TransportOptions
    dialects: Mapping[str, Dialect]
    model: str | None
    options: DialectOptions = attrs.field(default=attrs.Factory(_quirks, takes_self=True))
    card_provider: str | None
    rules: HasRules | None = None
    locate: Callable[[str, str], str]
    authorize: Authorize = attrs.field(repr=False)
    models_url: str | None
    headers: Headers = attrs.field(repr=False)
    wire_model: Callable[[str], str] | None = None
    card_model: Callable[[str], str] | None = None
    _cards: CardBook = attrs.field(
        init=False, repr=False, default=attrs.Factory(_card_book, takes_self=True)
    )
    _exchanges: Mapping[str, Exchange] = attrs.field(
        init=False, repr=False, default=attrs.Factory(_exchanges, takes_self=True)
    )
    _tells: bool = attrs.field(
        init=False, repr=False, default=attrs.Factory(_tells, takes_self=True)
    )
    _ways: dict[tuple[str, str, bool], Asked] = attrs.field(
        init=False, repr=False, factory=dict[tuple[str, str, bool], Asked]
    )

    def run(self, request: Request[R]) -> Awaitable[R]:
        """Answer a request: what is to be awaited for that.

        Raises:
            LamellaError: Whatever goes wrong before the answer is committed.
        """
        dialect = self.dialects.get(request.operation) or self._no_dialect(request)
        if request.model is None:
            request = self._with_model(request, dialect)
        model = request.model or ""
        card = None if self.card_provider is None else self._card(model)
        context, options = request.context, self.options
        stream = (request.stream or context.limits.stream_runs) and request.streams
        if card is not None:
            require(card, request, dialect.api)
            _check_media(dialect, card, request, self.name)
            stream = stream and ("streaming" in card.capabilities or not card.capabilities)
        if card is not None or self.rules is not None:
            owners = card, self.rules
            request, options = fit(request, dialect.api, options, owners, layer=self.name)
        if card is not None and dialect.wants_card:
            options = attrs.evolve(options, card=card)
        if self.wire_model is not None:
            model = self.wire_model(model)
            request = request.evolve(model=model)
        attempt = context.attempt
        if attempt is not None:
            if attempt.streamed and not stream:
                attempt.expect_whole()
            if attempt.service is not None:  # a card may have left it out, or exchanged it
                attempt.service = getattr(request, "service_tier", None)
        asked = self._ways.get((dialect.operation, model, stream))
        if asked is None:
            asked = self._find_way(dialect, model, stream=stream)
        own = self._tells or context.idempotency_key is not None
        headers = self._headers_of(request) if own else ()
        if headers or options is not asked.options:
            asked = Asked(url=asked.url, options=options, stream=stream, headers=headers)
        return self._exchanges[request.operation].run(request, asked)

    def _find_way(self, dialect: Dialect, model: str, *, stream: bool) -> Asked:
        """Where requests for a model go, found out once."""
        if len(self._ways) >= _MOST_WAYS:  # models come from requests
            self._ways.clear()
        url = self.locate(dialect.path(model, stream=stream), model)
        asked = Asked(url=url, options=self.options, stream=stream)
        self._ways[dialect.operation, model, stream] = asked
        return asked

    def prompt_caching(self, request: Request[Any]) -> PromptCaching | None:
        """What the prompt cache takes that a request would meet; None for nothing."""
        dialect = self.dialects.get(request.operation)
        if dialect is None:
            return None
        model = request.model or dialect.default_model or self.model or ""
        return dialect.prompt_caching(model, options=self.options, card=self._card(model))

    async def check(self) -> None:
        """Look for the key, without asking the endpoint.

        Raises:
            LamellaError: What is missing or wrong.
        """
        url = self.models_url or self.locate("/", self.model or "")
        await self.authorize(HTTPRequest(method="GET", url=url, headers=self.headers))

    async def health(self) -> PartHealth:
        """Ask for the list of models. Costs nothing; never raises.

        Any answer shows that the endpoint is reachable; it is well unless it fails or refuses the
        key, which is asked for again once. Where there is no such list, nobody knows.
        """
        from lamella._health import PartHealth

        if self.models_url is None:
            return PartHealth(well=None, detail={"error": "the endpoint has no list of models"})
        detail: dict[str, Any] = {"error": f"no answer in {HEALTH_SECONDS:g} s"}
        well: bool | None = False
        with anyio.move_on_after(HEALTH_SECONDS):
            try:
                draft = HTTPRequest(
                    method="GET", url=self.models_url, headers=self.headers, provider=self.name
                )
                sent = await self.authorize(draft)
                status, refused = await self._told(sent)
                renewed = getattr(self.authorize, "renewed", None)
                if refused and renewed is not None and await renewed(sent):
                    status, refused = await self._told(await self.authorize(draft))
                detail = {"status": status}
                well = status < 500 and not refused
            except Exception as error:  # noqa: BLE001 - a health report never raises
                detail = {"error": type(error).__name__}
                if isinstance(error, LamellaError):
                    detail["message"] = str(error)
        return PartHealth(well=well, detail=detail)

    async def _told(self, sent: HTTPRequest) -> tuple[int, bool]:
        """The status of an answer, and whether it refuses the key."""
        reply = await self.client.send(sent)
        try:
            most = ERROR_BYTES if reply.status == 400 else 1
            return reply.status, self._refuses_key(
                reply, await read_some(reply, most, HEALTH_SECONDS)
            )
        finally:
            await reply.aclose()

    def _refuses_key(self, reply: HTTPReply, body: bytes) -> bool:
        """Whether an answer says so; Google's status for a wrong key is 400."""
        if reply.status != 400:
            return reply.status in {401, 403}
        found = [
            dialect.error(reply.status, body, reply.headers, now=0.0)
            for dialect in self.dialects.values()
        ]
        return any(isinstance(error, AuthenticationError) for error in found)

    def _card(self, model: str) -> Any:
        provider = self.card_provider
        if provider is None:
            return None
        return self._cards.find(
            provider, model if self.card_model is None else self.card_model(model)
        )

    def _no_dialect(self, request: Request[Any]) -> NoReturn:
        can = ", ".join(sorted(self.dialects))
        msg = f"The transport {self.name!r} cannot do {request.operation or 'this'!r}."
        raise UnsupportedError(msg, hint=f"It has: {can}.", provider=self.name)

    def _with_model(self, request: Request[R], dialect: Dialect) -> Request[R]:
        model = dialect.default_model or self.model
        if model is None:
            msg = f"The request names no model, and the transport {self.name!r} has no default."
            hint = "Give model= to the request, or to the transport."
            raise ConfigurationError(msg, hint=hint, provider=self.name)
        attempt = request.context.attempt
        if attempt is not None:
            attempt.model = model
        return request.evolve(model=model)

    def _headers_of(self, request: Request[Any]) -> Headers:
        context, given = request.context, self.given
        found: list[tuple[bytes, bytes]] = []
        if context.idempotency_key is not None:
            found += encoded_headers({"Idempotency-Key": context.idempotency_key})
        if given.attempt_header and context.attempt is not None:
            found.append((b"X-Lamella-Attempt", b"%d" % context.attempt.index))
        if given.deadline_header is not None and context.deadline is not None:
            found.append((given.deadline_header.encode(), b"%d" % milliseconds_left(context)))
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
