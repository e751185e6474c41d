"""The scanner: findings of all detectors on one text, mapped back, settled and kept."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from detecting import ENGINES, FRAGMENTS, NUMBERS, PLANTED, engine, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import Detector, Finding
from lamella._normal_text import normal_text
from lamella._safe_patterns import SafePattern
from lamella_middlewares.pii._detect._builtin import BUILTIN, DEFAULT_KINDS
from lamella_middlewares.pii._detect._custom import (
    allowed_pattern,
    callable_detector,
    regex_detector,
)
from lamella_middlewares.pii._detect._kept import KeptFindings
from lamella_middlewares.pii._detect._numbers import NumberDetector
from lamella_middlewares.pii._detect._overlaps import resolved
from lamella_middlewares.pii._detect._scanner import KEPT_FROM, Scanner

KEY = b"a key of 32 bytes for the tests."
ALL = [BUILTIN[kind]() for kind in BUILTIN]
MINE = [
    BUILTIN[kind]()
    for kind in ("email", "ip", "mac", "url_credentials", "api_key", "jwt", "crypto_address", "url")
]

NUMBERED = [detector for detector in ALL if detector not in MINE]


class Spans:
    """A detector that finds what it was told to."""

    def __init__(self, kind: str, *spans: tuple[int, int], sure: float = 1.0) -> None:
        self.kinds = (kind,)
        self.found = [Finding(start, end, kind, sure) for start, end in spans]

    def find(self, text: str, /) -> Iterable[Finding]:
        return self.found


def scan(*detectors: Detector, text: str = "x" * 40) -> list[tuple[int, int, str]]:
    """What a scanner of these finds."""
    return [(f.start, f.end, f.kind) for f in Scanner(detectors).scan(text)]


def test_kinds_are_those_of_the_contract() -> None:
    """All kinds are there, each detector finds its kind, and links only if asked for."""
    assert set(DEFAULT_KINDS) == set(BUILTIN) - {"url"}
    for kind, make in BUILTIN.items():
        assert tuple(make().kinds) == (kind,)


def test_the_longest_holds_then_the_surest_then_the_first() -> None:
    """Between findings on one place length decides, then confidence, then the detectors' order."""
    assert scan(Spans("a", (0, 4)), Spans("b", (0, 5))) == [(0, 5, "b")]
    assert scan(Spans("a", (0, 4), sure=0.5), Spans("b", (0, 4))) == [(0, 4, "b")]
    assert scan(Spans("a", (0, 4)), Spans("b", (0, 4))) == [(0, 4, "a")]


def test_what_stands_outside_of_the_longer_one_stays_found() -> None:
    """A shorter finding that begins before a longer one is not let through in part."""
    found = scan(Spans("a", (0, 6)), Spans("b", (4, 12)), Spans("c", (10, 14)))
    assert found == [(0, 4, "a"), (4, 12, "b"), (12, 14, "c")]
    assert scan(Spans("a", (2, 4), (6, 9)), Spans("b", (3, 7), (0, 3)))[0] == (0, 3, "b")


findings = st.builds(
    lambda start, length, kind, sure: Finding(start, start + length, kind, sure),
    st.integers(0, 60),
    st.integers(1, 20),
    st.sampled_from("abc"),
    st.sampled_from([0.5, 1.0]),
)


@given(st.lists(findings, max_size=12))
def test_every_found_character_is_in_one_finding(given_: list[Finding]) -> None:
    """Overlaps are settled so that all that was found stays found, each character once."""
    held = resolved(given_)
    covered = [place for f in held for place in range(f.start, f.end)]
    assert covered == sorted(set(covered))
    assert set(covered) == {place for f in given_ for place in range(f.start, f.end)}


@settings(deadline=None)
@given(texts())
def test_findings_are_in_order_and_on_the_text(text: str) -> None:
    """On any text findings are sorted, not empty, within it, and never on one character twice.

    Whenever a text has findings, `maybe` said so.
    """
    scanner, end = Scanner(ALL), 0
    for found in scanner.scan(text):
        assert end <= found.start < found.end <= len(text)
        end = found.end
    assert scanner.maybe(text) or not end


@settings(deadline=None)
@given(texts())
def test_both_engines_scan_alike(text: str) -> None:
    """What is found does not depend on whether RE2 is installed."""
    scanned = []
    for name in ENGINES:
        with engine(name):
            scanned.append(Scanner(MINE).scan(text))
    assert scanned[0] == scanned[1]


def disguised(value: str, places: list[int], wide: bool) -> str:
    """The value as it may be written to hide it: with invisible characters, or in full width."""
    characters = list(value)
    for place in places:
        characters[place % len(value)] += "\u200b"
    text = "".join(characters)
    if wide:
        text = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)
    return text


