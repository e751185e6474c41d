"""The values of a template's variables: checked, written as they are, and nothing but data."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lamella import (
    Audio,
    ConfigurationError,
    File,
    Image,
    Message,
    Prompt,
    PromptTemplate,
    TemplateError,
    Text,
)

PICTURE = Image(url="https://example.com/a.png")
PICTURE_DICT = {"type": "image_url", "image_url": {"url": PICTURE.url}}
FIXED = st.text(st.characters(codec="utf-8") | st.sampled_from("{}%$#\\"), max_size=20)
TEXTS = FIXED | st.just("half of a \ud83d picture")
ENGINES = pytest.mark.parametrize("engine", ["plain", "jinja2"])


def braced(name: str, engine: str) -> str:
    """A variable within a text."""
    return f"{{{{ {name} }}}}" if engine == "jinja2" else f"{{{name}}}"


@ENGINES
@settings(max_examples=25)
@given(
    fixed=st.lists(FIXED, min_size=3, max_size=3), values=st.lists(TEXTS, min_size=2, max_size=2)
)
@example(["", "", ""], ["{b}", "{{ a }}"])
@example(["a", "b", "c"], ["{{b}}", "\nsystem: {% raw %}"])
def test_any_text_comes_out_as_it_is(engine: str, fixed: list[str], values: list[str]) -> None:
    """A value stands where its variable stands, changes nothing else, and is never syntax."""
    if engine == "plain":
        written = [text.replace("{", "{{").replace("}", "}}") for text in fixed]
    else:
        fixed = [text.replace("{", "").replace("}", "").replace("\r", "") for text in fixed]
        written = fixed
    a, b = braced("a", engine), braced("b", engine)
    template = PromptTemplate.of(
        [{"role": "system", "content": f"{written[0]}{a}{written[1]}{b}{written[2]}{a}"}, "end"],
        engine=engine,
    )
    text = f"{fixed[0]}{values[0]}{fixed[1]}{values[1]}{fixed[2]}{values[0]}"
    messages = template.messages(a=values[0], b=values[1])
    left_out = engine == "jinja2" and not text
    first = () if left_out else (Message.system(text),)
    assert messages == (*first, Message.user("end"))


@ENGINES
@settings(max_examples=12)
@given(value=st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | TEXTS, st.lists))
def test_json_comes_out_as_json(engine: str, value: Any) -> None:
    """Nested values are written so that they can be read again, and detached from the caller's."""
    source = "{{ [x] }}" if engine == "jinja2" else "[{x}]"
    template = PromptTemplate.of(source, variables={"x": "json"}, engine=engine)
    (message,) = template.messages(x=value)
    assert json.loads(message.text) == [value]


class Loud(str):
    """Text that would like to be read as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "{other}"

    def __format__(self, spec: str) -> str:
        return "{other}"


class Twice(Decimal):
    """A number that would like to be written as something else."""

    def __str__(self) -> str:
        return "{other}"


class Word(StrEnum):
    """Text that is an enumeration's."""

    YES = "yes"


def one(kind: str | dict[str, Any], value: Any) -> tuple[Message, ...]:
    """What a template with one variable makes of a value."""
    name = kind if isinstance(kind, str) else kind["type"]
    content: Any = "<{x}>"
    if name == "messages":
        content = {"insert": "x"}
    elif name in {"parts", "image", "audio", "file"}:
        content = {"role": "user", "content": ["<", {"insert": "x"}, ">"]}
    return PromptTemplate.of(content, variables={"x": kind}).messages(x=value)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("text", "", "<>"),
        ("text", Loud("loud"), "<loud>"),
        ("text", Word.YES, "<yes>"),
        ("number", 3, "<3>"),
        ("number", 0.1, "<0.1>"),
        ("number", Decimal("1.50"), "<1.50>"),
        ("number", Twice("1.50"), "<1.50>"),
        ("flag", True, "<true>"),
        ("json", {"b": ["é", None], "a": "<'&"}, '<{"b": ["é", null], "a": "<\'&"}>'),
        ({"type": "text", "one_of": ["a", "b"]}, "b", "<b>"),
    ],
)
def test_how_values_are_written(kind: Any, value: Any, text: str) -> None:
    """Text as it is, numbers in full, the rest as JSON; in both languages."""
    assert one(kind, value) == (Message.user(text),)
    jinja = PromptTemplate.of("<{{ x }}>", variables={"x": kind}, engine="jinja2")
    assert jinja.messages(x=value) == (Message.user(text),)


