"""What really happened at a simulated provider: the truth that the stack's record is held to."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from lamella._usage import Usage

if TYPE_CHECKING:
    from lamella._attempts import OpenAttempt
    from lamella._money import Money
    from lamella._prices import Price

_MINUTE = 60.0


class Record:
    """One request that a provider has received.

    Attributes:
        mark: Its name, which the provider also writes into each piece of the answer.
        call_id: The call that sent it; a flight or a shadow copy is a call of its own.
        attempt: The attempt that it was.
        input_tokens: What it made the model read.
        given: Tokens of the answer that have been handed out.
        begun: Whether the model has begun to work on it: from then on it is billed.
        open: Whether its connection is still open.
    """

    __slots__ = ("_ledger", "attempt", "begun", "call_id", "given", "input_tokens", "mark", "open")

    def __init__(
        self, ledger: Ledger, mark: str, call_id: str, attempt: OpenAttempt | None
    ) -> None:
        self._ledger = ledger
        self.mark = mark
        self.call_id = call_id
        self.attempt = attempt
        self.input_tokens = 0
        self.given = 0
        self.begun = False
        self.open = True

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self._ledger.name

    def close(self) -> None:
        """Its connection is over."""
        if self.open:
            self.open = False
            self._ledger.open -= 1

    def price(self) -> Money | None:
        """What the provider bills for it; None if it states no prices.

        What was read and what was handed out, from the moment at which work began.
        """
        price = self._ledger.price
        if price is None:
            return None
        usage = Usage()
        if self.begun:
            usage = Usage(uncached_input=self.input_tokens, text_output=self.given)
        return price.cost(usage)


class Ledger:
    """The sums of one provider.

    Attributes:
        name: Whose they are.
        price: What it bills.
        received: Requests that reached it, whatever became of them.
        answers: How they ended: `complete`, `throttled`, `overloaded`, `status 500`, `cut`,
            `stalled`; and `refused`, connections that were not accepted.
        input_tokens: Tokens read for answers that were begun.
        output_tokens: Tokens handed out.
        open: Connections that are open now; 0 once all is over.
        most_open: The most that were open at once.
        per_minute: Requests received in each minute.
    """

    def __init__(self, name: str, price: Price | None) -> None:
        self.name = name
        self.price = price
        self.received = 0
        self.answers: Counter[str] = Counter()
        self.input_tokens = 0
        self.output_tokens = 0
        self.open = 0
        self.most_open = 0
        self.per_minute: Counter[int] = Counter()

    def receive(self, at: float, call_id: str, mark: str, attempt: OpenAttempt | None) -> Record:
        """A request has arrived.

        Args:
            at: Seconds since the provider was started.
            call_id: Whose call it belongs to.
            mark: Its name.
            attempt: The attempt that it is.
        """
        self.received += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        self.per_minute[int(at // _MINUTE)] += 1
        return Record(self, mark, call_id, attempt)

    @property
    def peak_per_minute(self) -> int:
        """The most requests received within one minute of the clock."""
        return max(self.per_minute.values(), default=0)

    def to_json(self) -> dict[str, Any]:
        """The sums as JSON values."""
        return {
            "received": self.received,
            "answers": dict(sorted(self.answers.items())),
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "most_open": self.most_open,
            "peak_per_minute": self.peak_per_minute,
            "open": self.open,
        }
