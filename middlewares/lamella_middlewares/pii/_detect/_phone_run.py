"""Groups of digits with little between them, in which telephone numbers are looked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Final

from lamella_middlewares.pii._detect._numbers import DASHES, group_spans
from lamella_middlewares.pii._detect._phone_plans import WORDED

GAP: Final = rf" \t./(){DASHES}"
"""What may stand between the digits of one number, up to three characters at a time."""

_NEXT: Final = re.compile(
    rf"[^0-9]*(?:([0-9](?:[{GAP}]{{0,3}}[0-9]){{5,}})|[0-9](?:[{GAP}]{{0,3}}[0-9]){{0,4}})?"
)
"""What is no digit, and then a run, or one that is too short: to match what is to be passed over
takes a third of the time that a search takes."""
MOST_GROUPS: Final = 8
"""In which one number is written: a sign, a code, an area, and pairs."""

_JOINT: Final = re.compile(
    rf"[ ./{DASHES}]|\)[ ./{DASHES}]?|[ .{DASHES}]?\(|\)[ .{DASHES}]\(| [{DASHES}/] "
)
_DIGITS: Final = re.compile(r"[0-9]+")
_DASH: Final = re.compile(rf"[{DASHES}]")


def runs(text: str) -> Iterator[tuple[int, int]]:
    """Where six digits and more are, with little between them."""
    for found in _NEXT.finditer(text):
        if found.lastindex is not None:
            yield found.span(1)


class Run:
    """Groups of digits, and what is between them.

    Args:
        text: The text.
        start: The first digit.
        end: Behind the last one.

    Attributes:
        text: The text.
        groups: Where the groups are in it.
        sizes: How many digits each has.
        base: The first group that belongs to no number yet.
    """

    __slots__ = ("_joints", "_worded", "base", "groups", "sizes", "text")

    def __init__(self, text: str, start: int, end: int) -> None:
        self.text = text
        self.base = 0
        self.groups = groups = group_spans(text, start, end)
        self.sizes = [last - first for first, last in groups]
        self._joints = [text[one[1] : other[0]] for one, other in pairwise(groups)]
        self._worded: bool | None = None

    def is_worded(self) -> bool:
        """Whether a word that matters is near any of the groups: there are none between them."""
        if self._worded is None:
            self._worded = WORDED.around(self.text, self.groups[0][0], self.groups[-1][1])
        return self._worded

    def joint(self, index: int) -> str:
        """What is between a group and the next one; empty outside, and behind another number."""
        return self._joints[index] if self.base <= index < len(self._joints) else ""

    def is_joined(self, index: int) -> bool:
        """Whether a group and the next one may belong to the same number."""
        return is_joint(self.joint(index))

    def digits(self, first: int, last: int) -> str:
        """The digits of some groups."""
        return "".join([self.text[start:end] for start, end in self.groups[first : last + 1]])

    def is_bracketed(self, index: int) -> bool:
        """Whether a group is in brackets of its own."""
        start, end = self.groups[index]
        return self.text[end : end + 1] == ")" and start > 0 and self.text[start - 1] == "("

    def written(self, first: int, last: int) -> str:
        """Some groups as they stand there, with the bracket around the first one."""
        start = self.groups[first][0] - self.is_bracketed(first)
        return self.text[start : self.groups[last][1]]

    def furthest(self, first: int, most: int) -> int:
        """The last group that what is between, and `most` digits, allow to the same number."""
        sizes, joints = self.sizes, self._joints
        count = sizes[first]
        last = first
        for index in range(first, min(len(joints), first + MOST_GROUPS - 1)):
            count += sizes[index + 1]
            if count > most or not is_joint(joints[index]):
                break
            last += 1
        return last

    def is_even(self, first: int, last: int) -> bool:
        """Whether what is between is alike: anything once, then spaces, then one other sign."""
        joints = self._joints[first + 1 : last]
        while joints and joints[0] == " ":
            del joints[0]
        return len({*joints}) <= 1

    def is_free(self, first: int, last: int) -> bool:
        """Whether the groups are not tied to others by what ties them together."""
        around = {self.joint(first - 1), self.joint(last)} - {""}
        if first == last:
            return not any(joint.strip() for joint in around)
        return not around & ({*self._joints[first:last]} - {" "})

    def joints(self, first: int, last: int) -> set[str]:
        """What is between some groups."""
        return {*self._joints[first:last]}


@cache
def is_joint(between: str) -> bool:
    """Whether it may stand within a number; of up to three characters, so that few are kept."""
    return _JOINT.fullmatch(between) is not None


def shape(written: str) -> str:
    """Groups as their lengths, dashes all alike: `(3) 3-4`."""
    return _DIGITS.sub(lambda group: str(len(group[0])), _DASH.sub("-", written))


def is_dash(character: str) -> bool:
    """Whether it is any kind of hyphen or dash."""
    return _DASH.match(character) is not None
