"""Which answers may be kept: those that ended well, and that this very call was answered with."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    Context,
    EmbeddingRequest,
    EmbeddingResponse,
    Ending,
    Finish,
    Handler,
    Head,
    Message,
    Opaque,
    Pipeline,
    ReasoningDelta,
    RefusalDelta,
    Request,
    Response,
    ServerError,
    TextDelta,
    Tool,
    ToolCallDelta,
    Turn,
    Usage,
    UsageReport,
    Vector,
    ending,
    middleware,
)
from lamella._kept_answers import why_not_kept
from lamella.testing import Scripted, virtual_backends, virtual_ports
from lamella_middlewares import Fallback, Retry, SingleFlight

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("Is it up?", model="m")
USAGE = UsageReport(Usage(uncached_input=3, text_output=2))
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["run", "stream"])


@pytest.fixture(params=virtual_backends(), ids=lambda backend: f"virtual-{backend[0]}")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops, in virtual time."""
    return request.param


@middleware(phase="remember", rank=30)
class Judge:
    """Writes down whether each answer may be kept.

    Attributes:
        whys: The judgements, in order.
    """

    def __init__(self, **options: Any) -> None:
        self.whys: list[str] = []
        self._options = options

    async def __call__(self, request: Request[Any], call_next: Handler) -> Any:
        """Judge when the answer has ended."""

        def told(end: Ending) -> None:
            self.whys.append(why_not_kept(request, end, **self._options))

        return await ending(call_next, request, told)


async def judged(
    *script: Any, stream: bool = False, layers: Any = (), request: Any = ASK, **options: bool
) -> list[str]:
    """Why answers are not kept, of one call."""
    judge = Judge(**options)
    pipeline = Pipeline([judge, *layers], Scripted(script), ports=virtual_ports())
    try:
        if stream:
            async with pipeline.stream(request) as response:
                await response.collect()
        else:
            await pipeline.run(request)
    except ServerError:
        pass
    return judge.whys


@STREAMED
@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([TextDelta("Yes."), USAGE, Finish("stop")], ""),
        ([TextDelta("Yes."), Finish("tool_calls", ("stop", "tool_calls"))], ""),
        ([Turn((Message("assistant", "x"),)), TextDelta("Yes."), Finish("stop")], ""),
        ([TextDelta("Yes"), Finish("length")], "length"),
        ([TextDelta("Yes"), Finish("stop", ("stop", "length"))], "length"),
        ([TextDelta("Yes"), Finish("content_filter")], "content_filter"),
        ([TextDelta("Yes"), Finish("stop", ("stop", "content_filter"))], "content_filter"),
        ([TextDelta("Yes"), Finish("SAFETY")], "finish"),
        ([TextDelta("Yes"), Finish("stop", ("stop", ""))], "finish"),
        ([RefusalDelta("I will not."), Finish("stop")], "refusal"),
        ([USAGE, Finish("stop")], "empty"),
        ([TextDelta(""), Finish("stop")], "empty"),
        ([ReasoningDelta("Hm."), Finish("stop")], "empty"),
        ([ReasoningDelta("Hm."), ToolCallDelta(0, "c", "f"), Finish("tool_calls")], ""),
        ([TextDelta("x"), RefusalDelta("No.", choice=1), USAGE, Finish("stop")], "refusal"),
        (
            [TextDelta("x"), UsageReport(Usage(tool_units={"web_search": 1})), Finish("stop")],
            "stateful",
        ),
    ],
)
async def test_only_answers_that_ended_well_are_kept(
    events: list[Any], why: str, stream: bool
) -> None:
    """In every choice: not cut off, filtered, refused or empty; nothing that the provider ran."""
    assert await judged(events, stream=stream) == [why]


@STREAMED
async def test_answers_that_were_cut_off_are_kept_where_that_is_wanted(stream: bool) -> None:
    """And nothing else that did not end well."""
    cut, filtered = [TextDelta("Ye"), Finish("length")], [TextDelta("x"), Finish("content_filter")]
    assert await judged(cut, stream=stream, truncated=True) == [""]
    assert await judged(filtered, stream=stream, truncated=True) == ["content_filter"]


