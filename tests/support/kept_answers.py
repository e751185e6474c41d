"""Answers of every kind, as they could come from any provider, and what is compared of them."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import strategies as st

from lamella import (
    Audio,
    ChatAnswer,
    ChatResponse,
    Event,
    File,
    Finish,
    Head,
    Image,
    MediaDelta,
    Message,
    Moderation,
    Money,
    Opaque,
    Part,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Text,
    TextDelta,
    TokenCount,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Turn,
    Usage,
    UsageReport,
    Vector,
)
from lamella._answer_codec import KeptAnswer

TEXT = st.text(st.characters(codec=None), max_size=8)  # halves of surrogate pairs too
WORD = st.text("ab%:\\é", min_size=1, max_size=4)
INT = st.integers(-(2**63), 2**64 - 1)
COUNT = st.integers(0, 2**40)
FLOAT = st.floats(allow_nan=False)
BYTES = st.binary(max_size=8)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | INT | FLOAT | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
EXTRA = st.dictionaries(TEXT, JSON, max_size=2)
CHOICE = st.integers(0, 2)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The values, or None."""
    return st.none() | values


def every(kind: type, /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects of a class, of which each field is given: a new one cannot be forgotten here."""
    names = {field.name for field in attrs.fields(kind)}
    assert set(fields) == names, f"{kind.__name__}: {set(fields) ^ names}"
    return st.builds(kind, **fields)


def one_of_three(kind: type, fields: dict[str, Any], *names: str) -> st.SearchStrategy[Any]:
    """Objects of a class that holds its content in exactly one way."""
    return st.one_of(
        [every(kind, **fields, **{n: WORD if n == name and n != "data" else
               BYTES if n == name else st.none() for n in names}) for name in names]
    )  # fmt: skip


LOGPROBS = maybe(st.lists(EXTRA, max_size=2) | st.lists(EXTRA, max_size=2).map(tuple))
KIND = st.sampled_from(["function", "custom"])
NOT_TEXT = {"media_type": maybe(WORD), "extra": EXTRA}

RESULT: st.SearchStrategy[Any] = every(
    ToolResult,
    call_id=TEXT,
    content=st.lists(st.deferred(lambda: PART), max_size=2).map(tuple),
    error=st.booleans(),
    extra=EXTRA,
    listed=st.booleans(),
)
OPAQUE: st.SearchStrategy[Any] = every(
    Opaque, data=EXTRA, provider=WORD, content=st.booleans(), choice=CHOICE
)


PART: st.SearchStrategy[Part] = st.deferred(
    lambda: st.one_of(
        every(Text, text=TEXT, extra=EXTRA),
        one_of_three(Image, {**NOT_TEXT, "detail": maybe(WORD)}, "url", "data"),
        every(
            Audio,
            data=maybe(BYTES),
            format=maybe(WORD),
            id=maybe(WORD),
            transcript=maybe(TEXT),
            extra=EXTRA,
        ),
        one_of_three(File, {**NOT_TEXT, "filename": maybe(TEXT)}, "data", "id", "url"),
        every(ToolCall, id=TEXT, name=TEXT, arguments=TEXT, kind=KIND, extra=EXTRA),
        RESULT,
        every(
            Reasoning,
            text=TEXT,
            signature=maybe(TEXT),
            id=maybe(TEXT),
            redacted=st.booleans(),
            extra=EXTRA,
        ),
        every(Refusal, text=TEXT, extra=EXTRA),
        OPAQUE,
    )
)


def _message(role: str, parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return every(
        Message,
        role=st.just(role),
        parts=parts,
        name=maybe(TEXT),
        extra=EXTRA,
        pinned=st.just(value=False),  # what is not sent is not kept of an answer
        listed=st.booleans(),
    )


MESSAGE = _message("tool", st.tuples(RESULT)) | _message(
    "assistant", st.lists(PART, max_size=2).map(tuple)
)
USAGE = every(
    Usage,
    **{
        field.name: st.booleans()
        if field.name == "estimated"
        else st.dictionaries(WORD, COUNT, max_size=2)
        if field.name in ("cache_write", "tool_units")
        else COUNT
        for field in attrs.fields(Usage)
    },
)
TEXTS: st.SearchStrategy[Event] = st.one_of(
    every(TextDelta, text=TEXT, choice=CHOICE, logprobs=LOGPROBS, index=CHOICE, extra=EXTRA),
    every(
        ReasoningDelta,
        text=TEXT,
        choice=CHOICE,
        index=CHOICE,
        signature=maybe(TEXT),
        id=maybe(WORD),
        redacted=st.booleans(),
        extra=EXTRA,
    ),
    every(RefusalDelta, text=TEXT, choice=CHOICE),
    every(
        ToolCallDelta,
        index=CHOICE,
        id=maybe(WORD),
        name=maybe(WORD),
        arguments=TEXT,
        choice=CHOICE,
        kind=KIND,
        extra=EXTRA,
    ),
)
EVENT: st.SearchStrategy[Event] = TEXTS | st.one_of(
    every(
        MediaDelta,
        kind=st.sampled_from(["audio", "image"]),
        data=BYTES,
        media_type=maybe(WORD),
        transcript=TEXT,
        id=maybe(WORD),
        index=CHOICE,
        choice=CHOICE,
        extra=EXTRA,
    ),
    every(Vector, index=CHOICE, values=st.lists(FLOAT, max_size=4).map(tuple), choice=CHOICE),
    every(TokenCount, tokens=COUNT, choice=CHOICE),
    every(
        Moderation,
        flagged=st.booleans(),
        categories=st.dictionaries(TEXT, st.booleans(), max_size=2),
        scores=st.dictionaries(TEXT, FLOAT, max_size=2),
        input_types=st.dictionaries(TEXT, st.lists(TEXT, max_size=2).map(tuple), max_size=2),
        index=CHOICE,
        choice=CHOICE,
    ),
    every(Turn, messages=st.lists(MESSAGE, max_size=2).map(tuple), choice=CHOICE),
    every(UsageReport, usage=USAGE, choice=CHOICE),
    every(Finish, reason=TEXT, reasons=st.lists(TEXT, max_size=2).map(tuple), choice=CHOICE),
    OPAQUE,
)
HEAD = every(
    Head,
    model=maybe(TEXT),
    provider=maybe(TEXT),
    request_id=maybe(TEXT),
    id=maybe(TEXT),
    status=maybe(st.integers(100, 599)),
    headers=st.just({}),
    raw=st.none(),
    cached=st.just(value=False),
    service=st.none(),
    cost=st.none(),
)
KEPT = every(
    KeptAnswer,
    events=st.lists(EVENT, max_size=4).map(tuple),
    head=HEAD,
    operation=WORD,
    model=maybe(TEXT),
    tenant=maybe(TEXT),
    tags=st.frozensets(TEXT, max_size=2),
    fresh_for=maybe(FLOAT),
    cost=maybe(every(Money, nano=INT, currency=WORD)),
    question=TEXT,
    vector=st.lists(FLOAT, max_size=3).map(tuple),
    age=st.just(0.0),
)


def folded(events: Any) -> ChatAnswer:
    """What events amount to as a chat answer."""
    return ChatResponse(tuple(events)).answer


def sample(text: str = "Hello.", *, tenant: str = "acme", **more: Any) -> KeptAnswer:
    """A usual answer."""
    usage = Usage(uncached_input=10, text_output=3)
    events = (TextDelta(text), UsageReport(usage), Finish("stop"))
    head = Head(model="m-1", provider="p", id="answer-1")
    fields = {"tenant": tenant, "model": "m", "cost": Money(1200), "fresh_for": 60.0, **more}
    return KeptAnswer(events, head, "chat", **fields)
