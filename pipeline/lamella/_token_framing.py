"""What surrounds texts in what a model reads: roles and delimiters, and how tools are written.

Providers publish little of it. OpenAI's models read functions as declarations in TypeScript, inside
a namespace; Anthropic's read JSON, after a prompt of their provider's about tools whose length is
published; Google's read JSON. What tools come to is remembered by a hash, so that a conversation's
tools are written once and not once a turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast
from weakref import WeakKeyDictionary

import attrs
import msgspec

from lamella._parts import Opaque
from lamella._tools import Tool

if TYPE_CHECKING:
    from lamella._tokens import TokenCounter

Tools: TypeAlias = Sequence[Tool | Opaque]

MESSAGE_TOKENS: Final = 4
"""What role and delimiters of a message take."""

MOST_SETS: Final = 256
"""Of how many sets of tools the count is remembered, for each counter."""

_UNSAYABLE: Final = (TypeError, ValueError, OverflowError, RecursionError)
"""What msgspec raises for what JSON cannot say."""


@attrs.frozen
class Framing:
    """How one family of models reads a request.

    Attributes:
        name: As model cards have it; empty for any model.
        write: How tools are written.
        message: Tokens of a message's role and delimiters.
        named: Tokens more where a message names its participant.
        request: Tokens once a request: the beginning of the answer.
        tool: Tokens of each tool besides its text.
    """

    name: str
    write: Callable[[Tools], str]
    message: int = MESSAGE_TOKENS
    named: int = 0
    request: int = 0
    tool: int = 0


class ToolsCount:
    """How many tokens the tools of a request are; written and counted where that is not known."""

    __slots__ = ("_counter", "_framing", "_key", "_known", "_tools")

    def __init__(self, framing: Framing, tools: Tools, counter: TokenCounter) -> None:
        self._framing = framing
        self._tools = tools
        self._counter = counter
        self._known = _counts_of(counter)
        self._key: tuple[str, int, int] | None
        try:
            given = _ENCODER.encode(tools)
        except _UNSAYABLE:  # it is refused when it is sent; to be counted it must only have a size
            self._key = None
        else:
            self._key = framing.name, hash(given), len(given)

    @property
    def unseen(self) -> int:
        """About how many characters `count` would go through."""
        if self._key is None:
            return len(self._unsayable())
        return 0 if self._known is not None and self._key in self._known else self._key[2]

    def count(self) -> int:
        """Count them."""
        key, known = self._key, self._known
        if key is None:
            return self._counter.count([self._unsayable()])
        found = None if known is None else known.get(key)
        if found is None:
            found = self._counter.count([self._framing.write(self._tools)])
            if known is not None:
                if len(known) >= MOST_SETS:
                    known.clear()
                known[key] = found
        return found

    def _unsayable(self) -> str:
        return str([str(tool) for tool in self._tools])


_counts: WeakKeyDictionary[TokenCounter, dict[tuple[str, int, int], int]] = WeakKeyDictionary()
"""What sets of tools have come to, for each counter: by family, hash and length, and never by what
they say. A race forgets a count, at worst."""


def _counts_of(counter: TokenCounter) -> dict[tuple[str, int, int], int] | None:
    try:
        found = _counts.get(counter)
        return _counts.setdefault(counter, {}) if found is None else found
    except TypeError:  # a counter of somebody's that has no hash, or cannot be referred to weakly
        return None


def tools_tokens(framing: Framing, tools: Tools, counter: TokenCounter) -> ToolsCount:
    """The tools of a request, to be counted as its model reads them.

    Args:
        framing: The family of the model.
        tools: At least one.
        counter: Counts them.
    """
    return ToolsCount(framing, tools, counter)


# --- JSON ------------------------------------------------------------------------------------


def _as_json(tools: Tools) -> str:
    return "\n".join([_json(_described(tool)) for tool in tools])


def _described(tool: Tool | Opaque) -> Any:
    if isinstance(tool, Opaque):
        return tool.data
    said: dict[str, Any] = {"name": tool.name, "description": tool.description}
    return {**said, "parameters": tool.parameters}


def _json(value: Any) -> str:
    return _ENCODER.encode(value).decode()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    return repr(value)


# --- TypeScript ------------------------------------------------------------------------------

_NAMES: Final = {"integer": "number", "null": "null", "string": "string", "boolean": "boolean"}
_DEEPEST: Final = 24


def _as_namespace(tools: Tools) -> str:
    """Functions as OpenAI's models read them; hosted tools as their JSON."""
    functions = [tool for tool in tools if isinstance(tool, Tool)]
    hosted = [tool for tool in tools if isinstance(tool, Opaque)]
    written = "\n\n".join([_function(tool) for tool in functions])
    text = f"# Tools\n\n## functions\n\nnamespace functions {{\n\n{written}\n\n}}" * bool(functions)
    return "\n".join([text, _as_json(hosted)]) if hosted else text


