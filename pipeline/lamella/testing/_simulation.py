"""A simulation: the real stack in virtual time, with modelled callers and providers."""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any, Final, Literal, TypeAlias

import anyio
import anyio.abc
import attrs

from lamella._chat import ChatRequest
from lamella._context import NO_CONTEXT
from lamella._errors import ConfigurationError
from lamella._loops import TrioLoop, current_loop
from lamella._options import one_of
from lamella._ports import Ports
from lamella.testing._simulated_caller import PLAIN, Manner, SimulatedCaller
from lamella.testing._simulated_laws import (
    CALL_LAWS,
    COST_LAW,
    LEVEL_LAW,
    LOG_LAW,
    RUN_LAWS,
    Case,
    Court,
    levels_are_whole,
    wrong_cost,
)
from lamella.testing._simulated_ledger import Record
from lamella.testing._simulated_load import Load, must_be_load
from lamella.testing._simulated_provider import CALLER, SimulatedProvider
from lamella.testing._simulated_stack import Simulated, built, watched
from lamella.testing._simulated_stores import CountedLeases, SeenObjects, counted_stores
from lamella.testing._simulated_tally import NEVER_ENDED, Tally, slot_seconds
from lamella.testing._simulation_report import Report, report_of
from lamella.testing._virtual import EPOCH, run_virtual, virtual_ports

Mode: TypeAlias = Literal["run", "stream", "mixed"]
"""How callers ask: all with `run`, all with `stream`, or each half."""

SETTLE_SECONDS: Final = 60.0
"""Virtual seconds after the last call in which what runs in the background has to end."""
HUNG_SECONDS: Final = 3_600.0
"""Virtual seconds after the last arrival in which calls have to end."""
_TEN_YEARS: Final = 10 * 365 * 86_400.0
_COLLECT: Final = (50_000, 20, 100)


def _provider_list(given: Any) -> tuple[SimulatedProvider, ...]:
    return (given,) if isinstance(given, SimulatedProvider) else tuple(given)


def _named_apart(_: object, __: attrs.Attribute[Any], value: Any) -> None:
    if not value or not all(isinstance(each, SimulatedProvider) for each in value):
        raise ConfigurationError("Simulation(providers=...) takes one or more SimulatedProviders.")
    names = [each.name for each in value]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"Simulation: these providers share a name: {', '.join(names)}.")


def _a_load(_: object, __: attrs.Attribute[Any], value: object) -> None:
    must_be_load(value)


def _a_seed(_: object, __: attrs.Attribute[Any], value: object) -> None:
    if type(value) is not int or value < 0:
        raise ConfigurationError(f"Simulation(seed={value!r}): give a whole number, 0 or more.")


@attrs.define(eq=False)
class Simulation:
    """The real stack in virtual time, under a load, against modelled providers.

    The same options, seed and version give the same report and the same digest.

    Attributes:
        stack: A preset's name, a `Pipeline` (its transport is replaced by the first provider), or
            a function that makes a pipeline of the providers it is given.
        providers: The providers; the first is the primary. Each run works with fresh copies.
        load: The callers.
        seed: Of all chance.
        backend: `"asyncio"` or `"trio"`.
        mode: Whether callers `run`, `stream`, or each half.
        config: The file with presets; None as for `Pipeline.preset`.
        overrides: What to change in a preset, as for `Pipeline.preset`.
        on_progress: Told now and then how many calls have ended and how much virtual time has
            passed.

    Raises:
        ConfigurationError: If an option is wrong.
    """

    stack: Simulated = "production"
    providers: tuple[SimulatedProvider, ...] = attrs.field(
        factory=lambda: (SimulatedProvider(),),
        converter=_provider_list,
        validator=_named_apart,
        kw_only=True,
    )
    load: Load = attrs.field(factory=Load, validator=_a_load, kw_only=True)
    seed: int = attrs.field(default=0, validator=_a_seed, kw_only=True)
    backend: str = attrs.field(default="asyncio", validator=one_of("asyncio", "trio"), kw_only=True)
    mode: Mode = attrs.field(
        default="mixed", validator=one_of("run", "stream", "mixed"), kw_only=True
    )
    config: str | None = attrs.field(default=None, kw_only=True)
    overrides: Mapping[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True)
    on_progress: Callable[[int, float], object] | None = attrs.field(default=None, kw_only=True)
    _stopped: bool = attrs.field(init=False, default=False)
    _logged: list[str] = attrs.field(init=False, factory=list[str])

    def run(self) -> Report:
        """Run it from the beginning; what came of it.

        Raises:
            ConfigurationError: If the stack cannot be built.
        """
        self._stopped = False
        self._logged = []
        began = time.perf_counter()
        with _calm_collector(), _heard(self._logged):
            run = run_virtual(self._run, backend=self.backend, seed=self.seed, limit=_TEN_YEARS)
        return report_of(run, seconds=time.perf_counter() - began)

    def stop(self) -> None:
        """End the run under way soon: nobody calls any more, and who waits is cancelled.

        May be called from anywhere, a signal handler included.
        """
        self._stopped = True

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stopped

    async def _run(self) -> Run:
        run = Run(self)
        try:
            await run.calls_are_made()
            await run.laws_are_checked()
        finally:
            await run.aclose()
        for wrong in self._logged:
            run.court.broken(LOG_LAW, wrong)
        return run


