"""What must not be in a log: by value, by pattern, by name; and how long it takes to find it."""

from __future__ import annotations

import base64
import json
import math
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import Secret, scrub
from lamella._failure_texts import MOST_FAILURES, MOST_FRAMES, FailureText
from lamella._revealed import MOST_LETTERS, MOST_VALUES, Revealed
from lamella._scrub_texts import GONE, LONGEST, clean_lines, clean_text

OPENAI = "sk-proj-abcdefghijklmnopqrstuvwxyz012345"
VALUE = "correct horse/battery&staple"


@pytest.fixture(autouse=True)
def revealed(monkeypatch: pytest.MonkeyPatch) -> Revealed:
    """A memory of revealed values that this test has for itself."""
    own = Revealed()
    monkeypatch.setattr("lamella._scrub_values.revealed_values", own.all)
    monkeypatch.setattr("lamella._secrets.remember", own.add)
    return own


# --- by value ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        VALUE,
        f"<{VALUE}>",
        VALUE * 2,
        f"it is {VALUE}, {VALUE}!",
        quote(VALUE, safe=""),
        json.dumps({"x": VALUE}),
        repr(VALUE),
    ],
)
def test_a_revealed_value_is_removed_wherever_it_stands(form: str) -> None:
    """As it is, in an address, in JSON, in a repr: any text."""
    assert VALUE not in scrub(VALUE[1:])
    secret = Secret.of_value(VALUE)
    assert "horse" in scrub(form)  # nobody has used it yet
    secret.reveal()
    for shown in (scrub(form), str(scrub({form: [form]}))):
        assert GONE in shown
        assert "horse" not in shown


def test_a_short_word_that_a_secret_revealed_is_no_hole_everywhere() -> None:
    """What has fewer than 8 characters stays; what has 8 does not."""
    Secret.of_value("hidden7").reveal()
    Secret.of_value("hidden88").reveal()
    assert scrub("hidden7 hidden88") == f"hidden7 {GONE}"


def test_values_with_special_characters_are_found_as_they_are_written() -> None:
    """Line breaks, quotes and other alphabets, in JSON and in a repr."""
    value = 'line one\nline "two" ключ'
    Secret.of_value(value).reveal()
    for text in (value, json.dumps(value), json.dumps(value, ensure_ascii=False), repr(value)):
        assert "line" not in scrub(f"x={text}")


@pytest.mark.parametrize("others", [0, 50])
def test_values_that_overlap_leave_nothing_of_either(others: int) -> None:
    """One within another, one that ends where the other has begun; few values or many."""
    for number in range(others):
        Secret.of_value(f"another value {number}").reveal()
    for value in ("abcdefghij", "cdefghijkl", "defghijk", "12341234"):
        Secret.of_value(value).reveal()
    assert scrub("<abcdefghijkl>") == f"<{GONE}>"
    assert scrub("<123412341234>") == f"<{GONE}>"


def test_what_is_cut_off_leaves_no_half_of_a_value() -> None:
    """A secret that stands across the end of what is shown is removed whole, before the cut."""
    Secret.of_value("x" * 5000).reveal()
    for value in ("x" * 5000, OPENAI):
        for before in (LONGEST - 60, LONGEST - 45, LONGEST, LONGEST + MOST_LETTERS - 20):
            shown = scrub("." * before + value + "." * 50_000)
            assert value[:12] not in shown
            assert len(shown) <= LONGEST
            assert "characters)" in shown


@given(st.lists(st.text(min_size=8, max_size=12), max_size=20), st.data())
def test_many_values_are_found_like_few(values: list[str], data: st.DataObject) -> None:
    """Both ways of searching find the same."""
    from lamella._scrub_values import _each, _Searcher

    pieces = st.lists(st.sampled_from([*values, "a", "ab", " "]), max_size=20)
    text = "".join(data.draw(pieces))
    searcher = _Searcher(tuple(values))
    assert set(searcher.spans(text)) == {
        span for value in searcher._values for span in _each(text, value)
    }


# --- by type ----------------------------------------------------------------------------------


def test_a_secret_shows_its_reference() -> None:
    """In a text, in a table, under any name."""
    secret = Secret("env:OPENAI_API_KEY")
    assert scrub(secret) == "Secret('env:OPENAI_API_KEY')"
    assert scrub({"api_key": secret})["api_key"] == "Secret('env:OPENAI_API_KEY')"
    assert scrub(f"with {secret}") == "with Secret('env:OPENAI_API_KEY')"
    assert scrub({"x": Secret.of_value(OPENAI)}) == {"x": "Secret(<hidden>)"}


