"""What is known of each target: how many calls are there, how fast it is, how it behaves.

One board for each namespace, shared by all pipelines of a process that have the same stores. What
is counted of a target that has no transport of its own is counted under the provider that the
request was going to: the same model at two providers is two places.
"""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Final, Protocol, TypeAlias
from weakref import WeakSet, WeakValueDictionary

import attrs

from lamella import AttemptBound, Trace
from lamella._fork_locks import fork_safe_lock
from lamella_middlewares.route._ejection import LONGEST_REST, Conduct, Ejection, Status

MAX_GROUPS: Final = 1_024
"""How many sets of targets a board knows. Beyond, the least recently used are forgotten, and with
them those of their targets that stand in no other set and have no call under way."""

USAGE_HALF_LIFE: Final = 30.0
"""Seconds after which a token counts half: about what providers' limits per minute look at."""

BY_HAND: Final = "by hand"

Place: TypeAlias = tuple[str, str]
"""A provider, empty where the target has a transport of its own, and the target's name."""


class Decaying:
    """Values of which each counts half after a half-life: their mean, and their sum.

    The mean is weighted by all values, so that a burst of them counts as many, which the usual
    moving average over time would take for one. A clock that was set back counts as standing
    still. Changed under the lock of the board.
    """

    __slots__ = ("_at", "_sum", "_weight")

    def __init__(self) -> None:
        self._at = 0.0
        self._sum = 0.0
        self._weight = 0.0

    def add(self, value: float, now: float, half_life: float) -> None:
        """A value has been measured.

        Args:
            value: The value.
            now: The monotonic instant, in seconds.
            half_life: Seconds after which it counts half.
        """
        elapsed = now - self._at
        kept = 0.5 ** (elapsed / half_life) if elapsed > 0 else 1.0
        self._sum = self._sum * kept + value
        self._weight = self._weight * kept + 1.0
        self._at = now

    def mean(self, now: float, forget: float = math.inf) -> float | None:
        """The mean; None if nothing was measured for `forget` seconds, or ever."""
        weight = self._weight
        return None if weight == 0.0 or now - self._at > forget else self._sum / weight

    def sum(self, now: float, half_life: float) -> float:
        """What is left of their sum at an instant."""
        elapsed = now - self._at
        return self._sum * 0.5 ** (elapsed / half_life) if elapsed > 0 else self._sum


class Standing:
    """One target's figures. Read freely; changed under the lock of the board.

    Attributes:
        name: The target's name.
        provider: Whose target it is; empty where it has a transport of its own.
        conduct: How it behaves.
        in_flight: Calls there now; of a stream until its end.
        latency: The time to the first event of answers that were not streamed, and of those that
            were: only like is compared with like.
        tokens: What each call used there lately.
        calls: Calls that have ended there.
        failures: Those of them that were its failure.
        local: Those of them that this process refused, or ran out of time for.
    """

    __slots__ = ("__weakref__", "calls", "conduct", "failures", "in_flight", "latency", "local",
                 "name", "provider", "tokens")  # fmt: skip

    def __init__(self, provider: str, name: str) -> None:
        self.name = name
        self.provider = provider
        self.conduct = Conduct()
        self.in_flight = 0
        self.latency = (Decaying(), Decaying())
        self.tokens = Decaying()
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


class Flight(Protocol):
    """A call under way at a target."""

    @property
    def standing(self) -> Standing:
        """The target's."""
        ...

    @property
    def branch(self) -> str:
        """Where in its call it stands."""
        ...


