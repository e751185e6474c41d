"""Keys and tokens of services, private keys, and what is sent to authenticate.

By format, for services whose keys say whose they are; by the header or the name that a value is
given under, for the others. A value that is only named must look random: letters and digits mixed,
many different ones. `token = next_token` is a program, no secret.
"""

from __future__ import annotations

import math
import re
from base64 import b64decode
from binascii import Error
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from lamella import Finding
from lamella_middlewares.pii._detect._key_formats import BLOCK, FORMATS, NAMES
from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._open import last_word
from lamella_middlewares.pii._detect._pattern import Pattern
from lamella_middlewares.pii._detect._signs import FORMAT_SIGN, KEY_SIGN, NAME_SIGN

LONGEST_BLOCK: Final = 8_192
"""Characters of a private key in PEM; one of RSA with 8,192 bits has 6,400."""

_LONGEST_KEY: Final = 1_100
_END: Final = "-----END "
_HEADER: Final = Pattern("-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_BODY: Final = re.compile(r"[A-Za-z0-9+/=\\ \t\r\n:,]*")
_LEAST_BITS: Final = 3.0
"""Of entropy a character: a random hexadecimal text of 32 has 3.4 to 3.9, words have under 3."""


def _varied(value: str) -> bool:
    """Whether it is no filler: `sk-xxxxxxxx`, `0000`."""
    return len(set(value)) >= 8


def _random(value: str) -> bool:
    digits = sum(character.isdigit() for character in value)
    if not 0 < digits < len(value) or not _varied(value):
        return False
    shares = (count / len(value) for count in Counter(value).values())
    bits = -sum(share * math.log2(share) for share in shares)
    return bits >= (_LEAST_BITS if digits > 1 else _LEAST_BITS + 1)


def _prefixed(value: str) -> bool:
    """`sk-` begins other things as well, classes of a style sheet: a key has digits."""
    return _varied(value) and (value[:3] != "sk-" or any(c.isdigit() for c in value))


def _basic(value: str) -> bool:
    """RFC 7617: base64 of a name, a colon and a password."""
    try:
        text = b64decode(value + "=" * (-len(value) % 4), validate=True).decode()
    except (Error, ValueError):
        return False
    return ":" in text and text.isprintable()


def _format(expression: str) -> Pattern:
    """With an exact length, more letters make it something else; else it may be longer yet."""
    after = "0-9A-Za-z" if re.search(r"[{][0-9]+[}]\Z", expression) else ""
    return Pattern(expression, before="0-9A-Za-z", after=after)


_RULES: Final = tuple(
    (tuple(needle.lstrip("*") for needle in needles), _format(expression))
    for needles, expression in FORMATS
)
_BEARER: Final = Pattern(
    "(?:bearer|authorization[\"']?[:=] ?[\"']?(?:token|apikey|api-key)) {1,3}"
    "([A-Za-z0-9._~+/-]{15,999}[A-Za-z0-9_~+/-]={0,2})",
    ignore_case=True,
)
_BASIC: Final = Pattern("basic {1,3}([A-Za-z0-9+/]{8,800}={0,2})", ignore_case=True)
_NAMED: Final = Pattern(
    f"(?:{NAMES})[\"'`\\]]{{0,2}} {{0,3}}(?::=|=>|=|:| is ) {{0,3}}[\"'`]?"
    "([A-Za-z0-9+/_.~-]{15,255}[A-Za-z0-9+/_~-]={0,2})",
    ignore_case=True,
)
_NAMED_RULES: Final[tuple[tuple[Pattern, Callable[[str], bool], float], ...]] = (
    (_BEARER, _random, 0.9),
    (_BASIC, _basic, 0.9),
    (_NAMED, _random, 0.8),
)


@attrs.frozen
class KeyDetector:
    """Finds `api_key`."""

    reach: int = LONGEST_BLOCK
    kinds: tuple[str, ...] = ("api_key",)
    sign: Sign = KEY_SIGN

    def find(self, text: str, /) -> Iterable[Finding]:
        """What is in the text, format by format."""
        found: list[Finding] = []
        if FORMAT_SIGN.within(text):
            for needles, pattern in _RULES:
                if any(needle in text for needle in needles):
                    found += _matching(pattern, text, _prefixed, 1.0)
            if BLOCK in text:
                found += _blocks(text)
        if NAME_SIGN.within(text):
            for pattern, real, sure in _NAMED_RULES:
                named = _matching(pattern, text, real, sure)
                # What is called is a function of a program.
                found += [one for one in named if text[one.end : one.end + 1] not in ("(", "[")]
        return found

    def opens(self, text: str) -> int:
        """A key has no white space, and a block has its end."""
        edge = last_word(text, _LONGEST_KEY)
        first = max(0, len(text) - LONGEST_BLOCK)
        ended = text.rfind(_END, first)
        while ended >= 0 and "-----" not in text[ended + len(_END) : ended + 60]:
            ended = text.rfind(_END, first, ended)
        begun = text.find(BLOCK, max(first, ended))
        return edge if begun < 0 else min(edge, begun)


def _matching(
    pattern: Pattern, text: str, real: Callable[[str], bool], sure: float
) -> Iterable[Finding]:
    return [
        Finding(start, end, "api_key", sure)
        for start, end in pattern.finditer(text)
        if real(text[start:end])
    ]


def _blocks(text: str) -> Iterable[Finding]:
    """Private keys in PEM (RFC 7468), whole, or as far as they go where the end is missing."""
    behind = 0
    for start, header in _HEADER.finditer(text):
        if start < behind:
            continue
        last = text.find(_END, header, start + LONGEST_BLOCK)
        closed = text.find("-----", last + len(_END), last + 60) if last >= 0 else -1
        behind = closed + 5 if closed >= 0 else _cut(text, header, start)
        yield Finding(start, behind, "api_key")


def _cut(text: str, header: int, start: int) -> int:
    body = _BODY.match(text, header, start + LONGEST_BLOCK)
    return header if body is None else body.end()


API_KEY: Final = KeyDetector()
"""Finds `api_key`."""
