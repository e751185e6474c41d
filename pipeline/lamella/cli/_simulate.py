"""`lamella simulate`: what a stack would do under a load, in virtual time."""

from __future__ import annotations

import shutil
import signal
import sys
import threading  # noqa: TID251 - signals can be taken by the main thread only
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import attrs
from cyclopts import Parameter

if TYPE_CHECKING:
    from lamella.testing import FaultWindow, Report, SimulatedProvider, Simulation

_INTERRUPTED: Final = 130
_WIDEST: Final = 110


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Calling:
    """Who calls.

    Attributes:
        rate: Calls a second.
        duration: For how long, such as 20m or 1h30m.
        requests: So many calls instead.
        arrivals: Independent of each other, evenly spaced, or many at once.
        tenants: Among how many tenants they are spread.
        mode: Whether callers take the answer at once, stream it, or each half.
        cancels: The share of callers who give up after some seconds, such as 5%.
        leaves: The share of streams that are left in their middle.
    """

    rate: float = 10.0
    duration: Annotated[str, Parameter(name="--for")] = "10m"
    requests: int | None = None
    arrivals: Literal["poisson", "constant", "burst"] = "poisson"
    tenants: int = 1
    mode: Literal["run", "stream", "mixed"] = "mixed"
    cancels: str = "0%"
    leaves: str = "0%"


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Modelled:
    """What answers. Faults are written [PROVIDER:][START-END][,OPTION=VALUE...].

    Attributes:
        providers: Their names, the primary first, with commas; the others are targets of Fallback.
        first_event: Seconds until the first token, the median.
        tokens_per_second: How fast answers are written, the median.
        output_tokens: How long answers are, the median.
        requests_per_minute: The limit of each provider.
        tokens_per_minute: The same for tokens.
        capacity: How many answers each writes at full speed at once.
        outage: It answers 503.
        throttle: It answers 429; retry-after=10s is what it asks for.
        error: It answers an error; status=500.
        slow: It takes longer; factor=10.
        cut: Answers break off in their middle.
        stall: Answers fall silent in their middle.
        refuse: It accepts no connection.
        flap: It is well and answers 503 in turn; period=20s.
        no_usage: Answers lack their usage.
    """

    providers: str = "primary"
    first_event: float | None = None
    tokens_per_second: float | None = None
    output_tokens: float | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    capacity: int | None = None
    outage: tuple[str, ...] = ()
    throttle: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    stall: tuple[str, ...] = ()
    refuse: tuple[str, ...] = ()
    flap: tuple[str, ...] = ()
    no_usage: tuple[str, ...] = ()


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Reporting:
    """What is shown.

    Attributes:
        html: Write the report to this file as well, as a page with plots.
        json: Print one JSON object instead of the drawing.
        verify: Run it twice and fail unless both runs were the same to the last event.
    """

    html: Path | None = None
    json: bool = False
    verify: bool = False


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Campaigning:
    """Random stacks under random faults instead, which the other options do not concern.

    Attributes:
        campaign: Run so many seeds, from --seed on, until a law is broken.
        campaign_seed: Run this seed alone and show its report.
        campaign_requests: How many calls each of them makes.
    """

    campaign: int | None = None
    campaign_seed: int | None = None
    campaign_requests: int = 400


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Stacked:
    """What is simulated, and how.

    Attributes:
        preset: The named stack.
        config: The file with presets, as for lamella run.
        seed: Of all chance.
        backend: The event loop.
    """

    preset: Annotated[str, Parameter(alias="-p", show_default=True)] = "production"
    config: Annotated[str | None, Parameter(alias="-c")] = None
    seed: Annotated[int, Parameter(show_default=True)] = 0
    backend: Annotated[Literal["asyncio", "trio"], Parameter(show_default=True)] = "asyncio"


_STACKED: Final = Stacked()
_CALLING: Final = Calling()
_MODELLED: Final = Modelled()
_REPORTING: Final = Reporting()
_CAMPAIGNING: Final = Campaigning()


def simulate(
    *,
    stack: Stacked = _STACKED,
    calling: Calling = _CALLING,
    modelled: Modelled = _MODELLED,
    reporting: Reporting = _REPORTING,
    campaigning: Campaigning = _CAMPAIGNING,
) -> int:
    """Run a preset in virtual time under a load, against modelled providers, and report.

    Every call goes through the real stack; laws are checked that must hold whatever goes wrong,
    and the command fails if one is broken. The same options and seed give the same run. Ctrl-C ends
    it and prints what there is.

    Args:
        stack: What is simulated.
        calling: Who calls.
        modelled: What answers.
        reporting: What is shown.
        campaigning: Random stacks.
    """
    from lamella.testing import Simulation

    if campaigning.campaign is not None or campaigning.campaign_seed is not None:
        return _campaign(campaigning, reporting, stack.seed, stack.backend)
    simulation = Simulation(
        stack.preset,
        providers=_providers(modelled),
        load=_load(calling),
        seed=stack.seed,
        backend=stack.backend,
        mode=calling.mode,
        config=stack.config,
        on_progress=_progress(),
    )
    return _told(simulation, reporting)


