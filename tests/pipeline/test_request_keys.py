"""The key of a request: equal if and only if the same is asked, for the same tenant."""

from __future__ import annotations

import copy
import enum
import math
import pickle
import random
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lamella
from lamella import (
    Audio,
    ChatRequest,
    ChatResponse,
    Context,
    EmbeddingRequest,
    File,
    Handler,
    Image,
    Message,
    ModerationRequest,
    Opaque,
    Pipeline,
    Reasoning,
    Refusal,
    Request,
    Target,
    Text,
    TokenCountRequest,
    Tool,
    ToolCall,
    ToolResult,
    middleware,
    request_key,
)
from lamella._canonical import form
from lamella._parts import PART_TYPES
from lamella._request_keys import EXCLUDED
from lamella.testing import Scripted

EXTRA = {"a": [1, {"b": None}]}
EVERYTHING = ChatRequest.of(
    [
        Message.system("Be brief."),
        Message(
            "user",
            [
                Text("Look at this", extra=EXTRA),
                Image(data=b"\x89PNG", media_type="image/png", detail="low"),
                Image(url="https://example.com/a.png"),
                Audio(data=b"RIFF", format="wav", transcript="hello"),
                File(id="file-1", filename="a.pdf", media_type="application/pdf"),
                Opaque({"type": "new"}, provider="acme"),
            ],
            name="ada",
            extra=EXTRA,
        ),
        Message(
            "assistant",
            [
                Reasoning("Hm.", signature="sealed", id="r1"),
                Refusal("No."),
                ToolCall("c1", "look", '{"at": 1}', extra=EXTRA),
            ],
        ),
        Message(
            "tool", ToolResult("c1", (Text("found"), Image(data=b"x", media_type="image/gif")))
        ),
    ],
    model="m",
    tools=[Tool("look", "Looks.", {"type": "object", "properties": {"at": {}}}), Opaque({"x": 1})],
    tool_choice={"type": "function"},
    response_format={"type": "json_schema", "json_schema": {"name": "n"}},
    temperature=0.5,
    top_p=0.9,
    max_output_tokens=10,
    stop=["a", "b"],
    seed=7,
    n=2,
    presence_penalty=0.1,
    frequency_penalty=0.2,
    logprobs=3,
    reasoning_effort="low",
    service_tier="flex",
    parallel_tool_calls=True,
    extra={"top_k": 5, "deep": EXTRA},
    returns=dict[str, int],
    context=Context(tenant="t"),
)
EMBEDDING = EmbeddingRequest.of(["a", "b"], model="e", dimensions=3, extra=EXTRA)
MODERATION = ModerationRequest.of(
    ["a", [Text("b", extra=EXTRA), Image(url="https://example.com/a.png")]], model="o", extra=EXTRA
)
COUNTING = TokenCountRequest.of(EVERYTHING, model="c", extra=EXTRA)
REQUESTS = (EVERYTHING, EMBEDDING, MODERATION, COUNTING)


# --- every field counts ------------------------------------------------------------------------


def changed(value: Any) -> Iterator[Any]:
    """Values that differ from one in a single place, on every level."""
    if value is None:
        yield from (0, "", False, b"", ())
    elif isinstance(value, bool):
        yield from (not value, int(value), None)
    elif isinstance(value, int | float):
        yield from (value + 1, str(value), None, [value])
    elif isinstance(value, str | bytes):
        longer: Any = value
        yield from (longer + longer[:1], longer[:-1], None, [value])
    elif isinstance(value, Mapping):
        yield from ({**value, "more": None}, None)
        for key, item in value.items():
            rest = {other: kept for other, kept in value.items() if other != key}
            yield from (rest, {**rest, f"{key}x": item})
            yield from ({**value, key: other} for other in changed(item))
    elif isinstance(value, tuple | list):
        yield from ([*value, None], [*value, *value[-1:]] if value else ["x"], None)
        for place, item in enumerate(value):
            yield [*value[:place], *value[place + 1 :]]
            yield from ([*value[:place], other, *value[place + 1 :]] for other in changed(item))
        if len(value) > 1 and value[0] != value[1]:
            yield [value[1], value[0], *value[2:]]
    elif attrs.has(type(value)):
        yield from (other for _, _, other in variants(value))
    elif isinstance(value, types.GenericAlias):
        yield from (None, dict[str, str], list[int], dict, "dict[str, int]")
    else:
        pytest.fail(f"A value of type {type(value).__name__} would go unchanged.")


