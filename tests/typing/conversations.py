"""The types of conversations, checked by mypy and pyright and never run."""

from __future__ import annotations

from typing import Any, assert_type

from lamella import (
    ChatResponse,
    Conversation,
    ConversationStore,
    Image,
    Message,
    Pipeline,
    Returns,
    SQLiteConversations,
    Text,
)


class Person:
    """What an answer may be turned into."""


class Place:
    """Something else that it may be."""


async def right(pipeline: Pipeline) -> None:
    """What must pass."""
    store: ConversationStore = SQLiteConversations("c.db")
    talk = await Conversation.open(pipeline, store, "s", model="m", temperature=0)
    assert_type(talk, Conversation)
    assert_type(await talk.say("hi"), ChatResponse)
    assert_type(await talk.say([Text("hi"), Image(url="u")], temperature=1), ChatResponse)
    assert_type(await talk.say([Message.tool("c", "r"), {"role": "user"}]), ChatResponse)
    assert_type((await talk.say("hi", returns=Person)).value, Person)
    assert_type((await talk.say("hi", returns=Returns[Person | Place]())).value, Person | Place)
    assert_type((await talk.say("hi", returns={"type": "object"})).value, Any)
    assert_type((await talk.regenerate(returns=Person)).value, Person)
    assert_type((await talk.resume(approvals=["a"], returns=list[Person])).value, list[Person])
    assert_type((await talk.resume(declined=["a"], returns=Person)).value, Person)
    assert_type(talk.resume_sync(approvals=["a"], declined={"b": "No."}), ChatResponse)
    async with talk.say_stream("hi") as response:
        assert_type(response, ChatResponse)
    async with talk.resume_stream(returns=list[Person]) as several:
        async for person in several.values():
            assert_type(person, Person)
    with talk.say_stream_sync("hi", returns=Person) as typed:
        assert_type(typed, ChatResponse[Person])
    assert_type(talk.say_sync("hi", returns=Person).value, Person)
    assert_type(talk.regenerate_sync(), ChatResponse)
    assert_type(talk.branch(1), Conversation)
    assert_type(talk.undo(), tuple[Message, ...])
    talk.system = "Be brief."


async def wrong(talk: Conversation) -> None:
    """What must not pass; an ignore that ignores nothing is an error itself."""
    await talk.say(3)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    await talk.say("hi", returns=3)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    Conversation("mock")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
