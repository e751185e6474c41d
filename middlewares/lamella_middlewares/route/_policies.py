"""Which of the targets that could take a request gets it.

A policy is a small object with one method; a third party's is used like those here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from random import Random  # noqa: TID251 - the type of the random port
from typing import Any, ClassVar, Final, Protocol, cast, runtime_checkable

import attrs

from lamella import ConfigurationError, Price, Request, Target
from lamella._options import is_async, is_number, number, seconds, span
from lamella._price_sources import Pricing
from lamella._structuring import build_option
from lamella_middlewares.route._board import USAGE_HALF_LIFE, Standing

FORGET: Final = 10
"""After so many half-lives without a measurement a target counts as unknown."""

LEAST: Final = 1e-9
MOST: Final = 1e9
"""Weights between which sums and quotients of a few of them are exact enough."""


class Moment:
    """What holds for all candidates of one choice.

    Attributes:
        request: The request at hand.
        now: The monotonic instant, in seconds.
        pricing: The layer inside that knows prices; None if there is none.
    """

    __slots__ = ("now", "pricing", "request")

    def __init__(self, request: Request[Any], now: float, pricing: Pricing | None = None) -> None:
        self.request = request
        self.now = now
        self.pricing = pricing


class Candidate:
    """A target that could take the request, as policies see it.

    Attributes:
        target: Where a request would go.
        weight: How much of the traffic it should get, above 0: its weight as set, or a growing part
            of that while it comes back from an ejection.
        ramp: That part, 1 for most.
        moment: What holds for all of them.
        streamed: Whether the request at hand is streamed: only like is compared with like.
        now: The monotonic instant, in seconds.
    """

    __slots__ = ("moment", "now", "ramp", "standing", "streamed", "target", "weight")

    def __init__(
        self, target: Target, standing: Standing, weight: float, ramp: float, moment: Moment
    ) -> None:
        self.target = target
        self.standing = standing
        self.weight = weight
        self.ramp = ramp
        self.moment = moment
        self.streamed = moment.request.stream
        self.now = moment.now

    @property
    def name(self) -> str:
        """The target's name."""
        return self.target.name

    @property
    def in_flight(self) -> int:
        """Calls there now."""
        return self.standing.in_flight

    @property
    def tokens(self) -> float:
        """Tokens used there lately, each counting half after 30 seconds."""
        return self.standing.tokens.sum(self.now, USAGE_HALF_LIFE)

    def latency(self, forget: float = 600.0) -> float | None:
        """Seconds to its first event lately; None if nothing was measured for `forget` seconds."""
        return self.standing.latency[self.streamed].mean(self.now, forget)

    @property
    def priced(self) -> bool:
        """Whether a layer inside knows prices; without one `price` is None for all."""
        return self.moment.pricing is not None

    def price(self) -> Price | None:
        """What `Cost` inside would bill the request by there; None if nobody knows.

        A policy that asks declares `asks_prices`; see `Policy`.
        """
        moment = self.moment
        if moment.pricing is None:
            return None
        return moment.pricing.price_of(moment.request.aim(self.target))

    def __repr__(self) -> str:
        return f"<Candidate {self.name!r} weight={self.weight:g} in_flight={self.in_flight}>"


@runtime_checkable
class Policy(Protocol):
    """Chooses among targets that are all fit to take the request.

    One that asks candidates for their prices says so by an attribute `asks_prices` that is true:
    the price list is then read before the first choice, off the event loop.
    """

    def choose(
        self, request: Request[Any], candidates: Sequence[Candidate], random: Random, /
    ) -> Candidate:
        """One of the candidates.

        It runs on the event loop for each request, so it has microseconds, and waits for nothing.

        Args:
            request: What is to be sent.
            candidates: At least two, in the order of the layer's targets.
            random: The only source of chance to use, so that a seed repeats a run.
        """
        ...


def pick(candidates: Sequence[Candidate], random: Random) -> Candidate:
    """One by chance, each as often as its weight says."""
    whole = 0.0
    for one in candidates:
        whole += one.weight
    left = random.random() * whole
    for one in candidates:
        left -= one.weight
        if left < 0:
            return one
    return candidates[-1]  # what rounding has left over


def two(candidates: Sequence[Candidate], random: Random) -> tuple[Candidate, Candidate]:
    """Two different ones by chance, by weight."""
    first = pick(candidates, random)
    if len(candidates) == 2:
        return first, candidates[first is candidates[0]]
    return first, pick([one for one in candidates if one is not first], random)


@attrs.frozen
class Weighted:
    """By chance, each target as often as its weight says."""

    name: ClassVar[str] = "weighted"

    def choose(
        self, request: Request[Any], candidates: Sequence[Candidate], random: Random, /
    ) -> Candidate:
        """See `Policy`."""
        return pick(candidates, random)


@attrs.frozen
class LeastInFlight:
    """Of two by chance, the one with fewer calls in flight for its weight.

    Two choices keep the fullest target nearly as empty as looking at all of them would, without
    that everybody rushes to the emptiest one (Mitzenmacher, "The Power of Two Choices").
    """

    name: ClassVar[str] = "least_in_flight"

    def choose(
        self, request: Request[Any], candidates: Sequence[Candidate], random: Random, /
    ) -> Candidate:
        """See `Policy`."""
        one, other = two(candidates, random)
        # With the call itself, so that a weight means something for empty targets too.
        return one if _load(one) <= _load(other) else other


