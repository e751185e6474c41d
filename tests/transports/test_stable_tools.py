"""Tools are written the same every time, once for each set, and never out of date."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import ChatRequest, MisuseError, Opaque, Tool
from lamella._trace import Trace
from lamella.transports import Dialect, DialectOptions
from lamella.transports import _stable_tools as stable
from lamella.transports._exchange import encoded_json
from lamella.transports._losses import Losses
from lamella.transports._openai_chat import OpenAIChat
from lamella.transports._openai_responses import OpenAIResponses
from lamella.transports._stable_schemas import stable_schema
from lamella_anthropic._messages import AnthropicMessages
from lamella_bedrock._converse import Converse
from lamella_google._chat import GeminiChat
from lamella_ollama._chat import OllamaChat

DIALECTS: dict[str, Callable[[], Any]] = {
    "chat": OpenAIChat,
    "responses": OpenAIResponses,
    "anthropic": AnthropicMessages,
    "bedrock": Converse,
    "google": GeminiChat,
    "ollama": OllamaChat,
}
OPTIONS = DialectOptions()

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "why": {"type": "string", "description": "first think"},
        "answer": {"enum": ["b", "a"], "default": {"z": 1, "a": 2}},
        "more": {"type": "array", "items": {"type": "object", "properties": {}, "$ref": "#/x"}},
    },
    "required": ["why", "answer"],
    "$defs": {"b": {"type": "string"}, "a": {"anyOf": [{"type": "null"}, {"title": "t"}]}},
    "additionalProperties": False,
}


def body(dialect: Dialect, *tools: Any, **fields: Any) -> bytes:
    """The bytes of a request with tools."""
    request = ChatRequest.of("hi", model="m", tools=tools, **fields)
    return encoded_json(dict(dialect.encode(request, stream=False, options=OPTIONS)))


def turned(value: Any) -> Any:
    """The same JSON, built in the opposite order, but for what models read an order from."""
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for name in reversed(value):
            inner = value[name]
            if name == "properties":
                found[name] = {key: turned(one) for key, one in inner.items()}
            else:
                found[name] = inner if name in {"default", "enum"} else turned(inner)
        return found
    return [turned(item) for item in value] if isinstance(value, list) else value


def names(value: Any) -> Any:
    """JSON with the order of its names."""
    if isinstance(value, dict):
        return [[name, names(inner)] for name, inner in value.items()]
    return [names(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", DIALECTS)
def test_the_order_in_which_a_schema_was_built_does_not_matter(name: str) -> None:
    """Equal tools are equal bytes, in every dialect."""
    dialect = DIALECTS[name]()
    one, other = Tool("f", "does it", SCHEMA), Tool("f", "does it", turned(SCHEMA))
    assert one == other
    assert json.dumps(one.parameters) != json.dumps(other.parameters)
    assert body(dialect, one) == body(dialect, other)


@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_said_stays_the_same(name: str) -> None:
    """Only the order changes."""
    dialect = DIALECTS[name]()
    text = json.loads(body(dialect, Tool("f", "does it", SCHEMA)))
    (found,) = schemas_in(text)
    assert found == SCHEMA


def schemas_in(value: Any) -> list[Any]:
    """The schemas of tools in a body."""
    if isinstance(value, dict):
        if "$defs" in value:
            return [value]
        return [found for inner in value.values() for found in schemas_in(inner)]
    return (
        [found for item in value for found in schemas_in(item)] if isinstance(value, list) else []
    )


def test_models_read_properties_in_the_order_they_were_given() -> None:
    """What stands first is thought first; so it is for lists and for data."""
    found = stable_schema(SCHEMA)
    assert list(found["properties"]) == ["why", "answer", "more"]
    assert found["properties"]["answer"]["enum"] == ["b", "a"]
    assert list(found["properties"]["answer"]["default"]) == ["z", "a"]
    assert list(found["$defs"]) == ["a", "b"]
    assert list(found) == ["type", "properties", "required", "additionalProperties", "$defs"]


def test_sets_have_an_order() -> None:
    """Theirs changes from process to process, wherever they stand."""
    program = (
        "from lamella import Opaque, Tool\n"
        "from lamella.transports._losses import Losses\n"
        "from lamella.transports._stable_tools import written_tools\n"
        "names = {'one', 'two', 'three', 'four', 'five', 'six'}\n"
        "held = [{'default': {'x': [names]}, 'anyOf': [names]}]\n"
        "schema = {'type': 'object', 'required': names, 'anyOf': held, 'examples': held}\n"
        "tools = [Tool('f', '', schema, extra={'y': held}), Opaque({'z': held, 'parameters': 1})]\n"
        "write = lambda tools, _: [{'it': tool} for tool in tools]\n"
        "print(written_tools(tools, write, Losses('p'), api='a').json.decode())\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
        )
        for seed in ("1", "2")
    ]
    one, other = [process.communicate()[0] for process in started]
    assert b"five" in one
    assert one == other


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "items", "anyOf", "$defs", "default", "x", "if"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["type", "properties", "items", "x"]), json_values))
def test_any_schema_says_the_same_in_order(schema: dict[str, Any]) -> None:
    """Whatever stands where; and putting it in order twice changes nothing more."""
    found = stable_schema(schema)
    assert found == schema
    assert names(stable_schema(found)) == names(found)


def test_a_schema_that_was_written_into_is_written_anew() -> None:
    """The contract forbids it, and still nothing is out of date."""
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"enum": [1]}}}
    tool = Tool("f", "", schema)
    dialect = OpenAIChat()
    before = body(dialect, tool)
    for value in (2, True, 1.0, "1"):
        schema["properties"]["a"]["enum"][0] = value
        after = body(dialect, tool)
        assert after != before
        written = json.loads(after)["tools"][0]["function"]["parameters"]
        assert repr(written["properties"]["a"]["enum"]) == repr([value])
    schema["properties"]["a"]["enum"][0] = 1
    assert body(dialect, tool) == before


def test_what_is_kept_is_nobodys_to_change() -> None:
    """Neither the caller's objects nor what a dialect made of them are in what is kept."""
    schema: dict[str, Any] = {"required": ["a"], "type": "object"}
    dialect = Converse()
    mark = {"cache_control": {"type": "ephemeral"}}
    before = body(dialect, Tool("f", "", {"required": ["a"], "type": "object"}, extra=mark))
    body(dialect, Tool("f", "", schema))
    schema["required"].append("b")  # of the object that was seen
    same = Tool("f", "", {"required": ["a"], "type": "object"}, extra=mark)
    assert body(dialect, same) == before


