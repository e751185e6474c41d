"""Whether a plugin's requirement on this library fits the version that is installed.

Installers see to that, unless they are told not to. Only clauses that are plain to judge are
judged: comparisons of release numbers. Whatever else a requirement says passes.
"""

from __future__ import annotations

import re
from typing import Final

Release = tuple[int, ...]

_CLAUSE: Final = re.compile(r"(===|~=|==|!=|<=|>=|<|>)\s*([^\s,;)]+)")
_RELEASE: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")


def unmet(requirement: str, installed: str) -> tuple[str, ...]:
    """The clauses of a requirement that a version does not meet.

    Args:
        requirement: As metadata have it: `lamella>=0.2,<1; python_version > "3.10"`.
        installed: The version that is there. One before a release (`0.2.0rc1`) counts as it.
    """
    there = _RELEASE.match(installed)
    if there is None:
        return ()
    clauses = _CLAUSE.findall(requirement.partition(";")[0])
    return tuple(
        operator + version
        for operator, version in clauses
        if _RELEASE.fullmatch(version) and not _meets(there[0], operator, version)
    )


def _meets(installed: str, operator: str, version: str) -> bool:
    here, wanted = _numbers(installed), _numbers(version)
    length = max(len(here), len(wanted))
    left, right = _padded(here, length), _padded(wanted, length)
    if operator == "~=":
        return left >= right and here[: len(wanted) - 1] == wanted[:-1]
    return {
        "==": left == right,
        "===": left == right,
        "!=": left != right,
        "<=": left <= right,
        ">=": left >= right,
        "<": left < right,
        ">": left > right,
    }[operator]


def _numbers(version: str) -> Release:
    return tuple(int(part) for part in version.split("."))


def _padded(release: Release, length: int) -> Release:
    return release + (0,) * (length - len(release))
