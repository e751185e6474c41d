"""The walk over a request: what is forwarded has been looked at."""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    Audio,
    ChatRequest,
    ChatResponse,
    Context,
    EmbeddingRequest,
    File,
    Image,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    Request,
    Surface,
    Text,
    TokenCountRequest,
    Tool,
    ToolCall,
    ToolResult,
    map_texts,
)
from lamella._surfaces import map_json_text

SECRET = "ada@example.org"
CLEAN = "<email>"
IN_TEXT = Surface("assistant", "tool_call", "arguments")


def clean(text: str, _: Surface) -> str:
    """Take out what must not be forwarded."""
    return text.replace(SECRET, CLEAN)


def fields_of(thing: object) -> dict[str, Any]:
    """What a request holds, the context apart, as plain values."""
    return attrs.asdict(thing, filter=lambda field, _: field.name not in {"context", "target"})  # type: ignore[arg-type]


EVERYWHERE = ChatRequest(
    messages=(
        Message("system", f"about {SECRET}", extra={"note": [SECRET]}),
        Message("user", [Text(f"I am {SECRET}", {"cite": {SECRET: 1}})], name=SECRET),
        Message("user", [Image(url=f"https://example.org/{SECRET}.png", extra={"x": SECRET})]),
        Message("user", [Audio(data=b"..", format="wav", transcript=SECRET)]),
        Message("user", [File(data=SECRET.encode(), media_type="text/csv", filename=SECRET)]),
        Message("user", [File(data=SECRET.encode(), filename="people.txt")]),
        Message(
            "assistant",
            [
                Reasoning(SECRET, "seal"),
                Refusal(SECRET),
                ToolCall("c1", "mail", json.dumps({"to": [SECRET], SECRET: 1})),
                ToolCall("c2", "shell", f"mail {SECRET}", "custom"),
                Opaque({"type": "x", "words": (SECRET,), "signature": "kept"}, "anthropic"),
            ],
        ),
        Message.tool("c1", [Text(SECRET), Image(url=f"https://example.org/?to={SECRET}")]),
        Message("tool", ToolResult("c2", (Text(SECRET),), extra={"raw": SECRET})),
    ),
    tools=(
        Tool("mail", f"Not to {SECRET}", {"properties": {"to": {"enum": [SECRET]}}}),
        Opaque({"type": "hosted", "owner": SECRET}),
    ),
    tool_choice={"name": SECRET},
    response_format={"schema": {"description": SECRET}},
    stop=(SECRET,),
    service_tier=SECRET,
    extra={"metadata": {"owner": SECRET, SECRET: True}},
)


def test_every_text_of_a_chat_request_is_seen_wherever_it_stands() -> None:
    """System, user, tools, results, schemas, names, metadata, addresses, documents, reasoning."""
    assert SECRET not in str(fields_of(map_texts(EVERYWHERE, clean)))
    assert SECRET.encode() not in str(fields_of(map_texts(EVERYWHERE, clean))).encode()


@pytest.mark.parametrize(
    "request_",
    [
        EmbeddingRequest.of(["a", SECRET], extra={"user": SECRET}),
        TokenCountRequest.of(EVERYWHERE, extra={"user": SECRET}),
    ],
    ids=lambda request: request.operation,
)
def test_other_operations_are_walked_by_the_same_rule(request_: Request[Any]) -> None:
    """Nothing but a field that is known to be no text is left out."""
    assert SECRET not in str(fields_of(map_texts(request_, clean)))


@attrs.frozen(slots=False, kw_only=True)
class Strange(Request[ChatResponse]):
    """An operation of somebody else's."""

    words: tuple[str, ...] = ()
    parts: tuple[Text, ...] = ()


def test_an_operation_that_nobody_knows_is_walked() -> None:
    """A field added tomorrow is seen."""
    request = Strange(words=(SECRET,), parts=(Text(SECRET),))
    mapped = map_texts(request, clean)
    assert (mapped.words, mapped.parts) == ((CLEAN,), (Text(CLEAN),))


