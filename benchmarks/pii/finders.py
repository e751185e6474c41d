"""Who is compared: each gives the spans of a text."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs

from benchmarks.pii.gold import Span
from benchmarks.pii.values import VALUES

Find = Callable[[str], list[Span]]

EXTRAS: Final = ("re2", "phonenumbers", "ahocorasick", "cryptography")
"""What `lamella[pii]` brings."""

PRESIDIO: Final = (
    *("CREDIT_CARD", "CRYPTO", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "MAC_ADDRESS"),
    *("PHONE_NUMBER", "UK_NHS", "URL", "US_DRIVER_LICENSE", "US_ITIN", "US_PASSPORT", "US_SSN"),
)
"""What of Presidio's recognisers is of a kind that is measured."""


@attrs.frozen
class Finder:
    """One that is compared.

    Attributes:
        name: What it is called in tables.
        kinds: What it says that it finds.
        find: Gives what is in a text.
        timed: What is timed, where that is not `find`: without making spans of ours.
    """

    name: str
    kinds: frozenset[str]
    find: Find
    timed: Callable[[str], object]


def ours(name: str = "Lamella") -> Finder:
    """The built-in detectors of `PII`: by default all kinds but `url`, which is asked apart."""
    from lamella_middlewares.pii._detect._builtin import BUILTIN, DEFAULT_KINDS
    from lamella_middlewares.pii._detect._scanner import Scanner

    usual = Scanner([BUILTIN[kind]() for kind in DEFAULT_KINDS])
    every = Scanner([BUILTIN[kind]() for kind in BUILTIN])

    def find(text: str) -> list[Span]:
        links = [one for one in every.scan(text) if one.kind == "url"]
        return [Span(one.start, one.end, one.kind) for one in (*usual.scan(text), *links)]

    return Finder(name, frozenset(VALUES), find, usual.scan)


def presidio() -> Finder:
    """Presidio's own recognisers, without a model, as the plugin uses them."""
    from lamella_presidio import PresidioDetector

    detector = PresidioDetector(entities=PRESIDIO)

    def find(text: str) -> list[Span]:
        return [Span(one.start, one.end, one.kind) for one in detector.find(text)]

    return Finder("Presidio, no model", frozenset(detector.kinds), find, detector.find)


def langchain() -> Finder:
    """The detectors of LangChain's `PIIMiddleware`."""
    theirs: Any = importlib.import_module("langchain.agents.middleware._redaction")

    detectors: dict[str, Callable[[str], Sequence[Any]]] = {
        "email": theirs.detect_email,
        "card": theirs.detect_credit_card,
        "ip": theirs.detect_ip,
        "mac": theirs.detect_mac_address,
        "url": theirs.detect_url,
    }

    def find(text: str) -> list[Span]:
        return [
            Span(one["start"], one["end"], kind)
            for kind, detect in detectors.items()
            for one in detect(text)
        ]

    return Finder("LangChain", frozenset(detectors), find, find)


def installed() -> list[Finder]:
    """Those of the others that are there."""
    rivals = {"lamella_presidio": presidio, "langchain": langchain}
    return [make() for name, make in rivals.items() if importlib.util.find_spec(name)]


class Hidden:
    """Makes modules impossible to import, as if they were not installed."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse what is hidden; leave the rest to others."""
        if name.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def hide_extras() -> None:
    """From here on this process is without the extras; say it before anything else is imported."""
    assert not [name for name in EXTRAS if name in sys.modules]
    sys.meta_path.insert(0, Hidden(EXTRAS))
