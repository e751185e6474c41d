"""The mock server reads Anthropic's requests as strictly as the API, and without loss."""

from typing import Any, Required, get_args, get_origin, get_type_hints

import anthropic.types as sdk
import httpx2
import pytest
from anthropic.types import message_create_params
from anthropic_bodies import (
    CALL,
    CITED,
    DATA,
    MARK,
    PICTURE,
    RESULT,
    THOUGHT,
    TOOL_F,
    assistant,
    body,
    system,
    text,
    user,
)

from lamella import (
    ChatRequest,
    File,
    Image,
    Message,
    Opaque,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from lamella.testing import MockServer
from lamella.testing._mock_anthropic._fields import (
    BLOCKS,
    CITATIONS,
    COUNTING,
    FOUND,
    REQUEST,
    RESULT_BLOCKS,
    TOOL,
)
from lamella.testing._mock_anthropic._requests import read_anthropic
from lamella.testing._mock_anthropic._rules import check_conversation
from lamella.testing._mock_anthropic._tools import HOSTED

# --- the tables are the SDK's ------------------------------------------------------------------


def _required(member: Any) -> set[str]:
    hints = get_type_hints(member, include_extras=True)
    return {name for name, kind in hints.items() if get_origin(kind) is Required}


def _members(union: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in get_args(union) or (union,):
        kind = get_type_hints(each)["type"]
        found |= dict.fromkeys(get_args(kind), each)
    return found


@pytest.mark.parametrize(
    ("table", "union"),
    [
        (BLOCKS, sdk.ContentBlockParam),
        (RESULT_BLOCKS, sdk.tool_result_block_param.Content),
        (FOUND, sdk.WebSearchResultBlockParam),
    ],
)
def test_the_blocks_are_those_of_the_sdk(table: Any, union: Any) -> None:
    """Each kind of block has the fields that the SDK's type has, and must have the same ones."""
    members = _members(union)
    assert table.keys() == members.keys()
    for kind, fields in table.items():
        member = members[kind]
        assert fields.keys() == member.__annotations__.keys() - {"type"}
        must = {name for name, words in fields.items() if not words.endswith("?")}
        assert must == _required(member) - {"type"}


def test_the_citations_are_those_of_the_sdk() -> None:
    """Each kind of citation has the fields of the SDK's type, and the file's id from answers."""
    members = _members(sdk.TextCitationParam)
    assert CITATIONS.keys() == members.keys()
    for kind, fields in CITATIONS.items():
        assert fields.keys() - {"file_id"} == members[kind].__annotations__.keys() - {"type"}


@pytest.mark.parametrize(
    ("table", "params"),
    [
        (REQUEST, message_create_params.MessageCreateParamsNonStreaming),
        (COUNTING, sdk.message_count_tokens_params.MessageCountTokensParams),
        (TOOL, sdk.ToolParam),
    ],
)
def test_the_requests_are_those_of_the_sdk(table: Any, params: Any) -> None:
    """A request has the fields that the SDK's type has; the workspace goes as a header."""
    assert table.keys() == get_type_hints(params).keys() - {"workspace_id"}
    must = {name for name, words in table.items() if not words.endswith("?")}
    assert must == _required(params)


def test_the_hosted_tools_are_those_of_the_sdk() -> None:
    """Each type of tool that the SDK knows is known, and no other."""
    types: set[str] = set()
    for each in get_args(sdk.ToolUnionParam):
        kind = get_type_hints(each)["type"]
        inner = [kind] if get_origin(kind) is not None else []
        for part in [*inner, *get_args(kind)]:
            types.update(word for word in get_args(part) if isinstance(word, str))
    assert types - {"custom"} == set(HOSTED)


# --- reading -----------------------------------------------------------------------------------


def test_a_conversation_is_read_without_loss() -> None:
    """Whatever a request holds stands in the library's nouns, or in what only this API knows."""
    fetched = {"type": "web_fetch_tool_result", "tool_use_id": "s", "content": {"type": "x"}}
    request = read_anthropic(
        body(
            system=[text("Be brief.", **MARK), text("Be kind.")],
            messages=[
                user(
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": DATA},
                        **MARK,
                    },
                    {"type": "image", "source": {"type": "url", "url": "https://e.com/a"}},
                    {"type": "image", "source": {"type": "file", "file_id": "f1"}},
                    {
                        "type": "document",
                        "source": {"type": "base64", "media_type": "application/pdf", "data": DATA},
                        "title": "T",
                        "citations": {"enabled": True},
                    },
                    {
                        "type": "document",
                        "source": {"type": "text", "media_type": "text/plain", "data": "ä"},
                    },
                    {"type": "document", "source": {"type": "url", "url": "https://e.com/b"}},
                    {"type": "document", "source": {"type": "file", "file_id": "f2"}},
                ),
                assistant(
                    THOUGHT,
                    {"type": "redacted_thinking", "data": "sealed"},
                    text("So.", citations=[CITED]),
                    fetched,
                    {**CALL, "input": {"ä": 1}, "caller": {"type": "direct"}},
                ),
                user(
                    {
                        **RESULT,
                        "content": [text("1"), {"type": "tool_reference", "tool_name": "g"}],
                        "is_error": True,
                    },
                    text("And?"),
                ),
                system(),
            ],
        )
    )
    own = {"provider": "anthropic"}
    assert request.messages == (
        Message("system", [Text("Be brief.", MARK), Text("Be kind.")]),
        Message(
            "user",
            [
                Image(data=PICTURE, media_type="image/png", extra=MARK),
                Image(url="https://e.com/a"),
                Opaque({"type": "image", "source": {"type": "file", "file_id": "f1"}}, "anthropic"),
                File(
                    PICTURE,
                    filename="T",
                    media_type="application/pdf",
                    extra={"citations": {"enabled": True}, **own},
                ),
                File("ä".encode(), media_type="text/plain"),
                File(url="https://e.com/b"),
                File(id="f2"),
            ],
        ),
        Message(
            "assistant",
            [
                Reasoning("T", THOUGHT["signature"], extra=own),
                Reasoning("", "sealed", redacted=True, extra=own),
                Text("So.", {"citations": [CITED], **own}),
                Opaque(fetched, "anthropic"),
                ToolCall("toolu_1", "f", '{"ä":1}', extra={"caller": {"type": "direct"}, **own}),
            ],
        ),
        Message(
            "tool",
            ToolResult(
                "toolu_1",
                (Text("1"), Opaque({"type": "tool_reference", "tool_name": "g"}, "anthropic")),
                error=True,
            ),
        ),
        Message("user", "And?"),
        Message("system", "Now in verse."),
    )


def test_options_are_read_without_loss() -> None:
    """Options become fields, and those that nobody else has stay as they are."""
    search = {"type": "web_search_20260318", "name": "web_search", "max_uses": 2}
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    config = {"effort": "low", "format": {"type": "json_schema", "schema": schema}}
    request = read_anthropic(
        body(
            tools=[
                {**TOOL_F, "description": "D", "strict": False, "defer_loading": True, **MARK},
                search,
            ],
            tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
            output_config=config,
            stop_sequences=["a", "b"],
            service_tier="standard_only",
            metadata={"user_id": "u"},
            thinking={"type": "disabled"},
        )
    )
    extra = {**MARK, "defer_loading": True, "provider": "anthropic"}
    assert request == ChatRequest(
        messages=[Message("user", "Why?")],
        model="mock",
        tools=[
            Tool("f", "D", {"type": "object"}, strict=False, extra=extra),
            Opaque(search, "anthropic"),
        ],
        tool_choice="f",
        parallel_tool_calls=False,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "response", "schema": schema, "strict": True},
        },
        max_output_tokens=4000,
        stop=("a", "b"),
        reasoning_effort="low",
        service_tier="standard_only",
        extra={"metadata": {"user_id": "u"}, "thinking": {"type": "disabled"}},
    )


