"""The port of what knows prices: the model cards, a program's own table, a data set of others."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from lamella._prices import Price
    from lamella._requests import Request

PRICES: str = "prices"
"""What a layer provides that can say what a request will be billed by; see `Pricing`."""


class PriceSource(Protocol):
    """Knows prices of models. Asked on the event loop, so it answers from memory.

    A source that has to read something first may have a method `load()`, without arguments: it is
    called once, in a thread, before the first question. One may have a `name`, for messages; and an
    `edition`: a number, or a method without arguments that gives one, which rises whenever its
    answers may have changed. Then they are kept for the day, and not asked for at every call.
    """

    def price(self, provider: str, model: str, day: dt.date, /) -> Price | None:
        """The price that holds for a model on a day; None if this source has none.

        It answers for exactly that model: a price of a similar one is a wrong price. An error is
        noted in the call's trace, logged once, and the next source is asked.

        Args:
            provider: Whose model it is, in the words of the model cards: `"openai"`.
            model: Its name there.
            day: The day of the call (UTC).
        """
        ...


class Pricing(Protocol):
    """What a layer does that provides `"prices"`: layers outside of it ask before they send."""

    async def ready(self, request: Request[Any], /) -> None:
        """Have read what `price_of` needs for this request, off the event loop.

        Without it the first question of a process does the reading, and holds up the event loop for
        as long as that takes. Where all is at hand it returns at once.

        Args:
            request: As for `price_of`.

        Raises:
            ClosedError: If the pipeline closes meanwhile.
            DeadlineExceeded: If the deadline leaves no time to read.
        """
        ...

    def price_of(self, request: Request[Any], /) -> Price | None:
        """The price of the model that a request is about to be sent to; None if there is none.

        Args:
            request: As a layer of the attempt phase has it, aimed at its target.
        """
        ...
