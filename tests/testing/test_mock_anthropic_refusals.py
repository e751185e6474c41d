"""The mock server refuses what Anthropic's API would not take, with the place and the reason."""

from contextlib import suppress
from typing import Any

import pytest
from anthropic_bodies import (
    ASKED,
    CALL,
    CITED,
    DATA,
    MARK,
    OPEN,
    PAGE,
    RESULT,
    THOUGHT,
    TOOL_F,
    assistant,
    body,
    system,
    text,
    user,
)
from hypothesis import given
from hypothesis import strategies as st

from lamella._mock_rejections import Rejection
from lamella._mock_tokens import Draw
from lamella.testing._mock_anthropic._cache import PromptCache
from lamella.testing._mock_anthropic._mind import asked_events
from lamella.testing._mock_anthropic._requests import read_anthropic
from lamella.testing._mock_anthropic._rules import check_conversation
from lamella.testing._mock_anthropic._search import document_citation, search


def check(asked: dict[str, Any]) -> None:
    """Read and check a body."""
    read_anthropic(asked)
    check_conversation(asked)


WRONG: list[tuple[dict[str, Any], str]] = [
    (body(max_tokens=None), "max_tokens: Field required"),
    (body(max_tokens="9"), "max_tokens: Input should be a valid integer"),
    (body(max_tokens=10**6), "maximum allowed number of output tokens"),
    (body(temperature=1.0), "temperature: Extra inputs are not permitted"),
    (body(stream="yes"), "stream: Input should be a valid boolean"),
    (body(service_tier="flex"), "service_tier: Input should be 'auto', 'standard_only'"),
    (body(stop_sequences=[" "]), "stop_sequences: each stop sequence must contain non-whitespace"),
    (body(system=[{"type": "image", "source": {}}]), "system.0.image.source.type: Field required"),
    (body(messages=[]), "messages: at least one message is required"),
    (body(messages=["Why?"]), "messages.0: Input should be a valid dictionary"),
    (body(messages=[{"role": "tool", "content": "x"}]), "messages.0.role: Input should be"),
    (body(messages=[user()]), "messages.0: all messages must have non-empty content"),
    (body(messages=[user(text(""))]), "messages: text content blocks must be non-empty"),
    (body(messages=[user(text(" \n"))]), "must contain non-whitespace text"),
    (body(messages=[assistant(text())]), 'first message must use the "user" role'),
    (body(messages=[user({"type": "audio"})]), "Input tag 'audio' found using 'type'"),
    (body(messages=[user(text(more=1))]), "messages.0.content.0.text.more: Extra inputs"),
    (body(messages=[user({"type": "text"})]), "messages.0.content.0.text.text: Field required"),
    (body(messages=[user(text(cache_control={"type": "x"}))]), "Input tag 'x' found"),
    (body(messages=[user(*[text(**MARK)] * 5)]), "A maximum of 4 blocks with cache_control"),
    (
        body(messages=[user(text(cache_control={"type": "ephemeral"}), text(**MARK))]),
        "ttl='1h' cache_control block must not come after",
    ),
    (body(messages=[user(THOUGHT)]), "`thinking` blocks can only be in `assistant` messages"),
    (body(messages=[user(CALL)]), "`tool_use` blocks can only be in `assistant` messages"),
    (body(messages=[*ASKED, assistant(RESULT)]), "`tool_result` blocks can only be in `user`"),
    (body(messages=[*ASKED, assistant(text("So "))]), "cannot end with trailing whitespace"),
    (
        body(messages=[user(RESULT)]),
        "unexpected `tool_use_id` found in `tool_result` blocks: toolu_1",
    ),
    (body(messages=[*ASKED, assistant(CALL)]), "`tool_use` ids were found without `tool_result`"),
    (body(messages=[*ASKED, assistant(CALL), *ASKED]), "`tool_use` ids were found without"),
    (
        body(messages=[*ASKED, assistant(CALL), user(RESULT, RESULT)]),
        "each `tool_use` must have a single result",
    ),
    (
        body(messages=[*ASKED, assistant(CALL), user(text(), RESULT)]),
        "`tool_result` blocks must come first",
    ),
    (
        body(messages=[*ASKED, assistant(CALL), user(RESULT), assistant(CALL), user(RESULT)]),
        "`tool_use` ids must be unique",
    ),
    (
        body(messages=[*ASKED, assistant({**CALL, "id": "a b"}), user(RESULT)]),
        "String should match pattern",
    ),
    (
        body(messages=[*ASKED, assistant({**CALL, "input": "{}"})]),
        "input: Input should be a valid dict",
    ),
    (
        body(
            messages=[*ASKED, assistant(CALL), user(RESULT)],
            thinking={"type": "enabled", "budget_tokens": 1024},
        ),
        "Expected `thinking` or `redacted_thinking`, but found `tool_use`",
    ),
    (body(messages=[system(), *ASKED]), 'first message must use the "user" role'),
    (body(messages=[*ASKED, system(), *ASKED]), "must be the last one or precede an `assistant`"),
    (body(messages=[*ASKED, system(), system()]), "consecutive `system` messages"),
    (body(messages=[*ASKED, assistant(text()), system()]), "must follow a `user` message"),
    (
        body(messages=[user(text(citations=[CITED]))]),
        "`citations` cannot be on `text` blocks",
    ),
    (
        body(
            messages=[
                *ASKED,
                assistant({"type": "document", "source": {"type": "file", "file_id": "f"}}),
                *ASKED,
            ]
        ),
        "`document` blocks cannot be in `assistant` messages",
    ),
    (
        body(
            messages=[
                user(
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "!"},
                    }
                )
            ]
        ),
        "Invalid base64 data",
    ),
    (
        body(
            messages=[
                user(
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/bmp", "data": DATA},
                    }
                )
            ]
        ),
        "media_type: Input should be 'image/jpeg'",
    ),
    (body(tools=[{"name": "f"}]), "tools.0.custom.input_schema: Field required"),
    (body(tools=[{**TOOL_F, "name": "a b"}]), "tools.0.custom.name: String should match pattern"),
    (body(tools=[{**TOOL_F, "input_schema": {}}]), "input_schema.type: Field required"),
    (body(tools=[TOOL_F, TOOL_F]), "Tool names must be unique"),
    (body(tools=[{"type": "web_search_1", "name": "w"}]), "Input tag 'web_search_1' found"),
    (
        body(tools=[{**TOOL_F, "strict": True, "input_schema": OPEN}]),
        "'additionalProperties' must be",
    ),
    (body(tool_choice={"type": "auto"}), "tool_choice may only be specified while providing tools"),
    (body(tools=[TOOL_F], tool_choice={"type": "tool", "name": "g"}), "Tool 'g' not found"),
    (body(output_config={"effort": "huge"}), "output_config.effort: Input should be 'low'"),
    (body(output_config={"format": {"type": "json_object"}}), "Input tag 'json_object' found"),
    (
        body(output_config={"format": {"type": "json_schema", "schema": OPEN}}),
        "output_config.format.schema: For 'object' type, 'additionalProperties' must be",
    ),
    (
        body(
            output_config={
                "format": {"type": "json_schema", "schema": {"type": "integer", "minimum": 1}}
            }
        ),
        "For 'integer' type, property 'minimum' is not supported",
    ),
    (body(thinking={"type": "enabled"}), "thinking.enabled.budget_tokens: Field required"),
    (body(thinking={"type": "enabled", "budget_tokens": 9}), "greater than or equal to 1024"),
    (body(thinking={"type": "enabled", "budget_tokens": 4000}), "must be greater than"),
    (
        body(thinking={"type": "adaptive"}, tools=[TOOL_F], tool_choice={"type": "any"}),
        "Thinking may not be enabled when tool_choice forces tool use",
    ),
    (
        body(thinking={"type": "adaptive"}, messages=[*ASKED, assistant(text("So"))]),
        "prefill is not supported",
    ),
]


