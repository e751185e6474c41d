"""Models and types of pydantic's, by pydantic itself. Only imported where one is given."""

from __future__ import annotations

from typing import Any, Final, get_args

import msgspec
import pydantic
from pydantic_core import core_schema

from lamella._errors import ConfigurationError
from lamella._schema_book import SchemaBook
from lamella._schema_shapes import (
    property_names,
    read_without_nulls,
    schema_kinds,
    schema_shape,
    takes_null,
)
from lamella._typed_nodes import KINDS
from lamella._typed_problems import (
    MOST_PROBLEMS,
    NOTHING_THERE,
    Key,
    Misfit,
    Problem,
    Step,
    kind_of,
    misfit,
)
from lamella._typed_records import WRONG_VALUES, BySchema, said

_KNOWN: Final = frozenset(get_args(core_schema.ErrorType))
_OWN_WORDS: Final = frozenset(
    {
        "assertion_error", "bytes_invalid_encoding", "custom_error", "get_attribute_error",
        "iteration_error", "json_invalid", "mapping_type", "timezone_offset", "value_error",
    }
)  # fmt: skip
"""Kinds of errors whose sentence may hold the value, as those may that the program wrote."""


class PydanticNode(BySchema):
    """A model, a dataclass, an annotated type or a `TypeAdapter` of pydantic's."""

    __slots__ = ("_adapter", "kinds", "words")

    def __init__(self, given: Any, asked: str) -> None:
        is_adapter = isinstance(given, pydantic.TypeAdapter)
        try:
            self._adapter: pydantic.TypeAdapter[Any] = (
                given if is_adapter else pydantic.TypeAdapter(given)  # pyright: ignore[reportUnknownMemberType]
            )
            self._schema = self._adapter.json_schema(mode="validation")
        except (pydantic.errors.PydanticUserError, NameError) as error:
            reason = str(error).splitlines()[0]
            msg = f"{asked}: pydantic cannot read {given!r}: {reason}."
            hint = "Give it types that pydantic can validate from JSON and has a schema for."
            raise ConfigurationError(msg, hint=hint) from error
        self._shape = schema_shape(self._schema)
        self._title = str(self._schema.get("title") or getattr(given, "__name__", "answer"))
        kinds = schema_kinds(self._schema)
        if not kinds <= {"array", "object"}:  # pydantic reads numbers from texts, and so on
            kinds = KINDS if takes_null(self._schema, self._schema) else KINDS - {"null"}
        self.kinds = kinds
        self.words = f"object ({self._title})" if self._shape is not None else self._title

    def read(self, value: Any) -> Any:
        """An instance, read as from JSON."""
        return read_without_nulls(self._validated, value, self._schema)

    def _validated(self, value: Any) -> Any:
        try:
            return self._adapter.validate_json(msgspec.json.encode(value))
        except pydantic.ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
            raise Misfit(self._problems(details[:MOST_PROBLEMS], value)) from None
        except WRONG_VALUES as error:  # of a validator: pydantic only takes two of them
            raise misfit("value that its validators take", value, KINDS, said(error)) from None

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """As pydantic gives it."""
        if self._shape is None or "$ref" in self._schema:
            return book.merge(self._schema)
        return book.refer(self, self._title, lambda: book.merge(self._schema))

    def _problems(self, errors: list[Any], value: Any) -> list[Problem]:
        names = property_names(self._schema)
        return [_problem(each, value, names) for each in errors]


def _problem(error: Any, value: Any, names: frozenset[str]) -> Problem:
    steps: list[Step] = []
    here: Any = value
    location = error["loc"]
    for place, step in enumerate(location):
        if here.__class__ is dict and (step in here or place == len(location) - 1):
            steps.append(step if step in names else Key(step))
            here = here.get(step)
        elif here.__class__ is list and isinstance(step, int) and step < len(here):
            steps.append(step)
            here = here[step]
        # else it is the name of a member of a union, which is no step in the value
    if error["type"] == "missing":
        return Problem(tuple(steps), "a value", NOTHING_THERE)
    if error["type"] == "union_tag_invalid":  # its sentence has the tag that was found
        context = error["ctx"]
        expected = f"one of {context['expected_tags']} as {context['discriminator']}"
        return Problem(tuple(steps), expected, "another tag")
    if error["type"] == "extra_forbidden":
        return Problem(tuple(steps), "no such property", kind_of(here))
    if error["type"] in _OWN_WORDS or error["type"] not in _KNOWN:
        words = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        return Problem(
            tuple(steps), "value that its validator takes", f"another {kind_of(here)}", words[:500]
        )
    words = error["msg"].removeprefix("Input should be a valid ")
    words = words.replace("Input should be ", "value that is ")
    if error["type"].endswith("_parsing"):
        words = words.partition(", ")[0]
    return Problem(tuple(steps), words, kind_of(here))
