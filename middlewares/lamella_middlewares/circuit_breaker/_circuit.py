"""One circuit: closed while calls succeed, open once too many have failed, half open to find out.

::

    closed --too many failures--> open --time has passed--> half open --the probe succeeds--> closed
                                    ^---------- the probe fails ----------'

A provider that fails every other call is half of use, and a circuit that opens at a half would keep
it shut most of the time: each probe closes it or not by chance, and ten calls later it opens again.
So once a probe has closed it, it takes a share half-way between `ratio` and all to open it again,
until less than half of `ratio` fails.

It makes no call and reads no clock, so that it can be compared with a model. Thread-safe.
"""

from __future__ import annotations

import math
from random import Random  # noqa: TID251 - the type of the random port
from typing import Final, Literal, TypeAlias

import attrs

from lamella._fork_locks import fork_safe_lock
from lamella._sliding_counts import SlidingCounts

State: TypeAlias = Literal["closed", "open", "half_open", "isolated"]

Verdict: TypeAlias = Literal["success", "failure", "neutral"]
"""What a call says about its provider. Neutral is what says nothing: a cancelled call, for one."""

JITTER: Final = 0.2
"""A circuit stays open up to this part longer, so that processes do not probe together."""

LONGEST_HINT: Final = 3600.0
"""A provider that asks to be left alone for longer is asked again after an hour."""

APART: Final = 1.0
"""Seconds; threads read the clock a moment apart. One further back is another: a test's anew."""

_SUCCESS, _FAILURE = 0, 1


@attrs.frozen
class Rules:
    """When a circuit opens, and for how long.

    Attributes:
        ratio: The share of failures that opens it.
        min_calls: How many calls it takes to judge.
        window: Seconds that a call counts.
        open_for: Seconds that it is open at first.
        max_open: Seconds that it is open at most, after probes that failed.
        probes: How many probes may be out at once.
        probe_ttl: Seconds after which a probe that nobody has heard of makes room for the next.
    """

    ratio: float
    min_calls: int
    window: float
    open_for: float
    max_open: float
    probes: int
    probe_ttl: float


@attrs.frozen
class Permit:
    """A call may pass.

    Attributes:
        epoch: Of which state of the circuit. What began in an earlier one no longer counts.
        probe: The number of its lease, where it is a probe.
    """

    epoch: int
    probe: int | None = None


@attrs.frozen
class Refusal:
    """A call may not pass.

    Attributes:
        state: The circuit's.
        retry_after: Seconds after which another call makes sense; None if nobody knows.
    """

    state: State
    retry_after: float | None


@attrs.frozen
class CircuitChange:
    """A circuit has changed its state.

    Attributes:
        provider: Whose circuit.
        model: Which model; empty where the requests name none.
        before: The state until now: `"closed"`, `"open"`, `"half_open"` or `"isolated"`.
        state: The state now.
        seconds: For how long it is open, if it is.
        calls: How many calls it was judged by, if it has opened.
        failures: How many of them had failed.
    """

    provider: str
    model: str
    before: State
    state: State
    seconds: float | None = None
    calls: int = 0
    failures: int = 0


