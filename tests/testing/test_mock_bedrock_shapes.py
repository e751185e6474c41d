"""What the mock of Bedrock answers has the shapes of the SDK's model, member by member."""

import json
from itertools import chain
from typing import Any
from urllib.request import Request, urlopen

import pytest
from bedrock_clients import QUESTION, call, session
from botocore.eventstream import EventStreamBuffer

from lamella import Image, Message, Opaque, Reasoning, Text, ToolCall
from lamella.testing import MockServer

pytestmark = pytest.mark.anyio

CITED = {"content": [{"text": "So."}], "citations": [{"title": "t", "location": {"web": {}}}]}
EVERYTHING: list[Any] = [
    Reasoning("Hm.", "seal"),
    Reasoning("", "seal", redacted=True),
    Text("Yes."),
    ToolCall("call_1", "look", '{"at": [1]}'),
    Image(data=b"picture", media_type="image/webp"),
]
HOSTED: Any = [
    {"toolUse": {"toolUseId": "a", "name": "search", "input": {}, "type": "server_tool_use"}},
    {"toolResult": {"toolUseId": "a", "content": [{"text": "Blue."}], "type": "search_result"}},
    {"citationsContent": CITED},
]
GUARDED: Any = {
    "guardrailConfig": {
        "guardrailIdentifier": "abc",
        "guardrailVersion": "1",
        "trace": "enabled_full",
    },
    "messages": [{"role": "user", "content": [{"text": "mock-forbidden"}]}],
}
MARKED: Any = {
    "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
    "serviceTier": {"type": "flex"},
    "performanceConfig": {"latency": "optimized"},
    "additionalModelResponseFieldPaths": ["/stop_sequence"],
}


def output(operation: str) -> Any:
    """The shape of an operation's answer."""
    return session().get_service_model("bedrock-runtime").operation_model(operation).output_shape


def misfits(shape: Any, value: Any, path: str = "") -> list[str]:
    """Where a value is not of its shape."""
    kind = shape.type_name
    if kind == "structure" and shape.metadata.get("document"):
        return []
    if kind == "structure":
        unknown = [f"{path}.{name} is unknown" for name in value if name not in shape.members]
        gone = [f"{path}.{name} is missing" for name in shape.required_members if name not in value]
        if getattr(shape, "is_tagged_union", False) and len(value) != 1:
            gone.append(f"{path} is not one thing")
        known = {name: each for name, each in value.items() if name in shape.members}
        inner = [misfits(shape.members[n], each, f"{path}.{n}") for n, each in known.items()]
        return [*unknown, *gone, *chain(*inner)]
    if kind == "list":
        return [*chain(*[misfits(shape.member, each, f"{path}[]") for each in value])]
    if kind == "map":
        return [*chain(*[misfits(shape.value, each, f"{path}.*") for each in value.values()])]
    if kind == "string" and shape.enum and value not in shape.enum:
        return [f"{path} is {value!r}"]
    kinds = {
        "string": str,
        "blob": str,
        "boolean": bool,
        "integer": int,
        "long": int,
        "float": float,
    }
    return [] if isinstance(value, kinds[kind]) else [f"{path} is no {kind}"]


async def posted(server: MockServer, operation: str, fields: Any, model: str = "mock") -> bytes:
    """The bytes of an answer, as no client has touched them."""
    body = json.dumps({"messages": QUESTION, **fields}).encode()
    request = Request(f"{server.endpoint}/model/{model}/{operation}", data=body)

    def read() -> bytes:
        with urlopen(request) as answer:
            data: bytes = answer.read()
            return data

    found: bytes = await call(read)
    return found


@pytest.mark.parametrize(
    ("fields", "given"),
    [
        ({}, None),
        ({}, EVERYTHING),
        ({}, [Opaque(each, "bedrock") for each in HOSTED]),
        (GUARDED, None),
        (MARKED, None),
    ],
)
async def test_answers_have_the_shapes_of_the_sdk(fields: Any, given: Any) -> None:
    """Every member that must be there is, none is unknown, and words are those of enumerations."""
    answer = None if given is None else (lambda _: Message.assistant(given))
    async with MockServer(answer=answer) as server:
        whole = json.loads(await posted(server, "converse", fields))
        assert misfits(output("Converse"), whole) == []
        stream = output("ConverseStream").members["stream"]
        buffer = EventStreamBuffer()
        buffer.add_data(await posted(server, "converse-stream", fields))
        names = []
        for message in buffer:
            names.append(message.headers[":event-type"])
            event = json.loads(message.payload)
            assert event.pop("p")  # what hides the length of an event, and is in no model
            assert misfits(stream.members[names[-1]], event) == []
        assert (names[0], names[-2:]) == ("messageStart", ["messageStop", "metadata"])


async def test_counts_have_the_shape_of_the_sdk() -> None:
    """A count is one number."""
    async with MockServer() as server:
        fields: Any = {"messages": None, "input": {"converse": {"messages": QUESTION}}}
        counted = json.loads(await posted(server, "count-tokens", fields))
    assert misfits(output("CountTokens"), counted) == []
