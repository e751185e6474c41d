"""Each law of the simulator is seen to break: a stack that sins is caught, an honest one is not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import attrs
import pytest

from lamella import (
    Dimension,
    Ending,
    Event,
    Handler,
    LamellaError,
    Money,
    Pipeline,
    RateLimitError,
    TextDelta,
    ending,
    middleware,
)
from lamella.testing import FaultWindow, Load, SimulatedProvider, Simulation
from lamella_middlewares import Cost, Deadline, Retry

LOAD = Load(rate=5, requests=20)


def caught(
    layers: Sequence[Any], *faults: FaultWindow, load: Load = LOAD, mode: Any = "stream"
) -> set[str]:
    """The laws that a stack breaks."""

    def stack(providers: Sequence[SimulatedProvider]) -> Pipeline:
        prices = {"simulated": providers[0].price}
        return Pipeline([*layers, Cost(prices=prices)], providers[0])

    provider = SimulatedProvider(faults=faults, output_tokens=50)
    report = Simulation(stack, providers=provider, load=load, seed=1, mode=mode).run()
    assert report.calls == load.requests
    assert all(violation.what for violation in report.violations)
    return set(report.broken)


@pytest.mark.parametrize("mode", ["run", "stream", "mixed"])
def test_an_honest_stack_breaks_no_law(mode: str) -> None:
    """What the library itself does is no sin, whatever the provider does."""
    faults = (FaultWindow("throttle", 0, 2, share=0.5), FaultWindow("cut", share=0.3))
    assert caught([Deadline(30), Retry()], *faults, mode=mode) == set()


class _Twice:
    """Lets each piece of text through twice."""

    def feed(self, event: Event) -> Sequence[Event]:
        return (event, event) if isinstance(event, TextDelta) else (event,)

    def flush(self) -> Sequence[Event]:
        return ()


async def repeat_text(request: Any, call_next: Handler) -> Any:
    """Hand every piece on twice, as a retry after the first word would."""
    return (await call_next(request)).transform(_Twice())


async def end_early(request: Any, call_next: Handler) -> Any:
    """Leave out the last piece of what is said to be complete."""
    response = await (await call_next(request)).collect()
    kept = [event for event in response.events if "!" not in getattr(event, "text", "")]
    return request.answer(kept)


async def keep_a_lease(request: Any, call_next: Handler) -> Any:
    """Reserve, and never give back."""
    ports = request.context.ports
    place = Dimension(("sin", "places"), 1, 1000, held=True)
    await ports.stores.leases.reserve(ports.new_id(), [place], ttl=1e6)
    return await call_next(request)


async def lose_a_lease(request: Any, call_next: Handler) -> Any:
    """Reserve for a shorter time than the call takes, and do not renew."""
    ports = request.context.ports
    lease = ports.new_id()
    await ports.stores.leases.reserve(lease, [Dimension(("sin",), 1, 1000, held=True)], ttl=0.01)

    async def settle(_: Ending) -> None:
        await ports.stores.leases.settle(lease, [1])

    return await ending(call_next, request, settle)


@attrs.define
class _Gauge:
    in_flight: int = 0


async def miscount(request: Any, call_next: Handler) -> Any:
    """Count up, and never down."""
    request.context.ports.stores.local.get(("sin", "gauge"), _Gauge).in_flight += 1
    return await call_next(request)


async def retry_at_once(request: Any, call_next: Handler) -> Any:
    """Come back before the time that the provider has named."""
    try:
        return await call_next(request)
    except RateLimitError:
        return await call_next(request.branch("again"))


async def retry_without_end(request: Any, call_next: Handler) -> Any:
    """Try eight times, whatever the budget says."""
    for number in range(7):
        try:
            return await call_next(request.branch(f"again{number}"))
        except LamellaError:
            continue
    return await call_next(request)


@middleware(phase="wire", rank=0)
async def go_on_after_the_deadline(request: Any, call_next: Handler) -> Any:
    """Send what nobody waits for any more."""
    with anyio.CancelScope(shield=True):
        await anyio.sleep(3)
        return await call_next(request)


@middleware(phase="wire", rank=99)
async def misprice(request: Any, call_next: Handler) -> Any:
    """State a cost that the provider does not bill."""
    request.context.attempt.cost = Money(1)
    return await call_next(request)


async def raise_a_stranger(request: Any, call_next: Handler) -> Any:
    """Let an error out that is not the library's own."""
    await call_next(request)
    raise KeyError("sin")


