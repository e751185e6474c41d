"""Postal addresses, as far as their form tells them.

Found: a house number with a street's name and type (`221B Baker Street`, `12 rue de la Paix`,
`Calle Mayor 12`, `Hauptstraße 5`), with the flat, the town, the state and the code that follow;
post-office boxes; towns with an American state and ZIP code, the forces' too; postcodes of the
United Kingdom and Canada; a code that a word such as ZIP introduces.

Not found, as nothing in their form says so: streets without a type ("5 Broadway", "Na Kopci 278"),
towns, states and countries alone, places described ("the corner of Elm and Main"), and most
addresses in other than Latin letters. Names of places need a model: see the Presidio plugin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lamella import Finding
from lamella_middlewares.pii._detect._address_forms import (
    BOXES,
    ENDING_WORDS,
    ENDINGS,
    NO_STREETS,
    PARTICLES,
    PARTICLES_FIRST,
    PLAIN_TYPES,
    PROSE_TYPES,
    STATES,
    TYPES_BEFORE_NAME,
    TYPES_BEHIND,
    TYPES_FIRST,
    UK_AREAS,
    UNITS,
)
from lamella_middlewares.pii._detect._address_signs import (
    BEGINS,
    CODE_WORDS,
    OPENING,
    SIGN,
    may_be_street,
    may_go_on,
    name_begins,
    street_to_come,
)
from lamella_middlewares.pii._detect._near import Near
from lamella_middlewares.pii._detect._numbers import (
    DIGITS,
    NumberDetector,
    has_digit,
    letter_or_digit,
)

_GAP: Final = r"(?:[ ,\t\r\n]|\\n){1,4}"
_WORD: Final = r"[^\W\d_]{1,24}(?:['\u2019.\-][^\W\d_]{1,24}){0,2}\.?"
_NAME: Final = rf"(?:{_WORD}|[0-9]{{1,3}}(?:st|nd|rd|th))"
_TOWN: Final = (
    r"[A-ZÀ-ÖØ-ÞĀ-ž][^\W\d_]{0,24}\.?"
    rf"(?:[ \-](?:(?:{PARTICLES})[ \-]){{0,2}}[A-ZÀ-ÖØ-ÞĀ-ž][^\W\d_]{{0,24}}){{0,3}}"
)
_ENDS: Final = r"(?![^\W_])"

_AMERICAN: Final = r"[0-9]{5}(?:-[0-9]{4})?"
_BRITISH: Final = r"[A-Z]{1,2}[0-9][0-9A-Z]? ?[0-9][ABD-HJLNP-UW-Z]{2}"
_CANADIAN: Final = r"[ABCEGHJ-NPRSTVXY][0-9][ABCEGHJ-NPRSTV-Z][ \-]?[0-9][ABCEGHJ-NPRSTV-Z][0-9]"
_EUROPEAN: Final = (
    r"(?:[A-Z]{1,2}-)?(?:[0-9]{4,5}|[0-9]{3} [0-9]{2}|[0-9]{2}-[0-9]{3})(?: [A-Z]{2})?"
)

_NUMBER: Final = re.compile(r"[0-9](?<![0-9].)(?<![0-9][:.,/\-].)[0-9]{0,5}(?![0-9]|[:.][0-9])")
"""The first number of those that signs tie together: of a day, a time, an amount."""
_AHEAD: Final = re.compile(
    r"(?:[A-Za-z]|-[0-9]{1,5}|/[0-9]{1,5})?(?:,? (?:bis|ter))?,? "
    rf"(?:(?:{TYPES_BEFORE_NAME})\.? (?P<french>{_NAME}(?: {_NAME}){{0,4}})"
    rf"|(?P<name>{_NAME}(?: {_NAME}){{0,3}}?) (?P<type>{TYPES_BEHIND}){_ENDS}\.?"
    rf"(?: (?:N|S|E|W|NE|NW|SE|SW|North|South|East|West){_ENDS})?)",
    re.IGNORECASE,
)
_CAPITALS: Final = re.compile(r"(?: [a-zß-ÿ][^ ]*)+\Z")
_HOUSE: Final = re.compile(rf"(?:[A-Za-z]|-[0-9]{{1,4}}|/[0-9]{{1,4}})?{_ENDS}")
_UNIT: Final = re.compile(
    rf"{_GAP}(?:(?:{UNITS})(?:\.? ?#?|\. )|#)[0-9A-Za-z\-]{{1,6}}{_ENDS}", re.IGNORECASE
)
_REST: Final = re.compile(
    rf"{_GAP}{_EUROPEAN} {_TOWN}"
    rf"|(?:(?:{_GAP}{_TOWN})?{_GAP}{_TOWN})?{_GAP}(?:{_AMERICAN}|{_BRITISH}|{_CANADIAN}){_ENDS}"
)
_STATE: Final = re.compile(rf"(?:{BEGINS}({_TOWN}){_GAP})?\b([A-Z]{{2}}){_GAP}\Z")
_INWARD: Final = re.compile(r"[0-9][ABD-HJLNP-UW-Z]{2}(?![A-Za-z0-9])")
_OUTWARD: Final = re.compile(r"(?<![A-Za-z0-9])([A-Z]{1,2})[0-9][0-9A-Z]? ?\Z")
_CANADA: Final = re.compile(
    r"[0-9][ABCEGHJ-NPRSTV-Z][ \-]?[0-9][ABCEGHJ-NPRSTV-Z][0-9](?![A-Za-z0-9])"
)
_PLUS_FOUR: Final = re.compile(r"-[0-9]{4}(?![0-9])")
_FIRST_OF_CANADA: Final = frozenset("ABCEGHJKLMNPRSTVXY")
_CODE: Final = re.compile(
    r"[0-9]{3,6}(?:[ \-][0-9]{2,4})?(?: ?[A-Z]{2}(?![A-Za-z]))?(?![A-Za-z0-9])"
)

_LIVES: Final = Near(
    (
        *("live", "lives", "lived", "living", "address", "addresses", "addr", "reside", "resides"),
        *("residing", "home", "house", "ship", "deliver", "delivery", "send", "located", "moved"),
    ),
    before=40,
)
_CODED: Final = Near(
    (
        *(
            "zip",
            "zipcode",
            "zip code",
            "postcode",
            "post code",
            "postal code",
            "postalcode",
            "plz",
        ),
        *("pin code", "pincode", "postleitzahl", "code postal", "código postal", "codigo postal"),
        *("cep", "cap", "postnummer", "postnr", "kod pocztowy", "psč", "irányítószám", "индекс"),
        *("postinumero", "郵便番号", "邮编", "邮政编码", "우편번호"),
    ),
    before=24,
)

_BOXES: Final = tuple(box.rstrip(".") for box in BOXES)
_BOX_ENDS: Final = frozenset(box.rpartition(" ")[2] for box in _BOXES)
_PARTICLES_WITHIN: Final = PARTICLES_FIRST | {*PARTICLES.split("|"), "e", "y", "i"}
_BOX_GAPS: Final = frozenset(" #:.")

_STREET: Final = 96
_BEFORE: Final = 64

REACH: Final = _BEFORE + 6 + _STREET + 2 * 128
"""Words before a number, those behind, and the town and code that follow on."""


def _read(text: str) -> Iterator[Finding]:
    done = 0
    coded: bool | None = None
    for match in _NUMBER.finditer(text):
        start, end = match.span()
        if start < done:
            continue
        if coded is None:
            coded = CODE_WORDS.within(text)
        before = text[max(0, start - _BEFORE) : start]
        found = _ahead(text, start, end) or _behind(text, start, end, before)
        found = found or _code(text, start, end, before)
        found = found or (_coded(text, start, end) if coded else None)
        if found is None:
            continue
        start, end, confidence = found
        end = done = max(done, _goes_on(text, end))
        yield Finding(start, end, "postal_address", confidence)


def _ahead(text: str, start: int, end: int) -> tuple[int, int, float] | None:
    """A house's number with its street behind."""
    if not may_be_street(text[end : end + _STREET]) or letter_or_digit(text, start - 1):
        return None
    ahead = _AHEAD.match(text, end)
    confidence = 0.0 if ahead is None else _named(text, start, ahead)
    if ahead is None or not confidence:
        return None
    behind = ahead.end()
    if ahead["french"] is not None:  # what goes on in lower case is no name
        behind -= len(ahead["french"]) - len(_CAPITALS.sub("", ahead["french"]))
    return start, behind, confidence


