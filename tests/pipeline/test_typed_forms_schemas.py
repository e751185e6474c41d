"""JSON Schemas: what each word says to the checker and to strict providers; msgspec's classes."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

import attrs
import jsonschema
import msgspec
import pydantic
import pytest

from lamella import ConfigurationError
from lamella._schema_strict import NotStrict, strict_schema
from lamella._typed_forms import FormError, form_of

T = TypeVar("T")


class Stop(msgspec.Struct, frozen=True):
    name: str
    days: Annotated[int, msgspec.Meta(ge=1)] = 1

    def __post_init__(self) -> None:
        if self.name == "nowhere":
            msg = f"{self.name} is no place"
            raise ValueError(msg)


class Trip(msgspec.Struct):
    stops: dict[str, list[Stop]]


class Row(msgspec.Struct, array_like=True):
    a: int
    b: str


@attrs.frozen
class Base(Generic[T]):
    item: T


@attrs.frozen
class Named(Base[int]):
    value: Annotated[str, pydantic.Field(min_length=2, description="a name")] = "me"


@attrs.frozen
class Boxed:
    value: int


@attrs.frozen
class Other:
    name: str


def every(given: Any, value: Any) -> list[str]:
    """All problems of a value."""
    with pytest.raises(FormError) as raised:
        form_of(given).check(value)
    return [problem.told for problem in raised.value.problems]


def told(given: Any, value: Any) -> str:
    """The first problem of a value."""
    return every(given, value)[0]


CHECKS: list[tuple[dict[str, Any], Any, Any]] = [
    ({"const": 1}, 1.0, True),
    ({"enum": [[1, {"a": 2}], None]}, [1, {"a": 2.0}], [1, {"a": True}]),
    ({"type": ["integer", "null"]}, 3.0, 3.5),
    ({"type": "number", "exclusiveMinimum": 1, "maximum": 2}, 2, 1),
    ({"multipleOf": 0.5}, 1.5, 0.35),
    ({"multipleOf": 3}, 9, 10),
    ({"minLength": 2, "maxLength": 3}, "abc", "a"),
    ({"pattern": "^a+$"}, "aa", "b"),
    ({"minItems": 1, "maxItems": 2}, [1], [1, 2, 3]),
    ({"uniqueItems": True}, [1, True, "1"], [1, 1.0]),
    ({"uniqueItems": True}, [{"a": [1]}, {"a": [2]}], [{"a": [1]}, {"a": [1.0]}]),
    ({"minProperties": 1, "maxProperties": 1}, {"a": 1}, {}),
    ({"contains": {"const": 1}, "maxContains": 1}, [2, 1], [1, 1]),
    ({"prefixItems": [{"type": "string"}], "items": False}, ["a"], ["a", 1]),
    ({"additionalProperties": {"type": "null"}}, {"a": None}, {"a": 1}),
    ({"patternProperties": {"^a": {"type": "null"}}, "additionalProperties": False},
     {"ab": None}, {"b": None}),
    ({"propertyNames": {"maxLength": 1}}, {"a": 1}, {"ab": 1}),
    ({"dependentRequired": {"a": ["b"]}}, {"a": 1, "b": 2}, {"a": 1}),
    ({"dependentSchemas": {"a": {"required": ["b"]}}}, {"b": 2}, {"a": 1}),
    ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 2, 4),
    ({"oneOf": [{"minimum": 1}, {"maximum": 3}]}, 4, 2),
    ({"oneOf": [{"type": "string"}, {"type": "null"}]}, None, 1),
    ({"not": {"type": "string"}}, 1, "a"),
    ({"if": {"type": "string"}, "then": {"minLength": 1}, "else": {"type": "null"}}, "a", 1),
    ({"if": {"type": "string"}, "then": {"minLength": 1}}, 1, ""),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad"), CHECKS)
def test_each_word_is_checked(schema: dict[str, Any], good: Any, bad: Any) -> None:
    """A value that fits passes as it is, and one that does not is refused, as elsewhere."""
    reader = jsonschema.Draft202012Validator(schema)
    assert form_of(schema).check(good) == good
    assert reader.is_valid(good)
    assert told(schema, bad).startswith("$")
    assert not reader.is_valid(bad)


def test_the_likely_member_is_reported() -> None:
    """Of a union that fits nowhere, the member that fits deepest says what is wrong."""
    schema = {
        "anyOf": [
            {"type": "null"},
            {"type": "object", "properties": {"a": {"items": {"type": "string"}}}},
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"]},
        ]
    }
    assert told(schema, {"a": ["x", 1]}) == "$.a[1]: expected string, got integer"


def test_a_schema_of_ones_own() -> None:
    """A JSON Schema is checked as the standard has it; the value is plain JSON."""
    schema = {
        "title": "An order!",
        "type": "object",
        "properties": {
            "count": {"type": "integer", "minimum": 1},
            "note": {"type": "string"},
            "next": {"$ref": "#/$defs/next"},
        },
        "required": ["count"],
        "additionalProperties": False,
        "$defs": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    }
    form = form_of(schema)
    assert form.name == "An_order"
    assert form.check({"count": 1, "note": None, "next": None}) == {"count": 1, "next": None}
    assert every(schema, {"count": 0, "next": {"x@y": 1}}) == [
        "$.count: expected integer >= 1, got another integer",
        "$.next.count: expected integer >= 1, got nothing",
        "$.next['x@y']: expected no such property, got integer",
    ]
    assert form.strict is not None
    inner = form.strict["$defs"]["next"]["anyOf"][0]["$ref"]
    assert (
        form.strict["$defs"][inner.removeprefix("#/$defs/")]["required"] == form.strict["required"]
    )


def test_schemas_that_are_wrapped() -> None:
    """References inside a schema lead where they led, in older drafts and in the wrapping too."""
    schema = {
        "type": "array",
        "items": {"anyOf": [{"$ref": "#/definitions/pair"}, {"$ref": "#"}]},
        "definitions": {
            "pair": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"$ref": "#/definitions/b"}},
                "required": ["a", "b"],
                "additionalProperties": False,
            },
            "b": {"type": "string"},
        },
    }
    form = form_of(schema)
    value = [{"a": 1, "b": "x"}, [{"a": 2, "b": "y"}]]
    assert form.decode(form.encode(value)) == form.check({"value": value}) == value
    assert form.strict is not None
    for each, given in (
        (form.schema, value),
        (form.object_schema, {"value": value}),
        (form.strict, {"value": value}),
    ):
        reader = jsonschema.Draft202012Validator(each)
        assert reader.is_valid(given)
        assert not reader.is_valid({"value": [[{"a": 1, "b": 2}]]})
    odd = {"type": "array", "prefixItems": [{"type": "string"}, {"$ref": "#/prefixItems/0"}]}
    reader = jsonschema.Draft202012Validator(form_of(odd).object_schema)
    assert reader.is_valid({"value": ["a", "b"]})
    assert not reader.is_valid({"value": ["a", 1]})
    with pytest.raises(ConfigurationError, match="without end"):
        form_of({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}})


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "objekt"}, "'objekt' at #"),
        ({"$ref": "#/$defs/x"}, "refers to '#/$defs/x'"),
        ({"anyOf": [{"$ref": "#/$defs/x"}]}, "at #/anyOf/0"),
        ({"$ref": "https://example.org/x"}, "which is not in it"),
        ({"properties": {"a": {"pattern": "["}}}, "at #/properties/a"),
        ({"items": 3}, "int at #/items"),
        ({"required": "a"}, "str as 'required'"),
        ({"unevaluatedProperties": False}, "which is not checked here"),
        ({"enum": [object()]}, "is not JSON"),
    ],
)
def test_schemas_that_are_wrong(schema: dict[str, Any], words: str) -> None:
    """A schema that is not valid, or says what is not checked, is refused when it is given."""
    with pytest.raises(ConfigurationError) as raised:
        form_of(schema)
    assert words in raised.value.message


def closed(**properties: Any) -> dict[str, Any]:
    """The strict schema of an object."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


