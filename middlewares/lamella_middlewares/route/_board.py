"""What is known of each target: how many calls are there, how fast it is, how it behaves.

One board for each namespace, shared by all pipelines of a process that have the same stores. What
is counted of a target that has no transport of its own is counted under the provider that the
request was going to: the same model at two providers is two places.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Final, TypeAlias

import attrs

from lamella import AttemptBound
from lamella._fork_locks import fork_safe_lock
from lamella_middlewares.route._ejection import LONGEST_REST, Conduct, Ejection, Status
from lamella_middlewares.route._meters import DecayingMean, DecayingSum
from lamella_middlewares.route._weights import Weights

MAX_PLACES: Final = 1_024
"""How many targets, and how many sets of them, a board knows. Beyond, the oldest are forgotten."""

USAGE_HALF_LIFE: Final = 30.0
"""Seconds after which a token counts half: about what providers' limits per minute look at."""

BY_HAND: Final = "by hand"

Place: TypeAlias = tuple[str, str]
"""A provider, empty where the target has a transport of its own, and the target's name."""


class Standing:
    """One target's figures. Read freely; changed under the lock of the board.

    Attributes:
        name: The target's name.
        provider: Whose target it is; empty where it has a transport of its own.
        conduct: How it behaves.
        in_flight: Calls there now; of a stream until its end.
        latency: The time to the first event of answers that were not streamed, and of those that
            were: only like is compared with like.
        tokens: What was used there lately.
        calls: Calls that have ended there.
        failures: Those of them that were its failure.
        local: Those of them that this process refused, or ran out of time for.
    """

    __slots__ = ("calls", "conduct", "failures", "in_flight", "latency", "local", "name",
                 "provider", "tokens")  # fmt: skip

    def __init__(self, provider: str, name: str) -> None:
        self.name = name
        self.provider = provider
        self.conduct = Conduct()
        self.in_flight = 0
        self.latency = (DecayingMean(), DecayingMean())
        self.tokens = DecayingSum(USAGE_HALF_LIFE)
        self.calls = 0
        self.failures = 0
        self.local = 0


@attrs.frozen
class TargetState:
    """How a target stands now.

    Attributes:
        name: Its name.
        provider: Under which provider it is counted; empty where it has a transport of its own.
        status: `ok`, `ejected` for failing, `resting` because its provider said so, or `isolated`
            by hand.
        why: Why it is not ok; empty if it is.
        back_in: Seconds until it may be chosen again, 0 if it may; None if only a hand brings it
            back.
        weight: Its weight as set now; 0 takes it out.
        in_flight: Calls there now.
        latency: Seconds to the first event of streamed answers lately; None if there were none.
        run_latency: The same of answers that were not streamed.
        tokens: Tokens used there lately, each counting half after 30 seconds.
        ejections: How many ejections still count against it.
        consecutive: Failures in a row.
        calls: Calls that have ended there.
        failures: Those of them that were its failure.
        local: Those of them that this process refused, or ran out of time for.
    """

    name: str
    provider: str
    status: Status
    why: str
    back_in: float | None
    weight: float
    in_flight: int
    latency: float | None
    run_latency: float | None
    tokens: int
    ejections: int
    consecutive: int
    calls: int
    failures: int
    local: int