async def work_for_ever(request: Any, call_next: Handler) -> Any:
    """Start what never ends."""
    request.context.background.spawn(anyio.sleep_forever)
    return await call_next(request)


async def fail_in_the_background(request: Any, call_next: Handler) -> Any:
    """Start what fails."""

    async def fail() -> None:
        raise RuntimeError("sin")

    request.context.background.spawn(fail)
    return await call_next(request)


async def fail_at_the_end(request: Any, call_next: Handler) -> Any:
    """Register a callback that fails."""

    def fail(_: Ending) -> None:
        raise RuntimeError("sin")

    return await ending(call_next, request, fail)


DOWN = FaultWindow("outage")
THROTTLED = FaultWindow("throttle")
STORM = Load(rate=400, requests=600)

SINS: list[tuple[str, Any, dict[str, Any]]] = [
    ("text is the beginning of one answer", [repeat_text], {}),
    ("text is the beginning of one answer", [end_early], {"mode": "run"}),
    ("reservations are settled or refunded", [keep_a_lease], {}),
    ("held limits are whole again", [keep_a_lease], {}),
    ("reservations are settled or refunded", [lose_a_lease], {}),
    ("in-flight gauges are 0", [miscount], {}),
    ("Retry-After is never undercut", [retry_at_once], {"faults": [THROTTLED]}),
    (
        "retries stay in their budget",
        [retry_without_end, Retry(attempts=1)],
        {"faults": [DOWN], "load": STORM},
    ),
    ("no attempt after the deadline", [Deadline(1), go_on_after_the_deadline], {}),
    ("deadlines are kept", [Deadline(1), go_on_after_the_deadline], {}),
    ("what is recorded is what is billed", [misprice], {}),
    ("errors are the library's own", [raise_a_stranger], {}),
    ("no background work is left", [work_for_ever], {}),
    ("nothing is logged as an error", [fail_in_the_background], {}),
    ("nothing alarming is noted", [fail_at_the_end], {}),
]


@pytest.mark.parametrize(
    ("law", "layers", "options"),
    SINS,
    ids=[f"{law}-{number}" for number, (law, *_) in enumerate(SINS)],
)
def test_a_sin_is_caught(law: str, layers: list[Any], options: dict[str, Any]) -> None:
    """A stack that breaks a law is reported to break it."""
    faults = options.pop("faults", [])
    assert law in caught(layers, *faults, **options)


def test_the_log_is_given_back(caplog: pytest.LogCaptureFixture) -> None:
    """What the library logs during a run is not shown; after it, it is as before."""
    logger = logging.getLogger("lamella")
    before = (logger.propagate, list(logger.handlers))
    assert caught([fail_in_the_background]) == {"nothing is logged as an error"}
    assert (logger.propagate, list(logger.handlers)) == before
    assert not caplog.records


def test_a_violation_shows_its_call() -> None:
    """The report of a broken law has the trace of the call, and counts the others."""
    make: Callable[[Any], Pipeline] = lambda providers: Pipeline([misprice], providers[0])  # noqa: E731
    report = Simulation(make, load=Load(requests=30)).run()
    assert report.broken == {"what is recorded is what is billed": 30}
    assert len(report.violations) == 3
    assert "primary" in report.violations[0].trace
    assert "BROKEN LAWS" in report.draw()
