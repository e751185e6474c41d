"""A modelled provider in virtual time: how fast it is, what it refuses, and when it fails.

It is a transport like any other and answers through `begin`; errors are made of status, body and
headers by the same functions as those of a transport over a network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from random import Random
from typing import Any, Final, Protocol, TypeVar

import anyio
import attrs

from lamella._begin import begin
from lamella._context import Context
from lamella._errors import (
    ClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    LamellaError,
)
from lamella._options import number, refused, whole
from lamella._outcomes import Outcome
from lamella._prices import Price
from lamella._requests import Request
from lamella._responses import Head, Response
from lamella._tokens import input_usage
from lamella.testing._simulated_faults import FaultWindow
from lamella.testing._simulated_ledger import Ledger, Record
from lamella.testing._simulated_limits import MinuteLimits
from lamella.testing._simulated_source import MOST_TOKENS, SimulatedSource, marked_tokens
from lamella.testing._simulated_spread import Spread, as_spread
from lamella.transports._http_errors import status_error

R = TypeVar("R", bound=Response)

CALLER: Final = "lamella.testing.caller"
"""The attribute of a context under which a simulation's caller stands."""

REFUSAL_SECONDS: Final = 0.02
"""How long a provider takes to say no."""
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_REMEMBERED: Final = 1_000
_PROCESSED: Final = frozenset({408, 504})
"""Statuses with which it gives up on work that it has begun, which is billed."""
_CODES: Final[Mapping[int, tuple[str, str]]] = {
    400: ("invalid_request_error", "invalid_request"),
    401: ("authentication_error", "invalid_api_key"),
    402: ("billing_error", "payment_required"),
    403: ("permission_error", "permission_denied"),
    404: ("not_found_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("service_unavailable_error", "service_unavailable"),
    529: ("overloaded_error", "overloaded_error"),
}


class Caller(Protocol):
    """Whom a provider tells what it sees, where a simulation checks that."""

    def arrived(self, provider: str, context: Context, record: Record) -> None:
        """An attempt has reached the provider."""
        ...

    def asked_to_wait(self, provider: str, context: Context, seconds: float) -> None:
        """The provider has told an attempt when the next may come."""
        ...


def _faults(given: Iterable[FaultWindow]) -> tuple[FaultWindow, ...]:
    found = tuple(given)
    if not all(isinstance(fault, FaultWindow) for fault in found):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError("SimulatedProvider(faults=...) takes FaultWindow objects.")
    return found


def _default_price() -> Price:
    return Price.of(input="0.15", output="0.60")


def _a_name(provider: object, option: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise refused(provider, option, value, "a name that begins with a letter")


def _a_limit(provider: object, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        whole(1)(provider, option, value)


def _latency(value: float | timedelta | Spread) -> Spread:
    return as_spread(value, 0.4)


def _speed(value: float | Spread) -> Spread:
    return as_spread(value, 0.25)


def _length(value: float | Spread) -> Spread:
    return as_spread(value, 0.7)


@attrs.define(eq=False)
class SimulatedProvider:
    """A provider whose speed, limits and faults are modelled. It answers chat requests.

    Quantities are a number, the median, which then varies as the default does, or a `Spread`.

    Attributes:
        name: What it is called in traces and reports.
        model: The model that it says it serves, for requests that name none.
        first_event: Seconds until the first token.
        tokens_per_second: How fast an answer is written.
        output_tokens: How long an answer is, at most 4,000 or what the request allows.
        requests_per_minute: Its rate limit; beyond it 429 with `retry-after` and the usual headers.
            None is no limit. Limits flow back steadily, and their burst is a whole minute.
        tokens_per_minute: The same for tokens of request and answer.
        capacity: How many answers it writes at full speed at once; with more, each takes longer
            in proportion. None is no bound.
        overload: At how many times the capacity it answers 529 instead; 1 or more.
        pieces: In how many pieces an answer is streamed, 1 to 1,000.
        faults: What goes wrong, and when.
        price: What it bills; None for nothing.
        seed: Of its chance; a simulation gives its own.
        ledger: What has really happened.
        closed: Whether the pipeline has closed it.

    Raises:
        ConfigurationError: If an option is out of range.
    """

    name: str = attrs.field(default="primary", validator=_a_name)
    faults: tuple[FaultWindow, ...] = attrs.field(default=(), converter=_faults, kw_only=True)
    model: str = attrs.field(default="simulated", kw_only=True)
    first_event: Spread = attrs.field(default=Spread(0.5, 0.4), converter=_latency, kw_only=True)
    tokens_per_second: Spread = attrs.field(
        default=Spread(80.0, 0.25), converter=_speed, kw_only=True
    )
    output_tokens: Spread = attrs.field(default=Spread(150.0, 0.7), converter=_length, kw_only=True)
    requests_per_minute: int | None = attrs.field(default=None, kw_only=True, validator=_a_limit)
    tokens_per_minute: int | None = attrs.field(default=None, kw_only=True, validator=_a_limit)
    capacity: int | None = attrs.field(default=None, kw_only=True, validator=_a_limit)
    overload: float = attrs.field(default=3.0, kw_only=True, validator=number(1))
    pieces: int = attrs.field(default=4, kw_only=True, validator=whole(1, 1000))
    price: Price | None = attrs.field(factory=_default_price, kw_only=True)
    seed: int | str = attrs.field(default=0, kw_only=True)
    ledger: Ledger = attrs.field(init=False, repr=False)
    closed: bool = attrs.field(init=False, default=False, repr=False)
    _random: Random = attrs.field(init=False, repr=False)
    _limits: MinuteLimits | None = attrs.field(init=False, default=None, repr=False)
    _mark: str = attrs.field(init=False, repr=False)
    _origin: float | None = attrs.field(init=False, default=None, repr=False)
    _prompts: dict[int, tuple[object, int]] = attrs.field(
        init=False, factory=dict[int, tuple[object, int]], repr=False
    )

    def __attrs_post_init__(self) -> None:
        """Begin a ledger."""
        self.ledger = Ledger(self.name, self.price)
        # Chance that can be repeated, not secrecy.
        self._random = Random(f"{self.seed}/{self.name}")  # noqa: S311
        self._mark = re.sub(r"[^a-z]", "", self.name.lower())[:7]
        if self.requests_per_minute is not None or self.tokens_per_minute is not None:
            self._limits = MinuteLimits(self.requests_per_minute, self.tokens_per_minute)

    def fresh(self, *, seed: int | str, faults: Iterable[FaultWindow] = ()) -> SimulatedProvider:
        """A provider with the same options that has not seen any request.

        Args:
            seed: Of its chance.
            faults: What goes wrong besides.
        """
        return attrs.evolve(self, seed=seed, faults=(*self.faults, *faults))

    def start(self, at: float = 0.0) -> None:
        """Let the windows of faults count from this instant of the ports' clock.

        Without it they count from the first request.
        """
        self._origin = at

    async def __call__(self, request: Request[R], /) -> R:
        """Answer one request.

        Raises:
            LamellaError: What the model of the provider says.
            ClosedError: If it has been closed.
        """
        if self.closed:
            raise ClosedError(f"{self.name!r} was asked after it had been closed.")
        context = request.context
        ports = context.ports
        now = ports.monotonic()
        if self._origin is None:
            self._origin = now
        at = now - self._origin
        met: dict[str, FaultWindow] = {
            fault.kind: fault for fault in self.faults if fault.meets(at, self._random)
        }
        if "refuse" in met:
            self.ledger.answers["refused"] += 1
            await ports.sleep(REFUSAL_SECONDS)
            raise ConnectError("The simulated provider accepts no connection.", provider=self.name)
        record = self._receive(context, at)
        try:
            await self._refuse(request, record, met)
            source = await self._work(request, record, met, now=now)
        except BaseException:
            record.close()
            raise
        headers = {} if self._limits is None else self._limits.headers(ports.monotonic())
        model = request.model or self.model
        head = Head(model=model, request_id=record.mark, status=200, headers=headers)
        return await begin(request, source, head)

    async def aclose(self) -> None:
        """Refuse further requests."""
        self.closed = True

    def health(self) -> bool:
        """It can always be reached."""
        return True

    def _receive(self, context: Context, at: float) -> Record:
        attempt = context.attempt
        mark = f"{self._mark}{self.ledger.received}"
        record = self.ledger.receive(at, context.call_id, mark, attempt)
        if attempt is not None:
            attempt.sent = True
            attempt.request_id = mark
        caller: Caller | None = context.attributes.get(CALLER)
        if caller is not None:
            caller.arrived(self.name, context, record)
        return record

    async def _refuse(
        self, request: Request[Any], record: Record, met: Mapping[str, FaultWindow]
    ) -> None:
        """Say no, if the faults or the load say so."""
        context = request.context
        refusal = self._refusal(met)
        if refusal is None:
            return
        status, headers = refusal
        if status in _PROCESSED:
            self._begin_work(request, record)
        await context.ports.sleep(REFUSAL_SECONDS)
        await self._say_no(context, record, status, headers)

    def _refusal(self, met: Mapping[str, FaultWindow]) -> tuple[int, dict[str, str]] | None:
        down = met.get("outage") or met.get("flap")
        if down is not None:
            hint = down.retry_after
            return 503, {} if hint is None else {"retry-after": f"{hint:g}"}
        throttle = met.get("throttle")
        if throttle is not None:
            return 429, {"retry-after": f"{throttle.retry_after:g}"}
        error = met.get("error")
        if error is not None:
            return error.status, {}
        if self._load > self.overload:
            return 529, {}
        return None

    async def _say_no(
        self, context: Context, record: Record, status: int, headers: dict[str, str]
    ) -> None:
        words = {429: "throttled", 503: "overloaded", 529: "overloaded"}
        self.ledger.answers[words.get(status, f"status {status}")] += 1
        error = self._error(status, headers)
        caller: Caller | None = context.attributes.get(CALLER)
        if caller is not None and error.retry_after is not None:
            caller.asked_to_wait(self.name, context, error.retry_after)
        raise error

    def _error(self, status: int, headers: dict[str, str]) -> LamellaError:
        kind, code = _CODES.get(status, ("server_error", "server_error"))
        body = f'{{"error": {{"type": "{kind}", "code": "{code}", "message": "simulated"}}}}'
        return status_error(status, body.encode(), headers, provider=self.name)

    @property
    def _load(self) -> float:
        """How many times its capacity is in use."""
        return 0.0 if self.capacity is None else self.ledger.open / self.capacity

    async def _work(
        self,
        request: Request[Any],
        record: Record,
        met: Mapping[str, FaultWindow],
        *,
        now: float,
    ) -> SimulatedSource:
        """Wait until the answer begins, or for all of it where it is not streamed."""
        random, ports = self._random, request.context.ports
        wanted = self._tokens_of(request)
        slowness = max(1.0, self._load)
        if "slow" in met:
            slowness *= met["slow"].factor
        first = self.first_event.draw(random) * slowness
        pace = slowness / self.tokens_per_second.draw(random)
        if self._limits is not None:
            headers = self._limits.take(self._prompt_tokens(request) + wanted, now)
            if headers is not None:
                await ports.sleep(REFUSAL_SECONDS)
                await self._say_no(request.context, record, 429, headers)
        self._begin_work(request, record)
        source = self._source(request, record, wanted, pace)
        broken = self._break(source, met)
        if not _streamed(request):
            # Nothing of such an answer can be had before all of it is there.
            await ports.sleep(first + wanted * pace * (0.5 if broken else 1.0))
            if broken:
                await self._broken_off(source, met)
            return source
        await ports.sleep(first)
        return source

    def _begin_work(self, request: Request[Any], record: Record) -> None:
        """From here on the request is billed."""
        record.begun = True
        record.input_tokens = self._prompt_tokens(request)
        self.ledger.input_tokens += record.input_tokens

    def _source(
        self, request: Request[Any], record: Record, wanted: int, pace: float
    ) -> SimulatedSource:
        streamed = _streamed(request)
        tokens = _in_pieces(wanted, self.pieces if streamed else 1, record.mark)
        sleep = request.context.ports.sleep
        return SimulatedSource(record, self.ledger, tokens, pace if streamed else 0.0, sleep)

    def _break(self, source: SimulatedSource, met: Mapping[str, FaultWindow]) -> bool:
        """Decide where the answer breaks off, if it does."""
        pieces = source.pieces
        if "no_usage" in met:
            source.tells_usage = False
        if "stall" in met:
            source.stall_at = self._random.randrange(pieces)
        elif "cut" in met:
            source.cut_at = self._random.randrange(1, pieces + 1)
            source.lost = self._lost if self._random.random() < 0.5 else None
        else:
            return False
        return True

    async def _broken_off(self, source: SimulatedSource, met: Mapping[str, FaultWindow]) -> None:
        if "stall" in met:
            self.ledger.answers["stalled"] += 1
            await anyio.sleep_forever()
        self.ledger.answers["cut"] += 1
        raise self._lost()

    def _lost(self) -> ConnectionLostError:
        return ConnectionLostError(
            "The simulated provider cut the connection.",
            provider=self.name,
            phase="stream",
            outcome=Outcome.UNKNOWN,
        )

    def _tokens_of(self, request: Request[Any]) -> int:
        most = getattr(request, "max_output_tokens", None) or MOST_TOKENS
        return max(1, min(round(self.output_tokens.draw(self._random)), most, MOST_TOKENS))

    def _prompt_tokens(self, request: Request[Any]) -> int:
        """What the request makes the model read; requests of a simulation share their messages."""
        messages = getattr(request, "messages", request)
        known = self._prompts.get(id(messages))
        if known is not None and known[0] is messages:
            return known[1]
        usage = input_usage(request)
        tokens = 0 if usage is None else usage.input_tokens
        if len(self._prompts) >= _REMEMBERED:
            self._prompts.clear()
        self._prompts[id(messages)] = (messages, tokens)
        return tokens


def _streamed(request: Request[Any]) -> bool:
    """Whether the answer comes as a stream: also where nobody but the library reads it so."""
    return request.stream or request.context.limits.stream_runs


def _in_pieces(tokens: int, pieces: int, mark: str) -> tuple[int, ...]:
    """So many tokens in so many pieces, each at least as long as its mark."""
    least = marked_tokens(mark, pieces) + 2
    tokens = max(tokens, least)
    pieces = max(1, min(pieces, tokens // least))
    each, over = divmod(tokens, pieces)
    return tuple([each + 1] * over + [each] * (pieces - over))