class Board:
    """All targets of one namespace. Thread-safe.

    Attributes:
        lock: Held while anything of any standing is changed.
        flying: For each model turn, the targets that have it under way now.
        shadows: Shadow copies under way, by target.
    """

    def __init__(self) -> None:
        self.lock = fork_safe_lock()
        self.flying: dict[AttemptBound, list[str]] = {}
        self.shadows: dict[str, int] = {}
        self._isolated: set[str] = set()
        self._resting: dict[str, float] = {}  # by hand, until when
        self._standings: OrderedDict[Place, Standing] = OrderedDict()
        self._groups: OrderedDict[tuple[object, ...], tuple[Standing, ...]] = OrderedDict()

    def group(self, provider: str, places: tuple[tuple[str, bool], ...]) -> tuple[Standing, ...]:
        """The standings of a layer's targets, in its order.

        Args:
            provider: Where the request was going.
            places: Each target's name, and whether it has a transport of its own.
        """
        key = (provider, places)
        group = self._groups.get(key)
        return group if group is not None else self._grouped(key, provider, places)

    def _grouped(
        self,
        key: tuple[object, ...],
        provider: str,
        places: tuple[tuple[str, bool], ...],
    ) -> tuple[Standing, ...]:
        with self.lock:
            group = tuple([self._standing("" if own else provider, name) for name, own in places])
            self._groups[key] = group
            while len(self._groups) > MAX_PLACES:
                self._groups.popitem(last=False)
            return group

    def _standing(self, provider: str, name: str) -> Standing:
        place = (provider, name)
        standing = self._standings.get(place)
        if standing is None:
            standing = self._standings[place] = Standing(provider, name)
            if name in self._isolated:
                standing.conduct.isolate()
            if name in self._resting:
                standing.conduct.rest_until(self._resting[name], BY_HAND)
            # What is forgotten lives on with the groups and calls that hold it.
            while len(self._standings) > MAX_PLACES:
                self._standings.popitem(last=False)
        return standing

    # --- by hand -----------------------------------------------------------------------------

    def isolate(self, name: str) -> None:
        """Take a target out, whichever provider it is counted under, seen already or not."""
        with self.lock:
            self._isolated.add(name)
            for standing in self._named(name):
                standing.conduct.isolate()

    def rest(self, name: str, now: float, lasts: float) -> None:
        """Leave a target alone for so many seconds."""
        with self.lock:
            until = self._resting[name] = now + min(lasts, LONGEST_REST)
            for standing in self._named(name):
                standing.conduct.rest_until(until, BY_HAND)

    def reset(self, name: str) -> None:
        """Forget all that speaks against a target."""
        with self.lock:
            self._isolated.discard(name)
            self._resting.pop(name, None)
            for standing in self._named(name):
                standing.conduct.restore()

    def states(
        self, names: Collection[str], now: float, weights: Weights, ejection: Ejection
    ) -> tuple[TargetState, ...]:
        """How the targets of these names stand."""
        with self.lock:
            return tuple(
                [
                    state_of(one, now, weights.of(one.name), ejection)
                    for one in self._standings.values()
                    if one.name in names
                ]
            )

    def _named(self, name: str) -> list[Standing]:
        return [one for one in self._standings.values() if one.name == name]

    # --- shadow copies -----------------------------------------------------------------------

    def cast(self, name: str, most: int) -> bool:
        """A shadow copy begins; False if there are `most` already."""
        with self.lock:
            under_way = self.shadows.get(name, 0)
            if under_way >= most:
                return False
            self.shadows[name] = under_way + 1
            return True

    def fade(self, name: str) -> None:
        """A shadow copy has ended."""
        with self.lock:
            left = self.shadows[name] - 1
            if left:
                self.shadows[name] = left
            else:
                del self.shadows[name]

    # --- calls -------------------------------------------------------------------------------

    def depart(self, standing: Standing, turn: AttemptBound) -> int:
        """A call goes there, for a model turn; the epoch in which it does."""
        with self.lock:
            standing.in_flight += 1
            flying = self.flying.get(turn)
            if flying is None:
                self.flying[turn] = [standing.name]
            else:
                flying.append(standing.name)
            return standing.conduct.epoch

    def arrive(self, standing: Standing, turn: AttemptBound) -> None:
        """A call there has ended. Called under the lock."""
        standing.in_flight -= 1
        standing.calls += 1
        flying = self.flying[turn]
        flying.remove(standing.name)
        if not flying:
            del self.flying[turn]


def may_eject(
    standing: Standing, others: tuple[Standing, ...], now: float, ejection: Ejection
) -> str | None:
    """Why a target must not be ejected although it fails; None if it may be.

    Args:
        standing: The target.
        others: All targets of the layer, itself included.
        now: The monotonic instant, in seconds.
        ejection: The bounds.
    """
    conducts = [one.conduct for one in others if one is not standing]
    if all(conduct.status(now) != "ok" for conduct in conducts):
        return "it is the last one left"
    ejected = [conduct for conduct in conducts if now < conduct.ejected_until]
    return "max_ejected" if len(ejected) >= ejection.most(len(others)) else None


def state_of(standing: Standing, now: float, weight: float, ejection: Ejection) -> TargetState:
    """A standing as it is shown. Called under the lock."""
    conduct = standing.conduct
    status = conduct.status(now)
    run, stream = standing.latency
    return TargetState(
        name=standing.name,
        provider=standing.provider,
        status=status,
        why="" if status == "ok" else BY_HAND if status == "isolated" else conduct.why,
        back_in=conduct.back_in(now),
        weight=weight,
        in_flight=standing.in_flight,
        latency=stream.mean(now, float("inf")),
        run_latency=run.mean(now, float("inf")),
        tokens=round(standing.tokens.at(now)),
        ejections=conduct.forgiven(now, ejection.base),
        consecutive=conduct.consecutive,
        calls=standing.calls,
        failures=standing.failures,
        local=standing.local,
    )
