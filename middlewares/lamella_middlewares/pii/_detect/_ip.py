"""IP addresses, version 4 and 6, as the standard library's `ipaddress` reads them (RFC 4291).

Left alone: what identifies nobody (loopback, the unspecified address, network masks), and what only
looks like an address: versions (`v1.2.3.4`, `Chrome/120.0.0.0`, `version 4.3.2.1`), parts of
documents (`section 4.3.2.1`) and of longer numbers (`1.2.3.4.5`), slices and paths of program code
(`x[1::2]`, `Dead::Beef`).
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from lamella_middlewares.pii._detect._near import Near
from lamella_middlewares.pii._detect._open import in_last_word
from lamella_middlewares.pii._detect._pattern import Pattern, PatternDetector
from lamella_middlewares.pii._detect._signs import IP_SIGN

_V4: Final = r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}"
_HEXTET: Final = "[0-9A-Fa-f]{1,4}"
_ZONE: Final = "(?:%[0-9A-Za-z_~.-]{0,31}[0-9A-Za-z_~])?"
_END: Final = r"(?:\.?$|\.?[^0-9A-Za-z_.]|\.\.|\.[^0-9])"
"""A full stop may end the sentence; with a digit behind it, it is one more part."""

_USUAL: Final = tuple(
    IPv6Network(block)
    for block in ("2000::/3", "fc00::/7", "fe80::/10", "ff00::/8", "::ffff:0:0/96", "64:ff9b::/32")
)
"""What is handed out (IANA IPv6 address space). Short forms outside are taken for code."""

_VERSIONS: Final = ("version", "versions", "ver", "release", "build", "firmware")
_PARTS: Final = (
    "rfc",
    *("section", "sections", "sec", "subsection", "chapter", "clause", "paragraph", "appendix"),
    *("abschnitt", "kapitel", "ziffer", "chapitre", "sección", "capítulo", "seção", "sezione"),
    *("capitolo", "hoofdstuk", "paragraaf", "rozdział", "раздел", "пункт", "глава"),
)
"""What is numbered with points beside machines and versions."""

_COMPARED: Final = re.compile(r"(?:[=<>~!]=|(?<=[A-Za-z0-9\])])[<>]|[\^~\u00a7])\Z")
"""Signs directly before a version that something requires, `lib>=1.2.3.4`, or a section."""

_MORE_BEFORE: Final = re.compile(r"(?:^|[^0-9A-Za-z])(?:[0-9A-Fa-f]{1,4}:|:):?\Z")
_MORE_BEHIND: Final = re.compile(r":[0-9A-Fa-f:]")


def _dotted(address: str) -> bool:
    parts = address.split(".")
    if all(len(part) == 3 for part in parts):  # zero-padded, as printers and logs write them
        parts = [str(int(part)) for part in parts]
    try:
        number = IPv4Address(".".join(parts))
    except AddressValueError:
        return False
    return not (number.is_loopback or number.is_unspecified or parts[0] == "255")


def _colons(address: str) -> bool:
    try:
        number = IPv6Address(address)
    except AddressValueError:
        return False
    if number.is_loopback or number.is_unspecified:
        return False
    parts = address.partition("%")[0].split(":")
    groups = len([part for part in parts if part])
    if groups == 8 and all(len(part) == 2 for part in parts):
        return False  # a hardware address with eight pairs
    if "." in address or groups == 8:
        return True
    return any(number in block for block in _USUAL) and (
        groups >= 3 or any(character.isdigit() for character in address)
    )


def _sure(address: str) -> float:
    return float(_colons(address) if ":" in address else _dotted(address))


def _alone(text: str, start: int, end: int) -> bool:
    """Whether it is neither a part of a longer chain nor the version of something.

    `Chrome/120.0.0.0`, `lib-1.2.3.4` and `lib>=1.2.3.4` are versions; `http://10.1.2.3`,
    `/10.1.2.3` and `ip==10.1.2.3` are not.
    """
    if _COMPARED.search(text[max(0, start - 3) : start]):
        return ":" in text[start:end] or ip_address(text[start:end]).is_private
    if text[start - 1 : start] in ("/", "-"):
        before = text[start - 2 : start - 1] if start > 1 else ""
        return not (before.isascii() and before.isalpha())
    return ":" not in text[start:end] or not (
        _MORE_BEFORE.search(text[max(0, start - 7) : start])
        or _MORE_BEHIND.match(text[end : end + 2])
    )


IP: Final = PatternDetector(
    "ip",
    (
        Pattern(f"({_V4}){_END}", before="0-9A-Za-z_."),
        Pattern(
            f"(?:{_HEXTET}:){{7}}{_HEXTET}{_ZONE}|(?:{_HEXTET}:){{6}}{_V4}{_ZONE}"
            f"|(?:(?:{_HEXTET}:){{1,5}}|:):(?:{_HEXTET}:){{0,4}}{_V4}{_ZONE}"
            f"|(?:{_HEXTET}:){{1,6}}(?::{_HEXTET}){{1,6}}{_ZONE}"
            f"|::(?:{_HEXTET}:){{0,6}}{_HEXTET}{_ZONE}|(?:{_HEXTET}:){{1,7}}:{_ZONE}",
            before="0-9A-Za-z_.",
            after="0-9A-Za-z_",
        ),
    ),
    reach=112,
    sign=IP_SIGN,
    opens=in_last_word(112),
    valid=_sure,
    fits=_alone,
    unless=Near((*_VERSIONS, *_PARTS), before=12),
)
"""Finds `ip`."""
