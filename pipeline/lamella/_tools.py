"""What a model may call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from lamella._nothing import NOTHING
from lamella._parts import JSONObject, Opaque, extra


@attrs.frozen
class Tool:
    """A function that the model may ask for.

    Attributes:
        name: What the model calls it by.
        description: What it does, for the model to read.
        parameters: The JSON Schema of its arguments.
        strict: Whether the provider must hold the arguments to the schema; None leaves it to it.
    """

    name: str
    description: str = ""
    parameters: JSONObject = attrs.field(default=NOTHING, hash=False)
    strict: bool | None = None
    extra: JSONObject = extra()

    @classmethod
    def of(cls, given: Tool | Opaque | Mapping[str, Any]) -> Tool | Opaque:
        """The tool itself, or the one that an OpenAI-style dict describes.

        A dict of a kind that we do not know (a provider's hosted tool) is kept verbatim as
        `Opaque`.
        """
        if isinstance(given, Tool | Opaque):
            return given
        function = given.get("function")
        if given.get("type") != "function" or not isinstance(function, Mapping):
            return Opaque(given)
        body: dict[str, Any] = dict(function)  # pyright: ignore[reportUnknownArgumentType]
        rest = {key: value for key, value in given.items() if key not in {"type", "function"}}
        name, description = body.pop("name", None), body.pop("description", None) or ""
        parameters, strict = body.pop("parameters", None) or NOTHING, body.pop("strict", None)
        if not isinstance(name, str) or not name:
            msg = "A function tool needs a 'name' inside 'function'."
            raise ValueError(msg)
        if body:
            rest["function"] = body
        return cls(name, str(description), parameters, strict, **({"extra": rest} if rest else {}))

    def to_dict(self) -> dict[str, Any]:
        """As an OpenAI-style dict."""
        function: dict[str, Any] = {"name": self.name}
        if self.description:
            function["description"] = self.description
        if self.parameters:
            function["parameters"] = dict(self.parameters)
        if self.strict is not None:
            function["strict"] = self.strict
        outer = {key: value for key, value in self.extra.items() if key != "function"}
        function.update(self.extra.get("function", {}))
        return {"type": "function", "function": function, **outer}


def tools(given: Iterable[Tool | Opaque | Mapping[str, Any]]) -> tuple[Tool | Opaque, ...]:
    """Tools from what a caller may give."""
    if isinstance(given, Mapping | Tool):
        msg = "`tools` is a list; put the one tool into brackets."
        raise TypeError(msg)
    return tuple([Tool.of(item) for item in given])
