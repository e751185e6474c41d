"""Telephone numbers of all countries, as people write them.

What says that digits are a telephone number is, in this order: the plus sign or the prefix for
calls abroad with a calling code (ITU-T E.164); a way of writing that is used for nothing else
(`555-010-1234`, `(0171) 520 17 63`, a leading 0 before groups: ITU-T E.123 and the national plans);
that the `phonenumbers` package, if it is installed, knows the number and groups it in the same
way; a word around ("phone", "call me at") with any grouping. The package, a port of libphonenumber,
also says where a number with a calling code ends. By itself it reads some 3 MB/s; here it is asked
about the few candidates only.

Not found: numbers of five digits and fewer, numbers in words, and bare digits or groups that might
be any number as long as nothing around them speaks of telephones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lamella import Finding
from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._numbers import (
    DASHES,
    NumberDetector,
    has_digit,
    letter_or_digit,
)
from lamella_middlewares.pii._detect._open import at_numbers
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
from lamella_middlewares.pii._detect._phone_registry import Registry
from lamella_middlewares.pii._detect._phone_run import GAP, Run, is_dash, runs, shape

_EXTENSION: Final = re.compile(rf"(?:{EXTENSION})(?![0-9A-Za-z])", re.IGNORECASE)
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
    rf"|[0-9]{{3}}[{DASHES}][0-9]{{3}}"
)
"""Thousands and millions, as they are written with spaces or points, and pages from and to."""
_EPOCH: Final = re.compile(r"1[4-9][0-9]{8}")
"""Seconds since 1970, of today."""
_DECIMALS: Final = re.compile(r",[0-9]{1,2}(?![0-9])")
_HEX_BEFORE: Final = re.compile(r"(?:(?<=[^0-9A-Za-z])|^)[0-9A-Fa-f]{2}[ :]\Z")
_HEX_BEHIND: Final = re.compile(r"[ :][0-9A-Fa-f]{2}(?![0-9A-Za-z])")
_MONEY: Final = frozenset("$\u20ac\u00a3\u00a5\u20b9\u20bd\u20a9\u00a2%\u2030")
_TRUNK: Final = re.compile(r"0[1-9][0-9]*")
_MOBILE: Final = re.compile(r"07[0-9]{9}")
_AMERICAN: Final = re.compile(r"1?[2-9][0-9]{2}[2-9][0-9]{6}")

_LEAST: Final = 7
"""Digits of a number that is written without anything between them."""
_MOBILE_SIZE: Final = 11

REACH: Final = 40 + 4 * (MOST_DIGITS + 3) + 24 + 16
"""Context, a number with separators, an extension or context behind it."""


def _read(text: str) -> Iterator[Finding]:
    registry: Registry | None = None
    for start, end in runs(text):
        if text[start:end].isdigit():
            if _says_nothing(text, start, end):
                continue
        elif _is_date_or_fraction(text, start, end):
            continue
        registry = registry or Registry()
        run = Run(text, start, end)
        first = 0
        while first < len(run.groups):
            found = _from_group(run, first, registry) if _may_begin(run, first) else None
            if found is None:
                first += 1
                continue
            last, confidence = found
            begins, ends = _edges(run, first, last)
            if not letter_or_digit(text, ends):
                yield Finding(begins, ends, "phone", confidence)
            run.base = first = last + 1


def _says_nothing(text: str, start: int, end: int) -> bool:
    """A quick look: whether digits on end are just a number, as most are.

    It takes a plus sign, a mobile's form, or a word around to make them a telephone's.
    """
    size = end - start
    if not _LEAST <= size <= MOST_DIGITS + 2 or letter_or_digit(text, start - 1):
        return True
    if text[start - 1 : start] == "+" or text.endswith("+(", 0, start):
        return False
    if size == _MOBILE_SIZE and text.startswith("07", start):
        return False
    return not WORDED.around(text, start, end)


def _may_begin(run: Run, first: int) -> bool:
    """A quick look: whether a number may begin with a group; what most do not in a long run."""
    if run.base == first or not run.is_joined(first - 1):
        return True
    size = run.sizes[first]
    if size == 3:
        return True
    start, _ = run.groups[first]
    if size == 1:
        return run.text[start] == "1" and run.sizes[first + 1 : first + 2] == [3]
    return run.text[start] == "0" or run.text[start - 1] == "("


def _is_date_or_fraction(text: str, start: int, end: int) -> bool:
    """Whether a whole run is what most runs are that are no telephone numbers."""
    if text[start - 1 : start] == "+":
        return False
    if text[end : end + 1] == ":":  # the hour behind a day
        end = max(start, text.rfind(" ", end - 3, end))
    return (_DATE.fullmatch(text, start, end) or _FRACTION.fullmatch(text, start, end)) is not None


def _edges(run: Run, first: int, last: int) -> tuple[int, int]:
    """Where the number begins, sign and bracket included, and where its extension ends."""
    start, end = run.groups[first][0], run.groups[last][1]
    plus = _plus(run.text, start)
    if plus == 2 and ")" not in run.text[start:end]:
        plus = 1
    start -= plus or run.is_bracketed(first)
    extension = _EXTENSION.match(run.text, end)
    return start, end if extension is None else extension.end()


def _plus(text: str, start: int) -> int:
    """How many characters the plus sign takes before a number, with its bracket; 0 without one."""
    return next((len(sign) for sign in ("(+", "+(", "+") if text.endswith(sign, 0, start)), 0)


def _from_group(run: Run, first: int, registry: Registry) -> tuple[int, float] | None:
    """The last group of the number that begins with one, and how sure it is one."""
    start, _ = run.groups[first]
    if run.sizes[first] > MOST_DIGITS + 2 or (not first and letter_or_digit(run.text, start - 1)):
        return None
    plus = _plus(run.text, start) if first == run.base else 0
    if plus:
        tied = run.text[max(0, start - plus - 1) : start - plus].isdigit()  # a sum
        return None if tied else _abroad(run, first, "", registry)
    found = None
    if run.text[start] == "0" and (first == run.base or run.joint(first - 1) != "."):
        found = _by_prefix(run, first, registry) or _by_trunk(run, first)
    if found is None and _may_be_layout(run, first):
        found = _by_layout(run, first, registry)
    if found is None and not run.is_joined(first - 1):
        found = _by_words(run, first)
    return found


def _by_prefix(run: Run, first: int, registry: Registry) -> tuple[int, float] | None:
    """A number behind what is dialled for calls abroad: 00, or 011 in North America."""
    start, end = run.groups[first]
    for prefix in ("00", "011"):
        if not run.text.startswith(prefix, start) or (prefix == "011" and end - start > 3):
            continue
        behind = start + len(prefix) if end - start > len(prefix) else end + 1
        if run.text[behind : behind + 1] not in ("", "0"):
            return _abroad(run, first, prefix, registry)
    return None


def _may_be_layout(run: Run, first: int) -> bool:
    """A quick look: whether groups in one of the layouts may begin with a group."""
    size = run.sizes[first]
    if size == 3 or run.is_bracketed(first):
        return True
    if (
        size == 1
        and run.text[run.groups[first][0]] == "1"
        and run.sizes[first + 1 : first + 2] == [3]
    ):
        return True
    return first == run.base and 2 <= len(run.groups) - first <= 4


def _abroad(run: Run, first: int, prefix: str, registry: Registry) -> tuple[int, float] | None:
    """A number with a calling code, behind a plus sign or the prefix for calls abroad."""
    likely: tuple[int, float] | None = None
    furthest = run.furthest(first, MOST_DIGITS + len(prefix) + 1)
    written = run.digits(first, furthest)[len(prefix) :]
    plan = national_lengths(written)
    if plan is None:
        return None
    code, least, most = plan
    count = len(written)
    for last in range(furthest, first - 1, -1):
        digits, count = written[:count], count - run.sizes[last]
        if len(digits) < max(7, len(code) + least):
            break
        national = _without_trunk(run, first, last, digits[len(code) :])
        if not least <= len(national) <= most:
            continue
        if prefix and first == last and not (run.is_worded() and _is_named(run, first, last)):
            return None  # zeros before a number are common; together with a word they are a prefix
        if not registry.answers():
            return last, 0.9
        if registry.knows(code, national):
            return last, 0.95 if not prefix else 0.9
        likely = likely or (last, 0.8 if not prefix else 0.7)
    return likely


def _without_trunk(run: Run, first: int, last: int, national: str) -> str:
    """Without the `(0)` that is dialled within the country only."""
    return national[1:] if "(0)" in run.written(first, last) else national


def _by_layout(run: Run, first: int, registry: Registry) -> tuple[int, float] | None:
    """A number whose groups are written as numbers of some country are, and little else is."""
    if _after_letters(run, first):
        return None
    furthest = run.furthest(first, 12)
    for last in range(min(furthest, first + 3), first, -1):
        if not run.is_free(first, last):
            continue
        form = shape(run.written(first, last))
        digits = run.digits(first, last)
        american = _AMERICAN.fullmatch(digits) is not None
        if form in LAYOUTS and (form[0] != "1" or digits[0] == "1"):
            return last, 0.9 if american else 0.75
        if form in SPACED and american:
            return last, 0.75
        if _is_area(run, first, last):
            return last, 0.8
        if _is_grouped(run, first, last, registry):
            return last, 0.6
    return None


def _after_letters(run: Run, first: int) -> bool:
    """Whether a dash ties the groups to letters, as in an order's number."""
    start = run.groups[first][0] - run.is_bracketed(first)
    return is_dash(run.text[start - 1 : start]) and letter_or_digit(run.text, start - 2)


