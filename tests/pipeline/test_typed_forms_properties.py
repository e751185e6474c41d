"""Forms of any types: values come back, wrong ones are refused, schemas say what is read."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import re
from collections.abc import Sequence
from decimal import Decimal
from types import GenericAlias
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

import attrs
import jsonschema
import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella._partial_json import GrowingValue
from lamella._schema_checks import Checker
from lamella._typed_forms import Form, FormError, form_of
from lamella._typed_problems import Problem

QUICK = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Colour(enum.Enum):
    """A colour."""

    RED = "red"
    BLUE = "blue"


TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
SCALARS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, TEXT),
    (int, st.integers(-(2**70), 2**70)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (dt.date, st.dates()),
    (dt.datetime, st.datetimes(timezones=st.just(dt.UTC))),
    (UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (bytes, st.binary(max_size=8)),
    (Colour, st.sampled_from(Colour)),
    (Literal["a", 1, True], st.sampled_from(["a", 1, True])),
    (Annotated[int, msgspec.Meta(ge=0, lt=100)], st.integers(0, 99)),
]
NAMES = ["alpha", "beta", "gamma", "delta"]
Made = tuple[Any, st.SearchStrategy[Any]]


@st.composite
def typed(draw: st.DrawFn, depth: int = 2) -> Made:
    """A type, and the strategy of its values."""
    kinds = ["scalar", "list", "dict", "optional", "class", "union", "pair"]
    kind = draw(st.sampled_from(kinds[: 7 if depth else 1]))
    if kind == "scalar":
        scalar: Made = draw(st.sampled_from(SCALARS))
        return scalar
    if kind == "class":
        return draw(classes(depth - 1))
    if kind == "union":
        one, ones = draw(classes(depth - 1, "one"))
        other, others = draw(classes(depth - 1, "other"))
        return one | other, ones | others
    inner, values = draw(typed(depth - 1))
    if kind == "list":
        return GenericAlias(list, (inner,)), st.lists(values, max_size=3)
    if kind == "dict":
        return GenericAlias(dict, (str, inner)), st.dictionaries(TEXT, values, max_size=3)
    if kind == "optional":
        return inner | None, st.none() | values
    return GenericAlias(tuple, (inner, inner)), st.tuples(values, values)


@st.composite
def classes(draw: st.DrawFn, depth: int, tag: str = "") -> Made:
    """A class with one to three fields, some with a default; attrs, or a TypedDict."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    fields = {name: draw(typed(depth)) for name in names}
    if tag:
        fields["tag"] = (Literal[tag], st.just(tag))
    optional = draw(st.sets(st.sampled_from(names)))
    if not tag and draw(st.booleans()):
        annotations = {name: kind for name, (kind, _) in fields.items()}
        made: Any = TypedDict("Made", annotations)  # type: ignore[misc]
        return made, st.fixed_dictionaries({name: values for name, (_, values) in fields.items()})
    own = {
        name: attrs.field(
            type=kind, kw_only=True, default=draw(values) if name in optional else attrs.NOTHING
        )
        for name, (kind, values) in fields.items()
    }
    record: Any = attrs.make_class("Made", own, frozen=True)
    return record, st.builds(record, **{name: values for name, (_, values) in fields.items()})


def accepts(schema: Any, value: Any) -> bool:
    """Whether an independent reader of JSON Schema takes a value."""
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


@QUICK
@given(typed(), st.data())
def test_values_come_back(made: Made, data: st.DataObject) -> None:
    """A value of any type is written as JSON that its schemas take, and is read back equal."""
    kind, values = made
    form: Form[Any] = form_of(kind)
    value = data.draw(values)
    text = form.encode(value)
    assert form.decode(text) == value
    plain = msgspec.json.decode(text)
    whole = {"value": plain} if form.wrapped else plain
    assert form.check(whole) == value
    assert accepts(form.schema, plain)
    assert accepts(form.object_schema, whole)
    assert not Checker(form.object_schema).problems(whole)
    assert (form.strict is None) == bool(form.why_not)
    assert form.strict is None or accepts(form.strict, whole)


@QUICK
@given(typed(), st.data())
def test_changed_texts(made: Made, data: st.DataObject) -> None:
    """A text with something wrong in it is read as what it now says, or refused; nothing else."""
    kind, values = made
    form: Form[Any] = form_of(kind)
    text = form.encode(data.draw(values))
    place = data.draw(st.integers(0, len(text)))
    piece = data.draw(st.sampled_from(['"', "{", "]", ",", "null", "1", "x", "\\", ""]))
    changed = text[:place] + piece + text[place + data.draw(st.integers(0, 2)) :]
    with contextlib.suppress(FormError):
        value = form.decode(changed)
        assert form.decode(form.encode(value)) == value