def _told(simulation: Simulation, reporting: Reporting) -> int:
    """Run it, once or twice, and show what came of it."""
    from lamella.cli._errors import FAILED, OK
    from lamella.cli._output import say

    with _stopping(simulation):
        report = simulation.run()
        _clear_progress()
        again = simulation.run() if reporting.verify and not report.interrupted else None
        _clear_progress()
    _show(report, reporting)
    if report.interrupted:
        return _INTERRUPTED
    if again is not None and not again.interrupted:
        if again.digest != report.digest:
            say(f"The two runs differ: {report.digest} and {again.digest}.", style="red")
            return FAILED
        say(f"A second run was the same: {again.digest}.", style="dim")
    return OK if report.holds else FAILED


def _show(report: Report, reporting: Reporting) -> None:
    from lamella.cli._output import harmless, is_terminal, say, show_json

    if reporting.html is not None:
        report.html(reporting.html)
        say(f"The report is in {reporting.html}.", style="dim")
    if reporting.json:
        show_json(report.to_json())
        return
    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else 78
    text = report.draw(width=min(width, _WIDEST), ascii_only=not _draws_blocks())
    sys.stdout.write(harmless(text) + "\n")
    sys.stdout.flush()


def _draws_blocks() -> bool:
    """Whether standard output has the characters of a finer plot."""
    try:
        "▁█".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


# --- what the options mean ------------------------------------------------------------------------


def _load(calling: Calling) -> Any:
    from lamella.testing import Load
    from lamella.testing._simulated_spread import span_of

    return Load(
        rate=calling.rate,
        duration=span_of(calling.duration),
        requests=calling.requests,
        arrivals=calling.arrivals,
        tenants=calling.tenants,
        cancels=_share(calling.cancels, "--cancels"),
        leaves=_share(calling.leaves, "--leaves"),
    )


def _share(text: str, option: str) -> float:
    from lamella.cli._errors import UsageError

    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is no share: write 5% or 0.05.") from None


def _providers(modelled: Modelled) -> tuple[SimulatedProvider, ...]:
    from lamella.testing import SimulatedProvider

    names = [name.strip() for name in modelled.providers.split(",")]
    faults = _faults(modelled, names)
    chosen = ("first_event", "tokens_per_second", "output_tokens", "requests_per_minute",
              "tokens_per_minute", "capacity")  # fmt: skip
    options = {name: value for name in chosen if (value := getattr(modelled, name)) is not None}
    return tuple([SimulatedProvider(name, faults=faults[name], **options) for name in names])


def _faults(modelled: Modelled, names: Sequence[str]) -> dict[str, list[FaultWindow]]:
    """The windows of each provider; those that name none are the primary's."""
    from lamella.cli._errors import UsageError
    from lamella.testing import FaultWindow
    from lamella.testing._simulated_faults import FAULT_KINDS

    found: dict[str, list[FaultWindow]] = {name: [] for name in names}
    for kind in FAULT_KINDS:
        for text in getattr(modelled, kind):
            provider, window = FaultWindow.parse(kind, text)
            if provider is not None and provider not in found:
                raise UsageError(
                    f"--{kind.replace('_', '-')} {text!r} names {provider!r}, which is no provider "
                    f"here: they are {', '.join(names)}.",
                    hint="Name them all: --providers primary,secondary.",
                )
            found[provider or names[0]].append(window)
    return found


# --- campaigns ------------------------------------------------------------------------------------


def _campaign(campaigning: Campaigning, reporting: Reporting, first: int, backend: str) -> int:
    from lamella.cli._errors import FAILED, OK, UsageError
    from lamella.cli._output import say
    from lamella.testing import campaign_simulation

    requests = campaigning.campaign_requests
    if campaigning.campaign_seed is not None:
        seed = campaigning.campaign_seed
        return _told(campaign_simulation(seed, requests=requests, backend=backend), reporting)
    count = campaigning.campaign or 0
    if count < 1:
        raise UsageError(f"--campaign {count} runs nothing; it is 1 or more.")
    calls = 0
    for seed in range(first, first + count):
        simulation = campaign_simulation(seed, requests=requests, backend=backend)
        with _stopping(simulation):
            report = simulation.run()
        calls += report.calls
        if report.interrupted:
            say(f"Stopped in seed {seed}; the {seed - first} seeds before it held.")
            return _INTERRUPTED
        if not report.holds:
            _show(report, reporting)
            say(f"Seed {seed} breaks a law. Replay it: {replay(seed, requests, backend)}")
            return FAILED
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{seed - first + 1} of {count} seeds, {calls} calls ")
    _clear_progress()
    sys.stdout.write(f"All laws held in {count} seeds with {calls} calls.\n")
    return OK


def replay(seed: int, requests: int, backend: str) -> str:
    """The command that runs one seed of a campaign again."""
    return (
        f"lamella simulate --campaign-seed {seed} --campaign-requests {requests} "
        f"--backend {backend}"
    )


# --- while it runs --------------------------------------------------------------------------------


@contextmanager
def _stopping(simulation: Simulation) -> Generator[None, None, None]:
    """The first Ctrl-C stops the simulation, the second one the program."""

    def stop(_: int, __: FrameType | None) -> None:
        if simulation.stopped:
            raise KeyboardInterrupt
        simulation.stop()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _progress() -> Callable[[int, float], object] | None:
    """Tells a person that it goes on."""
    if not sys.stderr.isatty():
        return None

    def tell(calls: int, at: float) -> None:
        sys.stderr.write(f"\r{calls} calls, {at:.0f} s simulated ")
        sys.stderr.flush()

    return tell


def _clear_progress() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