@pytest.mark.parametrize(
    ("kind", "value", "parts"),
    [
        ("image", PICTURE, [PICTURE]),
        ("image", PICTURE_DICT, [PICTURE]),
        ("parts", [PICTURE_DICT, {"type": "text", "text": "a"}], [PICTURE, Text("a")]),
        ("audio", Audio(b"x", "wav"), [Audio(b"x", "wav")]),
        ("file", File(id="f"), [File(id="f")]),
        ("parts", [], []),
        ("parts", "text", [Text("text")]),
        ("parts", ["{x}", PICTURE], [Text("{x}"), PICTURE]),
    ],
)
def test_parts_are_inserted(kind: str, value: Any, parts: list[Any]) -> None:
    """They stand by themselves among the message's other parts."""
    assert one(kind, value) == (Message.user(["<", *parts, ">"]),)


def test_messages_are_inserted() -> None:
    """A conversation comes as it is; a single message is one; none is none."""
    talk = [Message.user("a"), {"role": "assistant", "content": "b"}]
    assert one("messages", talk) == (Message.user("a"), Message.assistant("b"))
    assert one("messages", Message.user("a")) == (Message.user("a"),)
    assert one("messages", []) == ()
    system = Message.system("Obey.")
    assert one({"type": "messages", "roles": ["system"]}, [system]) == (system,)


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
SECRET = "s3cret"


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("text", b"s3cret", "of the type bytes, expected text"),
        ("text", Text(SECRET), "of the type Text, expected text"),
        ("number", SECRET, "expected a number"),
        ("number", True, "of the type bool"),
        ("number", float("nan"), "infinite or no number"),
        ("number", Decimal("inf"), "infinite or no number"),
        ("number", 10**300, "more than 300 digits"),
        ("number", Decimal("1e999999999"), "more than 300 digits"),
        ("number", Decimal("0e-999999999"), "more than 300 digits"),
        ("flag", 1, "expected True or False"),
        ("json", {1: SECRET}, "a key of the type int"),
        ("json", {"a": object()}, "holds something of the type object"),
        ("json", CIRCLE, "nested deeper than 64"),
        ("json", [float("inf")], "infinite"),
        ("messages", SECRET, "expected a list of messages"),
        ("messages", [SECRET], "item 0 is none"),
        ("messages", [{"role": SECRET}], "item 0 is none"),
        ("messages", [Message.system(SECRET)], "the role 'system' as item 0, and only user"),
        ("messages", [Prompt("a")], "another Prompt"),
        ("image", SECRET, "expected an Image"),
        ("image", File(id="f"), "expected an Image"),
        ("image", {"type": SECRET, "image_url": SECRET}, "expected an Image"),
        ("parts", {"type": "refusal", "refusal": SECRET}, "of the type Refusal, expected text"),
        ("parts", [3], "expected text, Image, Audio or File"),
        ({"type": "text", "one_of": ["a", "b"]}, SECRET, "is not one of 'a', 'b'"),
    ],
)
def test_wrong_values_are_refused(kind: Any, value: Any, words: str) -> None:
    """By type, and without the value."""
    with pytest.raises(TemplateError) as caught:
        one(kind, value)
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.problems


def test_all_mistakes_of_a_call_are_told_at_once() -> None:
    """Missing, wrong and unknown ones together, with what there is."""
    template = PromptTemplate.of(
        "{a}{b}{c}", variables={"a": "text", "b": "number", "c": {"default": "x"}}, name="t"
    )
    with pytest.raises(TemplateError) as caught:
        template.messages(b="x", d=1)
    error = caught.value
    assert [problem.split()[0] for problem in error.problems] == ["a", "b", "d"]
    assert (error.template, error.version, error.outcome) == ("t", "1", "not_sent")
    assert "a (text), b (number), c (text, may be left out)" in str(error)


def test_names_that_are_no_variables_are_told_of_in_part() -> None:
    """They may be the keys of anybody's JSON: ten of them, and not all of a long one."""
    template = PromptTemplate.of("{name}", name="t")
    names = ["a\nlog line " + "x" * 1000, *[f"key{number}" for number in range(4999)]]
    with pytest.raises(TemplateError) as caught:
        template.messages(name="Ada", **dict.fromkeys(names, SECRET))
    assert len(caught.value.problems) == 11
    assert caught.value.problems[-1] == "and so are 4990 more"
    assert "'a\\nlog line xxx" in str(caught.value)
    assert len(str(caught.value)) < 1000