@QUICK
@given(typed(), st.data())
def test_what_is_held_to_the_strict_schema_fits(made: Made, data: st.DataObject) -> None:
    """A model that is held to the strict schema misses only what the schema says in words."""
    form: Form[Any] = form_of(made[0])
    if form.strict is None:
        return
    answer = data.draw(conforming(form.strict, form.strict))
    assert accepts(form.strict, answer)
    assert not [each for each in problems(form, answer) if not SAID.search(each.expected)]


def problems(form: Form[Any], value: Any) -> Sequence[Problem]:
    """Where a value does not fit."""
    try:
        form.check(value)
    except FormError as error:
        return error.problems
    return ()


@st.composite
def conforming(draw: st.DrawFn, schema: Any, root: Any) -> Any:
    """A value that a strict schema takes."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if "anyOf" in schema:
        return draw(conforming(draw(st.sampled_from(schema["anyOf"])), root))
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    match schema["type"]:
        case "object":
            return {
                name: draw(conforming(each, root)) for name, each in schema["properties"].items()
            }
        case "array":
            return draw(st.lists(conforming(schema["items"], root), max_size=2))
        case "string":
            samples = {
                "date": "2025-01-01",
                "date-time": "2025-01-01T12:00:00Z",
                "uuid": "00000000-0000-4000-8000-000000000000",
            }
            return samples.get(schema.get("format"), "text")
        case kind:
            return draw(st.sampled_from(_SAMPLES[kind]))


SAID = re.compile("decimal|base64|>= 0 <|items")
"""What a strict schema only says in words."""

_SAMPLES: dict[str, list[Any]] = {
    "integer": [-1, 0, 7],
    "number": [-1, 0.5, 1e9],
    "boolean": [True, False],
    "null": [None],
}


@QUICK
@given(typed(), st.data())
def test_growing_values_end_as_the_whole(made: Made, data: st.DataObject) -> None:
    """Whatever the pieces, the last is the value of the whole text; the items of a list add up."""
    kind, values = made
    form: Form[Any] = form_of(kind)
    value = data.draw(values)
    text = form.encode(value)
    if data.draw(st.booleans()):
        text = f'{{ "value" : {text} }}' if form.wrapped else f"Here it is:\n{text}"
    size = data.draw(st.integers(1, 9))
    growing = form.growing()
    seen: list[Any] = []
    for place in range(0, len(text), size):
        seen += growing.feed(text[place : place + size])
    seen += growing.end()
    if isinstance(growing, GrowingValue):
        assert seen
        assert seen[-1] == value
    else:
        assert seen == value


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0]) | st.text("ab"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=5,
)


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A JSON Schema with up to three keywords, over others."""
    size = st.integers(0, 3)
    several = st.lists(inner, min_size=1, max_size=2)
    name = st.sampled_from("ab")
    words: dict[str, st.SearchStrategy[Any]] = {
        "type": st.sampled_from(
            ["string", "integer", "number", "array", "object", ["null", "array"]]
        ),
        "enum": st.lists(JSON, min_size=1, max_size=3),
        "const": JSON,
        "minimum": size,
        "exclusiveMaximum": size,
        "multipleOf": st.sampled_from([1, 2, 0.5]),
        "minLength": size,
        "maxLength": size,
        "pattern": st.sampled_from(["a", "^b", "a$"]),
        "minItems": size,
        "maxItems": size,
        "minProperties": size,
        "uniqueItems": st.booleans(),
        "items": inner,
        "prefixItems": several,
        "contains": inner,
        "properties": st.dictionaries(name, inner, max_size=2),
        "required": st.lists(name, max_size=1),
        "additionalProperties": inner | st.booleans(),
        "patternProperties": st.dictionaries(name, inner, max_size=1),
        "propertyNames": inner,
        "dependentRequired": st.dictionaries(name, st.lists(name, max_size=1), max_size=1),
        "dependentSchemas": st.dictionaries(name, inner, max_size=1),
        "allOf": several,
        "anyOf": several,
        "oneOf": several,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
    }
    chosen = st.lists(st.sampled_from(sorted(words)), max_size=3, unique=True)
    return chosen.flatmap(
        lambda names: st.fixed_dictionaries({name: words[name] for name in names})
    )


SCHEMAS = st.recursive(
    st.sampled_from([{}, {"type": "string"}, {"const": 1}]), schemas, max_leaves=4
)


@settings(QUICK, max_examples=60)
@given(SCHEMAS, JSON)
def test_the_checker_is_right(schema: Any, value: Any) -> None:
    """The library's checker takes what an independent reader of JSON Schema takes, and no more."""
    assert (not Checker(schema).problems(value)) == accepts(schema, value)