class Run:
    """One run of a simulation, on the running loop.

    Attributes:
        simulation: Its options.
        providers: This run's own.
        pipeline: The stack, with the simulation's eyes outermost.
        leases: The count of reservations.
        shared: The objects that layers share.
        tally: The sums.
        court: The laws that were broken.
        calls: How many calls were made.
        elapsed: Virtual seconds from the beginning to the end of the last call.
        metered: Whether the stack prices attempts.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.now = _clock()
        self.providers = tuple(
            [
                provider.fresh(seed=f"{simulation.seed}/{provider.seed}")
                for provider in simulation.providers
            ]
        )
        ports, self.leases, self.shared = _ports(simulation.seed, self.now)
        self._built = built(
            simulation.stack,
            self.providers,
            ports,
            config=simulation.config,
            overrides=simulation.overrides,
        )
        self.pipeline = watched(self._built, self.providers, ports)
        self.metered = any(info.name == "cost" for info in self.pipeline.infos)
        self.tally = Tally(slot_seconds(simulation.load.span))
        self.court = Court()
        self.elapsed = 0.0
        self._random = _chance(simulation.seed, "callers")
        self._templates: list[ChatRequest] = []
        self._weights = simulation.load.tenant_weights()
        self._detached: list[Record] = []
        self._group: anyio.abc.TaskGroup | None = None

    @property
    def calls(self) -> int:
        """How many calls were made."""
        return self.tally.calls

    async def calls_are_made(self) -> None:
        """Make all calls and wait for them, but not for ever."""
        simulation, now = self.simulation, self.now
        load = simulation.load
        self._templates = load.templates(
            self.providers[0].model, _chance(simulation.seed, "prompts")
        )
        for provider in self.providers:
            provider.start(now())
        begin, instants = now(), load.instants(_chance(simulation.seed, "arrivals"))
        most = math.inf if load.requests is None else load.requests
        async with anyio.create_task_group() as group:
            self._group = group
            for number in count():
                at = next(instants, None) if number < most else None
                if at is None or simulation.stopped:
                    break
                wait = begin + at - now()
                if wait > 0:
                    await anyio.sleep(wait)
                group.start_soon(self._call, number)
            group.cancel_scope.deadline = anyio.current_time() + HUNG_SECONDS
        self.elapsed = now() - begin

    async def _call(self, number: int) -> None:
        random, load = self._random, self.simulation.load
        tenant = self._tenant()
        manner = self._manner()
        caller = SimulatedCaller(number, tenant, manner, self.court.broken)
        context = NO_CONTEXT.evolve(
            tenant=tenant,
            priority=load.priorities[int(random.random() * len(load.priorities))],
            attributes={CALLER: caller},
        )
        template = self._templates[int(random.random() * len(self._templates))]
        seed = 0 if load.repeats and random.random() < load.repeats else number + 1
        request = template.evolve(context=context, seed=seed)
        self.tally.began(self.now(), sum(provider.ledger.open for provider in self.providers))
        try:
            await caller.call(self.pipeline, request, self.now)
        except BaseException:
            if not self.simulation.stopped:
                caller.outcome = NEVER_ENDED
            raise
        finally:
            self._over(caller)

    def _over(self, caller: SimulatedCaller) -> None:
        """Judge a call that has ended, add it to the sums, and forget it."""
        attempts = caller.attempts
        trace, broken = caller.trace, self.court.broken
        case = Case(caller, attempts, self)
        for name, law in CALL_LAWS.items():
            wrong = law(case)
            if wrong is not None:
                broken(name, wrong, trace)
        for record in caller.records:
            if trace is not None and record.call_id == trace.call_id:
                self._judge_cost(record, trace)
            else:
                self._detached.append(record)
        self.tally.over(caller, attempts, self.now())
        caller.forget()
        if self.tally.ended % 1024 == 0:
            self._tidy()
        if self.simulation.stopped and self._group is not None:
            self._group.cancel_scope.cancel()

    def _tidy(self) -> None:
        """Forget what calls of their own have left, and tell of the progress."""
        waiting: list[Record] = []
        for record in self._detached:
            if record.open or record.attempt is None or record.attempt.outcome is None:
                waiting.append(record)
            else:
                self._judge_cost(record, None)
        self._detached = waiting
        if self.simulation.on_progress is not None:
            self.simulation.on_progress(self.tally.ended, self.now())

    def _judge_cost(self, record: Record, trace: Any) -> None:
        wrong = wrong_cost(record, metered=self.metered)
        if wrong is not None:
            self.court.broken(COST_LAW, wrong, trace)

    async def laws_are_checked(self) -> None:
        """Let what runs in the background end, and look at what is left."""
        await anyio.sleep(SETTLE_SECONDS)
        for name, law in RUN_LAWS.items():
            for wrong in law(self):
                self.court.broken(name, wrong)
        for wrong in await levels_are_whole(self):
            self.court.broken(LEVEL_LAW, wrong)
        for record in self._detached:
            self._judge_cost(record, None)
        self._detached = []

    async def aclose(self) -> None:
        """Close the pipeline, and the one that it was made of unless that is its owner's."""
        await self.pipeline.aclose()
        if self._built is not self.simulation.stack:
            await self._built.aclose()

    def _tenant(self) -> str:
        tenants = self.simulation.load.tenants
        if tenants == 1:
            return "tenant-1"
        if self._weights is None:
            return f"tenant-{1 + int(self._random.random() * tenants)}"
        [chosen] = self._random.choices(range(tenants), cum_weights=self._weights)
        return f"tenant-{1 + chosen}"

    def _manner(self) -> Manner:
        random, load, mode = self._random, self.simulation.load, self.simulation.mode
        stream = mode == "stream" or (mode == "mixed" and random.random() < 0.5)
        if not (load.cancels or load.leaves or load.holds):
            return PLAIN[stream]
        cancels = random.random() < load.cancels
        leaves = stream and random.random() < load.leaves
        holds = stream and random.random() < load.holds
        return Manner(
            stream=stream,
            patience=random.expovariate(0.5) if cancels else math.inf,
            leaves_after=random.randrange(5) if leaves else None,
            hold=random.expovariate(1.0) if holds else 0.0,
        )


