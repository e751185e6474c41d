"""Telephone numbers of all countries, as people write them.

What says that digits are a telephone number is, in this order: the plus sign or the prefix for
calls abroad with a calling code (ITU-T E.164); a way of writing that is used for nothing else
(`555-010-1234`, `(0171) 520 17 63`, a leading 0 before groups: ITU-T E.123 and the national plans);
that the `phonenumbers` package, if it is installed, knows the number and groups it in the same
way; a word around ("phone", "call me at") with any grouping. The package, a port of libphonenumber,
also says where a number with a calling code ends. It reads some 3 MB/s; here it is shown the few
candidates only.

Not found: numbers of five digits and fewer, numbers in words, and bare digits or groups that might
be any number as long as nothing around them speaks of telephones.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import attrs

from lamella import Finding
from lamella_middlewares.pii._detect._numbers import (
    DASHES,
    NumberDetector,
    group_spans,
    letter_or_digit,
)
from lamella_middlewares.pii._detect._phone_plans import (
    ASKED,
    BEHIND,
    EXTENSION,
    GROUPED_IN,
    LAYOUTS,
    MOST_DIGITS,
    NAMED,
    SPACED,
    WORDED,
    national_lengths,
)

_RUN: Final = re.compile(rf"[0-9](?:[ \t./(){DASHES}]{{0,3}}[0-9]){{5,}}")
_EXTENSION: Final = re.compile(rf"(?:{EXTENSION})(?![0-9A-Za-z])", re.IGNORECASE)
_JOINT: Final = re.compile(
    rf"[ ./{DASHES}]|\)[ ./{DASHES}]?|[ .{DASHES}]?\(|\)[ .{DASHES}]\(| [{DASHES}/] "
)
_DATE: Final = re.compile(
    r"(?:1[89]|20)[0-9]{2}([-/. ])[01]?[0-9]\1[0-3]?[0-9]"
    r"|(?:[0-3]?[0-9]([-/. ])[01]?[0-9]|[01]?[0-9]([-/. ])[0-3]?[0-9])(?:\2|\3)"
    r"(?:(?:1[89]|20)[0-9]{2}|[0-9]{2})"
)
_ADDRESS: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_FRACTION: Final = re.compile(r"(?:0|[1-9][0-9]*)\.[0-9]+")
_YEARS: Final = re.compile(rf"(?:1[89]|20)[0-9]{{2}}[ ./{DASHES}](?:1[89]|20)[0-9]{{2}}")
_MANY: Final = re.compile(
    r"[1-9][0-9]{0,2} [0-9]{3}|[1-9] [0-9]{3} [0-9]{3}|[1-9][0-9]{0,2}(?:\.[0-9]{3})+"
)
"""Thousands and millions, as they are written with spaces or points."""
_MONEY: Final = frozenset("$\u20ac\u00a3\u00a5\u20b9\u20bd\u20a9\u00a2%\u2030")
_TRUNK: Final = re.compile(r"0[1-9][0-9]*")
_MOBILE: Final = re.compile(r"07[0-9]{9}")
_AMERICAN: Final = re.compile(r"1?[2-9][0-9]{2}[2-9][0-9]{6}")
_DIGITS: Final = re.compile(r"[0-9]+")
_DASH: Final = re.compile(rf"[{DASHES}]")

REACH: Final = 40 + 4 * (MOST_DIGITS + 3) + 24 + 16
"""Context, a number with separators, an extension or context behind it."""


@attrs.define
class _Run:
    """Groups of digits with little between, and the ways to read a telephone number from them.

    Attributes:
        text: The text.
        groups: Where the groups are in it.
        base: The first group that belongs to no number yet.
    """

    text: str
    groups: list[tuple[int, int]]
    base: int = 0
    _worded: list[bool] = attrs.field(init=False, factory=list[bool])

    def is_worded(self) -> bool:
        """Whether a word that matters is near any of the groups: there are none between them."""
        if not self._worded:
            start, end = self.groups[0][0], self.groups[-1][1]
            self._worded.append(WORDED.around(self.text, start, end))
        return self._worded[0]

    def joint(self, index: int) -> str:
        """What is between a group and the next one; empty outside, and behind another number."""
        if not self.base <= index < len(self.groups) - 1:
            return ""
        return self.text[self.groups[index][1] : self.groups[index + 1][0]]

    def digits(self, first: int, last: int) -> str:
        """The digits of some groups."""
        return "".join(self.text[start:end] for start, end in self.groups[first : last + 1])

    def lengths(self, first: int, last: int) -> tuple[int, ...]:
        """How many digits each of some groups has."""
        return tuple(end - start for start, end in self.groups[first : last + 1])

    def is_bracketed(self, index: int) -> bool:
        """Whether a group is in brackets of its own."""
        start, end = self.groups[index]
        return start > 0 and self.text[start - 1] == "(" and self.text[end : end + 1] == ")"

    def written(self, first: int, last: int) -> str:
        """Some groups as they stand there, with the bracket around the first one."""
        start = self.groups[first][0] - self.is_bracketed(first)
        return self.text[start : self.groups[last][1]]

    def furthest(self, first: int, most: int) -> int:
        """The last group that what is between allows to belong to the same number."""
        count = 0
        for last in range(first, len(self.groups)):
            count += self.groups[last][1] - self.groups[last][0]
            if count > most:
                return last - 1
            if _JOINT.fullmatch(self.joint(last)) is None:
                return last
        return len(self.groups) - 1

    def is_even(self, first: int, last: int) -> bool:
        """Whether what is between is alike: anything once, then spaces, then one other sign."""
        joints = [self.joint(index) for index in range(first + 1, last)]
        while joints and joints[0] == " ":
            del joints[0]
        return len({*joints}) <= 1

    def is_free(self, first: int, last: int) -> bool:
        """Whether the groups are not tied to others by what ties them together."""
        inner = {self.joint(index) for index in range(first, last)}
        around = {self.joint(first - 1), self.joint(last)} - {""}
        if not inner:
            return not any(joint.strip() for joint in around)
        return not around & {joint for joint in inner if joint != " "}


def _read(text: str) -> Iterator[Finding]:
    for match in _RUN.finditer(text):
        if _is_date_or_fraction(text, *match.span()):
            continue
        run = _Run(text, group_spans(text, match.start(), match.end()))
        first = 0
        while first < len(run.groups):
            found = _from_group(run, first)
            if found is None:
                first += 1
                continue
            last, confidence = found
            start, end = _edges(run, first, last)
            if not letter_or_digit(text, end):
                yield Finding(start, end, "phone", confidence)
            run.base = first = last + 1


def _is_date_or_fraction(text: str, start: int, end: int) -> bool:
    """Whether a whole run is what most runs are that are no telephone numbers."""
    if text[start - 1 : start] == "+":
        return False
    return (_DATE.fullmatch(text, start, end) or _FRACTION.fullmatch(text, start, end)) is not None


def _edges(run: _Run, first: int, last: int) -> tuple[int, int]:
    """Where the number begins, sign and bracket included, and where its extension ends."""
    start, end = run.groups[first][0], run.groups[last][1]
    for sign in ("(+", "+(", "+"):
        if run.text.startswith(sign, start - len(sign)):
            closed = sign == "+" or ")" in run.text[start:end]
            start -= len(sign) if closed else 1
            break
    else:
        start -= run.is_bracketed(first)
    extension = _EXTENSION.match(run.text, end)
    return start, end if extension is None else extension.end()


def _from_group(run: _Run, first: int) -> tuple[int, float] | None:
    """The last group of the number that begins with one, and how sure it is one."""
    start, end = run.groups[first]
    if letter_or_digit(run.text, start - 1) or end - start > MOST_DIGITS + 2:
        return None
    if first == run.base and "+" in run.text[max(0, start - 2) : start].rstrip("("):
        return _abroad(run, first, "")
    found = None
    if run.text[start] == "0":
        found = _by_prefix(run, first) or _by_trunk(run, first)
    if found is None and _may_be_layout(run, first):
        found = _by_layout(run, first)
    return found or _by_words(run, first)


def _by_prefix(run: _Run, first: int) -> tuple[int, float] | None:
    """A number behind what is dialled for calls abroad: 00, or 011 in North America."""
    start, end = run.groups[first]
    for prefix in ("00", "011"):
        if not run.text.startswith(prefix, start) or (prefix == "011" and end - start > 3):
            continue
        behind = start + len(prefix) if end - start > len(prefix) else end + 1
        if run.text[behind : behind + 1] not in ("", "0"):
            return _abroad(run, first, prefix)
    return None


def _may_be_layout(run: _Run, first: int) -> bool:
    """A quick look: whether groups in one of the layouts may begin with a group."""
    start, end = run.groups[first]
    if end - start == 3 or run.is_bracketed(first):
        return True
    if run.text[start:end] == "1" and run.lengths(first + 1, first + 1) == (3,):
        return True
    return first == run.base and len(run.groups) - first <= 4


def _abroad(run: _Run, first: int, prefix: str) -> tuple[int, float] | None:
    """A number with a calling code, behind a plus sign or the prefix for calls abroad."""
    library = _library()
    likely: tuple[int, float] | None = None
    for last in range(run.furthest(first, MOST_DIGITS + len(prefix) + 1), first - 1, -1):
        digits = run.digits(first, last)[len(prefix) :]
        plan = national_lengths(digits)
        if plan is None or len(digits) < 7:
            continue
        code, least, most = plan
        national = _without_trunk(run, first, last, digits[len(code) :])
        if not least <= len(national) <= most:
            continue
        if prefix and first == last and not (run.is_worded() and _is_named(run, first, last)):
            return None  # zeros before a number are common; together with a word they are a prefix
        if library is None:
            return last, 0.9
        if _is_valid(library, f"+{code}{national}", None):
            return last, 0.95 if not prefix else 0.9
        likely = likely or (last, 0.8 if not prefix else 0.7)
    return likely


def _without_trunk(run: _Run, first: int, last: int, national: str) -> str:
    """Without the `(0)` that is dialled within the country only."""
    for index in range(first, last + 1):
        if run.is_bracketed(index) and run.digits(index, index) == "0":
            return national[1:]
    return national


def _is_valid(library: Any, number: str, region: str | None) -> bool:
    try:
        parsed = library.parse(number, region)
    except library.NumberParseException:
        return False
    if region is None:
        return bool(library.is_valid_number(parsed))
    return bool(library.is_valid_number_for_region(parsed, region))


def _by_layout(run: _Run, first: int) -> tuple[int, float] | None:
    """A number whose groups are written as numbers of some country are, and little else is."""
    if _after_letters(run, first):
        return None
    furthest = run.furthest(first, 12)
    for last in range(min(furthest, first + 3), first, -1):
        if not run.is_free(first, last):
            continue
        shape = _shape(run.written(first, last))
        digits = run.digits(first, last)
        american = _AMERICAN.fullmatch(digits) is not None
        if shape in LAYOUTS and (shape[0] != "1" or digits[0] == "1"):
            return last, 0.9 if american else 0.75
        if shape in SPACED and american:
            return last, 0.75
        if _is_area(run, first, last):
            return last, 0.8
        if _is_grouped(run, first, last):
            return last, 0.6
    return None


def _shape(written: str) -> str:
    """Groups as their lengths, dashes all alike: `(3) 3-4`."""
    return _DIGITS.sub(lambda group: str(len(group[0])), _DASH.sub("-", written))


def _after_letters(run: _Run, first: int) -> bool:
    """Whether a dash ties the groups to letters, as in an order's number."""
    start = run.groups[first][0] - run.is_bracketed(first)
    return _DASH.match(run.text[start - 1 : start]) is not None and letter_or_digit(
        run.text, start - 2
    )


