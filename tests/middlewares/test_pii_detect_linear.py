"""What a scan costs grows with the text alone, whatever somebody put into it."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from detecting import ENGINES, engine, work

from lamella._ambiguity import ambiguity
from lamella_middlewares.pii._detect._builtin import BUILTIN
from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._pattern import Pattern, PatternDetector
from lamella_middlewares.pii._detect._phone_registry import MOST_UNKNOWN, Registry
from lamella_middlewares.pii._detect._scanner import Scanner

MODULES = (
    "_api_key",
    "_crypto",
    "_email",
    "_ip",
    "_jwt",
    "_mac",
    "_signs",
    "_url",
    "_url_credentials",
)
MINE = ("email", "ip", "mac", "url_credentials", "api_key", "jwt", "crypto_address", "url")
UNITS = (
    "a@", "a", "1", ".", "1.", "://", "a://b:c", "a://b:c@d ", "eyJ.", "eyJ", "a.b.", "[at]", "f:",
    ":", "-", "aa-", "sk-", "AKIA", "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "token=", "key: ",
    "?token=", "&sig=aaaaaa", "0x", "0xAbcdefabcdefabcdefabcdefabcdefabcdefabcdeF ", "\u200b",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb ", "é@é.",
    "www.a.", '"', "a+", "中@中.", "(at) a", "x.com/)", "%40",
)  # fmt: skip

NUMBER_UNITS = (
    "1", "1 ", "12 ", "123-", "4444 ", "0 1 2 ", "00 ", "00 1 ", "07 ", "+1", "(1) ", "9a",
    "1.1.1.", "(415) 555-2671 ", "GB82 ", "GB82WEST", "9" * 40 + " ", "<<", "P<UTO", "passport 1",
    "dl a1-", "born 1/1/", "1 Jan ", "12 A ", "12 St ", "12 Oak Oak Oak Oak ", "PO Box 1 ",
    "NY 12345 ", "M1 1A", "call 1 ", "Strasse 1, ", "12 rue de la ", "(", "1)(", "\\n1", "\n1",
)  # fmt: skip


def patterns_of(module: Any) -> list[Pattern | Sign]:
    """All patterns and signs that a module holds, alone or in rows."""
    held: list[Pattern | Sign] = []
    waiting = list(vars(module).values())
    while waiting:
        one = waiting.pop()
        if isinstance(one, Pattern | Sign):
            held.append(one)
        elif isinstance(one, list | tuple):
            waiting += one
        elif isinstance(one, PatternDetector):
            waiting += one.patterns
    return held


@pytest.mark.parametrize("name", MODULES)
def test_no_pattern_can_go_astray_in_either_engine(name: str) -> None:
    """Read by Python's own engine, there is no text on which a pattern takes exponential time."""
    found = patterns_of(importlib.import_module(f"lamella_middlewares.pii._detect.{name}"))
    assert found
    for pattern in found:
        assert ambiguity(pattern.expression, 0) is None, pattern


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("kind", MINE)
def test_twice_the_text_is_at_most_twice_the_work(name: str, kind: str) -> None:
    """On texts made to be costly, the calls made grow no faster than the text."""
    scanner = Scanner([BUILTIN[kind]()])
    with engine(name):
        for unit in UNITS:
            grows_evenly(scanner, unit)


@pytest.mark.parametrize("kind", [kind for kind in BUILTIN if kind not in MINE])
def test_twice_as_many_numbers_are_at_most_twice_the_work(kind: str) -> None:
    """So they do on what begins as numbers do."""
    for unit in NUMBER_UNITS:
        grows_evenly(Scanner([BUILTIN[kind]()]), unit)


def grows_evenly(scanner: Scanner, unit: str) -> None:
    """Of a unit again and again, twice as many take twice the work."""
    text = unit * (2_000 // len(unit))
    scanner.scan(text + text)  # patterns are compiled by now
    once, twice = work(lambda: scanner.scan(text)), work(lambda: scanner.scan(text + text))
    assert twice <= 2.3 * once + 200, unit


@pytest.mark.parametrize(
    "unit", ["a@", "x@a.b.c.d.e.f.g.h.i", "1 ", "00 1 ", "call 12 34 56 ", "f:"]
)
def test_a_long_text_is_scanned_to_its_end(unit: str) -> None:
    """A text of a hundred thousand characters made to be costly comes to its end."""
    scanner = Scanner([make() for make in BUILTIN.values()])
    end = 0
    for found in scanner.scan(unit * (100_000 // len(unit))):
        assert found.start >= end
        end = found.end


def test_the_package_is_asked_about_so_many_numbers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a text full of numbers that nobody has, some are looked up, and the others are not."""
    asked = 0

    def counting(self: Registry, code: str, national: str) -> bool:
        nonlocal asked
        asked += 1
        return knows(self, code, national)

    knows = Registry.knows
    monkeypatch.setattr(Registry, "knows", counting)
    phone = BUILTIN["phone"]()
    assert len(list(phone.find("+1 100 100 1001, " * (MOST_UNKNOWN * 2)))) == MOST_UNKNOWN * 2
    assert asked == MOST_UNKNOWN
