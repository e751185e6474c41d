"""What is remembered of objects: by identity, while they live, of those that cannot change."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from lamella import Audio, ChatRequest, File, Image, Message, Opaque, Reasoning, Text, ToolCall
from lamella._plain_requests import has_only_messages
from lamella._remembered import Remembered, _forgetting, is_fixed  # pyright: ignore[reportPrivateUsage]
from lamella._surfaces import map_texts


def test_it_knows_an_object_and_not_its_equal() -> None:
    """A value belongs to the very object that it was put for."""
    known: Remembered[int] = Remembered()
    one, equal = Message.user("hello"), Message.user("hello")
    known.put(one, 7)
    assert known.get(one) == 7
    assert known.get(equal) is None


def test_it_forgets_what_is_no_more() -> None:
    """Nothing is kept alive, and nothing is left of what has gone."""
    known: Remembered[int] = Remembered()
    for number in range(100):
        known.put(Message.user(f"number {number}"), number)
    assert len(known) == 0


def test_it_is_bounded() -> None:
    """Beyond its bound it begins anew."""
    known: Remembered[int] = Remembered(most=10)
    alive = [Message.user("the same") for _ in range(25)]
    for number, message in enumerate(alive):
        known.put(message, number)
        assert len(known) <= 10
        assert known.get(message) == number


def test_an_object_dies_while_all_is_forgotten() -> None:
    """Whichever thread is first, nothing is raised where nobody could catch it."""
    known: Remembered[int] = Remembered()

    class Late(dict[int, Any]):
        """Another thread forgets all just after the note was found."""

        def get(self, key: int, default: Any = None) -> Any:
            found = super().get(key, default)
            self.clear()
            return found

    notes = Late()
    forget = _forgetting(notes)
    message = Message.user("hello")
    known.put(message, 1)
    note = known._notes[id(message)]  # pyright: ignore[reportPrivateUsage]
    notes[note.key] = note
    forget(note)
    assert not notes


def test_it_travels_empty() -> None:
    """In another process the objects are others."""
    known: Remembered[int] = Remembered(most=3)
    message = Message.user("hello")
    known.put(message, 1)
    assert len(pickle.loads(pickle.dumps(known))) == 0


@pytest.mark.parametrize(
    ("message", "fixed"),
    [
        (Message.user("words"), True),
        (Message("assistant", [Reasoning("so"), ToolCall("1", "look", "{}")]), True),
        (Message.tool("1", "found"), True),
        (Message("user", "words", extra={"a": ["list"]}), False),
        (Message.user([Text("words", extra={"cache": []})]), False),
        (Message.user([Image(url="https://example.com/a.png"), File(data=b"a")]), True),
        (Message.tool("1", [Image(data=b"a"), Audio(data=b"b", format="wav")]), True),
        (Message.user([Image(data=b"a", extra={"cache": []})]), False),
        (Message("user", "words", name=["ada"]), False),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        (Message.user([Opaque({"type": "new"})]), False),
        (Message.user([Text(["no", "text"])]), False),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    ],
)
def test_only_what_nobody_can_write_to_is_fixed(message: Message, *, fixed: bool) -> None:
    """JSON inside a message is its maker's, who may still change it."""
    assert is_fixed(message) is fixed


@pytest.mark.parametrize(
    ("fields", "alone"),
    [
        ({}, True),
        ({"temperature": 0.5, "max_output_tokens": 100, "n": 2, "extra": {}}, True),
        ({"parallel_tool_calls": True}, True),
        ({"seed": 123_456}, False),
        ({"seed": -1}, False),
        ({"stop": ["END"]}, False),
        ({"response_format": {"type": "json_object"}}, False),
        ({"extra": {"who": "ada@example.com"}}, False),
        ({"tool_choice": "auto"}, False),
        ({"reasoning_effort": "low"}, False),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, False),
    ],
)
def test_a_request_of_messages_alone_has_no_other_text(
    fields: dict[str, Any], *, alone: bool
) -> None:
    """Where it says so, a walk through the whole request finds what the messages hold."""
    request = ChatRequest.of("hello", model="m", **fields)
    found: list[str] = []

    def collect(text: str, _: object) -> str:
        found.append(text)
        return text

    map_texts(request, collect)
    assert has_only_messages(request) is alone
    assert (found == ["hello"]) >= alone
