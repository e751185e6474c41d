"""The circuits of one set of rules, by provider and model, for all pipelines of the process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Final, TypeAlias

import attrs

from lamella._fork_locks import fork_safe_lock
from lamella_middlewares.circuit_breaker._circuit import Circuit, CircuitChange, Rules, State

MAX_CIRCUITS: Final = 1_000
"""Model names come with requests, so their number has to be bounded."""

_LOOKED_AT: Final = 16  # of the oldest, for one that is closed and can be forgotten without harm

_Act: TypeAlias = Callable[[Circuit], CircuitChange | None]


@attrs.frozen
class CircuitState:
    """How one circuit is.

    Attributes:
        provider: Whose.
        model: Which model; empty where the requests name none.
        state: `"closed"`, `"open"`, `"half_open"` (probes find out whether it can close) or
            `"isolated"` (by hand).
        seconds: Until the next probe while it is open, None otherwise.
        calls: How many calls count at present.
        failures: How many of them have failed.
    """

    provider: str
    model: str
    state: State
    seconds: float | None
    calls: int
    failures: int


class Circuits:
    """The circuits of one set of rules. Thread-safe and bounded: the least recently used goes.

    Args:
        rules: When they open, and for how long.
        max_circuits: How many are kept; from 1.
    """

    def __init__(self, rules: Rules, max_circuits: int = MAX_CIRCUITS) -> None:
        self._rules = rules
        self._max_circuits = max_circuits
        self._few = max_circuits // 2
        self._lock = fork_safe_lock()
        self._circuits: OrderedDict[tuple[str, str], Circuit] = OrderedDict()
        self._isolated: set[tuple[str, str | None]] = set()  # by hand; None for every model

    def circuit(self, provider: str, model: str) -> Circuit:
        """The circuit of a provider and model."""
        key = (provider, model)
        circuit = self._circuits.get(key)
        if circuit is not None and len(self._circuits) <= self._few:
            return circuit  # none will be forgotten soon: no order has to be kept
        with self._lock:
            circuit = self._circuits.get(key)
            if circuit is not None:
                self._circuits.move_to_end(key)
                return circuit
            isolated = not self._isolated.isdisjoint((key, (provider, None)))
            circuit = Circuit(self._rules, provider, model, isolated=isolated)
            self._circuits[key] = circuit
            if len(self._circuits) > self._max_circuits:
                self._forget_one()
        return circuit

    def _forget_one(self) -> None:
        """Make room, if possible with a circuit that has nothing to remember."""
        oldest = list(islice(self._circuits, _LOOKED_AT))[: len(self._circuits) - 1]
        closed = (key for key in oldest if self._circuits[key].closed)
        del self._circuits[next(closed, oldest[0])]

    def isolate(self, provider: str, model: str | None) -> list[CircuitChange]:
        """Let nothing pass, whatever is known; what changes. None isolates every model."""
        if model is not None:
            self.circuit(provider, model)
        with self._lock:
            self._isolated.add((provider, model))
        return self._each(provider, model, Circuit.isolate)

    def reset(self, provider: str, model: str | None) -> list[CircuitChange]:
        """Forget everything and let calls pass; what changes. None resets every model.

        A model is not let through while its provider is isolated as a whole.
        """
        with self._lock:
            if model is None:
                self._isolated = {key for key in self._isolated if key[0] != provider}
            else:
                self._isolated.discard((provider, model))
                if (provider, None) in self._isolated:
                    return []
        return self._each(provider, model, Circuit.reset)

    def _each(self, provider: str, model: str | None, act: _Act) -> list[CircuitChange]:
        meant = [
            circuit
            for circuit in self._listed()
            if circuit.provider == provider and model in {None, circuit.model}
        ]
        changes = [act(circuit) for circuit in meant]
        return [change for change in changes if change is not None]

    def states(self, now: float) -> tuple[CircuitState, ...]:
        """How each circuit is at the monotonic instant `now`."""
        listed = self._listed()
        return tuple([CircuitState(one.provider, one.model, *one.look(now)) for one in listed])

    def _listed(self) -> list[Circuit]:
        with self._lock:
            return list(self._circuits.values())