@given(
    st.sampled_from(sorted(PLANTED)),
    st.lists(st.integers(0, 99), max_size=4),
    st.booleans(),
    st.text(alphabet="abc é中\u00ad", max_size=9),
)
def test_spans_lead_back_to_the_value(
    value: str, places: list[int], wide: bool, around: str
) -> None:
    """However a value is written, its span in the original folds to the value itself."""
    text = f"{around} {disguised(value, places, wide)} {around}"
    found = Scanner(MINE[:-1]).scan(text)
    assert [f.kind for f in found] == [PLANTED[value]]
    start, end = found[0].start, found[0].end
    assert normal_text(text[start:end]).text == normal_text(value).text
    assert text[end - 1] != "\u200b"


@settings(deadline=None)
@given(texts(), st.integers(1, 3))
def test_the_cache_changes_nothing(text: str, times: int) -> None:
    """A text is found the same in with and without a cache, the first time and later."""
    kept = KeptFindings(KEY, max_entries=4)
    long = text + " " * KEPT_FROM
    plain = Scanner(MINE).scan(long)
    scanner = Scanner(MINE, cache=kept)
    assert all(scanner.scan(long) == plain for _ in range(times + 1))


def test_a_long_text_is_looked_at_once() -> None:
    """A text seen before is not given to the detectors again; a short one is not worth keeping."""
    seen: list[str] = []

    def watch(text: str) -> list[tuple[int, int]]:
        seen.append(text)
        return [(0, 1)]

    detector = callable_detector("seen", watch)
    scanner = Scanner([detector], cache=KeptFindings(KEY))
    for _ in range(3):
        assert len(scanner.scan("x" * KEPT_FROM)) == 1
    assert len(seen) == 1
    scanner.scan("short")
    scanner.scan("short")
    assert len(seen) == 3


def test_scanners_that_share_a_cache_do_not_mix() -> None:
    """What one scanner found is not taken for what another would find."""
    kept = KeptFindings(KEY)
    text = "x" * KEPT_FROM
    assert len(Scanner([Spans("a", (0, 3))], cache=kept).scan(text)) == 1
    assert Scanner([], cache=kept).scan(text) == ()


def test_the_cache_is_bounded_and_has_no_text() -> None:
    """At most so many texts are remembered, as digests; one with a thousand findings is not."""
    kept = KeptFindings(KEY, max_entries=16)
    for number in range(50):
        kept.put(kept.digest(b"mark", str(number)), (Finding(0, 1, "a"),))
    assert len(kept) == 16
    assert kept.get(kept.digest(b"mark", "0")) is None
    assert kept.get(kept.digest(b"mark", "49")) == (Finding(0, 1, "a"),)
    many = kept.digest(b"mark", "many")
    kept.put(many, tuple(Finding(n, n + 1, "a") for n in range(1000)))
    assert kept.get(many) is None
    other = KeptFindings(b"another key of 32 bytes for them")
    assert other.digest(b"mark", "x") != kept.digest(b"mark", "x")


@pytest.mark.parametrize(("key", "entries"), [(b"short", 10), (KEY, 0), (b"x" * 65, 10)])
def test_a_cache_needs_a_key_and_room(key: bytes, entries: int) -> None:
    """A key that could be guessed and a cache of nothing are refused."""
    with pytest.raises(ValueError, match="KeptFindings"):
        KeptFindings(key, max_entries=entries)


def test_maybe_is_certain_when_it_says_no() -> None:
    """Prose without anything to find is let through at a glance; each planted value is not."""
    scanner = Scanner([BUILTIN[kind]() for kind in DEFAULT_KINDS])
    assert not scanner.maybe("The quick brown fox jumps over the lazy dog, and then some more.")
    assert all(scanner.maybe(f"see {value} there") for value in PLANTED)
    assert Scanner([Spans("a")]).maybe("x")
    assert not Scanner([]).maybe("john@example.com")


NUMBERLESS = (
    *(
        "born on the fifth of May",
        "date of birth: ",
        "passport no. ",
        "P<UTOERIKSSON<<ANNA<MARIA<<",
    ),
    *(
        "Mrs. Eve Adams, Baker Street, London ",
        "PO Box ",
        "driving licence ",
        "ABCDE",
        "call ",
        "+(",
    ),
    *("-", " ", ",", "IBAN DE", "SSN ", "NHS number ", "\n"),
)


@given(st.lists(st.sampled_from(NUMBERLESS), max_size=9).map("".join))
def test_numbers_need_a_digit(text: str) -> None:
    """The one question asked before all detectors of numbers is right to rule them out."""
    for detector in ALL:
        if isinstance(detector, NumberDetector):
            assert list(detector.read(text)) == []


def test_reach_is_the_longest_and_unknown_if_one_is() -> None:
    """A detector without a reach needs whole texts, and so does a scanner with it."""
    near = callable_detector("a", lambda _: [], reach=10)
    far = callable_detector("b", lambda _: [], reach=99, blocking=True)
    whole = callable_detector("c", lambda _: [])
    assert Scanner([near, far]).reach == 99
    assert Scanner([near, whole]).reach is None
    assert Scanner([]).reach == 0
    assert Scanner([near, far]).blocking
    assert not Scanner([near]).blocking
    assert Scanner([near, far]).kinds == {"a", "b"}


