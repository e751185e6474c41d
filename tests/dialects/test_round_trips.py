"""One request, every provider: what a dialect writes says all that was asked, or what it left out.

Random conversations are written by each dialect and read back by the mock server, which was written
from the providers' own SDKs. What does not come back must stand in the trace, as often as it is
missing; and nothing comes back that was not said.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import attrs
import msgspec
import pytest
from conversations import OWN, Fact, conversations, facts, fitting
from hypothesis import given, note, settings
from hypothesis import strategies as st

from lamella import ChatRequest, Message, Part, ToolResult, UnsupportedError
from lamella._trace import Trace
from lamella.testing._mock_anthropic._requests import read_anthropic
from lamella.testing._mock_bedrock._requests import read_bedrock
from lamella.testing._mock_google._requests import read_google
from lamella.testing._mock_ollama._requests import read_ollama
from lamella.testing._mock_openai._requests import chat_request, responses_request
from lamella.transports import Dialect, DialectOptions
from lamella.transports._openai_chat import OpenAIChat
from lamella.transports._openai_responses import OpenAIResponses
from lamella.transports._wire_parts import told_failure
from lamella_anthropic._messages import AnthropicMessages
from lamella_bedrock._converse import Converse
from lamella_google._chat import GeminiChat
from lamella_ollama._chat import OllamaChat

JSON = dict[str, Any]


@attrs.frozen
class Way:
    """A dialect, and who reads what it writes.

    Attributes:
        dialect: Writes.
        read: Reads, as the provider would.
        origin: How parts are marked that this API has made.
        takes: What it takes from users besides words.
        tells_failure: Whether a tool's failure is said in words, for want of a field.
    """

    dialect: Dialect
    read: Callable[[JSON], ChatRequest]
    origin: str
    takes: tuple[str, ...] = ("image", "url", "document")
    tells_failure: bool = False


def _responses(body: JSON) -> ChatRequest:
    return responses_request(body, lambda _: None)


ALL = ("image", "url", "document", "sound")

WAYS = {
    "openai chat": Way(OpenAIChat(), chat_request, "openai", takes=ALL, tells_failure=True),
    "openai responses": Way(
        OpenAIResponses(), _responses, "openai-responses", takes=ALL, tells_failure=True
    ),
    "anthropic": Way(AnthropicMessages("anthropic"), read_anthropic, "anthropic"),
    "google": Way(GeminiChat("google"), read_google, "google", takes=ALL),
    "ollama": Way(OllamaChat(), read_ollama, "ollama-native", takes=("image",), tells_failure=True),
    "bedrock": Way(Converse("bedrock"), read_bedrock, "bedrock", takes=("image", "document")),
}


def written(way: Way, request: ChatRequest) -> tuple[JSON, Counter[str]]:
    """The body as the provider gets it, and how often each thing is declared to be left out."""
    trace = Trace("call", monotonic=lambda: 0.0, wall=0.0)
    begun = request.evolve(context=request.context.evolve(trace=trace))
    body = way.dialect.encode(begun, stream=False, options=DialectOptions())
    found: Counter[str] = Counter()
    for told in trace.notes:
        assert told.name == "request.left_out"
        found[str(told.fields["what"])] += int(told.fields["count"])
    return json.loads(msgspec.json.encode(body)), found


def said(way: Way, messages: Sequence[Message]) -> list[Fact]:
    """The facts of a conversation in the words of one API."""
    if not way.tells_failure:
        return facts(messages)
    return facts(
        [attrs.evolve(each, parts=[_told(part) for part in each.parts]) for each in messages]
    )


def _told(part: Part) -> Part:
    if not isinstance(part, ToolResult):
        return part
    return attrs.evolve(part, content=told_failure(part), error=False)


def lost(before: Sequence[Fact], after: Sequence[Fact]) -> list[Fact]:
    """The facts that did not come back; all others did, in order, and no others."""
    left: list[Fact] = []
    place = 0
    for fact in before:
        if place < len(after) and after[place] == fact:
            place += 1
        else:
            left.append(fact)
    assert place == len(after), f"nobody said {after[place]}"
    return left


def split(all_facts: Sequence[Fact]) -> tuple[list[Fact], list[Fact]]:
    """What systems say, and what the others do."""
    systems = [fact for fact in all_facts if fact[0] == "system"]
    return systems, [fact for fact in all_facts if fact[0] != "system"]


def each_way(conversation: ChatRequest) -> Iterator[tuple[Way, ChatRequest]]:
    """One conversation for every dialect; making one up takes longer than writing it six times."""
    for name, way in WAYS.items():
        note(name)
        yield way, fitting(conversation, way.origin, way.takes)


@given(conversation=conversations(OWN, takes=ALL))
@settings(max_examples=120, deadline=None)
def test_what_is_asked_arrives_or_is_declared_lost(conversation: ChatRequest) -> None:
    """Words, pictures, documents, calls, results, thoughts, in their order."""
    for way, request in each_way(conversation):
        body, declared = written(way, request)
        back = way.read(body)
        before, after = said(way, request.messages), facts(back.messages)
        if declared["position of a system message"]:
            before_systems, before = split(before)
            after_systems, after = split(after)
            assert before_systems == after_systems
        missing = Counter(fact[1] for fact in lost(before, after))
        assert missing == Counter({kind: declared[kind] for kind in missing})
        assert [tool.name for tool in request.tools] == [tool.name for tool in back.tools]  # type: ignore[union-attr]


PARAMETERS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.sampled_from([0.0, 0.5, 1.0]),
    "top_p": st.sampled_from([0.1, 0.9]),
    "max_output_tokens": st.integers(1, 4096),
    "stop": st.just(("END",)),
    "tool_choice": st.sampled_from(["auto", "none", "required", "add"]),
    "parallel_tool_calls": st.just(value=False),
    "response_format": st.just(
        {
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "schema": {
                    "type": "object",
                    "properties": {"a": {"type": "string"}},
                    "required": ["a"],
                    "additionalProperties": False,
                },
                "strict": True,
            },
        }
    ),
}


@pytest.mark.parametrize("parameter", PARAMETERS)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_a_parameter_arrives_or_is_refused(parameter: str, data: st.DataObject) -> None:
    """Nothing that shapes the answer is dropped without a word."""
    value = cast("Any", data.draw(PARAMETERS[parameter]))
    conversation = data.draw(conversations(OWN, takes=ALL)).evolve(**{parameter: value})
    for way, request in each_way(conversation):
        try:
            body, declared = written(way, request)
        except UnsupportedError:
            continue
        back = cast("Any", getattr(way.read(body), parameter))
        if declared[parameter] or (back, value) == (None, "auto"):  # which is the default
            continue
        if parameter == "response_format":
            assert back["json_schema"]["schema"] == value["json_schema"]["schema"]
        elif parameter == "tool_choice" and isinstance(back, dict):
            assert value in json.dumps(back)
        else:
            assert back == value
