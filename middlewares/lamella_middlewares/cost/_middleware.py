"""The layer: what it is told, and which price holds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from lamella import (
    CardBook,
    ConfigurationError,
    Context,
    Handler,
    OpenAttempt,
    Price,
    Request,
    Response,
    Usage,
    ending,
    middleware,
)
from lamella._chosen_sources import sources_of
from lamella._layers import name_of
from lamella._options import refused
from lamella._own_models import model_of
from lamella._own_prices import own_prices, price_from
from lamella._price_lists import Lasting, Names, PriceList
from lamella._target_fitness import card_name_of, card_provider_of, service_sent
from lamella_middlewares.cost._known import KnownPrices, Models
from lamella_middlewares.cost._meter import FREE, Meter
from lamella_middlewares.cost._refusal import refuse_model, refuse_service

R = TypeVar("R", bound=Response)

NOTHING: Mapping[str, Any] = MappingProxyType({})
_NO_USAGE: Final = Usage()

Prices: TypeAlias = "Mapping[str, Any] | str | os.PathLike[str]"

_LOSES = (
    "what {} discards is paid for as well, and Cost outside it sees only the answer that is kept"
)


def _name(cost: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not (isinstance(value, str) and value):
        raise refused(cost, option, value, "the name of a provider, such as 'openai', or None")


def _card_book(cost: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, CardBook):
        raise refused(cost, option, value, "a CardBook, or None for the library's own")


def _policy(cost: Any, option: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, str) and value in {"refuse", "note"}:
        return
    want = "'refuse', 'note', or a price such as {'input': '1', 'output': '4'}"
    try:
        # Reading decimals sets a context variable of the decimal module; not in the caller's.
        copy_context().run(price_from, value)
    except (TypeError, ValueError) as error:
        raise refused(cost, option, value, f"{want} ({error})") from error


def _assumed_of(cost: Any) -> Price | None:
    if isinstance(cost.unknown, str):
        return None
    try:
        return copy_context().run(price_from, cost.unknown)
    except (TypeError, ValueError):  # the option's own check says what is wrong
        return None


def _list_of(cost: Any) -> PriceList:
    own = own_prices(cost.prices, "Cost(prices=...)")
    try:
        return PriceList(own, sources_of(cost.sources, cost.book))
    except ConfigurationError as error:
        said = error.message.removeprefix(f"sources={cost.sources!r}: ")
        raise type(error)(f"Cost(sources={cost.sources!r}): {said}", hint=error.hint) from None


def _known_of(cost: Any) -> KnownPrices:
    return KnownPrices(cost._list)  # noqa: SLF001 - its own class


@middleware(
    phase="wire",
    rank=90,
    provides=("prices",),
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
            table such as `{"input": "0.50", "output": "1.50"}` in whole units per million tokens,
            or a list of them with an `effective_from` each. Or the path of a TOML or JSON file with
            such tables, read when the layer is made. They win over all sources.
        unknown: What to do about a model without a price. `"refuse"` does not send the request.
            `"note"` sends it; its cost is then None, never 0, and the trace has a note. A `Price`,
            or a table as in `prices`, is what such a model is billed by, with a note each time.
        provider: Whose models they are, where the transport does not say it: `"openai"` for an
            Azure deployment. None takes the name of the transport, and then its `card_provider`.
        book: The model cards. None takes those of the library and its plugins.
        sources: Where else prices come from, in order: names that are registered (`"cards"`,
            `"genai_prices"`, those of plugins) or `PriceSource` objects. None takes the cards, and
            then `genai-prices` where it is installed (the extra `cost`).

    Raises:
        ConfigurationError: If a price is none, or a file cannot be read.
        UnknownNameError: If nobody has registered one of the sources.
    """

    prices: Prices = attrs.field(default=NOTHING, repr=False)
    unknown: Any = attrs.field(default="refuse", validator=_policy)
    provider: str | None = attrs.field(default=None, validator=_name)
    book: CardBook | None = attrs.field(default=None, validator=_card_book, repr=False)
    sources: Sequence[Any] | None = attrs.field(default=None, repr=False)
    assumed: Price | None = attrs.field(
        init=False, repr=False, default=attrs.Factory(_assumed_of, takes_self=True)
    )
    """What a model without a price is billed by; None if that is not stated."""
    _list: PriceList = attrs.field(
        init=False, repr=False, default=attrs.Factory(_list_of, takes_self=True)
    )
    _known: KnownPrices = attrs.field(
        init=False, repr=False, default=attrs.Factory(_known_of, takes_self=True)
    )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Send the request on and meter the attempt.

        Raises:
            RefusedError: If the model, or the class of service, has no price, and `unknown` does
                not say what to do then; nothing is sent.
        """
        context = request.context
        attempt = context.attempt
        if attempt is None:
            context.note("cost", "cost.skipped", why="no attempt is under way here")
            return await call_next(request)
        # Before anything is sent: whatever is wrong with a card file must not cost an answer.
        transport = attempt.transport
        model = request.model or model_of(request, transport)
        models, wall = (model,), context.ports.wall()
        found = self._known.get(transport, attempt.vendor, models, wall)
        if found is None:
            found = self._lasting(transport, attempt.vendor, models, wall)
        if found is None:
            names = self._names(transport, attempt.vendor, models)
            price = await self._list.get(names, context)
        else:
            price = found.price
        unsure = price is None or getattr(request, "service_tier", None) is not None
        if unsure and self.unknown == "refuse" and request.operation not in FREE:
            self._must_have(price, model, request, attempt)
        meter = Meter(self, request, attempt, model, price)
        if not self._list.read:
            return await ending(meter.reading(call_next), request, meter.settle)
        return await ending(call_next, request, meter.settle, answered=meter.answered)

    async def ready(self, request: Request[Any], /) -> None:
        """See `Pricing`."""
        if not self.read:
            transport = self._transport_of(request)
            models = (model_of(request, transport),)
            names = self._names(transport, name_of(transport), models)
            await self._list.get(names, request.context)

    def price_of(self, request: Request[Any], /) -> Price | None:
        """The price that holds now for the model a request is about to be sent to.

        Layers outside ask, before there is an attempt; see `Pricing`.

        Args:
            request: As it is on its way to its target.

        Returns:
            That of `unknown` where that is a price; None if there is none, or nobody says what the
            model is.

        Raises:
            ConfigurationError: If a card file of the user's cannot be read.
        """
        context = request.context
        transport = self._transport_of(request)
        models = (model_of(request, transport),)
        price = self._price(transport, name_of(transport), models, context.ports.wall(), context)
        return self.assumed if price is None else price

    @property
    def read(self) -> bool:
        """Whether all prices are at hand."""
        return self._list.read

    def lasting_for(
        self, request: Request[Any], attempt: OpenAttempt, models: Models
    ) -> Lasting | None:
        """What `price_for` says, where that can be said without reading or asking anybody."""
        transport, vendor = attempt.transport, attempt.vendor
        wall = request.context.trace.started + attempt.start
        found = self._known.get(transport, vendor, models, wall)
        return self._lasting(transport, vendor, models, wall) if found is None else found

    async def read_for(self, request: Request[Any], attempt: OpenAttempt, models: Models) -> None:
        """Have read what `price_for` needs, off the event loop."""
        names = self._names(attempt.transport, attempt.vendor, models)
        await self._list.get(names, request.context)

    def price_for(
        self, request: Request[Any], attempt: OpenAttempt, models: Models
    ) -> Price | None:
        """The price of a model of these names, the best one first, when the attempt began."""
        context = request.context
        wall = context.trace.started + attempt.start
        return self._price(attempt.transport, attempt.vendor, models, wall, context)

    def _price(
        self, transport: object, vendor: str, models: Models, wall: float, context: Context
    ) -> Price | None:
        found = self._known.get(transport, vendor, models, wall)
        if found is None:
            found = self._lasting(transport, vendor, models, wall)
        if found is not None:
            return found.price
        return self._list.find(self._names(transport, vendor, models), wall, context)

    def _lasting(
        self, transport: object, vendor: str, models: Models, wall: float
    ) -> Lasting | None:
        """What can be kept from now on; None where it has to be asked each time."""
        found = self._list.lasting(self._names(transport, vendor, models), wall)
        if found is not None:
            self._known.keep(transport, vendor, models, wall, found)
        return found

    def _transport_of(self, request: Request[Any]) -> Any:
        target = request.target
        transport: Any = None if target is None else target.transport
        if transport is None:
            transport = request.context.transport
        while (inner := getattr(transport, "transport", None)) is not None:
            transport = inner  # a pipeline's own
        return transport

    def _names(self, transport: object, vendor: str, models: Models) -> Names:
        """What a model may be called by who knows its price.

        The transport may go by a name of its own, and call models otherwise than the cards do.
        """
        whose = self.provider or vendor
        theirs = self.provider or (whose if transport is None else card_provider_of(transport))
        names: list[tuple[str, str]] = []
        for model in models:
            if model is None:
                continue
            names.append((whose, model))
            other = (theirs, model if transport is None else card_name_of(transport, model))
            if other != names[-1]:
                names.append(other)
        return names

    def _must_have(
        self, price: Price | None, model: str | None, request: Request[Any], attempt: OpenAttempt
    ) -> None:
        if price is None and model is None and request.own_model:
            return  # the transport has a model for it, and the answer says which
        service = None if price is None else service_sent(request, self.book)
        if price is not None and (
            service is None or not price.unpriced(_NO_USAGE, service=service)
        ):
            return
        whose = self.provider or attempt.vendor
        if price is not None:
            raise refuse_service(str(service), model, whose)
        raise refuse_model(model, whose, named=self.provider is not None, book=self.book)
