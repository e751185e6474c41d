"""Failover scenarios: what a pipeline with two targets does on a provider's bad day.

Each scenario starts two providers on loopback sockets, lets one of them fail in one way, and asks
the pipeline; what was seen on both sides is judged. In virtual time a scenario takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import anyio
import attrs

from lamella._chat import ChatRequest, ChatResponse
from lamella._errors import LamellaError
from lamella._events import TextDelta
from lamella._loops import current_loop
from lamella._targets import Target
from lamella.testing._mock_server import MockServer

if TYPE_CHECKING:
    from lamella._handlers import Handler
    from lamella._pipeline import Pipeline
    from lamella._trace import Trace
    from lamella.testing._mock_faults import Steps

Grade: TypeAlias = Literal["pass", "partial", "safe", "fail"]
"""`pass`: all calls were answered, well. `partial`: they were, but at a price that good failover
does not pay. `safe`: not answered, and the caller was told so. `fail`: the caller was misled (a cut
answer as a whole one, text twice, a wrong bill), or waited without end."""

Mode: TypeAlias = Literal["run", "stream"]

MakePipeline: TypeAlias = "Callable[[Handler, Target], Pipeline]"
"""Makes the pipeline under test from its transport and its second target; it is closed after."""

PATIENCE = 120.0
"""Seconds of the loop's time that one call may take before it counts as hanging."""

PRIMARY = "The first provider says: one two three four five six seven eight nine ten."
SECONDARY = "The second provider says: uno due tre quattro cinque sei sette otto nove dieci."


@attrs.frozen
class Seen:
    """What one call looked like from outside.

    Attributes:
        text: What reached the caller, in the order it came; for a failed `run` nothing.
        complete: Whether the call ended well.
        error: What it ended with, if not.
        seconds: How long it took.
        served_by: Which target answered, as the response says.
        trace: The call's own account; None if it has none.
        usage: The usage that the response states for its own answer.
    """

    text: str
    complete: bool
    error: Exception | None
    seconds: float
    served_by: str | None = None
    trace: Trace | None = None
    usage: Any = None


@attrs.frozen
class Day:
    """What one scenario looked like: all its calls, and what the providers saw.

    Attributes:
        calls: The calls, in order.
        primary: How many requests reached the first provider.
        secondary: How many reached the second.
    """

    calls: Sequence[Seen]
    primary: int
    secondary: int


Judge: TypeAlias = "Callable[[Day], tuple[Grade, str] | None]"
"""Finds fault with a day on which all calls were answered; None if there is none to find."""


@attrs.frozen
class FailoverProvider:
    """How a provider of a scenario is spoken to.

    Attributes:
        transport: Makes the transport to a server, of the name given.
        model: The model that is asked for there.
    """

    transport: Callable[[MockServer, str], Handler]
    model: str


@attrs.frozen(kw_only=True)
class FailoverScenario:
    """One way for a provider to fail.

    Attributes:
        name: Its name on the command line.
        title: What happens, in a few words.
        primary: What goes wrong at the first provider: a text as `MockServer.faults` takes it, for
            every request, or a function that gives a fresh plan.
        calls: How many calls are made, one after the other.
        pause: Seconds between them.
        request: What is asked.
        judge: What is demanded besides an answer to each call.
        refusal: The class of the error that is as good as an answer, by name; None for none.
        refuses: Whether the second provider refuses a request, by the roles of its messages; None
            refuses none.
    """

    name: str
    title: str
    primary: str | Callable[[], Steps]
    calls: int = 1
    pause: float = 0.0
    request: ChatRequest = ChatRequest.of("Count, please.", model="gpt-4o-mini")
    judge: Judge | None = None
    refusal: str | None = None
    refuses: Callable[[Sequence[str]], bool] | None = None


@attrs.frozen
class FailoverResult:
    """How a scenario went.

    Attributes:
        scenario: Which, by name.
        title: What happened in it.
        mode: Whether the answers were streamed.
        grade: How good it was.
        why: In a sentence.
        seconds: The longest call, in the loop's seconds.
        primary: Requests that reached the first provider.
        secondary: Requests that reached the second.
    """

    scenario: str
    title: str
    mode: Mode
    grade: Grade
    why: str
    seconds: float
    primary: int
    secondary: int


