"""Schemas as grammars take them: closed objects, bounds in words, each change noted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import ChatRequest, Pipeline, Tool, UnsupportedError
from lamella.testing import MockServer
from lamella.transports._closed_schemas import BOUNDS, closed_schema
from lamella.transports._losses import Losses
from lamella_anthropic import Anthropic

BOOK: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "description": "Its title", "maxLength": 80},
        "pages": {"type": "integer", "minimum": 1, "multipleOf": 2},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 9},
        "minimum": {"type": "string", "format": "date"},
        "by": {"oneOf": [{"$ref": "#/$defs/Person"}, {"type": "null"}]},
    },
    "required": ["title"],
    "$defs": {"Person": {"properties": {"name": {"type": "string", "format": "x-name"}}}},
}


def closed(schema: Any) -> tuple[dict[str, Any], list[str]]:
    """A schema as it is sent, and what is noted."""
    losses = Losses("acme")
    found = closed_schema(schema, losses, "S", provider="acme")
    assert not losses.found
    return found, sorted(what for what, _ in losses.changed)


def test_objects_are_closed_and_bounds_said() -> None:
    """The schema that was given stays as it was; a property named like a bound is a property."""
    before = json.dumps(BOOK)
    found, noted = closed(BOOK)
    assert json.dumps(BOOK) == before
    fields = found["properties"]
    assert found["additionalProperties"] is False
    assert fields["title"] == {"type": "string", "description": "Its title (maxLength: 80)"}
    assert fields["pages"] == {"type": "integer", "description": "(minimum: 1, multipleOf: 2)"}
    assert fields["tags"]["minItems"] == 1
    assert fields["tags"]["description"] == "(maxItems: 9)"
    assert fields["minimum"] == BOOK["properties"]["minimum"]
    assert fields["by"] == {"anyOf": BOOK["properties"]["by"]["oneOf"]}
    assert found["$defs"]["Person"]["additionalProperties"] is False
    assert noted == [
        "S: format", "S: maxItems", "S: maxLength", "S: minimum", "S: multipleOf", "S: oneOf",
        "S: open objects",
    ]  # fmt: skip


def test_a_schema_that_fits_goes_as_it_is() -> None:
    """Without a note."""
    schema = {"type": "object", "properties": {}, "additionalProperties": False, "title": "T"}
    assert closed(schema) == (schema, [])


@pytest.mark.parametrize("open_", [True, {"type": "string"}])
def test_what_is_open_on_purpose_is_refused(*, open_: Any) -> None:
    """Closing it would mean something else."""
    with pytest.raises(UnsupportedError, match="cannot hold a model to") as caught:
        closed({"type": "array", "items": {"type": ["object"], "additionalProperties": open_}})
    assert caught.value.code == "unsupported_schema"


def test_a_schema_of_odd_words_is_no_crash() -> None:
    """A format or a count that is a list is told to the model as any other."""
    found, noted = closed({"type": "string", "format": ["date"], "minItems": [1]})
    assert found == {"type": "string", "description": '(format: ["date"], minItems: [1])'}
    assert noted == ["S: format", "S: minItems"]


def test_endless_schemas_are_refused() -> None:
    """A schema that holds itself."""
    knot: dict[str, Any] = {"type": "array"}
    knot["items"] = knot
    with pytest.raises(UnsupportedError, match="too deep"):
        closed(knot)


SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer"])},
        optional={"minimum": st.integers(), "maxLength": st.integers(), "format": st.text()},
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(st.text(), inner)}
        ),
        st.fixed_dictionaries(
            {"type": st.just("array"), "items": inner}, optional={"minItems": st.integers(0, 5)}
        ),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1)}),
    ),
    max_leaves=8,
)


@settings(max_examples=20)
@given(SCHEMAS)
def test_closing_is_complete_and_stable(schema: dict[str, Any]) -> None:
    """Nothing is left that such a grammar does not know, and closing again changes nothing."""
    found, _ = closed(schema)

    def check(inner: dict[str, Any]) -> None:
        assert not BOUNDS & inner.keys()
        if inner.get("type") == "object":
            assert inner["additionalProperties"] is False
            for each in inner["properties"].values():
                check(each)
        for each in (*inner.get("anyOf", ()), *([inner["items"]] if "items" in inner else ())):
            check(each)

    check(found)
    assert closed(found) == (found, [])


@pytest.mark.anyio
async def test_strict_tools_reach_anthropic_and_say_what_was_changed() -> None:
    """The server refuses open objects; a tool that is not strict goes as it was given."""
    tools = [Tool("buy", "Buys.", BOOK, strict=True), Tool("see", "Sees.", BOOK)]
    shape = {"type": "json_schema", "json_schema": {"name": "book", "schema": BOOK}}
    request = ChatRequest.of("hi", model="claude-sonnet-4-5", tools=tools, response_format=shape)
    async with (
        MockServer() as server,
        Pipeline([], Anthropic("any", base_url=server.url)) as pipeline,
    ):
        for _ in range(2):  # what is remembered is noted again
            response = await pipeline.run(request)
            noted = [note for note in response.trace.notes if note.name == "request.adapted"]
            assert {note.layer for note in noted} == {"anthropic"}
            whats = [note.fields["what"] for note in noted]
            assert whats.count("Tool.parameters: maxLength") == 1
            assert whats.count("response_format: open objects") == 1
    strict, loose = [tool["input_schema"] for tool in server.requests[-1].json["tools"]]
    assert strict["additionalProperties"] is False
    assert loose == {**BOOK, "type": "object"}