# --- by pattern -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        OPENAI,
        f"key {OPENAI} was refused",
        f"key_{OPENAI}",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "Authorization: Bearer abc.def-ghi",
        "api_key=hunter2&x=1",
        '{"password": "hunter2"}',
        '{"password": "two hunter2 words"}',
        r'{"a": "{\"password\": \"hunter2\"}"}',
        "{'password': 'it\\'s hunter2'}",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc",
        "application.eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc",
        "https://me:hunter2@host/path?api-version=1&key=hunter2#hunter2",
        "https://host/path?hunter2",
        "gsk_abcdefghijklmnopqrstuvwxyz",
        "OPENAI_API_KEY=hunter2",
        "aws_secret_access_key=hunter2",
        "authToken: hunter2",
        "Ocp-Apim-Subscription-Key: hunter2",
        "Set-Cookie: a=1; session=hunter2",
        "Authorization: Token hunter2",
        "GET /v1/models?key=hunter2",
        "GET /callback?code=hunter2 HTTP/1.1",
        "[(b'x-api-key', b'hunter2')]",
        "mysql --password hunter2 db",
        "x --my-api-key hunter2",
        "\u0130 PASSWORD=hunter2",
        "12345678:abcdefghijklmnopqrstuvwxyz012345678",
        "<password>hunter2</password>",
        "basic " + base64.b64encode(b"me:hunter2").decode(),
        "https://hooks.slack.com/services/T000/B000/hunter2",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nhunter2",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
        "hvs.CAESIabcdefghijklmnopqrstuvwxyz",
    ],
)
def test_secrets_are_removed(text: str) -> None:
    """Wherever they stand: in a fact, in a list, in a table, in a name."""
    found = str(scrub({"fact": text, "list": [text], "table": {"a": {text: text}}}))
    assert GONE in found
    for secret in ("hunter2", "abc.def", OPENAI, "IOSFODNN7", "eyJ", "bcdefgh", "bWU6", "SyA1"):
        assert secret not in found
    assert scrub(scrub(text)) == scrub(text)  # several handlers may each have a filter


def test_what_is_harmless_stays() -> None:
    """Ids, model names, addresses and prose are what a record is for."""
    record = {
        "call_id": "0123456789abcdef0123456789abcdef",
        "model": "ft:gpt-4o-mini-2024-07-18:acme::Bxyz",
        "other": "jina-embeddings-v2-base-code claude-3-5-sonnet-20241022",
        "code": "rate_limit_exceeded",
        "url": "https://host:8080/v1/chat?api-version=2024-10-21&limit=5",
        "at": "https://[::1]:8080/@me/x",
        "words": "basic understanding of non-secret tokens; the bearer of news. What? a=b",
        "tokens": 5,
        "none": None,
        "flag": True,
    }
    assert scrub(record) == record


@pytest.mark.parametrize("scheme", ["https:", "redis:", "mongodb+srv:", ""])
def test_addresses_do_not_say_who_asks(scheme: str) -> None:
    """Neither the user nor the password, whatever the scheme, and without one."""
    assert scrub({"x": f"at {scheme}//me:hunter2@host/path"}) == {"x": f"at {scheme}//host/path"}
    for odd in ("a#b", "a/b", "a?b", "a@b", ""):
        assert scrub(f"{scheme}//me:{odd}@host/path") == f"{scheme}//host/path"


# --- by name ----------------------------------------------------------------------------------


def test_secret_names_hide_their_values() -> None:
    """In a table the name tells, and numbers are no secrets."""
    table = {"api_key": "abc", "Cookie": ["x"], "id_token": "x", "private_key": {"a": "x"}}
    assert scrub({"t": table}) == {"t": dict.fromkeys(table, GONE)}
    assert scrub({"token": 3, "tokens": "x"}) == {"token": 3, "tokens": "x"}


@pytest.mark.parametrize(
    "name", ["headers", "response_headers", "requestHeaders", "Headers", "http.header"]
)
def test_headers_show_only_those_that_are_known_to_be_harmless(name: str) -> None:
    """As a table, as pairs, as bytes."""
    pairs = [("Content-Type", "text/html"), ("X-Ratelimit-Limit", "5"), ("X-Odd", "hunter2")]
    expected = {"Content-Type": "text/html", "X-Ratelimit-Limit": "5", "X-Odd": GONE}
    assert scrub({name: dict(pairs)}) == {name: expected}
    assert scrub({name: pairs}) == {name: expected}
    assert "hunter2" not in str(scrub({name: [(b"X-Odd", b"hunter2")]}))
    assert scrub({name: "none"}) == {name: "none"}


# --- bounds -----------------------------------------------------------------------------------

SLOW = ["a.", "eyJ-", "a+", "sk-", "eyJaaaaaaaa.", "token ", "//a@", "?a", "-a", "://", "a\\", " "]