def _is_area(run: _Run, first: int, last: int) -> bool:
    """Whether there is an area code in brackets, with a number behind: `(0171) 520 17 63`."""
    if not run.is_bracketed(first) or last - first > 4:
        return False
    area, *rest = run.lengths(first, last)
    start = run.groups[first][0]
    if letter_or_digit(run.text, start - 2) or not 2 <= area <= 6 or min(rest) < 2:
        return False
    is_year = area == 4 and run.text[start : start + 2] in ("18", "19", "20")
    return not is_year and 8 <= area + sum(rest) <= 12 and run.is_even(first, last)


def _is_grouped(run: _Run, first: int, last: int) -> bool:
    """Whether `phonenumbers` knows a national number that is written in these groups."""
    regions = GROUPED_IN.get(run.lengths(first, last), ())
    library = _library() if regions else None
    if library is None or {run.joint(first - 1), run.joint(last)} != {""}:
        return False
    joints = {run.joint(index) for index in range(first, last)}
    if not (joints == {" "} or _shape("".join(joints)) == "-") or _is_other(run, first, last):
        return False
    digits = run.digits(first, last)
    return any(_is_valid(library, digits, region) for region in regions)


def _by_trunk(run: _Run, first: int) -> tuple[int, float] | None:
    """A national number in groups that begins with the 0 dialled within the country."""
    start, end = run.groups[first]
    if _TRUNK.fullmatch(run.text, start, end) is None or _after_letters(run, first):
        return None
    if _MOBILE.fullmatch(run.text, start, end) and run.is_free(first, first):
        return first, 0.7
    for last in range(run.furthest(first, 11), first, -1):
        lengths = run.lengths(first, last)
        if sum(lengths) < 9:
            return None
        if min(lengths) < 2 or not run.is_even(first, last) or not run.is_free(first, last):
            continue
        if not _is_listed(run, first, last) and not _is_other(run, first, last):
            return last, 0.8
    return None