def _behind(text: str, start: int, end: int, before: str) -> tuple[int, int, float] | None:
    """A street with the house's number behind, or a post-office box."""
    if before[-1:] not in _BOX_GAPS:
        return None
    name = before.rstrip(" ,#:.")
    last = OPENING.split(name.rpartition(" ")[2])[-1]
    if last.lower() in _BOX_ENDS:
        return _box(start - len(before) + len(name), end, name)
    if before[-1] != " " or before[-2:-1] in ":;#" or end - start > 4:
        return None
    if not (last[:1].isupper() or last in ENDING_WORDS):
        return None
    house = _HOUSE.match(text, end)
    first = None if house is None else _street_before(OPENING.split(before)[-1])
    if house is None or first is None:
        return None
    return start - first, house.end(), 0.75


def _named(text: str, start: int, ahead: re.Match[str]) -> float:
    """How sure a name and type behind a number are a street: names are written with capitals."""
    if ahead["french"] is not None:
        return 0.85 if any(map(str.isupper, ahead["french"])) else 0.0
    name, kind = ahead["name"], ahead["type"]
    words = [word for word in name.split() if len(word) > 3 or word[0].isupper()]
    written = kind[0].isupper() and all(word[0].isupper() or word[0].isdigit() for word in words)
    if written and words:
        return 0.9
    if kind.lower() in PLAIN_TYPES and " " not in name:
        return 0.6 if _LIVES.around(text, start, ahead.end()) else 0.0
    return 0.0


