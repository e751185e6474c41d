"""What stands beside a type in `Annotated`: bounds, and words for the model.

Bounds are read from msgspec's `Meta`, from `annotated_types`, and from pydantic's `Field`, by what
they are called; words from the same, from `Doc`, and from a plain text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import attrs

from lamella._typed_nodes import NO_BOUNDS, Bounds

_BOUNDS: Final = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern",
           "tz")  # fmt: skip
_WORDS: Final = ("title", "description", "examples")


@attrs.define
class Limited:
    """What was said beside a type.

    Attributes:
        bounds: By msgspec's names for them.
        keywords: For the schema: title, description, examples, and what `Meta` adds.
    """

    bounds: dict[str, Any] = attrs.field(factory=dict[str, Any])
    keywords: dict[str, Any] = attrs.field(factory=dict[str, Any])

    def sizes(self) -> Bounds:
        """The bounds of an array or a mapping."""
        if not self.bounds:
            return NO_BOUNDS
        return Bounds(self.bounds.get("min_length"), self.bounds.get("max_length"))


def limited(said: Iterable[Any]) -> Limited:
    """What a type's companions in `Annotated` say."""
    found = Limited()
    for each in said:
        if isinstance(each, str):
            found.keywords["description"] = each
            continue
        inner = getattr(each, "metadata", None)
        if isinstance(inner, list | tuple):  # pydantic's Field
            further = limited(inner)  # pyright: ignore[reportUnknownArgumentType]
            found.bounds.update(further.bounds)
            found.keywords.update(further.keywords)
        for name in _BOUNDS:
            if (bound := getattr(each, name, None)) is not None:
                # `...` is any zone: of `annotated_types.Timezone`
                found.bounds[name] = True if bound is ... else bound
        for name in _WORDS:
            if value := getattr(each, name, None):
                found.keywords[name] = value
        if isinstance(text := getattr(each, "documentation", None), str):  # Doc
            found.keywords["description"] = text
        more = getattr(each, "extra_json_schema", None)
        if isinstance(more, dict):
            found.keywords.update(more)  # pyright: ignore[reportUnknownArgumentType]
    return found
