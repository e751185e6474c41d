"""Schemas for APIs that hold a model's words to them by a grammar, which knows less than schemas.

Anthropic's and Amazon Bedrock's take objects only if they are closed (`additionalProperties`
false), and no bounds on numbers, lengths or counts. A schema without the first is closed here, as
whoever asks for `strict` wants it; a bound is said to the model in the description instead, so that
it may still keep it, and whoever reads the answer has to check it. Each of that is noted. What
would mean something else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from lamella._errors import UnsupportedError
from lamella.transports._losses import Losses

BOUNDS: Final = frozenset(
    {
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
        "maxLength", "maxItems", "uniqueItems", "minProperties", "maxProperties", "contains",
        "minContains", "maxContains", "prefixItems", "propertyNames", "patternProperties", "not",
        "if", "then", "else", "dependentRequired", "dependentSchemas",
    }
)  # fmt: skip
"""What such a grammar does not know. Of `minItems` it knows 0 and 1."""

_MIN_ITEMS: Final = "minItems"
_FORMATS: Final = frozenset(
    {
        "date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid",
    }
)  # fmt: skip
_MANY: Final = ("anyOf", "allOf", "oneOf")
_NAMED: Final = ("properties", "$defs", "definitions")
_CLOSED: Final = "additionalProperties"


def closed_schema(
    schema: Mapping[str, Any], losses: Losses, what: str, *, provider: str
) -> dict[str, Any]:
    """A schema as a grammar takes it; what had to be changed is noted.

    Args:
        schema: As it was given; it is not changed.
        losses: Where each change is noted.
        what: What the schema is of, for notes and messages: `"Tool.parameters"`.
        provider: Who is asked.

    Raises:
        UnsupportedError: If an object is to take names of which nothing is said, or the schema is
            nested deeper than Python can follow.
    """
    try:
        return _Closing(losses, what, provider).schema(schema)
    except RecursionError:
        raise UnsupportedError(
            f"The schema of {what} is nested too deep.",
            hint="Give a flatter one, or leave `strict` out.",
            code="unsupported_schema",
            provider=provider,
        ) from None


class _Closing:
    """Closes one schema."""

    __slots__ = ("_losses", "_provider", "_what")

    def __init__(self, losses: Losses, what: str, provider: str) -> None:
        self._losses = losses
        self._what = what
        self._provider = provider

    def schema(self, given: Mapping[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        said: dict[str, Any] = {}
        for word, value in given.items():
            if self._unknown(word, value):
                said[word] = value
            elif word in _NAMED and isinstance(value, Mapping):
                named = cast("Mapping[str, Any]", value)
                out[word] = {name: self._inner(inner) for name, inner in named.items()}
            elif word in _MANY and isinstance(value, list | tuple):
                out[self._several(word)] = [self._inner(one) for one in cast("list[Any]", value)]
            elif word == "items":
                out[word] = self._inner(value)
            else:
                out[word] = value
        if self._is_object(given):
            self._close(out)
        if said:
            self._tell(out, said)
        return out

    def _inner(self, given: Any) -> Any:
        return self.schema(given) if isinstance(given, Mapping) else given  # pyright: ignore[reportUnknownArgumentType]

    @staticmethod
    def _unknown(word: str, value: Any) -> bool:
        if word == _MIN_ITEMS:
            return value not in (0, 1)
        return word in BOUNDS or (
            word == "format" and not (isinstance(value, str) and value in _FORMATS)
        )

    def _several(self, word: str) -> str:
        """`oneOf` is not known; a grammar that takes any of several takes one of them."""
        if word != "oneOf":
            return word
        self._losses.adapted(
            f"{self._what}: oneOf", "this API knows only anyOf, which is sent instead"
        )
        return "anyOf"

    @staticmethod
    def _is_object(given: Mapping[str, Any]) -> bool:
        kind: Any = given.get("type")
        return (
            kind == "object"
            or "properties" in given
            or (isinstance(kind, list) and "object" in kind)
        )

    def _close(self, out: dict[str, Any]) -> None:
        stated = out.get(_CLOSED)
        if stated is None:
            out[_CLOSED] = False
            self._losses.adapted(f"{self._what}: open objects", "strict is sent closed to this API")
        elif stated is not False:
            raise UnsupportedError(
                f"{self._what} has an object with `{_CLOSED}`, which {self._provider!r} cannot "
                "hold a model to.",
                hint="List its names in `properties`, or a list of names and values instead; or "
                "leave `strict` out.",
                code="unsupported_schema",
                provider=self._provider,
            )

    def _tell(self, out: dict[str, Any], said: Mapping[str, Any]) -> None:
        for word in said:
            self._losses.adapted(
                f"{self._what}: {word}", "this API knows no such bound: the description says it"
            )
        bounds = ", ".join(f"{word}: {_json(value)}" for word, value in said.items())
        before = out.get("description")
        out["description"] = f"{before} ({bounds})" if before else f"({bounds})"


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        return str(value)
