"""Marks for prompt caches, on any request: never too many, never in an order that is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    ChatRequest,
    File,
    Image,
    Message,
    Opaque,
    PromptCaching,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from lamella_middlewares.prompt_cache._lengths import Length
from lamella_middlewares.prompt_cache._marks import Wanted, with_marks

MARK = "cache_control"
SHORT: dict[str, Any] = {MARK: {"type": "ephemeral"}}
LONG: dict[str, Any] = {MARK: {"type": "ephemeral", "ttl": "1h"}}

extras = st.sampled_from([{}, {}, {}, {"x": 1}, SHORT, LONG])
texts = st.builds(Text, st.sampled_from(["", " ", "a", "word " * 300]), extras)
images = st.builds(lambda extra: Image("https://x.test/y.png", extra=extra), extras)
unknown = st.sampled_from([Opaque({"type": "odd"}), Opaque({"cachePoint": {"type": "default"}})])
contents = st.lists(texts | images | unknown, min_size=1, max_size=3)
results = st.builds(
    lambda inner, extra: ToolResult("1", tuple(inner), extra=extra), contents, extras
)
calls = st.builds(lambda extra: ToolCall("1", "f", "{}", extra=extra), extras)
messages = st.one_of(
    st.builds(Message, st.sampled_from(["system", "user", "developer"]), contents),
    st.builds(Message, st.just("assistant"), st.lists(texts | calls, min_size=1, max_size=2)),
    st.builds(lambda part: Message("tool", part), results),
)
tools = st.builds(lambda extra: Tool("f", "does it", {"type": "object"}, extra=extra), extras)
requests = st.builds(
    lambda talk, tools, extra: ChatRequest(messages=talk, tools=tools, extra=extra, model="m"),
    st.lists(messages, max_size=8),
    st.lists(tools | st.just(Opaque({"type": "hosted"})), max_size=3),
    st.sampled_from([{}, {}, {"y": 2}, SHORT, LONG]),
)
wishes = st.builds(
    Wanted,
    tools=st.booleans(),
    system=st.booleans(),
    messages=st.integers(0, 3),
    lifetime=st.just("1h"),
    later=st.sampled_from(["5m", "1h"]),
    minimum=st.sampled_from([None, 1]),
) | st.just(Wanted(True, True, 2, "5m", "5m", None))
targets = st.builds(
    PromptCaching,
    marks=st.integers(1, 4),
    lifetimes=st.sampled_from([("5m",), ("5m", "1h")]),
    places=st.sets(st.sampled_from(["tools", "system", "messages"])).map(frozenset),
    texts_only=st.booleans(),
    results=st.booleans(),
    minimum=st.sampled_from([1, 300]),
)


def holders(request: ChatRequest) -> Iterator[Any]:
    """All that can hold a mark, in the order in which a model reads it."""
    yield from request.tools
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, ToolResult):
                yield from part.content
            yield part
    yield request


def extra_of(holder: Any) -> Any:
    """Its extra."""
    return holder.data if isinstance(holder, Opaque) else holder.extra


def lives(request: ChatRequest) -> list[str]:
    """The lifetimes of a request's marks."""
    found = [extra_of(each) for each in holders(request)]
    marks = [each.get(MARK, each.get("cachePoint")) for each in found]
    return [mark.get("ttl", "5m") for mark in marks if mark is not None]


def lawful(found: list[str]) -> bool:
    """Whether none lives longer than one before it."""
    return found == sorted(found)  # "1h" before "5m"


@given(requests, wishes, targets)
def test_marks_are_within_what_the_target_takes(
    request: ChatRequest, wanted: Wanted, target: PromptCaching
) -> None:
    """As many as it takes, in a lawful order, on something; all else stays as it was."""
    before = lives(request)
    marked = with_marks(request, wanted, target)
    if marked is None:
        return
    after = marked.request
    assert marked.given == len(before)
    assert len(lives(after)) == len(before) + len(marked.where) <= target.marks
    assert lawful(lives(after)) or not lawful(before)
    assert set(marked.lifetimes) <= set(target.lifetimes)
    pairs = list(zip(holders(request), holders(after), strict=True))
    for old, new in pairs:
        if isinstance(old, Opaque):
            assert new == old
        elif MARK in old.extra:
            assert new.extra == old.extra
        elif MARK in new.extra:
            kept = {name: value for name, value in new.extra.items() if name != MARK}
            assert kept == old.extra
            assert not isinstance(old, Text) or old.text.strip()
            assert isinstance(old, Text | Tool) or not target.texts_only
            assert not isinstance(old, ToolResult) or target.results
    assert with_marks(after, wanted, attrs.evolve(target, marks=len(lives(after)))) is None


@given(st.text(max_size=2_000), st.integers(1, 500))
def test_a_text_is_counted_the_same_each_time(text: str, minimum: int) -> None:
    """It is remembered by its hash."""
    found: set[bool] = set()
    for _ in range(2):
        length = Length(minimum)
        length.message(Message.user(text))
        found.add(length.enough)
    assert len(found) == 1


def test_no_end_of_texts_is_remembered() -> None:
    """The memory of lengths is bounded, and holds no text."""
    from lamella_middlewares.prompt_cache import _lengths

    for number in range(5_000):
        Length(1_000).message(Message.user(f"{number} " + "word " * 60))
    assert len(_lengths._seen) <= 4_096
    assert {type(key) for key in _lengths._seen} == {int}


def test_what_is_somewhere_else_may_be_long() -> None:
    """A file that is only named is not taken for an empty one."""
    for file in (File(id="file-1"), File(url="https://x.test/y.pdf")):
        length = Length(100_000)
        length.message(Message.user(file))
        assert length.enough
    length = Length(100)
    length.message(Message.user(File(data=b"x" * 200, media_type="text/plain")))
    assert not length.enough


def test_what_json_cannot_say_counts_for_nothing() -> None:
    """The provider's transport refuses it, and names it."""
    length = Length(5)
    length.tools([Tool("f", "", {"x": object()})])
    assert not length.enough
