"""E-mail addresses: RFC 5321 as people write them, international ones (RFC 6531) too.

The local part has letters, digits and `. _ ' ~ + = -`: what else RFC 5322 permits is in no address
that is in use, but often stands before one (`?to=`, `<`, `"`). Quoted local parts, address
literals, an `@` that is written `%40` or `[at]`, and `(dot)`s are found. A host without a dot is
not an address: `root@localhost` names nobody; nor is the password of a URL with what follows it.
"""

from __future__ import annotations

import re
from typing import Final

from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._open import last_run
from lamella_middlewares.pii._detect._pattern import Pattern, PatternDetector

# Letters of scripts that put spaces between words; Chinese, Japanese, Thai and so on do not, and an
# address in the middle of such text would take the words around it with it.
_SPACED: Final = "\u00c0-\u02af\u0370-\u058f\u05d0-\u05ea\u0620-\u06ff\u0900-\u0dff\u10a0-\u10ff"
_UNSPACED: Final = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
_LETTER: Final = f"A-Za-z0-9{_SPACED}"
_LABEL: Final = f"[{_LETTER}](?:[{_LETTER}-]{{0,62}}[{_LETTER}])?"
_LOCAL: Final = f"[{_LETTER}_](?:[{_LETTER}._'~-]{{0,63}}(?:\\+[{_LETTER}._'~+=-]{{0,62}})?)?"
_TOP: Final = f"(?:[A-Za-z{_SPACED}]{{2,24}}|xn--[A-Za-z0-9-]{{2,59}})"
_DOMAIN: Final = rf"(?:{_LABEL}\.){{1,8}}{_TOP}"
_OCTETS: Final = r"\[(?:[0-9]{1,3}\.){3}[0-9]{1,3}\]|\[IPv6:[0-9A-Fa-f:.]{2,45}\]"
_AT: Final = r" ?(?:\[at\]|\(at\)|\{at\}|<at>|\[@\]|\(@\)) ?"
_DOT: Final = r"(?:\.| ?(?:\[dot\]|\(dot\)|\{dot\}|<dot>|\[\.\]|\(\.\)) ?)"

_AFTER: Final = _LETTER
_ESCAPED: Final = r"(?:\\[nrt])?"
"""A line break that is written as an escape: its letter is none of the address."""

FILES: Final = frozenset({
    "avif", "bmp", "c", "cpp", "css", "csv", "doc", "docx", "gif", "gz", "heic", "htm", "html",
    "ico", "ini", "jpeg", "jpg", "js", "json", "jsx", "lock", "log", "map", "mjs", "pdf", "php",
    "png", "ppt", "pptx", "py", "scss", "sql", "svg", "tar", "tgz", "tiff", "toml", "ts", "tsx",
    "txt", "vue", "webp", "xls", "xlsx", "xml", "yaml", "yml",
})  # fmt: skip
"""Endings of file names, which are top-level domains of no known address: `icon@2x.png`."""

_ACCOUNTS: Final = frozenset({"git", "hg", "svn"})
"""Whom everybody is on a host of repositories: `git@github.com:lamella/lamella.git`."""


_BEFORE: Final = 96
_REACH: Final = 720 + _BEFORE
_QUOTED: Final = 66
_USER: Final = re.compile("://[^\\s/?#\"'<>,;|()@]*:[^\\s/?#\"'<>,;|()]*\\Z")
"""An address of something else, up to its password: `https://user:` before `password@host`."""


_SPELLED: Final = re.compile(r"\[(?:at|@)\]|\((?:at|@)\)|\{at\}|<at>", re.IGNORECASE)
_BRACKETS: Final = "[({<"


def _has_at(text: str) -> bool:
    if "@" in text or "%40" in text:
        return True
    return any(bracket in text for bracket in _BRACKETS) and _SPELLED.search(text) is not None


_SIGN: Final = Sign(f"@|%40|(?i:{_SPELLED.pattern})", plain=_has_at)


def _sure(address: str) -> float:
    local, _, domain = address.replace("%40", "@").rpartition("@")
    if domain.rpartition(".")[2].lower() in FILES or local in _ACCOUNTS:
        return 0.0
    return 1.0


def _no_password(text: str, start: int, _: int) -> bool:
    """Whether what looks like one is not the password and the host of a URL."""
    before = text[max(0, start - _BEFORE) : start]
    return "://" not in before or _USER.search(before) is None


_LOCAL_END: Final = re.compile(f"[%{_LETTER}{_UNSPACED}._'~+=-]{{0,128}}")
_AT_END: Final = re.compile(r"(?: ?[\[({<][a@]?t?| )\Z", re.IGNORECASE)
"""What of an `[at]` may stand at the end of a text that goes on."""

_DOT_END: Final = re.compile(
    r" ?[A-Za-z0-9.-]*(?: ?[\[({<][dot.]{1,3}[\])}>] ?[A-Za-z0-9.-]+)*"
    r"(?: ?[\[({<][dot.]{0,3}[\])}>]?)? ?\Z",
    re.IGNORECASE,
)
"""What may stand between an `[at]` and that end."""


def _opens(text: str) -> int:
    length = len(text)
    first = max(0, length - _REACH)
    word = last_run(text, _REACH)
    signs = [place for sign in ("@", "%40") if (place := text.find(sign, word)) >= 0]
    edge = _local(text, min(signs, default=length))
    if '"' in text[max(0, word - _QUOTED) :]:
        start = max(0, (word if '"@' in text[word:] else length) - _QUOTED)
        quote = text.find('"', start)
        edge = edge if quote < 0 else min(edge, quote)
    spelled = _AT_END.search(text, max(0, length - 4))
    if spelled is not None:
        edge = min(edge, _local(text, spelled.start()))
    if not any(map(text.__contains__, _BRACKETS)):
        return edge
    for sign in _SPELLED.finditer(text, first):
        if _DOT_END.match(text, sign.end()):
            place = len(text[: sign.start()].removesuffix(" "))
            return min(edge, max(first, _local(text, place)))
    return edge


def _local(text: str, end: int) -> int:
    """Where the part before an `@` that stands at a place, or is to come there, begins."""
    backwards = _LOCAL_END.match(text[max(0, end - 128) : end][::-1])
    return end - (0 if backwards is None else backwards.end())


EMAIL: Final = PatternDetector(
    "email",
    (
        Pattern(f"{_ESCAPED}({_LOCAL}(?:@|%40){_DOMAIN})", after=_AFTER),
        Pattern(f"{_ESCAPED}({_LOCAL}@(?:{_OCTETS}))"),
        Pattern(f'"[^"\\\\\\r\\n]{{1,62}}"@(?:{_DOMAIN}|{_OCTETS})', after=_AFTER),
        Pattern(
            f"[{_UNSPACED}{_LETTER}._-]{{1,64}}@[{_UNSPACED}{_LETTER}-]{{1,63}}"
            f"(?:[.\u3002][{_UNSPACED}{_LETTER}-]{{1,63}}){{0,4}}[.\u3002][{_UNSPACED}]{{2,12}}"
        ),
        Pattern(
            f"[A-Za-z0-9_][A-Za-z0-9._+-]{{0,63}}{_AT}(?:[A-Za-z0-9-]{{1,63}}{_DOT}){{1,5}}"
            "[A-Za-z]{2,24}",
            ignore_case=True,
            after="A-Za-z0-9",
        ),
    ),
    reach=_REACH,
    sign=_SIGN,
    valid=_sure,
    fits=_no_password,
    opens=_opens,
)
"""Finds `email`."""