@attrs.frozen
class Fastest:
    """The target that begins to answer soonest, for the calls that it has already.

    What is compared is the mean time to the first event, in which old measurements fade, times the
    calls in flight. A few calls go elsewhere by chance, so that a target which has become faster is
    noticed. A new target is tried by one call at a time; one that has been, and has never answered,
    gets its share of the calls by weight, and not all of them.

    Args:
        half_life: Seconds after which a measurement counts half, above 0. After ten times that
            without one, nothing is known any more.
        explore: The share of calls that go to a target by chance, 0 to 1. With 0, a slow target
            gets its next chance when it is forgotten.
    """

    name: ClassVar[str] = "latency"

    half_life: float = attrs.field(default=30.0, converter=seconds, validator=span)
    explore: float = attrs.field(default=0.05, validator=number(0, 1))

    def choose(
        self, request: Request[Any], candidates: Sequence[Candidate], random: Random, /
    ) -> Candidate:
        """See `Policy`."""
        if self.explore and random.random() < self.explore:
            return pick(candidates, random)
        forget = self.half_life * FORGET
        known = [(one, one.latency(forget)) for one in candidates]
        unknown = [one for one, latency in known if latency is None and not one.in_flight]
        if unknown:
            new = [one for one in unknown if not one.standing.calls]
            tried = pick(new or candidates, random)
            if tried in unknown:
                return tried
        scores = [(latency * _load(one), one) for one, latency in known if latency is not None]
        if not scores:  # all are being tried for the first time
            return LeastInFlight().choose(request, candidates, random)
        least = min(score for score, _ in scores)
        return pick([one for score, one in scores if score == least], random)


@attrs.frozen
class LeastUsed:
    """The target with the fewest tokens used lately for its weight.

    It spreads tokens, where calls are of very different size, over limits in tokens per minute. A
    call in flight counts as much as calls have used on average.
    """

    name: ClassVar[str] = "usage"

    def choose(
        self, request: Request[Any], candidates: Sequence[Candidate], random: Random, /
    ) -> Candidate:
        """See `Policy`."""
        # What a call uses is known at its end; a burst would all go where the least was until then.
        means = [one.standing.tokens.mean(one.now) for one in candidates]
        sizes = [mean for mean in means if mean is not None]
        size = sum(sizes) / len(sizes) if sizes else 1.0
        scores = [((one.tokens + one.in_flight * size) / one.weight, one) for one in candidates]
        least = min(score for score, _ in scores)
        return pick([one for score, one in scores if score == least], random)


def _load(candidate: Candidate) -> float:
    return (candidate.in_flight + 1) / candidate.weight


def policy_of(given: Any) -> Policy:
    """The policy that an option asks for.

    Args:
        given: A name; a table with `use` and the policy's options; or a policy itself.

    Raises:
        ConfigurationError: If it is none of these, or an option is wrong.
    """
    from lamella_middlewares.route._cheapest import Cheapest

    names: dict[str, Callable[..., Policy]] = {
        "weighted": Weighted,
        "least_in_flight": LeastInFlight,
        "latency": Fastest,
        "cost": Cheapest,
        "usage": LeastUsed,
    }
    if isinstance(given, str | Mapping):
        options = {"use": given} if isinstance(given, str) else dict(cast("Any", given))
        use = options.pop("use", None)
        kind = names.get(use.replace("-", "_")) if isinstance(use, str) else None
        if kind is not None:
            return build_option("policy", kind, options)
    elif isinstance(given, Policy) and not isinstance(given, type):
        if is_async(given.choose):
            msg = f"Route(policy={given!r}): its `choose` is async, and runs without waiting."
            raise ConfigurationError(msg, hint="Make it a plain function.")
        return given
    raise ConfigurationError(
        f"Route(policy={given!r}): give one of {', '.join(map(repr, names))}, a table such as "
        "{'use': 'latency', 'half_life': 60}, or an object with the method "
        "choose(request, candidates, random)."
    )


class Weights(MutableMapping[str, float]):
    """How much each target gets, by name; those that are not named have 1.

    Numbers of which only the proportions matter; 0 takes a target out. Setting one
    (`route.weights["new"] = 0`) holds for the next call. One object may be given to several layers,
    and is changed from any thread.

    Args:
        given: The weights to begin with: each 0, or from a billionth to a billion.

    Attributes:
        table: Those that are named, as they are now; cheaper to look at. Not to be written to.

    Raises:
        ConfigurationError: If a weight is none of these; or, once a layer uses them, if its target
            is in none.
    """

    def __init__(self, given: Mapping[str, float] | None = None) -> None:
        self.table: dict[str, float] = {}
        self._targets: frozenset[str] = frozenset()
        seen = cast("object", given)
        if seen is not None and not isinstance(seen, Mapping):
            raise ConfigurationError(
                f"Route(weights={seen!r}): give a table of numbers by target: {{'new': 0.1}}."
            )
        for name, weight in (given or {}).items():
            self[name] = weight

    def use(self, targets: frozenset[str]) -> None:
        """A layer with these targets uses them."""
        self._targets |= targets

    def __getitem__(self, name: str) -> float:
        return self.table[name]

    def __setitem__(self, name: str, weight: float) -> None:
        if not is_number(weight) or not (weight == 0 or LEAST <= weight <= MOST):
            raise ConfigurationError(
                f"Route(weights=...): {name!r} has {weight!r}: give 0, or a number from {LEAST:g} "
                f"to {MOST:g}."
            )
        if self._targets and name not in self._targets:
            raise ConfigurationError(
                f"Route(weights=...) names the target {name!r}, and there is none.",
                hint=f"There are: {', '.join(sorted(self._targets))}.",
            )
        self.table[name] = float(weight)

    def __delitem__(self, name: str) -> None:
        del self.table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.table))  # another thread may be setting one

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"Weights({self.table!r})"


def weights_of(given: Any) -> Weights:
    """The weights that an option asks for.

    Raises:
        ConfigurationError: If it is no table of numbers.
    """
    return given if isinstance(given, Weights) else Weights(given)
