"""The built-in detectors, loaded and made ready off the event loop.

Their modules and their patterns take some tenths of a second, once in a process.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, Final

from lamella._warm import Warm

_SAMPLE: Final = (
    "Write to ada@example.com or https://ada:secret@example.com/?token=0123456789abcdef, card "
    "4111 1111 1111 1111, IBAN GB82 WEST 1234 5698 7654 32, SSN 123-45-6788, NHS number 943 476 "
    "5919, NI number AB 12 34 56 C, +44 20 7946 0958, passport no. C01X00T47, driving licence "
    "MORGA657054SM9IJ, born on 1 January 1990, 10 Main Street, Springfield, IL 62701, 10.0.0.1, "
    "2001:db8::1, 00:1b:44:11:3a:b7, sk-0123456789abcdef, "
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln, 0x52908400098527886E0F7030069857D2E4169EE7."
)
"""Something of every kind: what has been looked at once is quick the next time."""


def detectors_of(kinds: tuple[str, ...] | None) -> list[Any]:
    """The built-in detectors of these kinds, in the order in which they are asked.

    Args:
        kinds: Which; None for those that are looked for by default.
    """
    from lamella_middlewares.pii._detect._builtin import BUILTIN, DEFAULT_KINDS

    return [BUILTIN[kind]() for kind in (DEFAULT_KINDS if kinds is None else kinds)]


@cache
def loading(kinds: tuple[str, ...] | None) -> Warm:
    """The loading of these kinds, which is done once in a process."""
    return Warm(partial(_load, kinds))


def _load(kinds: tuple[str, ...] | None) -> None:
    from lamella_middlewares.pii._detect._scanner import Scanner

    detectors = detectors_of(kinds)
    for detector in detectors:
        list(detector.find(_SAMPLE))
    Scanner(detectors).scan(_SAMPLE)
