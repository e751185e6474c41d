"""Tools and the choice among them, as Anthropic's API takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from lamella._mock_rejections import Rejection
from lamella._nothing import NOTHING
from lamella._parts import Opaque
from lamella._tools import Tool
from lamella.testing._mock_anthropic._blocks import MARK, NAME, check_mark
from lamella.testing._mock_anthropic._fields import TOOL, Fields, checked, mapping, tag, wrong
from lamella.testing._mock_anthropic._schemas import check_schema
from lamella.testing._mock_openai._requests import JSON

HOSTED: Final = (
    "bash_20250124", "browser_toolset_20260801", "code_execution_20250522",
    "code_execution_20250825", "code_execution_20260120", "code_execution_20260521",
    "computer_toolset_20260801", "memory_20250818", "text_editor_20250124",
    "text_editor_20250429", "text_editor_20250728", "tool_search_tool_bm25",
    "tool_search_tool_bm25_20251119", "tool_search_tool_regex", "tool_search_tool_regex_20251119",
    "web_fetch_20250910", "web_fetch_20260209", "web_fetch_20260309", "web_fetch_20260318",
    "web_search_20250305", "web_search_20260209", "web_search_20260318",
)  # fmt: skip
"""The types of the tools that the provider knows already, here or at the client's."""

_TAGS: Final[Mapping[str, Any]] = dict.fromkeys(("custom", *HOSTED))
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_FLAG: Final = {"disable_parallel_tool_use": "boolean?"}
_CHOICES: Final[Mapping[str, Fields]] = {
    "auto": _FLAG,
    "any": _FLAG,
    "tool": {"name": "string", **_FLAG},
    "none": {},
}


def read_tools(given: Any, *, loose: bool = False) -> tuple[Tool | Opaque, ...]:
    """What the model may call.

    Args:
        given: The field `tools`.
        loose: Whether there may be types and fields that nobody here knows.

    Raises:
        Rejection: If a provider would not accept it.
    """
    found = [_tool(each, f"tools.{n}", loose=loose) for n, each in enumerate(given or ())]
    names = [name for each in found if (name := name_of(each)) is not None]
    if len(set(names)) < len(names):
        raise wrong("tools", "Tool names must be unique.")
    return tuple(found)


def name_of(tool: Tool | Opaque) -> str | None:
    """What a tool is called; a set of tools has no name."""
    return tool.name if isinstance(tool, Tool) else cast("str | None", tool.data.get("name"))


def read_choice(given: Any, tools: tuple[Tool | Opaque, ...]) -> tuple[str | None, bool | None]:
    """The choice among the tools, and whether several may be called at once.

    Raises:
        Rejection: If a provider would not accept it.
    """
    if given is None:
        return None, None
    choice = mapping(given, "tool_choice")
    kind = tag(choice, _CHOICES, "tool_choice")
    checked(choice, _CHOICES[kind], f"tool_choice.{kind}")
    if not tools:
        message = "tool_choice may only be specified while providing tools."
        raise Rejection(400, None, message)
    name = choice.get("name")
    if kind == "tool" and name not in {name_of(each) for each in tools}:
        raise wrong("tool_choice", f"Tool '{name}' not found in provided tools")
    alone = choice.get("disable_parallel_tool_use")
    meant = {"auto": "auto", "any": "required", "none": "none"}.get(kind, name)
    return meant, None if alone is None else not alone


def _tool(given: Any, where: str, *, loose: bool) -> Tool | Opaque:
    told = mapping(given, where)
    if told.get("type") is not None:
        tag(told, _TAGS, where, loose=loose)
    check_mark(told.get(MARK), f"{where}.{MARK}")
    if told.get("type") not in {None, "custom"}:
        unnamed = loose or "toolset" in told["type"]
        fields = {"name": "string?" if unnamed else "string"}
        checked(told, fields, f"{where}.{told['type']}", loose=True)
        return Opaque(told, NAME)
    return _custom(told, f"{where}.custom", loose=loose)


def _custom(told: JSON, where: str, *, loose: bool) -> Tool:
    checked(told, TOOL, where, loose=loose)
    if _NAME.fullmatch(told["name"]) is None:
        raise wrong(f"{where}.name", f"String should match pattern '^{_NAME.pattern}$'")
    schema = cast("JSON", told["input_schema"])
    if "type" not in schema:
        raise wrong(f"{where}.input_schema.type", "Field required")
    if schema["type"] != "object":
        raise wrong(f"{where}.input_schema.type", "Input should be 'object'")
    if schema.keys() & {"oneOf", "allOf", "anyOf"}:
        message = "input_schema does not support oneOf, allOf, or anyOf at the top level"
        raise wrong(where, message)
    if told.get("strict"):
        check_schema(schema, where)
    taken = {"name", "description", "input_schema", "strict"}
    rest = {name: value for name, value in told.items() if name not in taken and value is not None}
    if rest.keys() - {MARK}:
        rest["provider"] = NAME
    description = told.get("description") or ""
    return Tool(told["name"], description, schema, told.get("strict"), rest or NOTHING)
