"""Web addresses: with a scheme, with `www.`, or a bare name under a well-known ending.

A bare name is taken for an address only under endings of the short table here, the most used ones
(Verisign's and CENTR's counts), without those that are more often the ending of a file or a word
behind a full stop (`main.py`, `README.md`, `here.It is`). The whole public suffix list has 1,500
endings, and most of what it would add is not meant as an address. Hosts of e-mail addresses are
none.
"""

from __future__ import annotations

from typing import Final

from lamella_middlewares.pii._detect._open import in_last_run
from lamella_middlewares.pii._detect._pattern import Pattern, PatternDetector, any_of

GENERIC: Final = (
    "com", "org", "net", "edu", "gov", "mil", "int", "info", "biz", "io", "ai", "app", "dev",
    "cloud", "online", "site", "shop", "store", "tech", "xyz", "blog", "club", "tv", "co",
)  # fmt: skip
COUNTRIES: Final = (
    "ar", "au", "br", "ca", "ch", "cl", "cn", "cz", "de", "dk", "es", "eu", "fi", "fr", "gr", "hk",
    "hu", "ie", "il", "ir", "jp", "kr", "mx", "nl", "nz", "pt", "ro", "ru", "se", "sg", "th", "tr",
    "tw", "ua", "uk", "us", "vn", "za",
)  # fmt: skip
SECOND: Final = ("ac", "co", "com", "edu", "gov", "gouv", "gob", "net", "or", "org")
"""Levels below a country, under which more countries are sure: `co.in`, `com.pl`, `gov.it`."""
MORE_COUNTRIES: Final = ("at", "be", "id", "in", "it", "my", "no", "ph", "pk", "pl")

_LABEL: Final = "[A-Za-z0-9\u00c0-\u024f](?:[A-Za-z0-9\u00c0-\u024f-]{0,62}[A-Za-z0-9\u00c0-\u024f])?"
_REST: Final = "(?::[0-9]{1,5})?(?:[/?#][^\\x00-\\x20\"<>`\\\\^{|}]{0,1000})?"
_CLOSING: Final = {")": "(", "]": "[", "}": "{"}

LONGEST: Final = 2_048
"""Characters of one address; browsers and the sitemaps protocol go as far."""


def _end(address: str) -> int:
    """Where it ends without the punctuation of the sentence around it."""
    end = len(address)
    while end:
        last = address[end - 1]
        if last in ".,;:!?'*_~\u2026\u201d\u2019\u00bb":
            end -= 1
        elif last in _CLOSING and address.count(_CLOSING[last], 0, end) < address.count(last, 0, end):
            end -= 1
        else:
            break
    return end
