"""What a scan costs grows with the text alone, whatever somebody put into it."""

from __future__ import annotations

import importlib
import sys
from types import FrameType
from typing import Any

import pytest
from detecting import ENGINES, engine

from lamella import Detector
from lamella._ambiguity import ambiguity
from lamella_middlewares.pii._detect._builtin import BUILTIN
from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._pattern import Pattern, PatternDetector
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


def calls(detector: Detector, text: str) -> int:
    """How many functions are called to look through a text, Python's and C's."""
    count = 0

    def counting(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    scanner = Scanner([detector])
    before = sys.getprofile()
    sys.setprofile(counting)
    try:
        scanner.scan(text)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("kind", MINE)
def test_twice_the_text_is_at_most_twice_the_work(name: str, kind: str) -> None:
    """On texts made to be costly, the calls made grow no faster than the text."""
    detector = BUILTIN[kind]()
    with engine(name):
        for unit in UNITS:
            text = unit * (3_000 // len(unit))
            calls(detector, text + text)  # patterns are compiled by now
            once, twice = calls(detector, text), calls(detector, text + text)
            assert twice <= 2.2 * once + 200, unit


@pytest.mark.parametrize("unit", UNITS)
def test_a_million_characters_are_scanned(unit: str) -> None:
    """A text of a million characters made to be costly comes to its end."""
    scanner = Scanner([BUILTIN[kind]() for kind in MINE])
    end = 0
    for found in scanner.scan(unit * (1_000_000 // len(unit))):
        assert found.start >= end
        end = found.end