SEEN: set[tuple[type, str]] = set()


def variants(record: Any) -> Iterator[tuple[type, str, Any]]:
    """Copies of an attrs object with one field changed, valid or not."""
    kind = type(record)
    for field in attrs.fields(kind):
        if isinstance(record, Request) and field.name in EXCLUDED:
            continue
        SEEN.add((kind, field.name))
        if isinstance(record, Message) and field.name == "pinned":
            continue  # it is not sent
        before = getattr(record, field.name)
        for value in changed(before):
            if type(value) is type(before) and value == before:
                continue
            other = copy.copy(record)
            object.__setattr__(other, field.name, value)
            yield kind, field.name, other


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.operation)
def test_every_field_counts(request_: Request[Any]) -> None:
    """Whatever is changed, however deep, gives another key, and no two changes the same one."""
    keys: dict[str, Any] = {request_key(request_): request_}
    count = 0
    for kind, name, other in variants(request_):
        key = request_key(other)
        count += 1
        known = keys.setdefault(key, other)
        same = known is not other and _plain(known) == _plain(other)
        assert known is other or same, f"{kind.__name__}.{name} does not count."
    assert count > 40


def _plain(value: Any) -> Any:
    """A value by its types and all its fields, equality of classes aside."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if not attrs.has(type(value)):
        return type(value), value
    names = [field.name for field in attrs.fields(type(value)) if field.name not in EXCLUDED]
    return type(value), {name: _plain(getattr(value, name)) for name in names}


def request_classes() -> list[type[Request[Any]]]:
    """The classes of requests that the library has."""
    public = [getattr(lamella, name) for name in lamella.__all__]
    kinds = [kind for kind in public if isinstance(kind, type) and issubclass(kind, Request)]
    assert {type(request) for request in REQUESTS} <= {*kinds}
    return [kind for kind in kinds if kind is not Request]


def test_no_field_is_forgotten_by_the_test_above() -> None:
    """Each field of each class that a request can hold was changed, but those that are excluded."""
    SEEN.clear()
    for request in REQUESTS:
        assert len(list(variants(request))) > 40
    for kind in (*PART_TYPES, Message, Tool, *request_classes()):
        excluded = EXCLUDED if issubclass(kind, Request) else frozenset()
        names = {field.name for field in attrs.fields(kind)} - excluded
        assert {name for known, name in SEEN if known is kind} == names


def test_a_field_of_a_third_partys_request_counts() -> None:
    """The classes' own fields are looked at, not a list of them."""

    @attrs.frozen(slots=False, kw_only=True)
    class Sing(Request[Any]):
        song: str
        voices: tuple[Any, ...] = ()

    @attrs.frozen
    class Voice:
        pitch: float

    @attrs.frozen
    class Nothing:
        pass

    one = Sing(song="a", voices=(Voice(1.0), Nothing()))
    assert request_key(one) == request_key(Sing(song="a", voices=(Voice(1.0), Nothing())))
    others = [
        Sing(song="b"),
        Sing(song="a", voices=(Voice(2.0), Nothing())),
        Sing(song="a", voices=(Voice(1.0),)),
        Sing(song="a", voices=([1.0], Nothing())),
    ]
    assert len({request_key(request) for request in (one, *others)}) == 5


def test_what_does_not_count() -> None:
    """How the answer is read, who asks, and when, change no answer."""
    for context in (
        Context(tenant="t", user="u", session="s", priority=9, tags={"a": "b"}),
        Context(tenant="t", idempotency_key="k", attributes={"a": 1}, timed=True),
    ):
        other = EVERYTHING.evolve(context=context, stream=True)
        assert request_key(other) == request_key(EVERYTHING)
    assert {"context", "stream", "target"} == EXCLUDED