def simulate(
    stack: Simulated = "production",
    provider: SimulatedProvider | Sequence[SimulatedProvider] | None = None,
    **options: Any,
) -> Report:
    """Simulate a stack; what came of it.

    `simulate("production", load=Load(rate=100, duration=600), seed=7)` is the usual way.

    Args:
        stack: As for `Simulation`.
        provider: One provider, or several, the primary first. None is one of the usual speed
            without faults.
        **options: The others of `Simulation`: `load`, `seed`, `backend`, `mode`, `config`,
            `overrides`.

    Raises:
        ConfigurationError: If an option is wrong.
    """
    if provider is not None:
        options["providers"] = provider
    return Simulation(stack, **options).run()


def _clock() -> Callable[[], float]:
    """The running loop's clock, without looking for the loop each time."""
    loop = current_loop()
    if isinstance(loop, TrioLoop):
        import trio

        return trio.lowlevel.current_clock().current_time
    import asyncio

    return asyncio.get_running_loop().time


def _ports(seed: int, now: Callable[[], float]) -> tuple[Ports, CountedLeases, SeenObjects]:
    def wall() -> float:
        return EPOCH + now()

    stores, leases, shared = counted_stores(now, wall)
    ports = attrs.evolve(virtual_ports(seed), monotonic=now, wall=wall, stores=stores)
    return ports, leases, shared


def _chance(seed: int, what: str) -> Random:
    return Random(f"{seed}/{what}")  # noqa: S311 - chance that can be repeated, not secrecy


@contextmanager
def _calm_collector() -> Generator[None, None, None]:
    """Look for garbage cycles less often: thousands of calls under way are not garbage."""
    before = gc.get_threshold()
    gc.set_threshold(*_COLLECT)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class _Ear(logging.Handler):
    """Keeps what is logged as an error; the rest of it describes what the simulation provokes."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, with the exception that it is about."""
        cause = record.exc_info[1] if record.exc_info else None
        self._errors.append(record.getMessage() + (f": {cause!r}" if cause is not None else ""))


@contextmanager
def _heard(errors: list[str]) -> Generator[None, None, None]:
    """Take the library's log for the time of a run: thousands of warnings are no news there."""
    logger, ear = logging.getLogger("lamella"), _Ear(errors)
    before, logger.propagate = logger.propagate, False
    logger.addHandler(ear)
    try:
        yield
    finally:
        logger.removeHandler(ear)
        logger.propagate = before