class Board:
    """All targets of one namespace. Thread-safe.

    Attributes:
        lock: Held while anything of any standing is changed.
        flying: For each model turn, its calls that are under way now.
        age: Rises when the process forks: calls of the parent end there.
    """

    def __init__(self) -> None:
        self.lock = fork_safe_lock()
        self.flying: dict[AttemptBound, list[Flight]] = {}
        self.age = 0
        self._shadows: dict[str, WeakSet[Trace]] = {}
        self._isolated: set[str] = set()
        self._resting: dict[str, float] = {}  # by hand, until when
        # A standing lives as long as a group, or a call under way, has it.
        self._standings: WeakValueDictionary[Place, Standing] = WeakValueDictionary()
        self._groups: OrderedDict[tuple[object, ...], tuple[Standing, ...]] = OrderedDict()
        _boards.add(self)

    def group(self, provider: str, places: tuple[tuple[str, bool], ...]) -> tuple[Standing, ...]:
        """The standings of a layer's targets, in its order.

        Args:
            provider: Where the request was going.
            places: Each target's name, and whether it has a transport of its own.
        """
        key = (provider, places)
        group = self._groups.get(key)
        if group is not None and len(self._groups) <= MAX_GROUPS // 2:
            return group  # few enough that none will be forgotten soon
        return self._grouped(key, provider, places)

    def _grouped(
        self,
        key: tuple[object, ...],
        provider: str,
        places: tuple[tuple[str, bool], ...],
    ) -> tuple[Standing, ...]:
        with self.lock:
            group = self._groups.pop(key, None)
            if group is None:
                group = tuple(
                    [self._standing("" if own else provider, name) for name, own in places]
                )
            self._groups[key] = group
            while len(self._groups) > MAX_GROUPS:
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
            self._resting = {one: until for one, until in self._resting.items() if until > now}
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
        self, names: Collection[str], now: float, weights: Mapping[str, float], ejection: Ejection
    ) -> tuple[TargetState, ...]:
        """How the targets of these names stand."""
        with self.lock:
            return tuple(
                [
                    state_of(one, now, weights.get(one.name, 1.0), ejection)
                    for one in self._standings.values()
                    if one.name in names
                ]
            )

    def _named(self, name: str) -> list[Standing]:
        return [one for one in self._standings.values() if one.name == name]

    # --- shadow copies -----------------------------------------------------------------------

    def cast(self, name: str, copy: Trace, most: int) -> bool:
        """A shadow copy is to be made, known by its trace; False if there are `most` already."""
        with self.lock:
            # Held weakly: the task of a copy may be dropped, with its loop, before it begins.
            copies = self._shadows.setdefault(name, WeakSet())
            if len(copies) >= most:
                return False
            copies.add(copy)
            return True

    def fade(self, name: str, copy: Trace) -> None:
        """A shadow copy has ended."""
        with self.lock:
            self._shadows.get(name, WeakSet[Trace]()).discard(copy)

    @property
    def shadows(self) -> int:
        """How many shadow copies are under way."""
        return sum([len(copies) for copies in self._shadows.values()])

    # --- calls -------------------------------------------------------------------------------

    def depart(self, flight: Flight, turn: AttemptBound) -> tuple[int, int]:
        """A call goes to a target, for a model turn.

        Returns:
            The board's age, and the target's epoch, in which it does.
        """
        standing = flight.standing
        with self.lock:
            standing.in_flight += 1
            self.flying.setdefault(turn, []).append(flight)
            return self.age, standing.conduct.epoch

    def arrive(self, flight: Flight, turn: AttemptBound) -> None:
        """A call there has ended. Called under the lock."""
        standing = flight.standing
        standing.in_flight -= 1
        standing.calls += 1
        flying = self.flying[turn]
        if len(flying) == 1:
            del self.flying[turn]
        else:
            flying.remove(flight)

    def forget_calls(self) -> None:
        """Only the process that has forked goes on with the calls that were under way."""
        with self.lock:
            self.age += 1
            self.flying.clear()
            self._shadows.clear()
            for standing in self._standings.values():
                standing.in_flight = 0


_boards: WeakSet[Board] = WeakSet()


def _forget_calls() -> None:
    for board in list(_boards):
        board.forget_calls()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_calls)


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
        latency=stream.mean(now),
        run_latency=run.mean(now),
        tokens=round(standing.tokens.sum(now, USAGE_HALF_LIFE)),
        ejections=conduct.forgiven(now, ejection.base),
        consecutive=conduct.consecutive,
        calls=standing.calls,
        failures=standing.failures,
        local=standing.local,
    )