def test_tenants_inside_and_targets_count() -> None:
    """No tenant is not the empty one; nothing of one part can be mistaken for another's."""
    asked = ChatRequest.of("hi", model="m")
    tenants = [None, "", "None", "a", "b"]
    keys = [request_key(asked.evolve(context=Context(tenant=tenant))) for tenant in tenants]
    keys += [request_key(asked, inside=text) for text in ("a", "b", "None")]
    targets = [
        Target("one"),
        Target("other"),
        Target("one", Scripted(["x"], name="s")),
        Target("one", Scripted(["x"], name="t")),
    ]
    keys += [request_key(asked.evolve(target=target)) for target in targets]
    assert len(set(keys)) == len(keys) == 12


# --- twins ---------------------------------------------------------------------------------------

DELIMITERS = (
    "",
    ":",
    "|",
    "/",
    ",",
    " ",
    "\0",
    "\n",
    "\x1f",
    "=",
    '"',
    "\\",
    "{",
    "}",
    "[",
    "\xa5",
)
WORDS = ("a", "b", "acme", "system", "user", "None", "null", "true", "1", "\u00e4")
PLACES = 9
"""In how many places of a request the twins have a text."""


def spelled(texts: tuple[str, ...]) -> str:
    """The key of a request with these texts, each in a place of its own."""
    tenant, inside, model, system, user, name, stop, target, extra = texts
    request = ChatRequest(
        model=model,
        messages=(Message("system", system), Message("user", user, name=name)),
        stop=(stop, extra),
        extra={target: extra},
        context=Context(tenant=tenant),
        target=Target(target),
    )
    return request_key(request, inside=inside)


def cut(text: str, chance: random.Random) -> tuple[str, ...]:
    """A text, cut into as many pieces as there are places."""
    cuts = sorted(chance.choices(range(len(text) + 1), k=PLACES - 1))
    return tuple(text[a:b] for a, b in zip((0, *cuts), (*cuts, len(text)), strict=True))


def test_a_hundred_thousand_pairs_of_twins_have_keys_of_their_own() -> None:
    """Whatever stands in two requests, put together alike and cut elsewhere, they never meet."""
    chance = random.Random(46)
    keys: dict[str, tuple[str, ...]] = {}
    told: set[tuple[str, ...]] = set()
    pairs = 0
    while pairs < 100_000:
        words = chance.choices(WORDS, k=5)
        text = "".join([word + chance.choice(DELIMITERS) for word in words])
        alike = {cut(text, chance) for _ in range(6)}
        pairs += len(alike) * (len(alike) - 1) // 2  # each is a twin of all others
        for texts in alike:
            assert keys.setdefault(spelled(texts), texts) == texts
        told |= alike
    assert len(keys) == len(told) > 38_000


# --- the form ----------------------------------------------------------------------------------


class Colour(enum.Enum):
    """A value that is no JSON."""

    RED = "red"


class Word(str):
    """A text of a class of its own."""

    __slots__ = ()


def keyed(value: Any, **more: Any) -> str:
    """The key of a request with that value in a field that takes anything."""
    request = copy.copy(ChatRequest.of("hi", **more))
    object.__setattr__(request, "seed", value)
    return request_key(request)