def _street_before(words: str) -> int | None:
    """How many characters before a number its street begins, when the number is last."""
    parts = words.rstrip(" ,").split(" ")
    last = parts[-1].rstrip(".").lower()
    length = len(words) - len(words.rstrip(" ,"))
    if not last or not last[-1].isalpha():
        return None
    if last in ENDING_WORDS and len(parts) > 1 and parts[-2][:1].isupper():
        return length + len(parts[-1]) + len(parts[-2]) + 1
    if parts[-1][0].isupper() and len(last) > 5 and last.endswith(ENDINGS):
        return None if last in NO_STREETS else length + len(parts[-1])
    for index in range(len(parts) - 2, max(-1, len(parts) - 7), -1):
        kind = parts[index].lower()
        if kind in TYPES_FIRST and _is_name(parts[index + 1 :]):
            if kind in PROSE_TYPES and not parts[index][0].isupper():
                return None
            return length + len(" ".join(parts[index:]))
    return None


def _is_name(words: list[str]) -> bool:
    """Whether words are the name of a street: with capitals, but for particles."""
    if not all(w[:1].isupper() or w in _PARTICLES_WITHIN or w.isdigit() for w in words):
        return False
    return words[0][:1].isupper() or (len(words) > 1 and words[0] in PARTICLES_FIRST)


def _box(at: int, end: int, before: str) -> tuple[int, int, float] | None:
    """A post-office box, of the text before its number, which ends at a place."""
    lowered = before.lower()
    for box in _BOXES:
        if lowered.endswith(box) and not lowered[: -len(box)][-1:].isalnum():
            return at - len(box), end, 0.9
    return None


def _code(text: str, start: int, end: int, before: str) -> tuple[int, int, float] | None:
    """A code for the town of a form of its own: with a state, or with letters mixed in."""
    if end - start == 5 and before.rstrip(" ,\t\r\n")[-2:] in STATES:
        state = _STATE.search(before)
        if state is not None and not letter_or_digit(text, end):
            return start - len(before) + state.start(), _plus_four(text, end), 0.85
    if end - start == 1 and text[end : end + 1].isalpha():
        return _lettered(text, start, before)
    return None


def _coded(text: str, start: int, end: int) -> tuple[int, int, float] | None:
    """A code for the town that a word introduces."""
    code = None if end - start < 3 else _CODE.match(text, start)
    if code is None or letter_or_digit(text, start - 1) or not _CODED.around(text, start, end):
        return None
    return start, code.end(), 0.85


def _lettered(text: str, start: int, before: str) -> tuple[int, int, float] | None:
    """A postcode of the United Kingdom (BS 7666) or Canada (Canada Post), which mix in letters."""
    inward = _INWARD.match(text, start)
    outward = None if inward is None else _OUTWARD.search(before)
    if inward is not None and outward is not None and outward[1] in UK_AREAS:
        return start - len(outward[0]), inward.end(), 0.9 if outward[0][-1] == " " else 0.7
    if before[-1:] in _FIRST_OF_CANADA and not before[-2:-1].isalnum():
        canada = _CANADA.match(text, start)
        if before and canada is not None:
            return start - 1, canada.end(), 0.85
    return None


def _plus_four(text: str, end: int) -> int:
    """Where a ZIP code ends with the four digits that may follow on (ZIP+4)."""
    more = _PLUS_FOUR.match(text, end)
    return end if more is None else more.end()


def _goes_on(text: str, end: int) -> int:
    """Where an address ends: flat, town and code may follow on."""
    for part in (_UNIT, _REST):
        more = part.match(text, end, end + 128)
        if more is not None:
            end = more.end()
    return end


def _opens(text: str) -> int:
    edge = name_begins(text, len(text))
    for number in DIGITS.finditer(text, max(0, len(text) - _STREET)):
        if street_to_come(text[number.end() :]):
            edge = min(edge, name_begins(text, number.start()))
            break
    first = max(0, len(text) - REACH)
    tail = text[first:]
    if has_digit(tail) and SIGN.within(tail):
        for finding in _read(tail):
            if may_go_on(tail[finding.end :]):
                return min(edge, first + finding.start)
    return edge


POSTAL_ADDRESS: Final = NumberDetector(
    "postal_address", _read, reach=REACH, sign=SIGN, opens=_opens
)
"""Finds addresses of houses, boxes and towns."""
