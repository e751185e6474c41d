"""Which fields the objects of Anthropic's API have, and what else is refused.

The tables are those of the official SDK (2.12); what is not in them is refused as an extra input,
as the API does. A request that asks for a beta may have more, for nobody here knows its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

from lamella._mock_rejections import Rejection
from lamella.testing._mock_openai._requests import JSON

Fields: TypeAlias = Mapping[str, str]
"""The kind of each field by its name; a question mark says that it may be missing or null."""

_KINDS: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "string": ((str,), "a valid string"),
    "object": ((dict,), "a valid dictionary"),
    "list": ((list,), "a valid list"),
    "integer": ((int,), "a valid integer"),
    "number": ((int, float), "a valid number"),
    "boolean": ((bool,), "a valid boolean"),
    "any": ((object,), "given"),
}

_MARK: Final = {"cache_control": "object?"}
_RESULT: Final = {"tool_use_id": "string", "content": "any", **_MARK}

BLOCKS: Final[Mapping[str, Fields]] = {
    "text": {"text": "string", "citations": "list?", **_MARK},
    "image": {"source": "object", "transformations": "object?", **_MARK},
    "document": {
        "source": "object",
        "citations": "object?",
        "context": "string?",
        "title": "string?",
        **_MARK,
    },
    "search_result": {
        "content": "list",
        "source": "string",
        "title": "string",
        "citations": "object?",
        **_MARK,
    },
    "thinking": {"thinking": "string", "signature": "string"},
    "redacted_thinking": {"data": "string"},
    "tool_use": {
        "id": "string",
        "input": "object",
        "name": "string",
        "caller": "object?",
        "toolset_name": "string?",
        **_MARK,
    },
    "tool_result": {
        "tool_use_id": "string",
        "content": "any?",
        "is_error": "boolean?",
        "toolset_name": "string?",
        **_MARK,
    },
    "server_tool_use": {
        "id": "string",
        "input": "object",
        "name": "string",
        "caller": "object?",
        **_MARK,
    },
    "web_search_tool_result": {**_RESULT, "caller": "object?"},
    "web_fetch_tool_result": {**_RESULT, "caller": "object?"},
    "code_execution_tool_result": _RESULT,
    "bash_code_execution_tool_result": _RESULT,
    "text_editor_code_execution_tool_result": _RESULT,
    "tool_search_tool_result": _RESULT,
    "container_upload": {"file_id": "string", **_MARK},
}
"""The blocks of a message; each has its `type` besides."""

RESULT_BLOCKS: Final[Mapping[str, Fields]] = {
    **{name: BLOCKS[name] for name in ("text", "image", "search_result", "document")},
    "tool_reference": {"tool_name": "string", **_MARK},
    "browser_state": {"tabs": "list", "state_changes": "list?", **_MARK},
}
"""The blocks of a tool's result."""

_DOCUMENT: Final = {
    "cited_text": "string",
    "document_index": "integer",
    "document_title": "string?",
    "file_id": "string?",
}
CITATIONS: Final[Mapping[str, Fields]] = {
    "char_location": {
        **_DOCUMENT,
        "start_char_index": "integer",
        "end_char_index": "integer",
    },
    "page_location": {
        **_DOCUMENT,
        "start_page_number": "integer",
        "end_page_number": "integer",
    },
    "content_block_location": {
        **_DOCUMENT,
        "start_block_index": "integer",
        "end_block_index": "integer",
    },
    "web_search_result_location": {
        "cited_text": "string",
        "encrypted_index": "string",
        "title": "string?",
        "url": "string",
    },
    "search_result_location": {
        "cited_text": "string",
        "search_result_index": "integer",
        "source": "string",
        "title": "string?",
        "start_block_index": "integer",
        "end_block_index": "integer",
    },
}
"""Where a text comes from; `file_id` comes in answers, and may go back."""

FOUND: Final[Mapping[str, Fields]] = {
    "web_search_result": {
        "url": "string",
        "title": "string",
        "encrypted_content": "string",
        "page_age": "string?",
    }
}
"""What a search of the web finds."""

REQUEST: Final[Fields] = {
    "model": "string",
    "messages": "list",
    "max_tokens": "integer",
    "cache_control": "object?",
    "container": "any?",
    "diagnostics": "object?",
    "inference_geo": "string?",
    "metadata": "object?",
    "output_config": "object?",
    "service_tier": "string?",
    "speed": "string?",
    "stop_sequences": "list?",
    "stream": "boolean?",
    "system": "any?",
    "thinking": "object?",
    "tool_choice": "object?",
    "tools": "list?",
    "user_profile_id": "string?",
}
"""What a request has; `workspace_id` is a header."""

SAMPLING: Final[Fields] = {"temperature": "number?", "top_p": "number?", "top_k": "integer?"}
"""What requests had besides until version 2026-10-21 took it away."""

COUNTING: Final[Fields] = {
    name: kind
    for name, kind in REQUEST.items()
    if name
    in {
        "model", "messages", "cache_control", "output_config", "speed", "system", "thinking",
        "tool_choice", "tools", "user_profile_id",
    }
}  # fmt: skip
"""What a request has whose tokens are to be counted."""

TOOL: Final[Fields] = {
    "name": "string",
    "input_schema": "object",
    "type": "string?",
    "description": "string?",
    "allowed_callers": "list?",
    "defer_loading": "boolean?",
    "eager_input_streaming": "boolean?",
    "input_examples": "list?",
    "strict": "boolean?",
    **_MARK,
}
"""A tool of the client's own."""


def checked(given: Any, fields: Fields, where: str, *, loose: bool = False) -> JSON:
    """An object with all the fields that it must have, of the right kinds, and no others.

    Args:
        given: What was sent.
        fields: What it has.
        where: Its place in the request, for messages.
        loose: Whether it may have others.

    Raises:
        Rejection: If a provider would not accept it.
    """
    told = mapping(given, where)
    place = f"{where}." if where else ""
    for name, kind in fields.items():
        value = told.get(name)
        if value is None and not kind.endswith("?"):
            raise Rejection(400, None, f"{place}{name}: Field required")
        if value is not None:
            _must_be(value, kind.removesuffix("?"), f"{place}{name}")
    if not loose:
        for name in told:
            if name not in fields and name != "type":
                raise Rejection(400, None, f"{place}{name}: Extra inputs are not permitted")
    return told


def mapping(given: Any, where: str) -> JSON:
    """An object.

    Raises:
        Rejection: If it is none.
    """
    if not isinstance(given, dict):
        raise wrong(where, "Input should be a valid dictionary")
    return cast("JSON", given)


def tag(told: JSON, known: Mapping[str, Any], where: str, *, loose: bool = False) -> str:
    """The `type` of an object, which is one of several.

    Raises:
        Rejection: If there is none, or an unknown one where no others may be.
    """
    kind = told.get("type")
    if not isinstance(kind, str):
        raise wrong(f"{where}.type", "Field required")
    if kind not in known and not loose:
        tags = ", ".join(f"'{each}'" for each in known)
        found = f"Input tag '{kind}' found using 'type'"
        raise wrong(where, f"{found} does not match any of the expected tags: {tags}")
    return kind


def wrong(where: str, message: str) -> Rejection:
    """What is said where a request is wrong."""
    return Rejection(400, None, f"{where}: {message}" if where else message)


def _must_be(value: Any, kind: str, where: str) -> None:
    types, words = _KINDS[kind]
    flag = isinstance(value, bool) and kind in {"integer", "number"}
    if flag or not isinstance(value, types):
        raise wrong(where, f"Input should be {words}")