# --- versions and betas -------------------------------------------------------------------------


def test_an_older_version_has_sampling_and_looser_messages() -> None:
    """What version 2026-10-21 took away still holds for who asks for the one before."""
    cited = text(citations=[CITED])
    asked = body(temperature=0.5, top_p=0.9, top_k=3, messages=[user(cited)])
    request = read_anthropic(asked, version="2023-06-01")
    check_conversation(asked, version="2023-06-01")
    assert (request.temperature, request.top_p, request.extra) == (0.5, 0.9, {"top_k": 3})


def test_betas_bring_what_nobody_knows() -> None:
    """Where a beta is asked for, unknown fields, blocks and tools are kept as they are."""
    odd = {"type": "mcp_tool_use", "id": "m"}
    asked = body(
        messages=[user(odd)],
        tools=[{"type": "advisor_1"}],
        mcp_servers=[],
        output_config={"task": 1},
    )
    request = read_anthropic(asked, beta=True)
    assert request.messages == (Message("user", Opaque(odd, "anthropic")),)
    assert request.tools == (Opaque({"type": "advisor_1"}, "anthropic"),)
    assert request.extra == {"mcp_servers": [], "output_config": {"task": 1}}


# --- over HTTP ---------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "status", "kind", "message"),
    [
        (
            {"x-api-key": "right"},
            400,
            "invalid_request_error",
            "anthropic-version: header is required",
        ),
        (
            {"x-api-key": "right", "anthropic-version": "2024-01-01"},
            400,
            "invalid_request_error",
            '"2024-01-01" is not a valid version',
        ),
        (
            {"anthropic-version": "2026-10-21"},
            401,
            "authentication_error",
            "x-api-key header is required",
        ),
        (
            {
                "anthropic-version": "2026-10-21",
                "x-api-key": "wrong",
                "authorization": "Bearer right",
            },
            401,
            "authentication_error",
            "invalid x-api-key",
        ),
        ({"anthropic-version": "2026-10-21", "authorization": "Bearer right"}, 200, None, ""),
    ],
)
async def test_who_may_ask(
    headers: dict[str, str], status: int, kind: str | None, message: str
) -> None:
    """A version and a key, in either header, are needed; both headers count as the first."""
    async with MockServer(keys=["right"]) as server, httpx2.AsyncClient() as client:
        url = f"{server.endpoint}/v1/messages"
        answer = await client.post(url, json=body(), headers=headers)
    document = answer.json()
    assert answer.status_code == status
    if kind is not None:
        assert document["type"] == "error"
        assert document["error"]["type"] == kind
        assert message in document["error"]["message"]
        assert document["request_id"] == answer.headers["request-id"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/messages", 405), ("POST", "/v1/nothing", 404), ("POST", "/v1/messages/x", 404)],
)
async def test_wrong_addresses(method: str, path: str, status: int) -> None:
    """An address that is none is refused in this API's words."""
    async with MockServer() as server, httpx2.AsyncClient() as client:
        headers = {"anthropic-version": "2026-10-21"}
        answer = await client.request(method, f"{server.endpoint}{path}", json=1, headers=headers)
    assert answer.status_code == status
    assert answer.json()["type"] == "error"