def _is_area(run: Run, first: int, last: int) -> bool:
    """Whether there is an area code in brackets, with a number behind: `(0171) 520 17 63`."""
    if not run.is_bracketed(first) or last - first > 4:
        return False
    area, *rest = run.sizes[first : last + 1]
    start = run.groups[first][0]
    if letter_or_digit(run.text, start - 2) or not 2 <= area <= 6 or min(rest) < 2:
        return False
    is_year = area == 4 and run.text[start : start + 2] in ("18", "19", "20")
    return not is_year and 8 <= area + sum(rest) <= 12 and run.is_even(first, last)


def _is_grouped(run: Run, first: int, last: int, registry: Registry) -> bool:
    """Whether `phonenumbers` knows a national number that is written in these groups."""
    regions = GROUPED_IN.get(tuple(run.sizes[first : last + 1]), ())
    if not regions or not registry.answers() or {run.joint(first - 1), run.joint(last)} != {""}:
        return False
    joints = run.joints(first, last)
    if not (joints == {" "} or shape("".join(joints)) == "-") or _is_other(run, first, last):
        return False
    start, end = run.groups[first][0], run.groups[last][1]
    if _HEX_BEFORE.search(run.text, max(0, start - 4), start) or _HEX_BEHIND.match(run.text, end):
        return False  # bytes, of which some have digits only
    digits = run.digits(first, last)
    return any(registry.knows_in(region, digits) for region in regions)