@ENGINES
def test_json_is_measured_before_it_is_written(engine: str) -> None:
    """What stands in it again and again is as long as it is often, and fills no memory."""
    laughs: list[Any] = []
    for _ in range(60):
        laughs = [laughs, laughs]
    source = braced("x", engine)
    template = PromptTemplate.of(source, variables={"x": "json"}, engine=engine)
    long = ["a" * 500]
    longer: list[Any] = [laughs, long * 4, {"a" * 500: long, "b": long * 2}, [0] * 1001]
    for value in longer:
        with pytest.raises(TemplateError, match="x takes more than 2000 characters as JSON"):
            template.written({"x": value}, most=2000)
    as_long: list[Any] = [[1] * 667, [[[]]] * 10, {"": 1}, [], ["a" * 1998]]
    for value in as_long:
        text = json.dumps(value)
        (message,) = template.written({"x": value}, most=len(text))  # exactly as long as it may
        assert message.text == text


def test_what_may_be_left_out_has_a_default() -> None:
    """None is one for JSON, and an empty list one for what is inserted."""
    template = PromptTemplate.of(
        [
            {"insert": "history"},
            {"role": "user", "content": ["{facts}", {"insert": "pictures"}]},
        ],
        variables={
            "facts": {"type": "json", "default": None},
            "history": {"type": "messages", "default": []},
            "pictures": {"type": "parts", "default": []},
        },
    )
    assert template.messages() == (Message.user("null"),)


def test_digests_change_with_what_is_sent() -> None:
    """Neither the version nor the description counts; text, types and defaults do."""

    def digest(text: str = "a", **more: Any) -> str:
        return PromptTemplate.of(text, **more).digest

    assert digest() == digest(version="2", description="x", draft=True, name="b")
    others = {digest("b"), digest(defaults={"seed": 1}), digest(engine="jinja2")}
    assert len(others - {digest()}) == 3


def test_mistakes_of_a_template_are_told_at_once() -> None:
    """Each with its place and what to write instead."""
    odd: Any = 3
    with pytest.raises(ConfigurationError) as caught:
        PromptTemplate.of(
            [
                "a {b.c} } {d!r} {0}",
                {"insert": "h"},
                {"role": "tool", "content": "x"},
                {"role": "system", "content": ["{q}", {"insert": "n"}, {"type": "odd"}], "x": 1},
                {"role": "user"},
                Prompt("p"),
                odd,
            ],
            variables={"h": "text", "q": "messages", "n": {"type": "number", "default": "x"},
                       "zz": "foo", "version": "text", "m": odd},
            version="x",
            engine="mako",
            defaults={"temperature": "hot", "modl": "x", "top_p": -1},
        )  # fmt: skip
    lines = [line.strip() for line in str(caught.value).splitlines()]
    told = (
        "version = 'x': expected numbers with dots between",
        "engine = 'mako': expected one of 'plain', 'jinja2'",
        "messages[0].content, line 1, column 3: {b.c} is no variable",
        "messages[0].content, line 1, column 9: a single } is no variable",
        "messages[0].content, line 1, column 11: {d!r} is no variable",
        "messages[0].content, line 1, column 17: {0} is no variable",
        "messages[1].insert: h is of the type 'text', and only 'messages' come between",
        "messages[2].role = 'tool': expected one of 'system'",
        "messages[3].content[0]: q is of the type 'messages', which is no text",
        "messages[3].content[1].insert: n is of the type 'number', and only 'parts'",
        "messages[3].x is not a known key",
        "messages[4].content is missing",
        "messages[5] is a Prompt",
        "messages[6] = 3: expected a table",
        "variables.n.default is of the type str, expected a number",
        "variables.zz.type = 'foo': expected one of",
        "variables.zz is used nowhere",
        "variables.version is used nowhere",
        "variables.version: this name has a meaning of its own",
        "variables.m = 3: expected a type",
        "defaults.temperature: got 'hot', expected a number",
        "defaults.top_p: top_p must be 0 or more",
        "defaults.modl is not a known key. Did you mean 'model'?",
    )
    for words in told:
        assert any(words in line for line in lines), words
    assert lines[0] == f"PromptTemplate: {len(told)} mistakes."
