"""Spend under any sequence of calls, outages, lost answers and pauses: nothing lost or doubled."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spending import ANSWER, FaultySpend, ask, spending

from lamella import SpendQuery, StoreUnavailableError
from lamella.testing import Scripted, run_virtual
from lamella_middlewares.spend import Spend

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(1, 7)),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 40.0])),
        st.tuples(st.just("store"), st.sampled_from(["out", "mute", "slow", "well"])),
        st.tuples(st.just("flush"), st.sampled_from([0.0, 0.5, 60.0])),
    ),
    max_size=12,
)


async def play(actions: list[tuple[str, Any]], batch: int) -> None:
    """Do it, let the store recover, close, and compare."""
    store = FaultySpend()
    spend = Spend(store=store, batch=batch)
    pipe = spending([spend], Scripted([ANSWER] * 100))
    made: list[str] = []
    for action, how in actions:
        if action == "call":
            for _ in range(how):
                response = await pipe.run(ask())
                made.append(f"{response.trace.call_id}/0")
        elif action == "wait":
            await anyio.sleep(how)
        elif action == "store":
            store.out, store.mute = how == "out", how == "mute"
            store.delay = 3.0 if how == "slow" else 0.0
        else:
            with anyio.move_on_after(how):  # given up in the middle
                await flushed(spend)
    store.out = store.mute = False
    store.delay = 0.0
    await pipe.aclose()
    kept = [record.id async for record in store.read(SpendQuery())]
    assert sorted(kept) == sorted(made)
    assert spend.health().detail["pending"] == 0


async def flushed(spend: Spend) -> None:
    """Flush; that the store is out is no surprise here."""
    try:
        await spend.flush()
    except StoreUnavailableError:
        assert spend.health().well is False


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=25, deadline=None)
@given(actions=ACTIONS, batch=st.sampled_from([1, 3, 500]))
def test_whatever_happens_each_attempt_is_there_once(
    backend: str, actions: list[tuple[str, Any]], batch: int
) -> None:
    """As long as not too many wait, and the store comes back in the end."""
    logging.getLogger("lamella").setLevel(logging.CRITICAL)
    try:
        run_virtual(play, actions, batch, backend=backend)
    finally:
        logging.getLogger("lamella").setLevel(logging.NOTSET)