def test_tools_are_written_once() -> None:
    """The second request takes what the first one wrote."""
    written: list[int] = []

    def write(tools: stable.Tools, losses: Losses) -> list[Any]:
        written.append(len(tools))
        losses.add("Tool.strict", "no word for it")
        return [{"name": tool.name} for tool in tools if isinstance(tool, Tool)]

    for _ in range(3):
        losses = Losses("somebody")
        tools = [Tool("once", ""), Tool("twice", "")]
        found = stable.written_tools(tools, write, losses, api="test-once")
        assert found == [{"name": "once"}, {"name": "twice"}]
        assert losses.found == {("Tool.strict", "no word for it"): 1}
    assert written == [2]
    stable.written_tools([Tool("once", "")], write, Losses("another"), api="test-once")
    assert written == [2, 1]


def test_what_is_left_out_is_said_each_time() -> None:
    """Also of tools that were written before."""
    seen: list[Any] = []

    for _ in range(2):
        request = ChatRequest.of("hi", model="m", tools=[Tool("f", strict=True)])
        trace = Trace("id", monotonic=lambda: 0.0, wall=0.0)
        request = request.evolve(context=request.context.evolve(trace=trace))
        OllamaChat().encode(request, stream=False, options=OPTIONS)
        seen.append([note.fields for note in trace.notes])
    assert seen[0] == seen[1]
    assert seen[0][0]["what"] == "Tool.strict"


def test_a_list_that_was_changed_is_encoded_as_it_is() -> None:
    """A dialect may put something between the tools of its request."""
    found = stable.written_tools([Tool("f")], as_dicts, Losses("p"), api="test-changed")
    again = stable.written_tools([Tool("f")], as_dicts, Losses("p"), api="test-changed")
    found.append({"type": "more"})
    assert len(json.loads(encoded_json({"tools": found}))["tools"]) == 2
    assert len(json.loads(encoded_json({"tools": again}))["tools"]) == 1
    assert json.loads(encoded_json({"inner": {"tools": again, "x": 1}}))["inner"]["x"] == 1