def _by_trunk(run: Run, first: int) -> tuple[int, float] | None:
    """A national number in groups that begins with the 0 dialled within the country."""
    start, end = run.groups[first]
    if _TRUNK.fullmatch(run.text, start, end) is None or _after_letters(run, first):
        return None
    if _MOBILE.fullmatch(run.text, start, end) and run.is_free(first, first):
        return first, 0.7
    last = run.furthest(first, 11)
    sizes = run.sizes[first : last + 1]
    if run.joint(first - 1) and {*sizes} == {2}:
        return None  # in the middle of pairs
    count = sum(sizes)
    while last > first and count >= 9:
        sizes = run.sizes[first : last + 1]
        if (
            min(sizes) >= 2
            and not _is_listed(run, first, last, sizes)
            and run.is_even(first, last)
            and run.is_free(first, last)
            and not _is_other(run, first, last)
        ):
            return last, 0.8
        count -= sizes[-1]
        last -= 1
    return None


def _is_listed(run: Run, first: int, last: int, sizes: list[int]) -> bool:
    """Whether the groups may as well be numbers of their own, a fraction, or no telephone's."""
    joint = run.joint(first)
    if len(sizes) == 2:
        return joint == "." or (joint == " " and sum(sizes) < 10)
    if {*sizes} == {2}:
        return {run.joint(first - 1), run.joint(last)} != {""}
    return sizes == [3, 2, 4] and is_dash(joint)  # as social security numbers


def _by_words(run: Run, first: int) -> tuple[int, float] | None:
    """A number in any groups near a word that speaks of telephones."""
    furthest = run.furthest(first, 13)
    if sum(run.sizes[first : furthest + 1]) < (6 if furthest > first else 7):
        return None
    if not run.is_worded():
        return None
    for last in range(furthest, first - 1, -1):
        if sum(run.sizes[first : last + 1]) < (6 if last > first else 7):
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


def _is_named(run: Run, first: int, last: int) -> bool:
    start, end = run.groups[first][0], run.groups[last][1]
    return NAMED.around(run.text, start, end) or BEHIND.around(run.text, start, end)


def _is_asked(run: Run, first: int, last: int) -> bool:
    """Whether somebody is to be called there."""
    return ASKED.around(run.text, run.groups[first][0], run.groups[last][1])


def _could_be_asked(run: Run, first: int, last: int) -> bool:
    """Whether words of calling, which are said of other things too, are enough for a number."""
    if _after_letters(run, first) or min(run.sizes[first + 1 : last + 1], default=2) < 2:
        return False
    written = run.written(first, last)
    if first == last:
        return 9 <= len(written) <= 12 and _EPOCH.fullmatch(written) is None
    return _MANY.fullmatch(written) is None


def _is_other(run: Run, first: int, last: int) -> bool:
    """Whether the groups are a date, years, an amount of money or a network address."""
    start, end = run.groups[first][0], run.groups[last][1]
    if _MONEY & {*run.text[max(0, start - 2) : start].strip(), *run.text[end : end + 2].strip()}:
        return True
    if _DECIMALS.match(run.text, end):
        return True
    written = run.text[start:end]
    return any(form.fullmatch(written) for form in (_DATE, _YEARS, _ADDRESS))


PHONE: Final = NumberDetector(
    "phone",
    _read,
    reach=REACH,
    sign=Sign(rf"[0-9](?:[{GAP}]{{0,3}}[0-9]){{5}}", plain=has_digit),
    opens=at_numbers(GAP, least=6, lead=2, behind=26, most=REACH),
)
"""Finds telephone numbers."""
