"""What was gone through is not gone through again, and nobody can tell from what is sent."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

import anyio
import attrs
from histories import history
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import ChatRequest, Message, Size, SlidingWindow
from lamella._conversation_limits import SendLimits
from lamella._message_sizes import Measure, MessageSizes
from lamella._shortening import Progress, shortened, target_of
from lamella._token_content import content_of
from lamella._token_estimate import ESTIMATOR
from lamella._tokens import tokens_at_hand

MEASURE = Measure(ESTIMATOR, None)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    tokens=st.none() | st.integers(20, 2_000),
    most=st.integers(2, 30),
    orphans=st.integers(0, 2),
)
def test_each_turn_is_cut_as_if_all_of_it_were_gone_through(
    seed: int, tokens: int | None, most: int, orphans: int
) -> None:
    """Whatever grows, is edited, or is another conversation: the same is sent as without it."""
    trigger = Size(tokens=tokens, messages=None if tokens and seed % 2 else most)
    target = target_of(trigger)
    progress = Progress([SlidingWindow()], trigger, target, MEASURE)
    cut = partial(
        shortened, strategies=[SlidingWindow()], trigger=trigger, target=target, count=MEASURE
    )
    drawn = Random(seed)
    whole = history(seed, turns=12, orphans=orphans)
    place = 0
    while place < len(whole):
        place += drawn.randint(1, 4)
        if drawn.random() < 0.1:  # a message in the past is pinned: it is another object
            at = drawn.randrange(len(whole))
            pinned = attrs.evolve(whole[at], pinned=not whole[at].pinned)
            whole = (*whole[:at], pinned, *whole[at + 1 :])
        said, overhead = whole[:place], drawn.choice((0, 0, 0, 15))
        expected = cut(said, overhead=overhead if tokens else 0)
        found = progress.shortened(said, overhead if tokens else 0)
        assert found == expected.messages
        assert (found is said) == (expected.messages is said or not expected.used)
        new = progress.new(said, overhead if tokens else 0)
        assert new == said[len(said) - len(new) :]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), words=st.integers(1, 500))
def test_what_is_told_at_a_glance_is_what_is_counted(seed: int, words: int) -> None:
    """A count without a walk is the count; and no conversation has more tokens than is said."""
    request = ChatRequest.of(history(seed, words=words))
    content = content_of(request)
    assert content is not None
    counted = sum(content.count(ESTIMATOR, None))
    at_hand = tokens_at_hand(request)
    assert at_hand is None or at_hand == counted
    found = MessageSizes(None).at_most(request, shares=False)
    assert found is None or found[0] >= counted


def test_text_alone_is_told_at_a_glance() -> None:
    """A conversation of text, calls and results needs no walk; a picture does."""
    said = [Message.user("what?"), Message.assistant("that"), Message.user("I see")]
    assert tokens_at_hand(ChatRequest.of(said)) == 12 + ESTIMATOR.count(["what?", "that", "I see"])
    assert MessageSizes(None).at_most(ChatRequest.of(said), shares=False) is not None
    assert tokens_at_hand(ChatRequest.of(said, tools=[_tool()])) is None


def test_what_is_cut_anew_is_cut_in_a_thread() -> None:
    """Other tools leave other room: then all of a long conversation is gone through again."""
    threads: list[Any] = []

    async def thread(function: Any, *args: Any) -> Any:
        threads.append(function)
        return function(*args)

    limits = SendLimits.of(None, 3_000)
    assert limits is not None
    said = tuple(history(7, turns=160))
    plain = ChatRequest.of(said)
    tooled = ChatRequest.of(said, tools=[_tool()])
    for request, expected in ((plain, 1), (plain, 1), (tooled, 2), (tooled, 2), (plain, 3)):
        anyio.run(limits.within, request, thread)
        assert len(threads) == expected


def _tool() -> dict[str, object]:
    return {"type": "function", "function": {"name": "look", "parameters": {}}}