def as_dicts(tools: stable.Tools, _: Losses) -> list[Any]:
    """Tools as OpenAI has them."""
    return [tool.to_dict() for tool in tools if isinstance(tool, Tool)]


@pytest.mark.parametrize("value", [object(), "\ud800", {"x": {1, object()}}])
def test_what_json_cannot_say_is_refused_as_ever(value: Any) -> None:
    """With an error that quotes nothing of it."""
    with pytest.raises(MisuseError, match="cannot say"):
        body(OpenAIChat(), Tool("f", "", {"x": value}))


def test_a_schema_that_holds_itself_is_refused() -> None:
    """And one that is nested very deep is written as it is."""
    loop: dict[str, Any] = {}
    loop["items"] = loop
    with pytest.raises(MisuseError):
        body(OpenAIChat(), Tool("f", "", loop))
    deep: dict[str, Any] = {"type": "string"}
    for depth in range(1_000):
        if depth == 600:
            assert stable_schema(deep) == deep
        if depth > 970:
            with contextlib.suppress(MisuseError):  # the only error, at whatever depth it comes
                body(OpenAIChat(), Tool("f", "", deep, extra={"x": deep}))
        deep = {"items": deep}


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By number and by bytes; what is used stays longest; what is huge is not kept at all."""
    kept = stable._Kept()
    monkeypatch.setattr(stable, "_KEPT", kept)
    often = [Tool("often")]

    def write(number: int, size: int = 10) -> None:
        tools = [Tool(f"t{number}", "x" * size)]
        stable.written_tools(tools, as_dicts, Losses("p"), api="test")
        stable.written_tools(often, as_dicts, Losses("p"), api="test")

    for number in range(stable.MOST_SETS + 50):
        write(number)
    assert len(kept._sets) == stable.MOST_SETS
    first = next(iter(kept._sets))
    assert b"often" in list(kept._sets)[-1][2]  # type: ignore[index]
    write(10_000, stable.MOST_OF_A_SET)
    assert first in kept._sets
    for number in range(50):
        write(20_000 + number, stable.MOST_OF_A_SET // 2 - 1_000)
    assert len(kept._sets) < 40
    assert kept._bytes <= stable.MOST_BYTES
    held = [len(key[2]) + len(one.json) for key, one in kept._sets.items()]  # type: ignore[index]
    assert kept._bytes == sum(held)


def test_what_was_given_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a tool with much that does not go out, little is written; yet all of it is the key."""
    kept = stable._Kept()
    monkeypatch.setattr(stable, "_KEPT", kept)
    for number in range(10):
        tool = Tool(f"t{number}", "", extra={"provider": "another", "x": "x" * 500_000})
        body(AnthropicMessages(), tool)
    assert not kept._sets


def test_threads_write_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many write sets of tools at once, and push each other's out."""
    monkeypatch.setattr(stable, "_KEPT", stable._Kept())
    monkeypatch.setattr(stable, "MOST_SETS", 5)
    wanted = [[{"type": "function", "function": {"name": f"t{n}"}}] for n in range(20)]

    def work(_: int) -> list[Any]:
        return [
            list(stable.written_tools([Tool(f"t{n}")], as_dicts, Losses("p"), api="threads"))
            for n in range(20)
        ]

    with ThreadPoolExecutor(8) as pool:
        assert all(found == wanted for found in pool.map(work, range(40)))
    assert len(stable._KEPT._sets) == 5


def test_a_hosted_tool_has_an_order_too() -> None:
    """Of its fields; what is in them stays as it is."""
    one = Opaque({"type": "custom", "name": "f", "input_schema": {"type": "object", "title": "t"}})
    other = Opaque(
        {"input_schema": {"title": "t", "type": "object"}, "name": "f", "type": "custom"}
    )
    assert body(AnthropicMessages(), one) == body(AnthropicMessages(), other)


def test_a_mapping_of_any_kind_will_do() -> None:
    """As it does elsewhere in a request."""

    class Frozen(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return {"type": "object"}[key]

        def __iter__(self) -> Any:
            return iter(["type"])

        def __len__(self) -> int:
            return 1

    plain = body(OpenAIChat(), Tool("f", "", {"type": "object"}))
    assert body(OpenAIChat(), Tool("f", "", Frozen())) == plain