class Circuit:
    """The state of one provider and model.

    Args:
        rules: When it opens, and for how long.
        provider: Whose.
        model: Which model.
        isolated: Whether nothing passes from the beginning.
    """

    __slots__ = ("_counts", "_epoch", "_failed_probes", "_hinted", "_leases", "_lenient", "_lock",
                 "_not_before", "_number", "_opened", "_pass", "_rules", "_state", "_until",
                 "model", "provider")  # fmt: skip

    def __init__(
        self, rules: Rules, provider: str = "", model: str = "", *, isolated: bool = False
    ) -> None:
        self.provider = provider
        self.model = model
        self._rules = rules
        self._lock = fork_safe_lock()
        self._counts = SlidingCounts(rules.window, 2)
        self._state: State = "isolated" if isolated else "closed"
        self._epoch = 0
        # What every call gets while it is closed, None otherwise: one read, so without the lock.
        self._pass: Permit | None = None if isolated else Permit(0)
        self._opened = 0.0
        self._until = 0.0
        self._not_before = -math.inf  # what the provider has asked for
        self._hinted = -math.inf  # when it has asked
        self._failed_probes = 0  # in a row
        self._lenient = False  # since a probe has closed it, until its provider is well
        self._leases: dict[int, float] = {}  # of probes that are out, and when each expires
        self._number = 0

    def admit(self, now: float) -> tuple[Permit | Refusal, CircuitChange | None]:
        """Whether a call may pass at the monotonic instant `now`; the change that this makes."""
        passing = self._pass
        if passing is not None:
            return passing, None
        with self._lock:
            if self._pass is not None:
                return self._pass, None
            if self._state == "isolated":
                return Refusal("isolated", None), None
            change = None
            if self._state == "open":
                left = self._left(now)
                if left is not None:
                    return Refusal("open", left), None
                change = self._become("half_open")
            return self._probe(now), change

    def _left(self, now: float) -> float | None:
        """Seconds that an open circuit stays so; None if a call may find out now."""
        return self._until - now if self._opened - APART <= now < self._until else None

    def _probe(self, now: float) -> Permit | Refusal:
        rules = self._rules
        for number in [number for number, end in self._leases.items() if end <= now]:
            del self._leases[number]
        if len(self._leases) >= rules.probes:
            # Nobody knows when the probe is over; when it has to be is known.
            left = min(self._leases.values()) - now
            return Refusal("half_open", min(left, rules.open_for))
        self._number += 1
        self._leases[self._number] = now + rules.probe_ttl
        return Permit(self._epoch, self._number)

    def end(
        self, permit: Permit, verdict: Verdict, now: float, hint: float | None, random: Random
    ) -> CircuitChange | None:
        """A call that was let through has ended.

        Args:
            permit: What `admit` gave it. That of an earlier state, or of a probe that has expired,
                counts no more.
            verdict: What the call says.
            now: The monotonic instant, in seconds.
            hint: Seconds that the provider asked to be left alone; None if it did not.
            random: The source of chance.

        Returns:
            The change that this makes, if any.
        """
        with self._lock:
            if permit.epoch != self._epoch:
                return None
            if permit.probe is not None and self._leases.pop(permit.probe, None) is None:
                return None
            if verdict == "neutral":
                return None
            if verdict == "failure" and hint is not None:
                self._not_before = max(self._asked(now), now + min(hint, LONGEST_HINT))
                self._hinted = now
            if permit.probe is None:
                return self._count(verdict, now, random)
            if verdict == "failure":
                self._failed_probes += 1
                return self._open(now, random, calls=1, failures=1)
            self._lenient = True
            return self._close()

    def _count(self, verdict: Verdict, now: float, random: Random) -> CircuitChange | None:
        ratio = self._rules.ratio
        successes, failures = self._counts.add(now, _SUCCESS if verdict == "success" else _FAILURE)
        calls = successes + failures
        if calls < self._rules.min_calls:
            return None
        if verdict == "success":
            if self._lenient and failures < ratio / 2 * calls:
                self._lenient = False
            return None
        bar = (ratio + 1) / 2 if self._lenient else ratio
        # A millionth forgives products of floats: 0.1 x 30 must not need a fourth failure.
        if failures < bar * calls - 1e-6:
            return None
        return self._open(now, random, calls=calls, failures=failures)

    def _open(self, now: float, random: Random, *, calls: int, failures: int) -> CircuitChange:
        rules = self._rules
        longer = rules.open_for * 2.0 ** min(self._failed_probes, 60)
        seconds = min(longer, rules.max_open) * (1 + JITTER * random.random())
        self._opened = now
        self._until = max(now + seconds, self._asked(now))
        change = self._become("open")
        return attrs.evolve(change, seconds=self._until - now, calls=calls, failures=failures)

    def _asked(self, now: float) -> float:
        """Until when the provider asked to be left alone, if what said so counts still.

        An answer of long ago must not keep a circuit open whose provider has been well since.
        """
        return self._not_before if abs(now - self._hinted) < self._rules.window else -math.inf

    def _close(self) -> CircuitChange:
        self._failed_probes = 0
        self._not_before = -math.inf
        return self._become("closed")

    def _become(self, state: State) -> CircuitChange:
        change = CircuitChange(self.provider, self.model, self._state, state)
        self._epoch += 1
        self._pass = Permit(self._epoch) if state == "closed" else None
        self._counts.clear()
        self._leases.clear()
        self._state = state
        return change

    def isolate(self) -> CircuitChange | None:
        """Let nothing pass until `reset`."""
        with self._lock:
            return None if self._state == "isolated" else self._become("isolated")

    def reset(self) -> CircuitChange | None:
        """Forget everything and let calls pass."""
        with self._lock:
            closed = self._state == "closed"
            self._lenient = False
            change = self._close()
            return None if closed else change

    def look(self, now: float) -> tuple[State, float | None, int, int]:
        """The state, seconds until the next probe, and the calls and failures that count now."""
        with self._lock:
            successes, failures = self._counts.at(now)
            state, left = self._state, None
            if state == "open":
                left = self._left(now)
                if left is None:
                    state = "half_open"  # the next call is the probe
            return state, left, successes + failures, failures

    @property
    def closed(self) -> bool:
        """Whether everything may pass."""
        return self._pass is not None
