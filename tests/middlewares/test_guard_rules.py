"""Ready rules: terms, patterns, lengths, and what a request may ask for."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import (
    BlockedError,
    ChatRequest,
    ConfigurationError,
    EmbeddingRequest,
    Image,
    Message,
    Pipeline,
    ToolResult,
    _safe_patterns,
)
from lamella.testing import Scripted, run_virtual, virtual_ports
from lamella_middlewares import guard
from lamella_middlewares.guard import (
    Guard,
    Rule,
    blocked_terms,
    consumption,
    max_length,
    pattern,
)

pytestmark = pytest.mark.anyio


def pipeline(rules: Any, transport: Any) -> Pipeline:
    """A pipeline with one guard."""
    return Pipeline([Guard(rules)], transport, ports=virtual_ports())


def passed(rule: Rule, text: str) -> str | None:
    """What a rule makes of a text in a request; None if it is blocked."""

    async def run() -> str | None:
        transport: Any = Scripted(["fine"])
        try:
            await pipeline(rule, transport).run(ChatRequest.of(text, model="m"))
        except BlockedError:
            return None
        return str(transport.requests[0].messages[0].text)

    return run_virtual(run)


# --- terms ---------------------------------------------------------------------------------------

RUSSIAN = "\u0441\u0435\u043a\u0440\u0435\u0442"
TERMS = ["swordfish", "top secret", "c++", "\u6bd2\u54c1", "caf\u00e9", RUSSIAN]


@pytest.mark.parametrize(
    "text",
    [
        "swordfish",
        "a Swordfish!",
        "(SWORDFISH)",
        "\uff53\uff57ordfish",
        "sword\u00adfish",
        "s\u200bw\u200bo\u200brdfish",
        "\u202eswordfish\u202c",
        "TOP\u00a0SECRET",
        "I like C++.",
        "c++17",
        "\u4ed6\u5356\u6bd2\u54c1\u4e86",
        "CAFE\u0301",
        "un \uff23AF\u00c9",
        "\u0421\u0415\u041a\u0420\u0415\u0422",
        "\U0001d42c\U0001d430\U0001d428\U0001d42b\U0001d41d\U0001d41f\U0001d422\U0001d42c\U0001d421",
        "swordfish_",
    ],
)
def test_a_term_is_found_however_it_is_spelled(text: str) -> None:
    """Case, width, fonts, accents, and what takes no place."""
    expected = None if not text.endswith("_") else text  # an underscore goes on with the word
    assert passed(blocked_terms(TERMS), text) == expected


@pytest.mark.parametrize(
    "text",
    ["swordfishes", "xswordfish", "sword fish", "topsecret", "cafe", "swordfish\u00e9n", "", "c+"],
)
def test_what_merely_contains_a_term_passes(text: str) -> None:
    """Part of a longer word, or another word."""
    assert passed(blocked_terms(TERMS), text or "x") == (text or "x")


def test_anywhere_and_as_written() -> None:
    """Without whole words parts count; with case it matters."""
    anywhere = blocked_terms(["cat"], whole_words=False, action="redact", replacement="***")
    assert passed(anywhere, "conCATenate") == "con***enate"
    written = blocked_terms(["Cat"], ignore_case=False)
    assert passed(written, "cat") == "cat"
    assert passed(written, "a Cat") is None


def test_what_is_redacted_is_what_was_written() -> None:
    """All of it, invisible characters within included; the longest of several."""
    rule = blocked_terms(["new york", "york", "new york city"], action="redact", replacement="[x]")
    assert passed(rule, "In New\u00a0Yo\u200brk City, not York.") == "In [x], not [x]."
    assert passed(rule, "\u200bYork\u200b") == "\u200b[x]\u200b"


@settings(deadline=None)
@given(
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=4),
    st.text("abc ", max_size=20),
)
def test_all_terms_are_found_at_once(terms: list[str], text: str) -> None:
    """As by looking for each: what is left holds none, and what held none is as it was."""
    rule = blocked_terms(terms, whole_words=False, action="redact", replacement="#")
    made = passed(rule, text or "x")
    assert made is not None
    found = any(term in text for term in terms)
    assert ("#" in made) == found
    assert not any(term in piece for term in terms for piece in made.split("#"))


def test_terms_need_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install."""
    monkeypatch.setitem(sys.modules, "ahocorasick", None)
    with pytest.raises(ConfigurationError, match=r"lamella\[guard\]"):
        blocked_terms(["a"])