@pytest.mark.parametrize(
    "values",
    [
        (1, 1.0, True, "1", b"1", [1], (Text("1"),)),
        (0, 0.0, False, "", b"", None, [], {}),
        (math.nan, None, math.inf, -math.inf, "nan"),
        ("ab", "a", ["a", "b"], ["ab"], ["a", ["b"]]),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": {"b": 2}}, [["a", 1], ["b", 2]]),
        (Text("x"), Refusal("x"), {"text": "x"}, ["Text", "x"], Word("x"), "x"),
        (Colour.RED, "red", "Colour.RED", Colour),
        (int, "int", list[int], list[str], list, int | None, int | str),
    ],
)
def test_types_are_told_apart(values: tuple[Any, ...]) -> None:
    """What is different is different, alone and within other things."""
    for wrap in (lambda value: value, lambda value: [value], lambda value: (value, value)):
        assert len({keyed(wrap(value)) for value in values}) == len(values)
    plain = [value for value in values if not isinstance(value, type)]
    nested = [{"x": [value]} for value in plain if isinstance(value, int | float | bytes | None)]
    assert len({keyed(value) for value in nested}) == len(nested)


def test_a_number_is_the_same_however_it_is_written_where_any_number_may_stand() -> None:
    """A temperature of 0 out of JSON is one of 0.0 out of a program; a seed is a whole number."""
    for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty"):
        keys = {
            request_key(ChatRequest.of("hi", **{name: value})) for value in (1, 1.0, 2, 0.5, None)
        }
        assert len(keys) == 4, name
    assert keyed(1) != keyed(1.0)


def test_what_is_the_same_has_the_same_key() -> None:
    """The order of keys, and which kind of sequence or mapping it is, say nothing."""
    assert keyed({"a": 1, "b": [1, {"c": 2, "d": 3}]}) == keyed(
        {"b": (1, {"d": 3, "c": 2}), "a": 1}
    )
    assert keyed(types.MappingProxyType({"a": 1})) == keyed({"a": 1})
    assert keyed({"x": types.MappingProxyType({"a": 1})}) == keyed({"x": {"a": 1}})
    assert keyed(bytearray(b"x")) == keyed(b"x")
    one = ChatRequest.of("hi", model="m")
    assert request_key(one) == request_key(
        ChatRequest.of([{"role": "user", "content": "hi"}], model="m")
    )
    assert request_key(one) == request_key(copy.deepcopy(one))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def exact(value: Any) -> Any:
    """A value as something that is equal only to what says the same."""
    if isinstance(value, dict):
        return "dict", tuple(sorted((key, exact(item)) for key, item in value.items()))
    if isinstance(value, list):
        return "list", tuple([exact(item) for item in value])
    return type(value).__name__, "nan" if value != value else repr(value)  # noqa: PLR0124 - NaN


@given(one=JSON, other=JSON)
def test_keys_are_equal_if_and_only_if_the_values_are(one: Any, other: Any) -> None:
    """Of any two values."""
    same = exact(one) == exact(other)
    assert (keyed({"v": one}) == keyed({"v": other})) is same
    assert keyed(one) == keyed(copy.deepcopy(one))


def test_keys_are_the_same_in_every_process() -> None:
    """Neither the hash seed nor what was imported before changes one."""
    program = (
        "from lamella import ChatRequest, request_key\n"
        "extra = {'b': 1, 'a': [{'d': 1, 'c': 2}]}\n"
        "print(request_key(ChatRequest.of('hi', model='m', extra=extra)))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    asked = ChatRequest.of("hi", model="m", extra={"a": [{"c": 2, "d": 1}], "b": 1})
    assert found == {request_key(asked)}


ITSELF: dict[str, Any] = {}
ITSELF["deep"] = ITSELF


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "class 'object'"),
        ([object()], "class 'object'"),
        ({"x": object()}, "class 'object'"),
        ({1: "secret"}, "keys are not text"),
        (2**70, "64 bits"),
        ({"x": -(2**70)}, "64 bits"),
        ("\ud800secret", "not Unicode"),
        (ITSELF, "itself"),
    ],
)
def test_what_has_no_form_is_refused(value: Any, words: str) -> None:
    """The error names the field and what is wrong, and shows no content."""
    with pytest.raises(TypeError, match=words) as caught:
        keyed(value)
    assert "ChatRequest" in str(caught.value)
    assert "'seed'" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_tenant_that_is_none_of_these_is_refused() -> None:
    """Not the request's fields but its tenant is at fault, and the error says so."""
    odd: Any = object()
    with pytest.raises(TypeError, match="its tenant or target"):
        request_key(ChatRequest.of("hi", context=Context(tenant=odd)))


