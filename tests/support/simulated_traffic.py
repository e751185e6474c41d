"""Traffic for the preset `production`: what its providers do, and how its callers behave."""

from __future__ import annotations

from typing import Any

from lamella.testing import FaultWindow, Load, Report, SimulatedProvider, Simulation

WELL: dict[str, Any] = {"rate": 60, "tenants": 5}
RESTLESS: dict[str, Any] = {
    "rate": 30, "tenants": 8, "tenant_skew": 1.0, "priorities": (0, 1), "cancels": 0.05,
    "leaves": 0.1, "holds": 0.02,
}  # fmt: skip

FAULTS: dict[str, tuple[FaultWindow, ...]] = {
    "calm": (),
    "throttled": (FaultWindow("throttle", 20, 60, retry_after=8),),
    "down": (FaultWindow("outage", 20, 50), FaultWindow("refuse", 70, 80, share=0.5)),
    "broken": (
        FaultWindow("cut", share=0.05),
        FaultWindow("stall", share=0.02),
        FaultWindow("error", share=0.05, status=502),
        FaultWindow("flap", 20, 60, period=5, share=0.5),
        FaultWindow("slow", 60, 80, factor=4),
        FaultWindow("no_usage", share=0.1),
    ),
}
"""What goes wrong, in seconds from the beginning."""

PIECES = {"broken": 4}
"""In how many pieces answers are streamed where it matters at which they break off."""


def traffic(name: str, backend: str, mode: Any, *, calls: int, seed: int = 11) -> Report:
    """Let so many callers come to `production`, while its provider does what the name says.

    Args:
        name: One of `FAULTS`.
        backend: The event loop.
        mode: `run` or `stream`.
        calls: How many callers.
        seed: Of all chance.
    """
    manners = RESTLESS if name == "broken" else WELL
    return Simulation(
        "production",
        providers=SimulatedProvider(faults=FAULTS[name], pieces=PIECES.get(name, 2)),
        load=Load(requests=calls, **manners),
        seed=seed,
        backend=backend,
        mode=mode,
    ).run()


def must_hold(report: Report, *, calls: int) -> None:
    """All calls were made and ended, and every law held."""
    assert report.calls == calls
    assert sum(report.outcomes.values()) == calls
    assert "never ended" not in report.outcomes, report.draw()
    assert report.holds, report.draw()
