"""The layer: one meter for each attempt."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import copy_context
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import attrs

from lamella import (
    CardBook,
    ContentFilteredError,
    Ending,
    Handler,
    Head,
    Money,
    OpenAttempt,
    Outcome,
    Price,
    ProviderError,
    RefusedError,
    Request,
    Response,
    UnpricedError,
    Usage,
    ending,
    input_usage,
    middleware,
    output_usage,
)
from lamella._options import one_of, refused
from lamella._target_fitness import card_name_of, card_provider_of
from lamella_middlewares.cost._price_list import PriceList, own_prices

R = TypeVar("R", bound=Response)

NO_HEAD = Head()
NOTHING: Mapping[str, Any] = MappingProxyType({})

_LOSES = (
    "what {} discards is paid for as well, and Cost outside it sees only the answer that is kept"
)

_FREE = frozenset({"token_count"})
"""Operations that nobody bills, whatever the model costs otherwise."""

_PROCESSED = frozenset({408, 504})
"""Statuses with which a provider, or a proxy before it, gives up on work that it has begun."""


def _name(cost: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not (isinstance(value, str) and value):
        raise refused(cost, option, value, "the name of a provider, such as 'openai', or None")


def _card_book(cost: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, CardBook):
        raise refused(cost, option, value, "a CardBook, or None for the library's own")


def _list_of(cost: Any) -> PriceList:
    # Reading decimals sets a context variable of the decimal module; not in the caller's context.
    return PriceList(copy_context().run(own_prices, cost.prices), cost.book)


@middleware(
    phase="wire",
    rank=90,
    effects=("short-circuits",),
    inside={
        "retry": _LOSES.format("Retry"),
        "fallback": _LOSES.format("Fallback"),
        "hedge": _LOSES.format("Hedge"),
        "route": "Cost outside Route does not know which model it has to price",
        "cache": "Cost outside Cache would be asked to price answers that nobody pays for",
    },
)
@attrs.frozen(eq=False)
class Cost:
    """Writes into the trace what each attempt consumed and what it costs.

    The provider's own counts are priced exactly, in integers. An attempt that ends without them
    (cancelled, left, broken off, timed out) gets an estimate that is marked as one, prompt included
    and not below what was delivered. What was never sent, what the provider refused before it
    began, and what a cache replayed costs nothing.

    Args:
        prices: Prices of the program's own, by `"model"` or `"provider/model"`: a `Price`, or a
            table such as `{"input": "0.50", "output": "1.50"}` in whole units per million tokens.
            They win over the model cards.
        unknown: What to do about a model without a price. `"note"` sends the request; its cost is
            then None, never 0, and the trace has a note. `"refuse"` does not send it.
        provider: Whose model cards hold, where the transport does not say it: `"openai"` for an
            Azure deployment. None takes the name of the transport, and then its `card_provider`.
        book: The model cards. None takes those of the library and its plugins.
    """

    prices: Mapping[str, Any] = attrs.field(default=NOTHING, repr=False)
    unknown: Literal["note", "refuse"] = attrs.field(
        default="note", validator=one_of("note", "refuse")
    )
    provider: str | None = attrs.field(default=None, validator=_name)
    book: CardBook | None = attrs.field(default=None, validator=_card_book, repr=False)
    _list: PriceList = attrs.field(
        init=False, repr=False, default=attrs.Factory(_list_of, takes_self=True)
    )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Send the request on and meter the attempt.

        Raises:
            RefusedError: With `unknown="refuse"`, if the model has no price; nothing is sent.
        """
        attempt = request.context.attempt
        if attempt is None:
            request.context.note("cost", "cost.skipped", why="no attempt is under way here")
            return await call_next(request)
        # Before anything is sent: whatever is wrong with a card file must not cost an answer.
        model = request.model or _default_model(attempt)
        price = self.price(request, attempt.vendor, model)
        if self.unknown == "refuse" and request.operation not in _FREE:
            self._must_have(price, model, request, attempt)
        meter = _Meter(self, request, call_next, price)
        return await ending(meter, request, meter.settle)

    def price(self, request: Request[Any], provider: str, *models: str | None) -> Price | None:
        """The price that holds now for a model of these names; None if there is none."""
        known = [model for model in models if model is not None]
        if not known:
            return None
        wall = request.context.ports.wall()
        price = self._list.find(self.provider or provider, known, wall)
        attempt = request.context.attempt
        if price is not None or self.provider is not None or attempt is None:
            return price
        # It may go by a name of its own, and call models otherwise than the cards do.
        transport = attempt.transport
        named = [card_name_of(transport, model) for model in known]
        return self._list.find(card_provider_of(transport), named, wall)

    def _must_have(
        self, price: Price | None, model: str | None, request: Request[Any], attempt: OpenAttempt
    ) -> None:
        service: str | None = getattr(request, "service_tier", None)
        if price is not None and not price.unpriced(Usage(), service=service):
            return
        what = f"the model {model!r}" if price is None else f"the service {service!r}"
        raise RefusedError(
            f"Cost refuses {what} of {self.provider or attempt.vendor!r}: it has no price.",
            hint='State one with Cost(prices=...), or accept it with Cost(unknown="note").',
            code="unpriced",
            layer="cost",
        )