async def play_failover(
    scenario: FailoverScenario,
    make: MakePipeline,
    *,
    mode: Mode = "run",
    primary: FailoverProvider | None = None,
    secondary: FailoverProvider | None = None,
) -> FailoverResult:
    """Play one scenario on the running loop.

    Args:
        scenario: Which.
        make: Makes the pipeline under test.
        mode: Whether the answers are streamed.
        primary: How the first provider is spoken to; None is by OpenAI's chat API.
        secondary: The same of the second.
    """
    from lamella.testing._failover_targets import openai_target, providers

    primary = primary or FailoverProvider(openai_target, "gpt-4o-mini")
    secondary = secondary or FailoverProvider(openai_target, "gpt-4.1-mini")

    async with AsyncExitStack() as stack:
        first, second = providers(scenario)
        await stack.enter_async_context(first)
        await stack.enter_async_context(second)
        there = secondary.transport(second, "secondary")
        other = Target("secondary", there, {"model": secondary.model})
        pipeline = make(primary.transport(first, "primary"), other)
        stack.push_async_callback(pipeline.aclose)
        request = scenario.request.evolve(model=primary.model)
        calls: list[Seen] = []
        for number in range(scenario.calls):
            if number:
                await anyio.sleep(scenario.pause)
            calls.append(await _watched(pipeline, request, mode))
        day = Day(calls, _asked(first), _asked(second))
    grade, why = judged(scenario, day)
    return FailoverResult(
        scenario.name, scenario.title, mode, grade, why,
        max(call.seconds for call in calls), day.primary, day.secondary,
    )  # fmt: skip


def _asked(server: MockServer) -> int:
    return sum(request.method == "POST" for request in server.requests)


async def _watched(pipeline: Pipeline, request: ChatRequest, mode: Mode) -> Seen:
    """Make one call, whatever becomes of it."""
    start = current_loop().now()
    pieces: list[str] = []
    with anyio.move_on_after(PATIENCE):
        try:
            if mode == "run":
                response = await pipeline.run(request)
                pieces.append(response.text)
            else:
                response = await _streamed(pipeline, request, pieces)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is judged
            text, seconds = "".join(pieces), current_loop().now() - start
            return Seen(text, complete=False, error=error, seconds=seconds)
        return Seen(
            "".join(pieces), complete=True, error=None, seconds=current_loop().now() - start,
            served_by=response.served_by, trace=response.trace, usage=response.usage,
        )  # fmt: skip
    return Seen("".join(pieces), complete=False, error=None, seconds=PATIENCE)


async def _streamed(pipeline: Pipeline, request: ChatRequest, pieces: list[str]) -> ChatResponse:
    async with pipeline.stream(request) as response:
        async for event in response:
            if isinstance(event, TextDelta):
                pieces.append(event.text)  # noqa: PERF401 - what has come counts, also on an error
    return response


def judged(scenario: FailoverScenario, day: Day) -> tuple[Grade, str]:
    """The grade of a day, and why: the worst of its calls, then what the scenario demands."""
    grades = [_grade(scenario, call) for call in day.calls]
    order = ("fail", "safe", "partial", "pass")
    worst = min(grades, key=lambda item: order.index(item[0]))
    if worst[0] != "pass":
        return worst
    found = scenario.judge(day) if scenario.judge is not None else None
    return found or worst


def _grade(scenario: FailoverScenario, call: Seen) -> tuple[Grade, str]:
    whole = call.text in {PRIMARY, SECONDARY}
    if call.complete:
        if whole:
            return "pass", f"answered by {call.served_by}"
        return "fail", "an answer that is not whole was handed out as one"
    if call.error is None:
        return "fail", f"the call hung for {PATIENCE:g} s"
    kind = type(call.error).__name__
    if not isinstance(call.error, LamellaError):
        return "fail", f"a raw {kind} reached the caller"
    if scenario.refusal in {each.__name__ for each in type(call.error).__mro__}:
        return "pass", f"refused with {kind}, as declared"
    if call.text and not (PRIMARY.startswith(call.text) or SECONDARY.startswith(call.text)):
        return "fail", "text came twice, or of two answers"
    return "safe", f"{kind} after {len(call.text)} characters"
