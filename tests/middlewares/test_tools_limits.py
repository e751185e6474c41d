"""The limits on a loop of tools: turns, tokens, money, time."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from tool_turns import ASK, asks, call, noted, pipeline, read, results, sent, whole

from lamella import (
    LamellaError,
    Money,
    ServerError,
    ToolLimitError,
    UnsupportedError,
    Usage,
    answered,
)
from lamella.testing import Scripted
from lamella_middlewares import Cost, Tools

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["run", "stream"])
USAGE = Usage(uncached_input=100, text_output=10)
PRICES = {"m": {"input": "1000", "output": "1000"}}  # a tenth of a cent a token


async def step(number: int = 0) -> str:
    """One step."""
    await anyio.sleep(4)
    return f"step {number}"


def endless(request: Any) -> Any:
    """A model that asks for tools as long as it may."""
    if request.tool_choice == "none":
        return "Enough."
    return asks(call("step", number=1), usage=USAGE)


LIMITS: dict[str, tuple[dict[str, Any], int, int]] = {
    # the options, how many turns there are, and how many of the calls are run
    "max_steps": ({"max_steps": 4}, 4, 3),
    "max_tokens": ({"max_tokens": 250}, 4, 2),
    "max_cost": ({"max_cost": "0.25"}, 4, 2),
    "max_seconds": ({"max_seconds": 6}, 3, 2),
}


@BOTH
@pytest.mark.parametrize("limit", LIMITS)
async def test_at_a_limit_the_model_answers_without_tools(limit: str, *, stream: bool) -> None:
    """What it asked for beyond is not run, and it is told why."""
    options, turns, run = LIMITS[limit]
    transport = Scripted([endless], repeat=True)
    response = await read(
        pipeline(Tools([step], **options), transport, Cost(PRICES)), stream=stream
    )
    assert response.text == "Enough."
    assert len(sent(transport)) == turns
    assert [request.tool_choice for request in sent(transport)] == [
        *[None] * (turns - 1),
        "none",
    ]
    assert all(request.tools for request in sent(transport))
    told = results(response.messages)
    assert sum(not error for _, _, error in told) == run - (limit == "max_seconds")
    assert [one["limit"] for one in noted(response, "tools.limit")] == [limit]
    assert whole(sent(transport))


@BOTH
@pytest.mark.parametrize("limit", LIMITS)
async def test_at_a_limit_an_error_may_be_wanted(limit: str, *, stream: bool) -> None:
    """It says which, and has every turn; each call in it is answered."""
    options, _, _ = LIMITS[limit]
    transport = Scripted([endless], repeat=True)
    layer = Tools([step], on_limit="raise", **options)
    with pytest.raises(ToolLimitError, match=limit) as caught:
        await read(pipeline(layer, transport, Cost(PRICES)), stream=stream)
    error = caught.value
    assert error.limit == limit
    assert error.layer == "tools"
    partial: Any = error.partial
    messages = partial.messages
    assert answered(messages)
    assert len(messages) == 2 * len(sent(transport))
    assert error.usage is not None
    assert error.usage.total_tokens == 110 * len(sent(transport))
    assert not error.retryable
    assert error.committed is stream


async def test_a_model_that_does_not_stop_is_stopped() -> None:
    """One that asks for tools in the turn without any has had its last word."""
    transport = Scripted([asks(call("step"))], repeat=True)
    with pytest.raises(ToolLimitError) as caught:
        await pipeline(Tools([step], max_steps=3), transport).run(ASK)
    assert len(sent(transport)) == 3
    assert caught.value.limit == "max_steps"
    assert caught.value.retryable is False


async def test_a_cost_that_nobody_knows_counts_as_too_much() -> None:
    """It may be more than there is, as may be one in another currency."""
    for given, prices in (("0.50", {}), (Money.of("5", "EUR"), PRICES)):
        transport = Scripted([endless], repeat=True)
        layer = Tools([step], max_cost=given)
        response = await pipeline(layer, transport, Cost(prices, unknown="note")).run(ASK)
        assert len(sent(transport)) == 2
        assert noted(response, "tools.limit")[0]["limit"] == "max_cost"


async def test_time_that_is_up_stops_the_tools_under_way() -> None:
    """The model is told, and has its last turn."""

    async def long() -> str:
        await anyio.sleep(100)
        return "never"

    began = anyio.current_time()
    transport = Scripted([asks(call("long")), "Enough."])
    response = await pipeline(Tools([long], max_seconds=7), transport).run(ASK)
    assert anyio.current_time() - began == pytest.approx(7)
    assert "limit on time" in results(response.messages)[0][1]
    assert response.text == "Enough."
    assert noted(response)[0]["outcome"] == "timed_out"


async def test_a_call_that_waits_for_approval_has_had_no_effect() -> None:
    """When time is up, it is told apart from one that was begun."""

    async def never(_: object, __: object) -> bool:
        await anyio.sleep_forever()
        return True

    transport = Scripted([asks(call("step")), "Enough."])
    layer = Tools([step], max_seconds=7, approve=never)
    response = await pipeline(layer, transport).run(ASK)
    assert "no effect" in results(response.messages)[0][1]


@BOTH
async def test_an_error_after_a_turn_has_what_was_done(*, stream: bool) -> None:
    """And nobody tries again what would run a tool twice."""
    broken = ServerError("oops", status=500, should_retry=True)
    script = [asks(call("step", number=1), usage=USAGE), broken]
    with pytest.raises(ServerError) as caught:
        await read(pipeline(Tools([step]), script), stream=stream)
    error: LamellaError = caught.value
    partial: Any = error.partial
    messages = partial.messages
    assert [message.role for message in messages] == ["assistant", "tool"]
    assert results(messages) == [("step", "step 1", False)]
    assert error.usage == USAGE
    assert error.retryable is False
    assert error.should_retry is False
    assert error.elsewhere is False


async def test_an_error_in_the_first_turn_is_left_as_it_is() -> None:
    """Nothing was run."""
    with pytest.raises(ServerError) as caught:
        await pipeline(Tools([step]), [ServerError("oops", status=500)]).run(ASK)
    assert caught.value.retryable
    assert caught.value.partial is None


@BOTH
@pytest.mark.parametrize("stubborn", [False, True])
async def test_an_api_that_has_no_word_for_no_tools(*, stubborn: bool, stream: bool) -> None:
    """It is asked without; the model may answer, and calls no tool once more."""

    def asked(request: Any) -> Any:
        if request.tool_choice == "none":
            return UnsupportedError("`tool_choice` is 'none'.")
        return asks(call("step")) if stubborn or len(request.messages) == 1 else "Enough."

    transport = Scripted([asked], repeat=True)
    pipe = pipeline(Tools([step], max_steps=2), transport)
    if stubborn:
        with pytest.raises(ToolLimitError) as caught:
            await read(pipe, stream=stream)
        partial: Any = caught.value.partial
        assert [error for _, _, error in results(partial.messages)] == [False, True]
    else:
        assert (await read(pipe, stream=stream)).text == "Enough."
    assert [one.tool_choice for one in sent(transport)] == [None, "none", None]
