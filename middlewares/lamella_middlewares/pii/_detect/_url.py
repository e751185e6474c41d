"""Web addresses: with a scheme, with `www.`, or a bare name under a well-known ending.

A bare name is an address only under the endings in the short tables here: the most used ones, save
those that end a file, an attribute or a sentence more often (`main.py`, `self.app`, `here.It is`).
The public suffix list has some ten thousand; most of what they would add is meant as no address.
Hosts of e-mail addresses are none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from lamella import Finding
from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._open import last_run
from lamella_middlewares.pii._detect._pattern import Pattern, any_of

GENERIC: Final = (
    "com", "org", "net", "edu", "gov", "mil", "info", "biz", "io", "ai", "dev", "xyz", "tv",
    "co",
)  # fmt: skip
WITH_PATH: Final = (
    *GENERIC,
    "app", "blog", "cloud", "club", "int", "live", "me", "online", "shop", "site", "store",
    "tech",
)  # fmt: skip
"""Endings that are sure where a path or a port follows."""
COUNTRIES: Final = (
    "ar", "au", "br", "ca", "ch", "cl", "cn", "cz", "de", "dk", "es", "eu", "fi", "fr", "gr",
    "hk", "hu", "ie", "il", "ir", "jp", "kr", "mx", "nl", "nz", "pt", "ro", "ru", "se", "sg",
    "th", "tr", "tw", "ua", "uk", "us", "vn", "za",
)  # fmt: skip
SECOND: Final = ("ac", "co", "com", "edu", "gov", "gouv", "gob", "net", "or", "org")
"""Levels below a country, under which more countries are sure: `co.in`, `com.pl`, `gov.it`."""
MORE_COUNTRIES: Final = (
    "ae", "at", "bd", "be", "by", "ee", "eg", "id", "in", "is", "it", "ke", "lk", "lt", "lv", "ma",
    "my", "ng", "no", "pe", "ph", "pk", "pl", "rs", "sa", "si", "sk", "to", "tz", "ug",
)  # fmt: skip

_LETTER: Final = "A-Za-z0-9\u00c0-\u024f"
_LABEL: Final = f"[{_LETTER}](?:[{_LETTER}-]{{0,62}}[{_LETTER}])?"
_PART: Final = '[^\\x00-\\x20"<>`\\\\^{|}]'
_LABEL_LENGTH: Final = 64
_HOST: Final = f"(?:{_LABEL}\\.){{1,6}}"
_SECOND: Final = f"(?:{any_of(SECOND)})\\.(?:{any_of(MORE_COUNTRIES)})"
_SURE: Final = f"{any_of([*GENERIC, *COUNTRIES])}|{_SECOND}"
_STOP: Final = f"(?:\\.?$|\\.?[^{_LETTER}_@.(=-]|\\.\\.)"
"""Behind a bare name: no more of it, and no call or assignment, as of an attribute."""

_WITH_SCHEME: Final = Pattern(
    f"[A-Za-z][A-Za-z0-9+.-]{{1,20}}://[{_LETTER}\\[/~_.@:%-]{_PART}*", before="A-Za-z0-9"
)
_WWW: Final = Pattern(
    f"[Ww][Ww][Ww][0-9]?\\.{_HOST}[A-Za-z]{{2,24}}(?:[:/?#]{_PART}*)?", before="A-Za-z0-9@._-"
)
_WITH_REST: Final = Pattern(
    f"{_HOST}(?:{any_of(WITH_PATH)}|{_SURE})(?::[0-9]{{1,5}}|/)(?:[/?#]{_PART}*|{_PART}*)",
    before=f"{_LETTER}@._/\\\\-",
)
_BARE: Final = Pattern(f"({_HOST}(?:{_SURE})){_STOP}", before=f"{_LETTER}@._/\\\\-")

_PATTERNS: Final = ((_WITH_SCHEME, "://"), (_WWW, "."), (_WITH_REST, "."), (_BARE, "."))

_SIGN: Final = Sign("://|[^ .][.][^ .]", plain=lambda text: "." in text or "://" in text)
"""A scheme, or a point between other characters."""

LONGEST: Final = 2_048
"""Characters of one address; more are rarely taken by anybody."""

_TRAILING: Final = ".,;:!?'*_~\u2026\u201d\u2019\u00bb"
_CLOSING: Final = {")": "(", "]": "["}
_NO_SITES: Final = frozenset({"asp.net", "vb.net", "ado.net", "java.io", "java.net", "socket.io"})


def _trimmed(address: str) -> int:
    """Its length without the punctuation of the sentence around it."""
    end = len(address)
    surplus = {sign: address.count(sign) - address.count(_CLOSING[sign]) for sign in _CLOSING}
    while end:
        last = address[end - 1]
        if last in surplus and surplus[last] > 0:
            surplus[last] -= 1
        elif last not in _TRAILING:
            break
        end -= 1
    return end


def _is_name(host: str) -> bool:
    """Whether a bare name could be a site's: `3.de` is none."""
    labels = host.split(".")
    name = max(labels[:-1], key=len)
    return len(name) > 1 and not name.isdigit() and host.lower() not in _NO_SITES


@attrs.frozen
class UrlDetector:
    """Finds `url`."""

    reach: int = LONGEST
    kinds: tuple[str, ...] = ("url",)
    sign: Sign = _SIGN

    def opens(self, text: str) -> int:
        """An address has no white space."""
        begins = last_run(text, LONGEST)
        # Without one of these only the first name of a host has come.
        if any(sign in text[begins:] for sign in ".:/"):
            return begins
        return max(begins, len(text) - _LABEL_LENGTH)

    def find(self, text: str, /) -> Iterable[Finding]:
        """What is in the text; the scanner takes the longest of what overlaps."""
        found: list[Finding] = []
        for pattern, wanted in _PATTERNS:
            if wanted not in text:
                continue
            for start, end in pattern.finditer(text):
                address = text[start:end]
                length = len(address) if pattern is _BARE else _trimmed(address)
                if pattern is _BARE and not _is_name(address):
                    continue
                if not address[:length].endswith("://"):
                    found.append(Finding(start, start + length, "url"))
        return found


URL: Final = UrlDetector()
"""Finds `url`."""