# --- patterns ------------------------------------------------------------------------------------


@pytest.fixture(params=["re2", "re"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both engines."""
    if request.param == "re":
        monkeypatch.setattr(_safe_patterns, "_re2", lambda: None)
    return str(request.param)


@pytest.mark.usefixtures("engine")
def test_a_pattern_is_blocked_or_redacted() -> None:
    """In the compatible form; digits of any script are digits."""
    number = pattern("number", r"\b[0-9]{4}-[0-9]{4}\b", action="redact", replacement="#")
    assert passed(number, "no 1234-5678, no 12345678") == "no #, no 12345678"
    assert passed(number, "\u0661\u0662\u0663\u0664-\uff15\uff16\uff17\uff18") == "#"
    assert passed(number, "12\u200b34-5678") == "#"
    blocked = pattern("word", "abc", ignore_case=True)
    assert passed(blocked, "xABCx") is None
    assert passed(pattern("empty", "x*"), "abc") == "abc"


def test_the_look_behind_comes_from_the_pattern() -> None:
    """As much as a match can have, and what decides at its end."""
    assert pattern("a", "ab{2,3}").look_behind == 6
    assert pattern("a", "ab+").look_behind is None
    assert pattern("a", "ab+", look_behind=10).look_behind == 12


def test_a_pattern_that_may_take_for_ever_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without RE2, where it is written."""
    pattern("a", "(a+)+b")
    monkeypatch.setattr(_safe_patterns, "_re2", lambda: None)
    with pytest.raises(ConfigurationError, match="without RE2"):
        pattern("a", "(a+)+b")


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("text", ["a" * 200_000, "a@" * 100_000, "ab" * 100_000 + "!"])
def test_long_texts_take_no_longer_than_long(text: str) -> None:
    """Nothing is read again and again."""
    rule = pattern("mail", "[a-z]{1,64}@[a-z]{1,64}[.]com", action="redact")
    assert passed(rule, text) == text


# --- lengths -------------------------------------------------------------------------------------


def test_lengths_are_bounded() -> None:
    """Each text by itself: blocked, or cut."""
    assert passed_both(max_length(5), "12345") == ("12345", "12345")
    assert passed_both(max_length(5), "123456") == (None, None)
    assert passed_both(max_length(5, action="cut"), "123456") == ("12345", "12345")


def passed_both(rule: Rule, text: str) -> tuple[str | None, str | None]:
    """What becomes of a text in a request, and of one in an answer."""

    async def answer() -> str | None:
        pipe = Pipeline([Guard(rule, direction="out")], Scripted([text]), ports=virtual_ports())
        try:
            return (await pipe.run(ChatRequest.of("x", model="m"))).text
        except BlockedError:
            return None

    return passed(rule, text), run_virtual(answer)


# --- consumption ---------------------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "f"}}
PICTURE = Image(url="https://example.com/x.png")
LARGE: dict[str, tuple[dict[str, Any], Any]] = {
    "messages": ({"max_messages": 1}, ChatRequest.of([Message.user("a"), Message.user("b")])),
    "input_characters": ({"max_input_characters": 5}, ChatRequest.of("123456")),
    "tools": ({"max_tools": 1}, ChatRequest.of("a", tools=[TOOL, TOOL])),
    "images": (
        {"max_images": 1},
        ChatRequest.of([Message.user([PICTURE]), Message("tool", ToolResult("c", (PICTURE,)))]),
    ),
    "answers": ({"max_answers": 2}, ChatRequest.of("a", n=3)),
    "logprobs": ({"allow_logprobs": False}, ChatRequest.of("a", logprobs=0)),
    "output_tokens": ({"require_max_output_tokens": True}, ChatRequest.of("a")),
    "inputs": ({"max_inputs": 1}, EmbeddingRequest.of(["a", "b"])),
}


@pytest.mark.parametrize("kind", LARGE)
async def test_what_asks_for_too_much_is_blocked(kind: str) -> None:
    """The error says of what, and how much may be."""
    bounds, request = LARGE[kind]
    transport: Any = Scripted(["x"])
    with pytest.raises(BlockedError) as caught:
        await pipeline(consumption(**bounds), transport).run(request.evolve(model="m"))
    assert caught.value.kinds == (kind,)
    assert transport.requests == []
    loose: dict[str, Any]
    loose = {key: value + 1 if type(value) is int else not value for key, value in bounds.items()}
    if kind in {"logprobs", "output_tokens"}:
        loose |= {"max_messages": 5}
    if kind != "inputs":
        await pipeline(consumption(**loose), transport).run(request.evolve(model="m"))
        assert len(transport.requests) == 1


@pytest.mark.parametrize(("asked", "sent"), [(None, 100), (50, 50), (100, 100), (500, 100)])
async def test_output_is_bounded(asked: int | None, sent: int) -> None:
    """Set where nothing is said, lowered where too much is."""
    transport: Any = Scripted(["x"])
    request = ChatRequest.of("a", model="m", max_output_tokens=asked)
    response = await pipeline(consumption(max_output_tokens=100), transport).run(request)
    asked_for: Any = transport.requests[0]
    assert asked_for.max_output_tokens == sent
    assert len(response.trace.notes) == (asked != sent)
    assert request.max_output_tokens == asked


@pytest.mark.parametrize(
    ("bounds", "extra"),
    [
        ({"max_output_tokens": 100}, {"max_completion_tokens": 101}),
        ({"max_output_tokens": 100}, {"generationConfig": {"maxOutputTokens": 1e6}}),
        ({"max_answers": 1}, {"n": 2}),
        ({"allow_logprobs": False}, {"logprobs": True}),
    ],
    ids=range(4),
)
async def test_what_is_written_over_the_fields_is_bounded_too(
    bounds: dict[str, Any], extra: dict[str, Any]
) -> None:
    """`extra` wins over the fields of a request, so it may not ask for more either."""
    transport: Any = Scripted(["x"], repeat=True)
    pipe = pipeline(consumption(**bounds), transport)
    with pytest.raises(BlockedError):
        await pipe.run(ChatRequest.of("a", model="m", extra=extra))
    assert transport.requests == []
    fine = {"max_tokens": 100, "n": 1, "logprobs": False, "user": "max_tokens"}
    await pipe.run(ChatRequest.of("a", model="m", extra=fine))


untyped: Any = guard  # mistakes are made on purpose


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: untyped.blocked_terms([]), "list of terms"),
        (lambda: untyped.blocked_terms("term"), "list of terms"),
        (lambda: untyped.blocked_terms(["a", ""]), "empty"),
        (lambda: untyped.blocked_terms(["\u200b"]), "nothing that can be seen"),
        (lambda: untyped.blocked_terms(["a"], action="drop"), "action='drop'"),
        (lambda: untyped.blocked_terms(["a"], name="a b"), "name"),
        (lambda: untyped.pattern("p", "("), "no regular expression"),
        (lambda: untyped.pattern("p", "a", action="x"), "action='x'"),
        (lambda: untyped.pattern("p", "a", look_behind=-5), "look_behind"),
        (lambda: untyped.max_length(-1), "0 or more"),
        (lambda: untyped.max_length(1, action="redact"), "'cut'"),
        (consumption, "bounds nothing"),
        (lambda: untyped.consumption(max_messages=-1), "max_messages=-1"),
        (lambda: untyped.consumption(max_output_tokens=0), "1 or more"),
        (lambda: untyped.consumption(max_words=1), "no option 'max_words'"),
        (lambda: untyped.consumption(allow_logprobs="no"), "True or False"),
    ],
    ids=range(16),
)
def test_mistakes_are_told_when_they_are_made(make: Any, said: str) -> None:
    """Which option, and what to give."""
    with pytest.raises(ConfigurationError, match=said):
        make()
