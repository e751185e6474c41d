"""What a conversation must be like for Anthropic's API, beyond the shape of its messages."""

from __future__ import annotations

from typing import Any, Final, cast

from lamella.testing._mock_anthropic._calls import check_calls
from lamella.testing._mock_anthropic._fields import wrong
from lamella.testing._mock_anthropic._requests import NEWEST
from lamella.testing._mock_anthropic._seals import is_redacted, is_signature, seal
from lamella.testing._mock_anthropic._turns import Turn, all_blocks, blocks, inner_blocks, turns
from lamella.testing._mock_openai._requests import JSON

MARKS: Final = 4
"""How many places of a request may be marked for the prompt cache."""

_ASSISTANTS: Final = frozenset({"thinking", "redacted_thinking", "tool_use", "server_tool_use"})
_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})


def check_conversation(body: JSON, *, version: str = NEWEST) -> None:
    """Refuse a conversation that a provider would not accept.

    Args:
        body: A body that `read_anthropic` has read.
        version: The version of the API that is spoken.

    Raises:
        Rejection: If there is such a thing.
    """
    messages: list[JSON] = body["messages"]
    found = turns(messages)
    if found[0].role != "user":
        raise wrong("messages", 'first message must use the "user" role')
    _check_texts(body, messages)
    for turn in found:
        _check_places(turn, version)
    _check_systems(found, messages)
    check_calls([turn for turn in found if turn.role != "system"])
    _check_marks(body, messages)
    _check_end(body, found)
    for where, block in all_blocks(messages):
        _check_seals(block, where)
    _check_citations(body, messages)


def _check_texts(body: JSON, messages: list[JSON]) -> None:
    """Texts say something; only an assistant's last message may be empty."""
    for number, message in enumerate(messages):
        final = number == len(messages) - 1 and message["role"] == "assistant"
        if not message["content"] and not final:
            raise wrong(
                f"messages.{number}",
                "all messages must have non-empty content except for the optional final assistant "
                "message",
            )
        told = [block for _, block in blocks(message, "")]
        _must_say("messages", told)
        for block in told:
            _must_say("messages", inner_blocks(block))
    system = body.get("system")
    _must_say("system", cast("list[JSON]", system) if isinstance(system, list) else [])


def _must_say(where: str, given: list[JSON]) -> None:
    for block in given:
        text = block.get("text") if block["type"] == "text" else "-"
        if not text:
            raise wrong(where, "text content blocks must be non-empty")
        if not text.strip():
            raise wrong(where, "text content blocks must contain non-whitespace text")


def _check_places(turn: Turn, version: str) -> None:
    """Which blocks may stand in whose messages."""
    for where, block in turn.blocks:
        kind = block["type"]
        if kind in _ASSISTANTS and turn.role != "assistant":
            raise wrong(where, f"`{kind}` blocks can only be in `assistant` messages")
        if kind == "tool_result" and turn.role != "user":
            raise wrong(where, "`tool_result` blocks can only be in `user` messages")
        if turn.role == "system" and kind != "text":
            raise wrong(where, f"`{kind}` blocks cannot be in `system` messages")
        if version < NEWEST:
            continue
        if kind == "document" and turn.role == "assistant":
            raise wrong(where, "`document` blocks cannot be in `assistant` messages")
        if kind == "text" and turn.role == "user" and block.get("citations"):
            raise wrong(where, "`citations` cannot be on `text` blocks of `user` messages")


def _check_systems(found: list[Turn], messages: list[JSON]) -> None:
    """Where instructions may stand after the beginning."""
    for number, each in enumerate(messages[1:], 1):
        if each["role"] == "system" and messages[number - 1]["role"] == "system":
            raise wrong(f"messages.{number}", "consecutive `system` messages are not allowed")
    for number, turn in enumerate(found):
        if turn.role != "system":
            continue
        where, before = f"messages.{turn.place}", found[number - 1]
        if before.role == "assistant" and before.blocks[-1][1]["type"] != "server_tool_use":
            raise wrong(where, "a `system` message must follow a `user` message")
        if number + 1 < len(found) and found[number + 1].role != "assistant":
            message = "a `system` message must be the last one or precede an `assistant` message"
            raise wrong(where, message)