async def test_what_did_not_end_is_not_kept() -> None:
    """Whatever ended it: an error, a truncation, a reader that left, a cancellation."""
    assert await judged(ServerError("no")) == ["failed"]
    judge = Judge()
    script: list[Any] = [["Ye"], ["Ye", "s.", Finish("stop")], ["Ye", 5.0, "s.", Finish("stop")]]
    pipeline = Pipeline([judge], Scripted(script), ports=virtual_ports())
    with pytest.raises(Exception, match="terminal signal"):
        await pipeline.run(ASK)
    async with pipeline.stream(ASK) as response:
        async for _ in response:
            break
    with anyio.move_on_after(1):
        await pipeline.run(ASK)
    assert judge.whys == ["truncated", "left", "cancelled"]


@pytest.mark.parametrize(
    "request_",
    [
        ASK.evolve(extra={"store": True}),
        ASK.evolve(extra={"previous_response_id": "r"}),
        ASK.evolve(tools=(Opaque({"type": "web_search"}),)),
    ],
)
async def test_what_the_provider_keeps_or_runs_is_not_kept(request_: ChatRequest) -> None:
    """An answer from here would leave nothing there."""
    assert await judged("Yes.", request=request_) == ["stateful"]
    function = ASK.evolve(tools=(Tool("f", parameters={"type": "object"}),))
    assert await judged("Yes.", request=function) == [""]


async def test_any_operation_s_answers_are_kept() -> None:
    """Embeddings end well, too."""
    answer = EmbeddingResponse.of([[0.5]])
    assert await judged(answer, request=EmbeddingRequest.of("x", model="m")) == [""]
    assert isinstance(answer.events[0], Vector)


async def test_an_answer_that_nobody_attempted_here_is_not_kept() -> None:
    """A layer inside has replayed it, or made it up."""

    async def replay(request: Request[Any], _: Handler) -> Response:
        answer: Response = request.answer([TextDelta("x"), Finish("stop")], Head(cached=True))
        return answer

    assert await judged("not asked", layers=[replay]) == ["not_own"]


@STREAMED
async def test_an_answer_is_kept_by_who_pays_for_it(stream: bool) -> None:
    """Of calls that share one, one keeps it; also if the first has left meanwhile."""
    judge = Judge()
    pipeline = Pipeline(
        [judge, SingleFlight()],
        Scripted([["Y", 1.0, "es.", USAGE, Finish("stop")]], repeat=True),
        ports=virtual_ports(),
    )

    async def ask(left_after: float) -> None:
        with anyio.move_on_after(left_after):
            if stream:
                async with pipeline.stream(ASK) as response:
                    await response.collect()
            else:
                await pipeline.run(ASK)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask, 10)
    assert sorted(judge.whys) == ["", "not_own", "not_own"]
    judge.whys.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(ask, 0.5)
        await anyio.wait_all_tasks_blocked()
        for _ in range(2):
            group.start_soon(ask, 10)
    assert sorted(judge.whys) == ["", "cancelled", "not_own"]


@STREAMED
async def test_an_answer_after_a_retry_is_kept(stream: bool) -> None:
    """The attempt that failed does not matter."""
    script = (ServerError("no", retryable=True), [TextDelta("Yes."), Finish("stop")])
    assert await judged(*script, stream=stream, layers=[Retry(3)]) == [""]


async def test_an_earlier_try_s_attempt_is_not_its_own() -> None:
    """A layer outside has tried again, and what came back then nobody has attempted."""
    judge = Judge()
    replaying = False

    async def twice(request: Request[Any], call_next: Handler) -> Any:
        nonlocal replaying
        await call_next(request)
        replaying = True
        return await call_next(request.branch("try2"))

    async def replay(request: Request[Any], call_next: Handler) -> Any:
        if replaying:
            return request.answer([TextDelta("x"), Finish("stop")])
        return await call_next(request)

    pipeline = Pipeline([twice, judge, replay], Scripted(["Yes."]), ports=virtual_ports())
    await pipeline.run(ASK)
    assert judge.whys == ["", "not_own"]


@STREAMED
async def test_a_stand_in_s_answer_is_kept_only_where_that_is_wanted(stream: bool) -> None:
    """It is not the answer that was meant."""
    for options, why in (({}, "substitute"), ({"substitutes": True}, "")):
        judge = Judge(**options)
        broken = Scripted([ServerError("no")], name="broken")
        other = Scripted([[TextDelta("Yes."), Finish("stop")]], name="other")
        pipeline = Pipeline([judge, Fallback([other])], broken, ports=virtual_ports())
        request = ASK.evolve(context=Context(tenant="acme"))
        if stream:
            async with pipeline.stream(request) as response:
                await response.collect()
        else:
            await pipeline.run(request)
        assert judge.whys == [why]
