"""Random conversations, and what they say, so that two of them can be compared.

A conversation is taken apart into facts: who said what, of which kind, in order. Messages of one
role in a row say the same as one message, and a developer's word is a system's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import attrs
from hypothesis import strategies as st

from lamella import (
    Audio,
    ChatRequest,
    File,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)

Fact: TypeAlias = tuple[Any, ...]

PIXEL = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f"
    b"\x15\xc4\x89\x00\x00\x00\rIDATx\x9cc\xf8\xff\xff?\x00\x05\xfe\x02\xfe\xa75\x81\x84\x00\x00"
    b"\x00\x00IEND\xaeB`\x82"
)
WORDS = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=("Cs", "Cc", "Cn")),
    min_size=1,
    max_size=24,
).map(lambda words: f"w{words}w")
"""Text that no API trims or finds empty."""

NAMES = st.sampled_from(["look_up", "add", "send-mail", "f1"])
JSON = st.dictionaries(
    st.sampled_from(["a", "b", "city"]),
    st.one_of(st.integers(-9, 9), WORDS, st.booleans(), st.lists(st.integers(0, 3), max_size=2)),
    max_size=3,
)
TOOLS = tuple(
    Tool(name, f"What {name} does", {"type": "object", "properties": {"a": {"type": "integer"}}})
    for name in ("look_up", "add", "send-mail", "f1")
)

texts = WORDS.map(Text)
images = st.just(Image(data=PIXEL, media_type="image/png"))
links = st.just(Image(url="https://example.org/a.png", media_type="image/png"))
documents = st.just(File(data=b"%PDF-1.4 x", media_type="application/pdf", filename="paper.pdf"))
sounds = st.just(Audio(data=b"RIFFxxxx", format="wav"))


KINDS: dict[str, st.SearchStrategy[Any]] = {
    "image": images,
    "url": links,
    "document": documents,
    "sound": sounds,
}

OWN = "own"
"""How the parts of a conversation are marked that the provider to be asked has made, whoever it is;
see `fitting`."""


@st.composite
def user_messages(draw: st.DrawFn, kinds: Sequence[st.SearchStrategy[Any]]) -> Message:
    """What a user says: words, pictures, documents, perhaps sound."""
    more: list[Part] = draw(st.lists(st.one_of(kinds), max_size=3))
    return Message.user([draw(texts), *more])


@st.composite
def turns(draw: st.DrawFn, number: int, origin: str) -> list[Message]:
    """What the model says, and what its tools answer."""
    parts: list[Part] = []
    if draw(st.booleans()):
        maker = draw(st.sampled_from([None, origin, "foreign"]))
        seal = None if maker is None else base64.b64encode(b"seal%d" % number).decode()
        extra: dict[str, Any] = {} if maker is None else {"provider": maker}
        parts.append(Reasoning(draw(WORDS), signature=seal, extra=extra))
    if draw(st.booleans()):
        parts.append(draw(texts))
    calls = [
        ToolCall(f"call_{number}_{place}", draw(NAMES), json.dumps(draw(JSON)))
        for place in range(draw(st.integers(0, 3)))
    ]
    parts += calls
    if not any(isinstance(part, Text | ToolCall) for part in parts):
        parts.append(draw(texts))
    results = [Message.tool(call.id, [draw(texts)], error=draw(st.booleans())) for call in calls]
    return [Message.assistant(parts), *results]


@st.composite
def conversations(
    draw: st.DrawFn, origin: str, *, takes: Sequence[str] = ("image", "url", "document")
) -> ChatRequest:
    """A conversation that any provider could have had a part in.

    Args:
        draw: Hypothesis's.
        origin: How the parts are marked that the provider to be asked has made itself.
        takes: What users may say besides words: `image`, `url` (of one), `document`, `sound`.
    """
    messages: list[Message] = []
    kinds = [texts, *(KINDS[kind] for kind in takes)]
    if draw(st.booleans()):
        role = draw(st.sampled_from(["system", "developer"]))
        messages.append(Message(role, draw(WORDS)))
    for number in range(draw(st.integers(0, 3))):
        messages.append(draw(user_messages(kinds)))
        if number and draw(st.integers(0, 5)) == 0:
            messages.append(Message.system(draw(WORDS)))
        messages += draw(turns(number, origin))
    messages.append(draw(user_messages(kinds)))
    return ChatRequest.of(messages, model="a-model", tools=TOOLS)


def fitting(request: ChatRequest, origin: str, takes: Sequence[str]) -> ChatRequest:
    """One conversation, marked `OWN` and with all kinds of things in it, as one provider has it.

    Args:
        request: The conversation.
        origin: How the parts are marked that this provider has made itself.
        takes: The kinds that it takes from users besides words; others are not in it.
    """
    return request.evolve(messages=[_fitting(each, origin, takes) for each in request.messages])


def _fitting(message: Message, origin: str, takes: Sequence[str]) -> Message:
    parts = [_marked(part, origin) for part in message.parts if kind_of(part) in {None, *takes}]
    return attrs.evolve(message, parts=parts)


def _marked(part: Part, origin: str) -> Part:
    if isinstance(part, Reasoning) and part.extra.get("provider") == OWN:
        return attrs.evolve(part, extra={"provider": origin})
    return part


def kind_of(part: Part) -> str | None:
    """Which of the kinds a part is that not every provider takes from users; None for others."""
    match part:
        case Image():
            return "url" if part.url else "image"
        case File():
            return "document"
        case Audio():
            return "sound"
        case _:
            return None


def facts(messages: Sequence[Message]) -> list[Fact]:
    """What a conversation says, in order."""
    return [fact for message in messages for fact in _facts(message)]


def _facts(message: Message) -> Iterator[Fact]:
    role = "system" if message.role == "developer" else message.role
    for part in message.parts:
        yield (role, *_said(part))


def _said(part: Part) -> Fact:
    match part:
        case Text() | Refusal():
            return (type(part).__name__, part.text)
        case Image():
            return ("Image", part.url, part.data, part.media_type if part.data else None)
        case Audio():
            return ("Audio", part.data, part.format)
        case File():
            return ("File", part.data, part.url, part.id, part.media_type)
        case Reasoning():
            return ("Reasoning", part.text, part.signature)
        case ToolCall():
            return ("ToolCall", part.id, part.name, json.loads(part.arguments or "{}"))
        case ToolResult():
            return ("ToolResult", part.call_id, part.error, *(_said(p) for p in part.content))
        case _:
            return ("Opaque", dict(part.data))