@pytest.mark.parametrize("piece", [*SLOW, "authorization", "-----BEGIN PRIVATE KEY", "basic AAAA"])
def test_no_text_makes_scrubbing_slow(piece: str) -> None:
    """Its time grows with the length and no faster: all other threads wait meanwhile."""

    def spent(count: int) -> float:
        text = (piece * count)[:count]
        best = math.inf
        for _ in range(3):
            began = time.thread_time()
            clean_text(text)
            best = min(best, time.thread_time() - began)
        return best

    assert spent(LONGEST) < 0.08
    assert spent(LONGEST) < 16 * spent(LONGEST // 4) + 0.002


def test_many_revealed_values_do_not_make_scrubbing_slow(revealed: Revealed) -> None:
    """With as many as are remembered, all beginning alike."""
    for number in range(MOST_VALUES):
        revealed.add(f"sk-proj-{number:012}")
    clean_text("made once")
    began = time.thread_time()
    clean_text("sk-proj-" * (LONGEST // 8))
    assert time.thread_time() - began < 0.08


def test_what_is_deep_wide_or_endless_is_cut_off() -> None:
    """A record has a size."""
    endless: list[Any] = []
    endless.append(endless)
    assert len(str(scrub(endless))) < 100
    assert len(scrub(range(3))) < 100
    assert len(scrub(list(range(100_000)))) < 11_000
    assert len(str(scrub(["x" * 9000] * 1000))) < 1_100_000
    assert len(str(scrub(10**5000))) < 100


def test_an_object_without_words_does_not_cost_the_record() -> None:
    """What cannot be written is named by its type."""

    class Mute:
        def __str__(self) -> str:
            raise ZeroDivisionError

    mute = Mute()
    assert scrub({"notes": [{"x": mute}], mute: 1}) == {"notes": [{"x": "<Mute>"}], "<Mute>": 1}


@given(st.text())
def test_scrubbed_text_has_no_control_characters(text: str) -> None:
    """Whatever the text: it is printable on one line, and can be encoded."""
    found = scrub({"x": text})["x"]
    assert len(found.splitlines()) <= 1
    found.encode("utf-8")
    assert set(clean_lines("a\n\tb\r\x1b")) == set("a\n\tb\\x0d\\x1b")


# --- failures ---------------------------------------------------------------------------------


def failure(make: Any) -> Exception:
    """What a function raises, with its traceback."""
    try:
        make()
    except Exception as error:  # noqa: BLE001 - that is what is wanted
        return error
    raise AssertionError


def raise_nested() -> None:
    """A chain, a group, a note, each with the key in it; and a variable."""
    local = "a-local-" + OPENAI[8:]
    try:
        try:
            raise KeyError(f"cause {OPENAI}")
        except KeyError as error:
            raise ValueError(f"context {OPENAI}") from error
    except ValueError:
        inner = OSError(f"member {OPENAI}\nforged")
        inner.add_note(f"note {OPENAI}")
        deep = ExceptionGroup("deep", [TypeError(local)])
        group = ExceptionGroup(f"group {OPENAI}", [inner, deep])
        raise group  # noqa: B904 - the context is wanted


def test_a_failure_is_told_with_its_causes_and_members_scrubbed() -> None:
    """All of them, each message on one line, and no value of a variable."""
    told = FailureText.of(failure(raise_nested)).written(clean_text)
    for words in (
        "KeyError: ",
        "direct cause",
        f"ValueError: context {GONE}",
        "During handling",
        f"ExceptionGroup: group {GONE}",
        f"  OSError: member {GONE}\\x0aforged",
        f"  note {GONE}",
        "  ExceptionGroup: deep",
        "TypeError: a-local-",
        "in raise_nested",
        "Traceback (most recent call last):",
    ):
        assert words in told
    assert OPENAI not in told
    assert "local = " not in told
    assert told.index("KeyError") < told.index("ValueError") < told.index("group ")


def test_a_failure_without_end_is_cut_off() -> None:
    """Long chains, wide groups, deep recursion, chains that lead back to themselves."""

    def deep(count: int) -> None:
        if count:
            deep(count - 1)
        raise ValueError("x" * 20_000)

    def chained() -> None:
        error: Exception | None = None
        for number in range(500):
            new = ValueError(number)
            new.__cause__ = error
            error = new
        assert error is not None
        raise error

    told = FailureText.of(failure(lambda: deep(300))).written(clean_text)
    assert told.count(", in ") == MOST_FRAMES
    assert "places are left out" in told
    told = FailureText.of(failure(chained)).written(clean_text)
    assert told.count("ValueError") == MOST_FAILURES
    assert told.endswith("ValueError: 499")
    wide = ExceptionGroup("wide", [ValueError("x" * 9000) for _ in range(1000)])
    assert len(FailureText.of(wide).written(clean_text)) < 80_000
    circle = ValueError("circle")
    circle.__cause__ = other = ValueError("other")
    other.__cause__ = circle
    assert FailureText.of(circle).written(clean_text).count("circle") == 1


def test_an_error_that_cannot_say_what_it_is_is_no_other_error() -> None:
    """Its class is told."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    assert "Mute: <no words>" in FailureText.of(Mute()).written(clean_text)


def test_a_name_that_has_been_seen_before_means_the_same() -> None:
    """Names with numbers are known from then on: a secret's text goes, and odd numbers are told."""
    for _ in range(3):
        assert scrub({"api_key": 5, "n": 1.5, "on": True}) == {"api_key": 5, "n": 1.5, "on": True}
        assert scrub({"api_key": "word", "n": math.inf, "on": None}) == {
            "api_key": GONE,
            "n": "inf",
            "on": None,
        }
        assert scrub({"n": 1 << 2000}) == {"n": "<a number of 2001 bits>"}
        assert scrub({"n": -(1 << 100), "api_key": ["word"]}) == {"n": -(1 << 100), "api_key": GONE}