def test_what_is_not_changed_is_the_same_object() -> None:
    """A request without anything to change costs no copy, and shares what it shared."""
    assert map_texts(EVERYWHERE, lambda text, _: text) is EVERYWHERE
    mapped = map_texts(ChatRequest.of([Message.user(SECRET), Message.user("b")]), clean)
    assert mapped.messages[1].text == "b"


def test_nested_json_of_the_caller_is_not_written_to() -> None:
    """Freezing is shallow: the copy is made on the way."""
    extra = {"metadata": {"owner": SECRET}}
    map_texts(ChatRequest.of("a", extra=extra), clean)
    assert extra == {"metadata": {"owner": SECRET}}


def test_ids_seals_and_words_of_the_protocol_stay() -> None:
    """They must go back as they came, whatever they look like."""
    mapped = map_texts(EVERYWHERE, lambda *_: "?")
    parts = [part for message in mapped.messages for part in message.parts]
    calls = [part.id for part in parts if isinstance(part, ToolCall)]
    results = [part.call_id for part in parts if isinstance(part, ToolResult)]
    seals = [part.signature for part in parts if isinstance(part, Reasoning)]
    assert (calls, results, seals) == (["c1", "c2"], ["c1", "c2"], ["seal"])
    assert [message.role for message in mapped.messages] == [m.role for m in EVERYWHERE.messages]


def test_a_seal_in_provider_json_stays_and_a_name_alone_makes_none() -> None:
    """What looks like a seal under a seal's name is one; an address of a person is not."""
    sealed = {"thoughtSignature": "QUJD" * 20, "signature": SECRET, "id": SECRET}
    mapped = map_texts(
        Opaque(sealed), lambda text, surface: "?" if surface.form == "value" else text
    )
    assert mapped.data == {"thoughtSignature": "QUJD" * 20, "signature": "?", "id": "?"}


def test_the_context_and_the_model_are_not_texts() -> None:
    """Who asks is the context's; which model, the request's own."""
    request = ChatRequest.of("a", model=SECRET, context=Context(user=SECRET))
    mapped = map_texts(request, clean)
    assert (mapped.model, mapped.context.user) == (SECRET, SECRET)


def test_a_surface_says_whose_words_they_are() -> None:
    """So that a layer may look at what tools answered, and at nothing else."""
    seen: dict[str, Surface] = {}

    def note(text: str, surface: Surface) -> str:
        seen[text] = surface
        return text

    call = ToolCall("c", "mail", '{"to": "x"}')
    map_texts(
        ChatRequest.of([Message.user("u"), Message.assistant(call), Message.tool("c", "r")]), note
    )
    assert seen["u"] == Surface("user", "text", "text")
    assert seen["r"] == Surface("tool", "tool_result", "text")
    assert seen["x"] == Surface("assistant", "tool_call", "arguments", "value")
    assert seen["to"] == Surface("assistant", "tool_call", "arguments", "key")