class _Meter:
    """Watches one attempt. As a handler it passes on, and remembers the head of the answer."""

    __slots__ = ("__name__", "_asked", "_call_next", "_cost", "_head", "_request")

    def __init__(
        self, cost: Cost, request: Request[Any], call_next: Handler, asked: Price | None
    ) -> None:
        self.__name__ = getattr(call_next, "__name__", "transport")
        self._cost = cost
        self._request = request
        self._call_next = call_next
        self._asked = asked
        self._head = NO_HEAD

    async def __call__(self, request: Request[R], /) -> R:
        response = await self._call_next(request)
        self._head = getattr(response, "head", NO_HEAD)
        return response

    def settle(self, end: Ending) -> None:
        """Write down what the attempt consumed and what that costs."""
        attempt = self._request.context.attempt
        if attempt is None:
            return
        price = self._price(attempt)
        if self._head.cached or self._request.operation in _FREE:
            attempt.usage = Usage()
            attempt.cost = Money(0, self._currency(price))
        elif _unsent(attempt, end) or _refused_unread(end):
            attempt.cost = Money(0, self._currency(price))
        else:
            attempt.usage = self._usage(end, attempt)
            if attempt.cost is None:  # otherwise the provider has stated it
                self._bill(attempt, price)

    def _bill(self, attempt: OpenAttempt, price: Price | None) -> None:
        if attempt.usage is None:
            self._note(attempt, "nobody says what it consumed")
        elif price is None:
            self._note(attempt, "no price is known")
        else:
            try:
                attempt.cost = price.cost(attempt.usage, service=attempt.service)
            except UnpricedError as error:
                self._note(attempt, f"no price for {', '.join(error.parts)}")

    def _price(self, attempt: OpenAttempt) -> Price | None:
        """The price of the model that answered, or else of the one that was asked."""
        served = self._head.model
        asked = self._request.model or _default_model(attempt)
        if served is None or served == asked:
            return self._asked
        return self._cost.price(self._request, attempt.vendor, served, asked)

    def _usage(self, end: Ending, attempt: OpenAttempt) -> Usage | None:
        reported = end.usage or attempt.usage or attempt.broken_off()
        if reported is not None and end.outcome is Outcome.COMPLETE:
            return reported
        delivered = output_usage(end.events or attempt.received)
        if reported is not None:
            return _at_least(reported, delivered)
        prompt = input_usage(self._request)
        return None if prompt is None else prompt + delivered

    def _currency(self, price: Price | None) -> str:
        if price is not None:
            return price.currency
        return next(iter(self._request.context.trace.costs), "USD")

    def _note(self, attempt: OpenAttempt, why: str) -> None:
        model = self._head.model or self._request.model
        self._request.context.note(
            "cost", "cost.unpriced", why=why, provider=attempt.provider, model=model
        )


def _default_model(attempt: OpenAttempt) -> str | None:
    model = getattr(attempt.transport, "model", None)
    return model if isinstance(model, str) else None


def _unsent(attempt: OpenAttempt, end: Ending) -> bool:
    """Whether nothing of the request left this process, whatever put an end to it."""
    return end.outcome is Outcome.NOT_SENT or (attempt.preparing and not attempt.sent)


def _refused_unread(end: Ending) -> bool:
    """Whether the provider refused the request before it began to work on it: that is free."""
    error = end.error
    if not isinstance(error, ProviderError) or isinstance(error, ContentFilteredError):
        return False
    begun = bool(end.events) or end.usage is not None or error.partial is not None
    return not begun and error.status not in _PROCESSED


def _at_least(reported: Usage, delivered: Usage) -> Usage:
    """What was reported of an answer that was cut off, but not less than what was delivered."""
    if reported.output_tokens >= delivered.output_tokens:
        return reported
    return attrs.evolve(
        reported,
        text_output=max(reported.text_output, delivered.text_output),
        reasoning_output=max(reported.reasoning_output, delivered.reasoning_output),
        audio_output=max(reported.audio_output, delivered.audio_output),
        estimated=True,
    )
