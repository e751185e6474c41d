"""Watches one attempt, and writes down what it consumed and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from lamella import (
    ContentFilteredError,
    Ending,
    Handler,
    Head,
    Money,
    OpenAttempt,
    Outcome,
    Price,
    ProviderError,
    Request,
    Response,
    UnpricedError,
    Usage,
    input_usage,
    output_usage,
)
from lamella._prices import STANDARD_SERVICES

if TYPE_CHECKING:
    from lamella._price_lists import Lasting
    from lamella_middlewares.cost._middleware import Cost

R = TypeVar("R", bound=Response)

NO_HEAD = Head()

FREE = frozenset({"token_count"})
"""Operations that nobody bills, whatever the model costs otherwise."""

_ALSO_TEXT: Final[Mapping[str, str]] = {
    "image_input": "uncached_input",
    "reasoning_output": "text_output",
    "image_output": "text_output",
}
"""Parts of an estimate that most providers state as text."""

_PROCESSED = frozenset({408, 504})
"""Statuses with which a provider, or a proxy before it, gives up on work that it has begun."""


class Meter:
    """Watches one attempt, and remembers the head of the answer.

    Args:
        cost: The layer.
        request: What is sent.
        attempt: The attempt.
        model: The model that is asked for.
        price: What that costs; None if nobody knows.
    """

    __slots__ = ("_asked", "_attempt", "_call_next", "_cost", "_head", "_kept", "_model",
                 "_request")  # fmt: skip

    def __init__(
        self,
        cost: Cost,
        request: Request[Any],
        attempt: OpenAttempt,
        model: str | None,
        price: Price | None,
    ) -> None:
        self._cost = cost
        self._request = request
        self._attempt = attempt
        self._model = model
        self._asked = price
        self._head = NO_HEAD
        self._kept: Lasting | None = None  # of the model that the head names
        self._call_next: Handler | None = None

    def answered(self, response: Response) -> None:
        """The answer has come; of a stream, its beginning."""
        self._head = getattr(response, "head", NO_HEAD)

    def reading(self, call_next: Handler) -> Meter:
        """Itself as a handler, that has prices read before it hands the answer on, if need be."""
        self._call_next = call_next
        return self

    @property
    def __name__(self) -> str:  # for the message where what is inside returns no response
        return getattr(self._call_next, "__name__", "transport")

    async def __call__(self, request: Request[R], /) -> R:
        """Send the request on, and have read what it takes to price the model that answers."""
        assert self._call_next is not None  # noqa: S101 - see `reading`
        response = await self._call_next(request)
        self._head = getattr(response, "head", NO_HEAD)
        served = self._head.model
        if served is None or served == self._model:
            return response
        models, cost, attempt = (served, self._model), self._cost, self._attempt
        try:
            self._kept = cost.lasting_for(request, attempt, models)
            if self._kept is None:
                await cost.read_for(request, attempt, models)
        except Exception:  # noqa: BLE001, S110 - it is asked again at the end, and noted there
            pass  # the answer is paid for
        except BaseException:
            await response.aclose()
            raise
        return response

    def settle(self, end: Ending) -> None:
        """Write down what the attempt consumed and what that costs."""
        attempt = self._attempt
        learned = self._head if attempt.learned is None else self._learned(attempt.learned)
        price = self._price(learned)
        if self._head.cached or self._request.operation in FREE:
            attempt.usage = Usage()
            attempt.cost = Money(0, self._currency(price))
        elif (
            (attempt.preparing and not attempt.sent)  # nothing left this process
            or end.outcome is Outcome.NOT_SENT
            or (end.error is not None and _refused_unread(end))
        ):
            attempt.cost = Money(0, self._currency(price))
        else:
            attempt.usage = self._usage(end)
            if learned.service is not None:
                self._serve(learned.service)
            self._bill(attempt, price, attempt.cost or learned.cost)

    def _learned(self, learned: Callable[[], Head]) -> Head:
        """What the answer has said of itself, to its end where it was streamed."""
        try:
            return learned()
        except Exception as error:  # noqa: BLE001 - code of others; the answer is not lost
            self._note("cost.unread", error=type(error).__name__)
            return self._head

    def _serve(self, served: str) -> None:
        """The class of service that was given is the one that is billed."""
        asked = self._attempt.service
        self._attempt.service = served
        if asked not in {None, served} and not {served, asked} <= STANDARD_SERVICES:
            self._request.context.note("cost", "cost.service", asked=asked, served=served)

    def _bill(self, attempt: OpenAttempt, price: Price | None, stated: Money | None) -> None:
        """The provider's own amount, if it states one; or else what the price list says."""
        priced, why = self._priced(attempt, price)
        if not stated:
            attempt.cost = priced
            if priced is None:
                self._note("cost.unpriced", why=why)
            elif price is self._cost.assumed and price is not None:
                self._note("cost.assumed", cost=str(priced))
            return
        attempt.cost = stated
        exact = attempt.usage is not None and not attempt.usage.estimated
        if exact and priced is not None and priced.currency == stated.currency:
            difference = priced.nano - stated.nano
            if abs(difference) > 1:  # more than either may have been rounded by
                self._note("cost.differs", stated=str(stated), priced=str(priced))

    def _priced(self, attempt: OpenAttempt, price: Price | None) -> tuple[Money | None, str]:
        """What the price list says; or None, and why."""
        usage = attempt.usage
        if usage is None:
            return None, "nobody says what it consumed"
        if price is None:
            return None, "no price is known"
        try:
            return price.cost(usage, service=attempt.service), ""
        except UnpricedError as error:
            rough = _as_text(usage, error.parts) if usage.estimated else usage
            if rough == usage or price.unpriced(rough, service=attempt.service):
                return None, f"no price for {', '.join(error.parts)}"
            return price.cost(rough, service=attempt.service), ""

    def _price(self, learned: Head) -> Price | None:
        """The price of the model that answered, or else of the one that was asked."""
        named = self._head.model
        served = learned.model or named
        price = self._asked
        if self._kept is not None and served == named:
            price = self._kept.price
        elif served is not None and served != self._model:
            try:
                price = self._cost.price_for(self._request, self._attempt, (served, self._model))
            except Exception as error:  # noqa: BLE001 - the answer is paid for, and is not lost
                self._note("cost.unread", error=type(error).__name__)
        return self._cost.assumed if price is None else price

    def _usage(self, end: Ending) -> Usage | None:
        complete = end.outcome is Outcome.COMPLETE
        if complete and end.usage is not None:
            return end.usage  # nearly every call
        attempt = self._attempt
        reported = end.usage or attempt.usage or attempt.broken_off()
        if reported is not None and complete:
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

    def _note(self, name: str, **fields: str) -> None:
        model = self._head.model or self._model
        self._request.context.note(
            "cost", name, **fields, provider=self._attempt.provider, model=model
        )


def _refused_unread(end: Ending) -> bool:
    """Whether the provider refused the request before it began to work on it: that is free."""
    error = end.error
    if not isinstance(error, ProviderError) or isinstance(error, ContentFilteredError):
        return False
    begun = bool(end.events) or end.usage is not None or error.partial is not None
    return not begun and error.status not in _PROCESSED


def _as_text(usage: Usage, unpriced: tuple[str, ...]) -> Usage:
    """The estimate, where pictures and reasoning without a price of their own are text.

    Which part is which is a guess of ours: most providers would have stated them as text.
    """
    moved: dict[str, Any] = {}
    for part, text in _ALSO_TEXT.items():
        if part in unpriced:
            moved[part] = 0
            moved[text] = moved.get(text, getattr(usage, text)) + getattr(usage, part)
    return attrs.evolve(usage, **moved)


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