def _function(tool: Tool) -> str:
    lines = [f"// {line}" for line in tool.description.splitlines()]
    inner = _fields(tool.parameters, "", 0)
    body = f"(_: {{\n{inner}\n}})" if inner else "()"
    return "\n".join([*_definitions(tool.parameters), *lines, f"type {tool.name} = {body} => any;"])


def _definitions(schema: Mapping[str, Any]) -> list[str]:
    """What a schema refers to by name, each once."""
    found: list[str] = []
    for word in ("$defs", "definitions"):
        named: Any = schema.get(word)
        if isinstance(named, Mapping):
            found += [f"type {name} = {_one(given, '', 0)};" for name, given in named.items()]  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return found


def _fields(schema: Mapping[str, Any], indent: str, depth: int) -> str:
    properties: Any = schema.get("properties")
    if not isinstance(properties, Mapping):
        return ""
    listed: Any = schema.get("required")
    required: list[Any] = listed if isinstance(listed, list) else []  # pyright: ignore[reportUnknownVariableType]
    lines: list[str] = []
    for name, given in cast("Mapping[str, Any]", properties).items():
        inner: Mapping[str, Any] = given if isinstance(given, Mapping) else {}  # pyright: ignore[reportUnknownVariableType]
        said = str(inner.get("description") or "")
        lines += [f"{indent}// {line}" for line in said.splitlines()]
        mark = "" if name in required else "?"
        default = f", // default: {_json(inner['default'])}" if "default" in inner else ","
        lines.append(f"{indent}{name}{mark}: {_type(inner, indent, depth + 1)}{default}")
    return "\n".join(lines)


def _type(schema: Mapping[str, Any], indent: str, depth: int) -> str:
    if depth > _DEEPEST or "$ref" in schema:
        return str(schema.get("$ref", "any")).rpartition("/")[2]
    if "const" in schema:
        return _json(schema["const"])
    if isinstance(schema.get("enum"), list):
        return " | ".join([_json(value) for value in schema["enum"]])
    for word in ("anyOf", "oneOf"):
        several: Any = schema.get(word)
        if isinstance(several, list):
            return " | ".join([_one(each, indent, depth) for each in several])  # pyright: ignore[reportUnknownVariableType]
    kind: Any = schema.get("type")
    if isinstance(kind, list):
        return " | ".join([_type({**schema, "type": each}, indent, depth + 1) for each in kind])  # pyright: ignore[reportUnknownVariableType]
    if kind == "array":
        return f"{_one(schema.get('items'), indent, depth)}[]"
    if kind == "object" or "properties" in schema:
        inner = _fields(schema, f"{indent}  ", depth)
        return f"{{\n{inner}\n{indent}}}" if inner else "object"
    return _NAMES.get(kind, str(kind or "any"))


def _one(schema: Any, indent: str, depth: int) -> str:
    return _type(schema, indent, depth + 1) if isinstance(schema, Mapping) else "any"  # pyright: ignore[reportUnknownArgumentType]


# --- the families ----------------------------------------------------------------------------


def _as_repr(tools: Tools) -> str:
    """Names, descriptions and schemas one after the other, for models of which nobody says more."""
    said = [
        str(dict(tool.data))
        if isinstance(tool, Opaque)
        else f"{tool.name} {tool.description} {dict(tool.parameters)}"
        for tool in tools
    ]
    return "\n".join(said)


ANY_MODEL: Final = Framing("", _as_repr, tool=MESSAGE_TOKENS)
"""For models without a card, or whose card does not say."""

_FAMILIES: Final[Mapping[str, Framing]] = {
    # The role is one token of the four, and every answer begins with three.
    "openai": Framing("openai", _as_namespace, named=1, request=3, tool=6),
    "anthropic": Framing("anthropic", _as_json, tool=4),
    "google": Framing("google", _as_json, message=1, tool=4),
}


def framing_of(name: str | None) -> Framing:
    """How the family of that name reads a request; as any model does, if there is none.

    Args:
        name: As a model card has it.
    """
    return ANY_MODEL if name is None else _FAMILIES.get(name, ANY_MODEL)


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_plain)