def _is_listed(run: _Run, first: int, last: int) -> bool:
    """Whether the groups may as well be numbers of their own, a fraction, or no telephone's."""
    lengths, joint = run.lengths(first, last), run.joint(first)
    if len(lengths) == 2:
        return joint == "." or (joint == " " and sum(lengths) < 10)
    if {*lengths} == {2}:
        return {run.joint(first - 1), run.joint(last)} != {""}
    return lengths == (3, 2, 4) and _DASH.match(joint) is not None  # as social security numbers


def _by_words(run: _Run, first: int) -> tuple[int, float] | None:
    """A number in any groups near a word that speaks of telephones."""
    if _JOINT.fullmatch(run.joint(first - 1)) or not run.is_worded():
        return None
    for last in range(run.furthest(first, 13), first - 1, -1):
        lengths = run.lengths(first, last)
        if sum(lengths) < (6 if last > first else 7):
            return None
        if not run.is_even(first, last) or not run.is_free(first, last):
            continue
        if _is_other(run, first, last):
            return None
        if _is_named(run, first, last):
            return last, 0.85
        if _could_be_asked(run, first, last) and _is_asked(run, first, last):
            return last, 0.7
        return None
    return None


def _is_named(run: _Run, first: int, last: int) -> bool:
    start, end = run.groups[first][0], run.groups[last][1]
    return NAMED.around(run.text, start, end) or BEHIND.around(run.text, start, end)


def _is_asked(run: _Run, first: int, last: int) -> bool:
    """Whether somebody is to be called there."""
    return ASKED.around(run.text, run.groups[first][0], run.groups[last][1])


def _could_be_asked(run: _Run, first: int, last: int) -> bool:
    """Whether words of calling, which are said of other things too, are enough for a number."""
    written = run.written(first, last)
    return _MANY.fullmatch(written) is None and (first < last or 9 <= len(written) <= 12)


def _is_other(run: _Run, first: int, last: int) -> bool:
    """Whether the groups are a date, years, an amount of money or a network address."""
    start, end = run.groups[first][0], run.groups[last][1]
    if _MONEY & {*run.text[max(0, start - 2) : start].strip(), *run.text[end : end + 2].strip()}:
        return True
    written = run.text[start:end]
    return any(form.fullmatch(written) for form in (_DATE, _YEARS, _ADDRESS))


@cache
def _library() -> Any:
    """The package `phonenumbers`; None where it is not installed."""
    try:
        return importlib.import_module("phonenumbers")
    except ImportError:
        return None


PHONE: Final = NumberDetector("phone", _read, reach=REACH)
"""Finds telephone numbers."""
