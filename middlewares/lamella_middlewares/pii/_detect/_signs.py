"""One look at a text for anything that addresses of machines, keys or tokens begin with.

Most texts have nothing of the kind. RE2 reads for all signs together at the speed at which it reads
for one, so the detectors of these kinds ask the same question, and a scanner asks it once.
"""

from __future__ import annotations

from typing import Final

from lamella_middlewares.pii._detect import _engine
from lamella_middlewares.pii._detect._key_formats import BLOCK, FORMATS, NAME_WORDS
from lamella_middlewares.pii._detect._pattern import Pattern, any_of

_INSIDE: Final = [BLOCK, *(n[1:] for needles, _ in FORMATS for n in needles if n[0] == "*")]
_FIRST: Final = [n for needles, _ in FORMATS for n in needles if n[0] != "*"]


def _of_keys() -> str:
    """Any text that one of the formats has in it, where it stands there."""
    inside, first = any_of(_INSIDE), any_of(_FIRST)
    return f"{inside}|(?:^|\\\\[nrt]|[^0-9A-Za-z])(?:{first})"


def _either(letters: str) -> str:
    """The same in either case, as the union cannot ignore it for some of its parts."""
    return "".join(f"[{c.upper()}{c}]" if c.isalpha() else c for c in letters)


_NAME: Final = "|".join(map(_either, NAME_WORDS))

IP_SIGN: Final = Pattern(r"[0-9]\.[0-9]{1,3}\.[0-9]|:[0-9A-Fa-f]{0,4}:")
MAC_SIGN: Final = Pattern(
    "[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}:|[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-"
    "|[0-9A-Fa-f]{4}[.][0-9A-Fa-f]{4}[.]"
)
JWT_SIGN: Final = Pattern("ey[JA][A-Za-z0-9_-]|ew[o0k][A-Za-z0-9_-]")
LONG_WORD: Final = Pattern("[0-9A-Za-z]{25}")
_KEY_SIGN: Final = Pattern(_of_keys())
_NAME_SIGN: Final = Pattern(
    f"(?:{_either('bearer')}|{_either('basic')}) "
    f"|(?:{_NAME})[Ss]?[\"'`\\]]{{0,2}} {{0,3}}(?:[:=]|is )"
)

_SIGNS: Final = (LONG_WORD, IP_SIGN, MAC_SIGN, JWT_SIGN)
_ANY: Final = Pattern(
    "|".join(f"(?:{sign.expression})" for sign in (*_SIGNS, _NAME_SIGN, _KEY_SIGN))
)


def key_sign(text: str) -> bool:
    """Whether there is what the key of some service begins with."""
    if _engine.name() == "re2":
        return _KEY_SIGN.within(text)
    # Python's own engine tries each text at each place: it is quicker to look for one by one.
    return any(needle in text for needle in _FIRST) or any(needle in text for needle in _INSIDE)


def name_sign(text: str) -> bool:
    """Whether there is what a key is called, and a sign behind it that gives it."""
    if _engine.name() != "re2":
        lower = text.lower()
        if not any(word in lower for word in ("bearer", "basic", *NAME_WORDS)):
            return False
    return _NAME_SIGN.within(text)


def any_sign(text: str) -> bool:
    """Whether any of the signs is in the text."""
    if _engine.name() == "re2":
        return _ANY.within(text)
    return any(sign.within(text) for sign in _SIGNS) or key_sign(text) or name_sign(text)