def test_the_tests_changes_are_changes() -> None:
    """Against a test that cannot fail: leaving a field out of the form is noticed."""
    from lamella._canonical import encode, fields_form

    without: Callable[[Any], Any] = fields_form(ChatRequest, {*EXCLUDED, "temperature"})
    assert encode(without(EVERYTHING)) == encode(without(EVERYTHING.evolve(temperature=1.0)))


def test_a_conversation_to_be_counted_has_a_key_by_what_it_says() -> None:
    """Not by its own call or tenant: those of the request around it count."""
    counted = TokenCountRequest.of(ChatRequest.of("hello", model="m"))
    inner = ChatRequest.of("hello", model="m", context=Context(tenant="acme", priority=3))
    assert request_key(TokenCountRequest.of(inner)) == request_key(counted)
    other = TokenCountRequest.of(ChatRequest.of("hallo", model="m"))
    tenant = TokenCountRequest.of("hello", model="m", context=Context(tenant="acme"))
    assert len({request_key(counted), request_key(other), request_key(tenant)}) == 3


@pytest.mark.anyio
async def test_a_layers_count_of_the_request_at_hand_has_a_key() -> None:
    """The conversation is of a call that has begun; that is no part of it."""
    keys: list[str] = []

    @middleware(phase="shape", requests=ChatRequest)
    async def counting(request: ChatRequest, call_next: Handler) -> ChatResponse:
        keys.append(request_key(TokenCountRequest.of(request)))
        return await call_next(request)

    await Pipeline([counting], Scripted(["a"])).run(ChatRequest.of("hello", model="m"))
    assert keys == [request_key(TokenCountRequest.of("hello", model="m"))]


# --- what is remembered of a message -------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2000])
def test_a_message_has_its_key_worked_out_once(size: int) -> None:
    """And no copy of it takes that along, whatever is changed in it."""
    message = Message("user", "x" * size, name="ada")
    key = request_key(ChatRequest.of([message]))
    assert request_key(ChatRequest.of([message])) == key
    assert request_key(ChatRequest.of([Message("user", "x" * size, name="ada")])) == key
    for twin in (copy.copy(message), copy.deepcopy(message), pickle.loads(pickle.dumps(message))):
        assert twin == message
        assert request_key(ChatRequest.of([twin])) == key
    other = attrs.evolve(message, name="bob")
    assert request_key(ChatRequest.of([other])) != key
    assert request_key(ChatRequest.of([attrs.evolve(other, name="ada")])) == key


@pytest.mark.parametrize("size", [1, 2000])
def test_what_a_program_can_change_is_looked_at_each_time(size: int) -> None:
    """Nobody should write into a message's JSON; who does gets no other one's answer."""
    given: dict[str, Any] = {"a": "x" * size}
    own: dict[str, Any] = {"b": [1]}
    for message in (
        Message("user", "Hi", extra=given),
        Message("user", [Text("Hi", extra=given)]),
        Message("user", [Opaque(given, provider="acme")]),
        Message("tool", ToolResult("c", (Text("x", extra=given),))),
        Message("user", [Text("Hi", extra=own), Opaque(given)]),
    ):
        request = ChatRequest.of([message])
        before = request_key(request)
        given["a"] += "y"
        assert request_key(request) != before


def test_a_message_is_not_taken_for_its_digest() -> None:
    """Long messages are in keys as digests, which no text, bytes or extension can spell."""
    message = Message("user", "x" * 2000)
    key = request_key(ChatRequest.of([message]))
    digest: Any = form(message)
    for fake in (digest.data, digest.data.hex(), [digest.data]):
        given: Any = ChatRequest.of("x").evolve(extra={"messages": fake})
        assert request_key(given) != key
        forged = attrs.evolve(message)
        object.__setattr__(forged, "parts", fake)
        assert request_key(ChatRequest.of("x").evolve(messages=(forged,))) != key
