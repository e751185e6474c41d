"""Who calls, how often, with what, and how they behave: open-loop, so nobody waits for answers.

A closed loop, in which a caller sends the next request after the last answer, slows down with the
provider and hides what an overload does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any, Final, Literal, TypeAlias

import attrs

from lamella._chat import ChatRequest
from lamella._errors import ConfigurationError
from lamella._options import number, one_of, refused, seconds, span, whole
from lamella.testing._simulated_source import MOST_TOKENS
from lamella.testing._simulated_spread import Spread, as_spread

Arrivals: TypeAlias = Literal["poisson", "constant", "burst"]
"""How callers arrive."""

TEMPLATES: Final = 32
_SIGMA: Final = 0.8


def _share(default: float = 0.0) -> Any:
    return attrs.field(default=default, validator=number(0, 1))


def _length(value: float | Spread) -> Spread:
    return as_spread(value, _SIGMA)


def _whole_numbers(value: Iterable[int]) -> tuple[int, ...]:
    return tuple(value)


def _numbers(load: object, option: attrs.Attribute[Any], value: Any) -> None:
    if not value or not all(type(each) is int for each in value):
        raise refused(load, option, value, "one or more whole numbers")


def _count(load: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        whole(1)(load, option, value)


@attrs.frozen(kw_only=True)
class Load:
    """The callers of a simulation.

    Attributes:
        rate: Calls a second, on the average.
        duration: For how many seconds, or a timedelta, callers come.
        requests: Exactly so many calls instead; None goes by the duration.
        arrivals: `poisson` is independent of each other, `constant` evenly spaced, `burst` in
            groups of `burst` that come at the same instant.
        burst: How many come at once in `burst`.
        tenants: Among how many tenants the calls are spread.
        tenant_skew: 0 spreads them evenly; with s, the k-th tenant makes 1 / k**s as many calls as
            the first.
        priorities: The priorities that calls have, each equally often.
        prompt_tokens: How long prompts are.
        repeats: The share of calls that ask exactly what others ask.
        leaves: The share of streams that are left after a few events.
        cancels: The share of calls whose caller gives up after some seconds.
        holds: The share of streams whose consumer takes seconds for each event.
    """

    rate: float = attrs.field(default=10.0, validator=number(1e-6))
    duration: float = attrs.field(default=600.0, converter=seconds, validator=span)
    requests: int | None = attrs.field(default=None, validator=_count)
    arrivals: Arrivals = attrs.field(
        default="poisson", validator=one_of("poisson", "constant", "burst")
    )
    burst: int = attrs.field(default=50, validator=whole(1))
    tenants: int = attrs.field(default=1, validator=whole(1, 1_000_000))
    tenant_skew: float = attrs.field(default=0.0, validator=number(0, 10))
    priorities: tuple[int, ...] = attrs.field(
        default=(0,), converter=_whole_numbers, validator=_numbers
    )
    prompt_tokens: Spread = attrs.field(default=Spread(300.0, _SIGMA), converter=_length)
    repeats: float = _share()
    leaves: float = _share()
    cancels: float = _share()
    holds: float = _share()

    @property
    def expected(self) -> int:
        """About how many calls there will be."""
        return self.requests if self.requests is not None else round(self.rate * self.duration)

    @property
    def span(self) -> float:
        """About how long callers come, in seconds."""
        return self.duration if self.requests is None else self.requests / self.rate

    def instants(self, random: Random) -> Iterator[float]:
        """When calls begin, in seconds from the beginning; endless if `requests` is given.

        Args:
            random: The source of chance.
        """
        at = 0.0
        for number_ in itertools.count(1):
            if self.arrivals == "poisson":
                at += random.expovariate(self.rate)
            elif self.arrivals == "constant":
                at = number_ / self.rate
            else:
                at = (1 + (number_ - 1) // self.burst) * self.burst / self.rate
            if self.requests is None and at > self.duration:
                return
            yield at

    def templates(self, model: str, random: Random) -> list[ChatRequest]:
        """Requests of all lengths; calls share their messages.

        Args:
            model: The model that they ask.
            random: The source of chance.
        """
        lengths = [
            min(round(self.prompt_tokens.draw(random)), MOST_TOKENS) for _ in range(TEMPLATES)
        ]
        return [ChatRequest.of("word " * max(1, length), model=model) for length in lengths]

    def tenant_weights(self) -> list[float] | None:
        """Cumulative weights of the tenants; None if all are alike."""
        if self.tenant_skew == 0:
            return None
        return list(itertools.accumulate((k + 1) ** -self.tenant_skew for k in range(self.tenants)))


def must_be_load(load: object) -> None:
    """Refuse what is no load.

    Raises:
        ConfigurationError: If it is none.
    """
    if not isinstance(load, Load):
        raise ConfigurationError(f"load={load!r}: give a Load(rate=..., duration=...).")
