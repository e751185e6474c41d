"""What the tests of detectors share: both engines, and findings as the texts they stand for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from hypothesis import strategies as st

from lamella import Detector
from lamella_middlewares.pii._detect import _engine
from lamella_middlewares.pii._detect._overlaps import resolved

ENGINES: Final = ("re2", "re")

PLANTED: Final = {
    "john.doe+tag@example.co.uk": "email",
    "müller@exämple.de": "email",
    "10.12.13.14": "ip",
    "2001:db8::8a2e:370:7334": "ip",
    "00:1A:2B:3C:4D:5E": "mac",
    "sk-proj-abcDEF123456789012345678": "api_key",
    "AKIA" + "IOSFODNN7EXAMPLE": "api_key",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa": "crypto_address",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed": "crypto_address",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U": "jwt",
}
"""Values that are found by themselves, and their kinds."""

FRAGMENTS: Final = (
    *PLANTED, "postgres://bob:s3cr3t@db/x", "https://x.org/?token=abcdef12&x", "www.example.com/a",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKC\n", "-----END RSA PRIVATE KEY-----",
    "Bearer abcdef0123456789abcdef", "a8F9k2L0q3X7z1C5", "foo [at] bar (dot) com", "api_key = ",
    "@", ".", ":", "-", "/", "eyJ", "sk-", "0x", "\u200b", "\u00ad", "\ud800", "\uff45", "é", "中",
    " ", "\n", "\\n", "\\", '"a b"@x.org',
    "word", "version 1.2.3.4", "1.2.3.4.5", "=", '"', "a",
)  # fmt: skip

NUMBERS: Final = (
    "4111 1111 1111 1111", "4111-1111-1111\n1111", "GB82 WEST 1234 5698 7654 32", "536-90-4399",
    "912-70-1234", "943 476 5919", "AB 12 34 56 C", "A B 12 34 56 D", "passport X1234567",
    "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<\nL898902C36UTO7408122F1204159ZE184226B<<<<<10",
    "dl A1234567", "MORGA657054SM9IJ", "born May 3, 1984", "3 May 1984", " (dob)", "May ", "1984",
    "12 Oak Street, Springfield, IL 62701", "San Antonio, TX 78205", "Calle de Alcalá, 48",
    "Hauptstraße 5, 10115 Berlin", "12 rue de la Paix", "post office box 5", "zip code 78205",
    "SW1A 1AA", " Apt 5B", "London ", "Mr. ", "the ", "+41 79 123 45 67", "415-555-2671x123",
    "(0171) 520 17 63", "0041 79 123 45 67", "call 84 23 30", " office", " ext. 12", " card", "DE",
    "1", "12 ", "00 ", "(1) ", "+", "-", ", ", "\n", "\\n", "\uff0c",
)  # fmt: skip
"""Numbers and addresses of people, parts of them, and what may stand between."""


def work(call: Callable[[], object]) -> int:
    """How many functions are called to do something, Python's and C's."""
    calls = 0

    def counting(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counting)
    try:
        call()
    finally:
        sys.setprofile(before)
    return calls


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Patterns are read by this engine."""
    usual = _engine.name
    _engine.name = lambda: name
    try:
        yield
    finally:
        _engine.name = usual


def values(detector: Detector, text: str) -> list[str]:
    """What a detector finds, from left to right; of what overlaps the longest."""
    return [text[found.start : found.end] for found in resolved(detector.find(text))]


def texts(least: int = 0, most: int = 12) -> st.SearchStrategy[str]:
    """Texts of values, parts of values, and what may stand between."""
    pieces = st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6))
    return st.lists(pieces, min_size=least, max_size=most).map("".join)
