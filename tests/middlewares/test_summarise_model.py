"""Any conversation, any model that summarises, any sizes: what has to stay stays, and is told."""

from __future__ import annotations

from random import Random
from typing import Any

import attrs
import pytest
from histories import history
from hypothesis import given, settings
from hypothesis import strategies as st
from summaries import World, long_talk, noted

from lamella import (
    ChatRequest,
    Finish,
    Message,
    RefusalDelta,
    ServerError,
    Size,
    SummariseError,
    ToolCall,
    groups,
    unanswered,
)
from lamella._shortening import turn_under_way
from lamella.testing import check_middleware, each_step, run_virtual, virtual_ports
from lamella_middlewares.summarise import Summarise

LONG = "word " * 3_000
STEPS: list[Any] = [
    "They spoke of lamps.", "They spoke of lamps.", "They spoke of lamps.", "", LONG,
    ["cut", Finish("length")], [RefusalDelta("no"), Finish("stop")], [99.0, "late", Finish("stop")],
    ServerError("x", status=500), RuntimeError("x"), ToolCall("c", "t", "{}"), ["breaks off"],
]  # fmt: skip


def check(talk: tuple[Message, ...], sent: tuple[Message, ...], summaries: list[Message]) -> None:
    """The rules that hold for whatever is sent of a conversation, whose messages are numbered."""
    own = [one for one in sent if not any(one is summary for summary in summaries)]
    assert len(summaries) <= 1
    assert all(one.role == "user" and one.pinned for one in summaries)
    places = [int(one.name or "") for one in own]
    assert places == sorted(set(places))
    for place, one in zip(places, own, strict=True):
        assert one == talk[place] or one.role == "tool"
    assert set(unanswered(sent)) <= set(unanswered(talk))
    under_way = turn_under_way(talk)
    assert own[len(own) - len(talk) + under_way :] == list(talk[under_way:])
    for group in groups(talk):
        there = {place in places for place in range(group.start, group.stop)}
        assert len(there) == 1
        stays = group.pinned or any(one.role in {"system", "developer"} for one in group.messages)
        assert there == {True} or not stays


async def converse(seed: int, tokens: int, target: int, otherwise: str, orphans: int) -> None:
    """A conversation that is asked about as it grows, and then once more."""
    drawn = Random(seed)
    talk = tuple(
        attrs.evolve(one, name=str(place))
        for place, one in enumerate(history(seed, orphans=orphans))
    )
    world = World(
        trigger=Size(tokens=tokens),
        target=Size(tokens=min(target, tokens)),
        otherwise=otherwise,
        timeout=5,
        max_input_tokens=drawn.choice([None, 500]),
        before=drawn.choice([(), "drop_tool_results"]),
        counter=None,
        max_output_tokens=20,
    )
    whole = groups(talk)
    stops = sorted({drawn.randint(1, len(whole)) for _ in range(3)} | {len(whole)})
    for stop in (*stops, stops[-1]):
        now = tuple(message for group in whole[:stop] for message in group.messages)
        world.summary = drawn.choice(STEPS)
        try:
            response = await world.ask(now)
        except SummariseError:
            assert otherwise == "raise"
            continue
        sent = world.sent[-1]
        used, failed = noted(response, "used"), noted(response, "failed")
        summaries = [one for one in sent if one.text.startswith("[A summary of earlier")]
        check(now, sent, summaries)
        assert not any(one.stream for one in world.written)
        assert len(used) + len(failed) <= 1
        assert len(summaries) == 1 if used else (len(summaries) <= len(failed))
        if failed:
            own = len(sent) - len(summaries)
            assert otherwise != "raise"
            assert failed[0]["left_out"] > 0 if otherwise == "sliding_window" else own <= len(now)
        elif not used:
            assert len(sent) == len(now)
        if used:
            writes = len(world.written)
            assert (await world.ask(now)).text == "It is."
            assert len(world.written) == writes
            assert world.sent[-1] == sent


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**9),
    tokens=st.sampled_from([150, 400, 1_500]),
    target=st.sampled_from([130, 300, 900]),
    otherwise=st.sampled_from(["sliding_window", "pass", "raise"]),
    orphans=st.sampled_from([0, 0, 2]),
)
def test_what_has_to_stay_stays(
    seed: int, tokens: int, target: int, otherwise: str, orphans: int
) -> None:
    """Instructions, pins, the last question, groups of tools; and the same again."""
    run_virtual(converse, seed, tokens, target, otherwise, orphans)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_anywhere_it_leaves_nothing_behind(backend: str) -> None:
    """No flight that others would wait for, and no open source."""

    def make() -> tuple[Any, Any]:
        world = World(ports=virtual_ports())

        async def check_after() -> None:
            assert world.transport.open_sources == 0
            await world.ask()
            assert len(world.sent) >= 1

        return world.ask, check_after

    assert each_step(make, backend=backend) > 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_keeps_the_contract_while_it_summarises(backend: str) -> None:
    """Streamed and not, left, dropped, with errors inside: of the child as well."""
    talk = ChatRequest(messages=long_talk(4), model="m")

    async def kept() -> None:
        await check_middleware(
            lambda: Summarise(Size(messages=4)), requests=[talk], skip=["cancelled anywhere"]
        )

    run_virtual(kept, backend=backend)
