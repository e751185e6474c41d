"""Random stacks under random faults: each seed is one simulation whose laws must hold.

Layers are taken by their registered names, so that a stack never holds what is not installed, and
the core knows none of them. A seed means the same simulation as long as the version is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final, TypeAlias

from lamella._pipeline import Pipeline
from lamella._registry import registry
from lamella.testing._simulated_faults import FAULT_KINDS, FaultWindow
from lamella.testing._simulated_load import Load
from lamella.testing._simulated_provider import SimulatedProvider
from lamella.testing._simulated_stack import prices_of
from lamella.testing._simulation import Simulation

Options: TypeAlias = dict[str, Any]
Recipe: TypeAlias = Callable[[Random, Sequence[SimulatedProvider]], Options]
"""Random options of one layer."""

_PRIORITIES: Final[Sequence[tuple[int, ...]]] = ((0,), (0, 1), (-1, 0, 5))
CAMPAIGN_REQUESTS: Final = 400
"""How many calls each simulation of a campaign makes."""


def campaign_simulation(
    seed: int,
    *,
    requests: int = CAMPAIGN_REQUESTS,
    backend: str = "asyncio",
    only: Sequence[str] | None = None,
) -> Simulation:
    """The simulation of one seed: a random stack, random providers, faults and callers.

    Callers stream, run, cancel, leave, hold events, and have priorities and tenants.

    Args:
        seed: Which.
        requests: How many calls.
        backend: `"asyncio"` or `"trio"`.
        only: Layers that the stack may have, by name. None is all that are registered.
    """
    random = Random(f"campaign/{seed}")  # noqa: S311 - chance that can be repeated
    rate = 10 ** random.uniform(-0.3, 2)
    span = requests / rate
    providers = [
        _provider(name, random, span, rate)
        for name in ("primary", "secondary")[: random.choice((1, 1, 2))]
    ]
    chosen = _chosen(random, only, len(providers))
    options = {name: RECIPES[name](random, providers) for name in chosen if name not in _TARGETED}
    targeted = {name: random.getrandbits(32) for name in chosen if name in _TARGETED}

    def stack(given: Sequence[SimulatedProvider]) -> Pipeline:
        layers = [registry().make("middlewares", name, found) for name, found in options.items()]
        for name, choice in targeted.items():
            found = RECIPES[name](Random(choice), given)  # noqa: S311 - as above
            layers.append(registry().make("middlewares", name, found))
        return Pipeline.arrange(layers, given[0], name=f"campaign {seed}")

    return Simulation(
        stack,
        providers=providers,
        load=_load(random, rate, requests),
        seed=seed,
        backend=backend,
        mode=random.choice(("run", "stream", "mixed", "mixed")),
    )


def _chosen(random: Random, only: Sequence[str] | None, providers: int) -> list[str]:
    known = [name for name in RECIPES if registry().has("middlewares", name)]
    wanted = known if only is None else [name for name in known if name in set(only)]
    chosen = [name for name in wanted if random.random() < _OFTEN.get(name, 0.4)]
    return [name for name in chosen if name != "fallback" or providers > 1]


def _provider(name: str, random: Random, span: float, rate: float) -> SimulatedProvider:
    faults = [_fault(random, span) for _ in range(random.choice((0, 1, 1, 2, 3)))]
    return SimulatedProvider(
        name,
        faults=faults,
        first_event=10 ** random.uniform(-1.5, 0.7),
        tokens_per_second=10 ** random.uniform(1, 2.5),
        output_tokens=random.choice((20, 150, 600)),
        capacity=random.choice((None, None, 5, 50)),
        requests_per_minute=random.choice((None, None, max(1, round(rate * 45)))),
        tokens_per_minute=random.choice((None, None, None, max(1000, round(rate * 20_000)))),
        pieces=random.choice((1, 2, 4, 7)),
    )


def _fault(random: Random, span: float) -> FaultWindow:
    start = random.uniform(0, span)
    return FaultWindow(
        random.choice(FAULT_KINDS),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        start,
        start + max(1.0, random.uniform(0, span)),
        share=random.choice((0.02, 0.1, 0.5, 1.0)),
        status=random.choice((400, 401, 402, 404, 408, 409, 500, 502, 503, 504, 529)),
        retry_after=random.choice((None, 0.2, 3.0, 40.0)),
        factor=random.choice((2, 10, 100)),
        period=random.choice((1.0, 15.0)),
    )


def _load(random: Random, rate: float, requests: int) -> Load:
    def some() -> float:
        return random.choice((0.0, 0.0, 0.05, 0.3))

    return Load(
        rate=rate,
        requests=requests,
        arrivals=random.choice(("poisson", "constant", "burst")),
        burst=random.choice((5, 40, 200)),
        tenants=random.choice((1, 3, 12)),
        tenant_skew=random.choice((0.0, 1.5)),
        priorities=random.choice(_PRIORITIES),
        prompt_tokens=random.choice((30, 300, 2000)),
        repeats=random.choice((0.0, 0.3)),
        leaves=some(),
        cancels=some(),
        holds=some(),
    )


def _deadline(random: Random, _: Sequence[SimulatedProvider]) -> Options:
    return {"seconds": random.choice((1.0, 8.0, 30.0, 90.0))}


def _timeout(random: Random, _: Sequence[SimulatedProvider]) -> Options:
    first = random.choice((0.5, 5.0, 20.0))
    return {
        "first_event": first,
        "idle": random.choice((1.0, 10.0, None)),
        "attempt": random.choice((first * 2, 60.0)),
    }


def _retry(random: Random, _: Sequence[SimulatedProvider]) -> Options:
    return {
        "attempts": random.choice((1, 2, 3, 5)),
        "strategy": random.choice(("exponential", "linear", "fibonacci", "constant")),
        "jitter": random.choice(("full", "equal", "none")),
        "base": random.choice((0.05, 0.5, 2.0)),
        "max_wait": random.choice((2.0, 30.0, 120.0)),
    }


def _cost(_: Random, providers: Sequence[SimulatedProvider]) -> Options:
    return {"prices": prices_of(providers)}


def _concurrency(random: Random, _: Sequence[SimulatedProvider]) -> Options:
    return {
        "limit": random.choice((1, 4, 30)),
        "adaptive": random.choice((None, None, "aimd", "gradient")),
        "max_waiting": random.choice((0, 5, 1000)),
        "max_wait": random.choice((0.5, 20.0, None)),
        "ttl": random.choice((5.0, 60.0)),
        "key": random.choice(("provider", "tenant")),
    }


def _rate_limit(random: Random, _: Sequence[SimulatedProvider]) -> Options:
    found: Options = {
        "requests": random.choice((30, 300, 3000)),
        "key": random.choice(("provider", "tenant")),
        "max_waiting": random.choice((0, 5, 1000)),
        "max_wait": random.choice((0.5, 20.0, None)),
    }
    if random.random() < 0.5:
        found["tokens"] = random.choice((20_000, 500_000))
    return found


def _load_shed(random: Random, _: Sequence[SimulatedProvider]) -> Options:
    return {
        "max_in_flight": random.choice((2, 20, 200)),
        "max_waiting": random.choice((0, 5, 100)),
        "max_wait": random.choice((1.0, 30.0, None)),
        "target": random.choice((0.5, 5.0, None)),
        "interval": random.choice((2.0, 20.0)),
    }


def _circuit_breaker(random: Random, _: Sequence[SimulatedProvider]) -> Options:
    return {
        "ratio": random.choice((0.2, 0.5, 1.0)),
        "min_calls": random.choice((1, 10)),
        "open_for": random.choice((1.0, 5.0)),
        "probes": random.choice((1, 3)),
        "probe_ttl": random.choice((2.0, 60.0)),
        "slow_after": random.choice((None, 3.0)),
    }


def _hedge(random: Random, _: Sequence[SimulatedProvider]) -> Options:
    return {"delay": random.choice((0.2, 2.0))}


def _hold(random: Random, _: Sequence[SimulatedProvider]) -> Options:
    return random.choice(({"tokens": 30}, {"seconds": 1.0}, {"tokens": 200, "seconds": 5.0}))


def _single_flight(_: Random, __: Sequence[SimulatedProvider]) -> Options:
    return {}


def _fallback(_: Random, providers: Sequence[SimulatedProvider]) -> Options:
    return {"targets": list(providers[1:])}


def _route(random: Random, providers: Sequence[SimulatedProvider]) -> Options:
    return {
        "targets": list(providers),
        "policy": random.choice(("weighted", "least_in_flight", "latency")),
    }


RECIPES: Final[Mapping[str, Recipe]] = {
    "deadline": _deadline,
    "load_shed": _load_shed,
    "single_flight": _single_flight,
    "fallback": _fallback,
    "hedge": _hedge,
    "route": _route,
    "retry": _retry,
    "rate_limit": _rate_limit,
    "concurrency": _concurrency,
    "circuit_breaker": _circuit_breaker,
    "hold": _hold,
    "timeout": _timeout,
    "cost": _cost,
}
"""How a campaign draws the options of each layer that it knows."""

_TARGETED: Final = frozenset({"fallback", "route"})
"""Layers that get the providers of the run itself."""

_OFTEN: Final[Mapping[str, float]] = {
    "deadline": 0.7, "retry": 0.75, "timeout": 0.7, "cost": 0.9, "fallback": 0.7,
    "single_flight": 0.2,
}  # fmt: skip
