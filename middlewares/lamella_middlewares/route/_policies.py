"""Which of the targets that could take a request gets it.

A policy is a small object with one method; a third party's is used like those here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random  # noqa: TID251 - the type of the random port
from typing import Any, ClassVar, Final, Protocol, cast, runtime_checkable

import attrs

from lamella import ConfigurationError, Request, Target
from lamella._options import number, seconds, span
from lamella_middlewares.route._board import Standing
from lamella_middlewares.route._tables import made

FORGET: Final = 10
"""After so many half-lives without a measurement a target counts as unknown."""


class Candidate:
    """A target that could take the request, as policies see it.

    Attributes:
        target: Where a request would go.
        weight: How much of the traffic it should get, above 0: its weight as set, or a growing part
            of that while it comes back from an ejection.
        ramp: That part, 1 for most.
        streamed: Whether the request at hand is streamed: only like is compared with like.
        now: The monotonic instant, in seconds.
    """

    __slots__ = ("now", "ramp", "standing", "streamed", "target", "weight")

    def __init__(
        self,
        target: Target,
        standing: Standing,
        weight: float,
        ramp: float,
        request: Request[Any],
        now: float,
    ) -> None:
        self.target = target
        self.standing = standing
        self.weight = weight
        self.ramp = ramp
        self.streamed = request.stream
        self.now = now

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
        return self.standing.tokens.at(self.now)

    def latency(self, forget: float = 600.0) -> float | None:
        """Seconds to its first event lately; None if nothing was measured for `forget` seconds."""
        return self.standing.latency[self.streamed].mean(self.now, forget)

    def __repr__(self) -> str:
        return f"<Candidate {self.name!r} weight={self.weight:g} in_flight={self.in_flight}>"


@runtime_checkable
class Policy(Protocol):
    """Chooses among targets that are all fit to take the request."""

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
    left = random.random() * sum([one.weight for one in candidates])
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
    noticed; one of which nothing is known is tried by one call at a time.

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
            return pick(unknown, random)
        scores = [(latency * _load(one), one) for one, latency in known if latency is not None]
        if not scores:  # all are being tried for the first time
            return LeastInFlight().choose(request, candidates, random)
        least = min(score for score, _ in scores)
        return pick([one for score, one in scores if score == least], random)


@attrs.frozen
class LeastUsed:
    """The target with the fewest tokens used lately for its weight.

    It spreads tokens, where calls are of very different size, over limits in tokens per minute.
    """

    name: ClassVar[str] = "usage"

    def choose(
        self, request: Request[Any], candidates: Sequence[Candidate], random: Random, /
    ) -> Candidate:
        """See `Policy`."""
        scores = [(one.tokens / one.weight, one) for one in candidates]
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
            return made("policy", kind, options)
    elif isinstance(given, Policy) and not isinstance(given, type):
        return given
    raise ConfigurationError(
        f"Route(policy={given!r}): give one of {', '.join(map(repr, names))}, a table such as "
        "{'use': 'latency', 'half_life': 60}, or an object with the method "
        "choose(request, candidates, random)."
    )