STRICT: list[tuple[dict[str, Any], Any]] = [
    ({"const": "a", "description": "fixed"},
     {"description": "fixed", "type": "string", "enum": ["a"]}),
    ({"enum": ["a", 1, None, True]},
     {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "integer", "enum": [1]},
                {"type": "null"}, {"type": "boolean", "enum": [True]}]}),
    ({"type": ["string", "null"], "maxLength": 3, "description": "short"},
     {"description": "short (at most 3 characters)",
      "anyOf": [{"description": "(at most 3 characters)", "type": "string"}, {"type": "null"}]}),
    ({"oneOf": [{"type": "string"}, {"type": "integer"}]},
     {"anyOf": [{"type": "string"}, {"type": "integer"}]}),
    ({"allOf": [{"$ref": "#/$defs/a"}], "description": "one"},
     {"description": "one", "anyOf": [{"$ref": "#/$defs/a"}]}),
    ({"allOf": [{"$ref": "#/$defs/a"}, {"properties": {"y": {"type": "null"}},
                                       "required": ["y"]}]},
     closed(x={"type": "string"}, y={"type": "null"})),
    ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
    ({"type": "string", "format": "uri", "examples": ["a", "b"]},
     {"description": "(for example a, b; in the format uri)", "type": "string"}),
    ({"items": {"type": "integer"}, "uniqueItems": True, "minItems": 2},
     {"description": "(at least 2 items; all different)", "type": "array",
      "items": {"type": "integer"}}),
    ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]},
     {"description": "(in this order: integer, string)", "type": "array",
      "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}),
    ({"properties": {"z": {"type": "null"}, "w": {"type": "boolean"}}},
     closed(z={"type": "null"},
            w={"description": "(null to leave it out)",
               "anyOf": [{"type": "boolean"}, {"type": "null"}]})),
]  # fmt: skip
DEFINITION = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}


