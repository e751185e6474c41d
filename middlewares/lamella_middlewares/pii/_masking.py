"""Masking one request: what was found, then what was found elsewhere, then what looks like ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from lamella import BlockedError, Finding, InspectionError, Surface, map_texts
from lamella_middlewares.pii._inspecting import LAYER, apart
from lamella_middlewares.pii._placeholders import OPEN
from lamella_middlewares.pii._repeats import Repeats
from lamella_middlewares.pii._strategies import Strategy, masked, redacted

if TYPE_CHECKING:
    from lamella_middlewares.pii._inspecting import Inspector
    from lamella_middlewares.pii._vault import CallVault

V = TypeVar("V")

StrategyOf: TypeAlias = Callable[[str], Strategy]


class TooMuch(Exception):
    """There is more in a request than is looked into at once."""


class Masking:
    """Masks one request; made anew for each.

    Args:
        inspector: Finds what is to be masked.
        vault: Keeps what placeholders stand for.
        strategy_of: What is done with a kind.
        most: The most characters that are looked into.
        lenient: Whether a text that could not be looked into stays as it is.

    Attributes:
        counts: How much was masked, by kind.
        blocked: The kinds that must not be sent, as far as found.
        unread: How many pictures and other parts were not looked into.
        failure: Why a text stays as it is that nobody could look into.
        brackets: Whether something in it may be, or look like, a placeholder.
    """

    def __init__(
        self,
        inspector: Inspector,
        vault: CallVault,
        strategy_of: StrategyOf,
        *,
        most: int,
        lenient: bool = False,
    ) -> None:
        self.counts: dict[str, int] = {}
        self.blocked: set[str] = set()
        self.unread = 0
        self.failure: InspectionError | None = None
        self._inspector = inspector
        self._vault = vault
        self._strategy_of = strategy_of
        self._most = most
        self._lenient = lenient
        self._limit: int | None = None
        self._characters = 0
        self.brackets = False
        self._values: dict[str, str] = {}
        self._repeats: Repeats | None = None

    def mask(self, request: V, *, at_once: int | None = None) -> V:
        """The request, masked; itself if there is nothing in it.

        Args:
            request: Whatever has texts.
            at_once: How many characters may be looked into; None for all that may be at all.

        Raises:
            TooMuch: If there are more than `at_once`.
            InspectionError: If it cannot be looked into, or has more than the vault may hold.
        """
        self._limit = at_once
        found = map_texts(request, self._first, self._unread)
        if self._values:
            self._repeats = Repeats(self._values)
        if self.brackets or self._repeats:
            found = map_texts(found, self._second)
        return found

    def clear(self) -> None:
        """Forget what was found."""
        self._values = {}
        self._repeats = None

    def _unread(self, _: Surface) -> None:
        self.unread += 1

    def _first(self, text: str, surface: Surface) -> str:
        self._characters += len(text)
        if self._limit is not None and self._characters > self._limit:
            raise TooMuch
        if OPEN in text:
            self.brackets = True
        try:
            if self._characters > self._most:
                raise too_long(self._most, "request")
            findings = self._inspector.findings(text)
        except InspectionError as error:
            if not self._lenient:
                raise
            self.failure = error
            return text
        return self._replaced(text, findings, surface) if findings else text

    def _second(self, text: str, surface: Surface) -> str:
        findings = self._repeats.findings(text) if self._repeats else ()
        if findings:
            text = self._replaced(text, apart(text, findings), surface)
        return self._vault.literal(text) if OPEN in text else text

    def _replaced(self, text: str, findings: Iterable[Finding], surface: Surface) -> str:
        pieces: list[str] = []
        done = 0
        for finding in findings:
            value = text[finding.start : finding.end]
            pieces += (text[done : finding.start], self._instead(finding.kind, value, surface))
            done = finding.end
        pieces.append(text[done:])
        return "".join(pieces)

    def _instead(self, kind: str, value: str, surface: Surface) -> str:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._values[value] = kind
        strategy = self._strategy_of(kind)
        if strategy == "placeholder":
            return self._vault.placeholder(kind, value)
        if strategy == "block":
            self.blocked.add(kind)
        elif strategy == "hash" or surface.form == "key":  # keys must stay apart
            return self._vault.mint.mark(kind, value)
        elif strategy == "mask":
            return masked(kind, value)
        return redacted(kind)


def too_long(most: int, what: str) -> InspectionError:
    """The error of more text than is looked into."""
    error = InspectionError(
        f"PII looks into {most} characters of one {what}, and this one has more.",
        hint="Send less at once, or raise PII(scan=Scan(max_characters=...)).",
        layer=LAYER,
    )
    error.inspector = "max_characters"
    return error


def unreadable(count: int) -> InspectionError:
    """The error of pictures and other parts that are not looked into."""
    error = InspectionError(
        f"PII cannot look into {count} of the parts of this request (pictures, sound, binary "
        "documents, or files that the provider holds).",
        hint='Leave them out, or send them with PII(scan=Scan(unread="pass")).',
        layer=LAYER,
    )
    error.inspector = "unread"
    return error


def blocked(kinds: Iterable[str], **data: Any) -> BlockedError:
    """The error of what must not pass."""
    found = tuple(sorted(kinds))
    error = BlockedError(
        f"PII blocks this: it has {', '.join(found)} in it.",
        hint='Leave that out, or choose another strategy than "block" for it.',
        layer=LAYER,
        **data,
    )
    error.rule = "pii"
    error.kinds = found
    return error