def test_what_is_allowed_is_not_found_nor_what_is_in_it() -> None:
    """An allowed value is compared without case and disguise; what stands inside goes with it."""
    allow: list[str | SafePattern] = [
        "Info@Example.com",
        allowed_pattern(r"10\.\d+\.\d+\.\d+"),
        "http://u:pw@h/x",
    ]
    scanner = Scanner([*MINE], allow=allow)
    text = "INFO@example.com bob@example.com 10.0.0.1 11.0.0.1 http://u:pw@h/x http://u:pw@h/y"
    found = [text[f.start : f.end] for f in scanner.scan(text)]
    assert found == ["bob@example.com", "11.0.0.1", "http://u:pw@h/y"]
    assert scanner.scan("info@exam\u200bple.com") == ()


def test_a_pattern_allows_whole_values_only() -> None:
    """A value of which only a part matches an allowed pattern is found."""
    scanner = Scanner([BUILTIN["email"]()], allow=[allowed_pattern("[a-z]+@a[.]org|b")])
    assert len(scanner.scan("x@a.org")) == 0
    assert len(scanner.scan("x@a.org.evil.com")) == 1


@pytest.mark.parametrize("span", [(-1, 2), (0, 0), (3, 2), (0, 99)])
def test_a_span_outside_the_text_is_an_error(span: tuple[int, int]) -> None:
    """A detector that points at nothing has not inspected the text."""
    with pytest.raises(ValueError, match="in a text of 5 characters"):
        Scanner([Spans("a", span)]).scan("x" * 5)


def test_half_a_surrogate_pair_hides_nothing() -> None:
    """A text that cannot be encoded is scanned as any other."""
    text = "\ud800 john@example.com\udfff"
    assert [text[f.start : f.end] for f in Scanner(MINE).scan(text)] == ["john@example.com"]


STREAMED = (*FRAGMENTS, *NUMBERS, "My mail is john@example.com, and my IP is 10.9.8.7. ", "words ")


SCANNERS = [Scanner(kinds) for kinds in (MINE, NUMBERED, *([one] for one in NUMBERED), ALL)]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.sampled_from(STREAMED), max_size=14).map("".join),
    st.lists(st.sampled_from(STREAMED), max_size=4).map("".join),
    st.floats(0, 1),
)
def test_what_is_certain_stays_whatever_follows(before: str, behind: str, place: float) -> None:
    """Up to the index given, an open text has the findings that it has once it is whole.

    So it is for each detector of numbers by itself, and for several at once.
    """
    cut = int(len(before) * place)
    text, more = before[:cut], before[cut:] + behind
    for scanner in SCANNERS:
        found, certain = scanner.scan_open(text)
        whole = scanner.scan(text + more)
        assert all(f.end <= certain for f in found), scanner.kinds
        assert [f for f in whole if f.end <= certain] == list(found), scanner.kinds
        assert not [f for f in whole if f.start < certain < f.end], scanner.kinds


def test_prose_is_certain_almost_to_its_end() -> None:
    """A stream of words is not held back by the length that a key may have."""
    scanner = Scanner([BUILTIN[kind]() for kind in DEFAULT_KINDS])
    assert (scanner.reach or 0) > 8_000
    for words in (
        "The weather is fine today, and so are we (at least most of us, in June). ",
        "Im Jahr 2024 war Frau Müller mit 3 Kindern in Berlin, und das Wetter war gut. ",
        "我们今天去公园散步。天气很好。2024年5月我们再去。",
    ):
        text = words * (700 // len(words))
        held = [end - scanner.scan_open(text[:end])[1] for end in range(500, 600)]
        assert sum(held) / len(held) < 40
        assert max(held) < 80


def test_a_key_under_way_is_held_from_its_beginning() -> None:
    """A block that has begun is open until it has ended, however long that takes."""
    scanner = Scanner(MINE)
    text = "Here it is: -----BEGIN PRIVATE KEY-----\n" + "QUJDREVGR0g5\n" * 100
    assert scanner.scan_open(text + "and")[1] == text.index("-----BEGIN")
    ended = text + "-----END PRIVATE KEY-----\n" + "and so on, with words. " * 20
    found, certain = scanner.scan_open(ended)
    assert certain > ended.index("and so on")
    assert [f.kind for f in found] == ["api_key"]


def test_a_detector_of_whole_texts_leaves_nothing_certain() -> None:
    """While one detector needs the end, nothing can be said before it."""
    whole = callable_detector("c", lambda _: [])
    assert Scanner([*MINE, whole]).scan_open("words and more words " * 50) == ((), 0)
    bounded = regex_detector("case", "CASE-[0-9]{4}")
    assert Scanner([bounded]).scan_open("words " * 50)[1] > 250