@pytest.mark.parametrize(("asked", "message"), WRONG)
def test_what_the_api_would_not_take(asked: dict[str, Any], message: str) -> None:
    """A request that is wrong is refused with the place and the reason."""
    with pytest.raises(Rejection) as caught:
        check(asked)
    assert message in caught.value.message
    assert caught.value.status == 400


RIGHT: list[dict[str, Any]] = [
    body(messages=[*ASKED, *ASKED, assistant(text("So")), assistant(text("it is")), *ASKED]),
    body(messages=[*ASKED, assistant(CALL), user(RESULT), user(text())]),
    body(messages=[*ASKED, assistant(THOUGHT, CALL), user({**RESULT, "content": []}), system()]),
    body(messages=[*ASKED, system(), assistant(text("So"))]),
    body(messages=[*ASKED, {"role": "assistant", "content": ""}]),
    body(messages=[user({"type": "mock_unknown", "known": False})]),
    body(tools=[{**TOOL_F, "type": "custom"}], tool_choice={"type": "none"}),
]


@pytest.mark.parametrize("asked", RIGHT)
def test_what_the_api_takes(asked: dict[str, Any]) -> None:
    """A request that is unusual and right is taken."""
    check(asked)


# --- whatever comes ----------------------------------------------------------------------------

FULL: Any = body(
    system=[text("Be brief.", **MARK)],
    messages=[
        user(
            text(),
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": DATA},
            },
            {"type": "document", "source": {"type": "content", "content": [text()]}},
            {
                "type": "search_result",
                "source": "s",
                "title": "t",
                "content": [text()],
                "citations": {"enabled": False},
            },
        ),
        assistant(
            THOUGHT,
            text("So.", citations=[CITED]),
            {
                "type": "web_search_tool_result",
                "tool_use_id": "s",
                "content": [PAGE],
            },
            CALL,
        ),
        user({**RESULT, "content": [text()]}),
        system(),
    ],
    tools=[{**TOOL_F, **MARK}, {"type": "web_search_20260318", "name": "web_search"}],
    tool_choice={"type": "auto", "disable_parallel_tool_use": True},
    output_config={
        "effort": "low",
        "format": {"type": "json_schema", "schema": {"type": "string"}},
    },
    thinking={"type": "adaptive", "display": "summarized"},
    stop_sequences=["a"],
    cache_control=MARK["cache_control"],
)
ODD: Any = st.sampled_from([None, 0, -1, True, "", "x", [], ["x"], {}, {"type": "x"}, [[]], [{}]])