@pytest.mark.parametrize(("schema", "strict"), STRICT)
def test_strict_forms(schema: dict[str, Any], strict: Any) -> None:
    """Each word has its strict form, or is said in the description."""
    root = {"type": "object", "properties": {"p": schema}, "required": ["p"]}
    found = strict_schema({**root, "$defs": {"a": DEFINITION}})
    assert found["properties"]["p"] == strict
    assert found.get("$defs", {}) in ({}, {"a": closed(x={"type": "string"})})


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "#/properties/q"}, "and not to a definition"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "two things of 'type'"),
        ({"anyOf": [{"type": "null"}], "properties": {}}, "beside alternatives"),
        ({"const": [1]}, "no scalar"),
        ({"type": "object", "properties": {}, "required": ["a"]}, "not described"),
        ({"description": "anything"}, "any value fits"),
        ({"enum": [f"option {place}" for place in range(1_001)]}, "1001 values of enums"),
        ({"enum": ["x" * 120_001]}, "characters in names"),
    ],
)
def test_what_has_no_strict_form(schema: dict[str, Any], words: str) -> None:
    """What cannot be said strictly is named."""
    root = {"type": "object", "properties": {"p": schema}, "required": ["p"]}
    with pytest.raises(NotStrict, match=words):
        strict_schema(root)


def test_depth_is_bounded() -> None:
    """More levels of objects than providers take have no strict form; endless ones have."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(11):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    with pytest.raises(NotStrict, match="11 levels"):
        strict_schema(schema)
    for _ in range(5_000):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    with pytest.raises(NotStrict, match="too deeply"):
        strict_schema(schema)


def test_what_msgspec_says() -> None:
    """A class of msgspec's has the first problem, at its place, and its own words as detail."""
    value = {"stops": {"s3cret": [{"name": "Rome", "days": None}, {"name": "Bari", "days": 0}]}}
    with pytest.raises(FormError) as raised:
        form_of(Trip).check(value)
    assert str(raised.value) == (
        "The value does not fit 'Trip': $.stops[*][1].days: expected int >= 1, got another value."
    )
    assert (
        told(Trip, {"stops": {"a": [{}]}}) == "$.stops['*'][0].name: expected a value, got nothing"
    )
    assert told(Trip, {"stops": 1}) == "$.stops: expected object, got int"
    assert told(Stop, {"name": "nowhere"}).endswith("(nowhere is no place)")
    assert form_of(list[Row]).check([[1, "x"]]) == [Row(1, "x")]


def test_an_object_with_only_a_value() -> None:
    """An object that looks like the wrapping is read as what fits."""
    form = form_of(Boxed | Other)
    assert form.wrapped
    assert form.check({"value": 3}) == Boxed(3)
    assert form.check({"value": {"value": 3}}) == Boxed(3)
    assert form.check({"value": {"name": "x"}}) == Other("x")


def test_bases_give_what_their_variables_are() -> None:
    """A class of a generic base has the fields that the base was given types for."""
    form = form_of(Named)
    assert form.check({"item": 3}) == Named(3)
    assert form.schema["properties"]["value"] == {
        "type": "string",
        "minLength": 2,
        "description": "a name",
        "default": "me",
    }
    assert told(Named, {"item": "x"}) == "$.item: expected integer, got string"
    assert told(Named, {"item": 1, "value": "x"}).startswith(
        "$.value: expected string of length >= 2"
    )