# --- JSON ----------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(VALUES, st.booleans())
def test_json_text_is_changed_string_by_string(value: Any, ascii_only: bool) -> None:
    """What is put in comes out of `json.loads`, whatever it holds; the rest stays as written."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert map_json_text(text, lambda one, _: one, IN_TEXT) == text

    def quoted(one: str, surface: Surface) -> str:
        return one if surface.form == "key" else f'"{one}\\\n'

    def expected(one: Any) -> Any:
        if isinstance(one, str):
            return f'"{one}\\\n'
        if isinstance(one, list):
            return [expected(item) for item in one]
        if isinstance(one, dict):
            return {key: expected(item) for key, item in one.items()}
        return one

    changed = json.loads(map_json_text(text, quoted, IN_TEXT))
    if not any(character.isdigit() for character in text):
        assert changed == expected(value)


def test_a_number_that_is_changed_becomes_a_string() -> None:
    """A card number without quotes is one as well, and a placeholder is no number."""

    def mask(text: str, _: Surface) -> str:
        return "<card>" if text == "4111111111111111" else text

    text = '{"card": 4111111111111111, "n": 12, "big": 123456789, "f": 1234567.5}'
    changed = json.loads(map_json_text(text, mask, IN_TEXT))
    assert changed == {"card": "<card>", "n": 12, "big": 123456789, "f": 1234567.5}
    request = ChatRequest.of("a", extra={"card": 4111111111111111, "n": 12, "ok": True})
    assert map_texts(request, mask).extra == {"card": "<card>", "n": 12, "ok": True}


@pytest.mark.parametrize("broken", ['{"to": "ada@example.org"', "ada@example.org", '{"a": }'])
def test_arguments_that_are_no_json_are_read_as_text(broken: str) -> None:
    """A model may write anything, and an answer may be cut off."""
    request = ChatRequest.of([Message.assistant(ToolCall("c", "mail", broken))])
    assert map_texts(request, clean).messages[0].tool_calls[0].arguments == broken.replace(
        SECRET, CLEAN
    )


class Words(str):
    """Text of a class of its own, as template engines make it."""

    __slots__ = ()


class Who(enum.Enum):
    """A value that is written as its text."""

    ADA = SECRET


@dataclasses.dataclass
class Person:
    """What somebody puts into `extra`, and the transport writes as an object."""

    mail: str


@pytest.mark.parametrize(
    "value",
    [{SECRET}, frozenset({SECRET}), Person(SECRET), [Person(SECRET)], Who.ADA],
    ids=lambda value: type(value).__name__,
)
def test_what_is_only_written_as_json_is_read_as_what_is_written(value: Any) -> None:
    """Sets, dataclasses, enumerations and text of other classes hide nothing."""
    mapped = map_texts(ChatRequest.of("x", extra={"who": value}), clean)
    assert SECRET.encode() in msgspec.json.encode({"who": value})
    assert SECRET.encode() not in msgspec.json.encode(mapped.extra)
    assert SECRET not in map_texts(Text(Words(SECRET)), clean).text


def test_what_nobody_can_write_is_reported() -> None:
    """It is no text, and will not be sent."""
    unread: list[Surface] = []
    map_texts(ChatRequest.of("x", extra={"a": object(), "b": b"x"}), clean, unread.append)
    assert len(unread) == 2


# --- documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [";base64", ";charset=utf-8;base64"])
def test_a_textual_data_address_is_read_and_written_again(parameters: str) -> None:
    """Base64 hides nothing from the walk."""
    payload = base64.b64encode(f"to {SECRET}".encode()).decode()
    request = ChatRequest.of([Message.user(File(url=f"data:text/plain{parameters},{payload}"))])
    (part,) = map_texts(request, clean).messages[0].parts
    assert isinstance(part, File)
    assert part.url is not None
    head, _, written = part.url.partition(",")
    assert head == f"data:text/plain{parameters}"
    assert base64.b64decode(written).decode() == f"to {CLEAN}"


def test_a_percent_encoded_data_address_is_read() -> None:
    """The other way to write one."""
    request = ChatRequest.of([Message.user(File(url="data:text/plain,to%20ada%40example.org"))])
    assert SECRET not in str(fields_of(map_texts(request, clean)))
    assert "ada%40" not in str(fields_of(map_texts(request, clean)))


@pytest.mark.parametrize(
    "part",
    [
        Image(data=b"\x89PNG", media_type="image/png"),
        Image(url="https://example.org/a.png"),
        Image(url="data:image/png;base64,iVBORw0KGgo="),
        Audio(data=b"RIFF", format="wav"),
        File(data=b"%PDF-1.7 \xff", media_type="application/pdf"),
        File(data=b"\xff\xfe\x00", media_type="text/plain"),
        File(id="file-1"),
    ],
    ids=repr,
)
def test_what_holds_no_readable_text_is_reported(part: Any) -> None:
    """So that a layer can say what it has not seen, or refuse it."""
    unread: list[Surface] = []
    request = ChatRequest.of([Message.user(part)])
    assert map_texts(request, clean, unread.append) is request
    assert len(unread) == 1


def test_a_broken_data_address_is_read_as_it_stands() -> None:
    """What cannot be decoded is text still."""
    request = ChatRequest.of([Message.user(File(url=f"data:text/plain;base64,!{SECRET}"))])
    assert SECRET not in str(fields_of(map_texts(request, clean)))