def _items(document: Any) -> list[tuple[Any, Any]]:
    if isinstance(document, dict):
        return list(document.items())
    return list(enumerate(document)) if isinstance(document, list) else []


def _places(document: Any) -> list[tuple[Any, ...]]:
    """The paths to everything in a document."""
    inner = [(name, path) for name, value in _items(document) for path in [(), *_places(value)]]
    return [(name, *path) for name, path in inner]


def _changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A document with another value at a place, if it still has the place."""
    if not path:
        return value
    found = dict(_items(document))
    if path[0] not in found:
        return document
    found[path[0]] = _changed(found[path[0]], path[1:], value)
    return found if isinstance(document, dict) else list(found.values())


@given(changes=st.lists(st.tuples(st.sampled_from(_places(FULL)), ODD), min_size=1, max_size=3))
def test_whatever_comes_is_read_or_refused(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    """A request with odd values anywhere is answered, or refused with words, and nothing else."""
    check(FULL)
    asked = FULL
    for path, value in changes:
        asked = _changed(asked, path, value)
    for version, beta in (("2026-10-21", False), ("2023-06-01", True)):
        with suppress(Rejection):
            request = read_anthropic(asked, version=version, beta=beta)
            check_conversation(asked, version=version)
            PromptCache().account(request)
            asked_events(request, None, asked)
            document_citation(request)
            search(request, Draw.of(1))