def _check_marks(body: JSON, messages: list[JSON]) -> None:
    """How many places are marked for the cache, and in which order."""
    system = body.get("system")
    holders: list[JSON] = [*(body.get("tools") or ())]
    holders += cast("list[JSON]", system) if isinstance(system, list) else []
    for _, block in all_blocks(messages):
        holders += [*inner_blocks(block), block]
    marks = [mark for each in (*holders, body) if (mark := each.get("cache_control"))]
    if len(marks) > MARKS:
        message = f"A maximum of {MARKS} blocks with cache_control may be provided."
        raise wrong("", f"{message} Found {len(marks)}.")
    lives = [mark.get("ttl") or "5m" for mark in marks]
    if "5m" in lives and "1h" in lives[lives.index("5m") :]:
        message = "a ttl='1h' cache_control block must not come after a ttl='5m' one"
        raise wrong("messages", message)


def _check_end(body: JSON, found: list[Turn]) -> None:
    """How a conversation may end whose next words the model is to say."""
    thinking = cast("JSON", body.get("thinking") or {}).get("type")
    last = found[-1]
    if last.role == "assistant" and last.of("text") and last.blocks[-1] == last.of("text")[-1]:
        text: str = last.blocks[-1][1]["text"]
        if text != text.rstrip():
            raise wrong("messages", "final assistant content cannot end with trailing whitespace")
        if thinking in {"enabled", "adaptive"}:
            message = "The conversation must end with a user message while the model thinks"
            raise wrong("", f"Assistant message prefill is not supported. {message}.")
    spoken = [turn for turn in found if turn.role == "assistant"]
    if thinking == "enabled" and spoken and last.of("tool_result"):
        where, first = spoken[-1].blocks[0]
        if first["type"] not in _THOUGHTS:
            message = (
                f"Expected `thinking` or `redacted_thinking`, but found `{first['type']}`. When "
                "`thinking` is enabled, a final `assistant` message must start with a thinking "
                "block (preceding the lastmost set of `tool_use` and `tool_result` blocks)."
            )
            raise wrong(f"{where}.type", message)


def _check_seals(block: JSON, where: str) -> None:
    """What is sealed comes back as it was given, or not at all."""
    kind = block["type"]
    if kind == "thinking" and not is_signature(block["signature"], block["thinking"]):
        raise wrong(where, "Invalid `signature` in `thinking` block")
    if kind == "redacted_thinking" and not is_redacted(block["data"]):
        raise wrong(where, "Invalid `data` in `redacted_thinking` block")
    if kind == "web_search_tool_result" and isinstance(block["content"], list):
        for each in cast("list[JSON]", block["content"]):
            if each.get("encrypted_content") != seal(each.get("url"), each.get("title")):
                raise wrong(where, "Invalid `encrypted_content` in `search_result` block")
    cited: list[Any] = (block.get("citations") or []) if kind == "text" else []
    for each in cited:
        sealed = each.get("encrypted_index")
        if sealed is not None and sealed != seal(each.get("url"), each.get("cited_text")):
            raise wrong(where, "Invalid `encrypted_index` in `citations`")


def _check_citations(body: JSON, messages: list[JSON]) -> None:
    """All documents are cited or none, and never in an answer that has a shape."""
    asked = [
        bool(cast("JSON", block.get("citations") or {}).get("enabled"))
        for _, block in all_blocks(messages)
        if block["type"] in {"document", "search_result"}
    ]
    if any(asked) and not all(asked):
        raise wrong("messages", "citations must be enabled on all documents or on none")
    if any(asked) and cast("JSON", body.get("output_config") or {}).get("format") is not None:
        raise wrong("", "citations cannot be used together with output_config.format")
