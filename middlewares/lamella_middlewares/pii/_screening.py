"""Personal data that the model brings itself, masked before anybody is shown it.

A streamed text is let through up to where nothing in it can turn out to be more than it seems: what
is shown of a stream is what would have been shown of the whole text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from lamella import Finding, InspectionError, Outcome, Surface
from lamella._normal_text import normal_text
from lamella._surfaces import map_json_text, without_escapes
from lamella_middlewares.pii._masking import StrategyOf, blocked, too_long
from lamella_middlewares.pii._placeholders import CLOSE, OPEN
from lamella_middlewares.pii._strategies import masked, redacted

if TYPE_CHECKING:
    from lamella import Channel, TextFilter
    from lamella_middlewares.pii._inspecting import Inspector
    from lamella_middlewares.pii._vault import CallVault

_STEP: Final = 16
"""Characters by which a text grows before it is looked at again."""

_WORD: Final = 64
_ARGUMENTS: Final = Surface("assistant", "tool_call", "arguments")


class Screening:
    """Masks the texts of one answer.

    Args:
        inspector: Finds what is to be masked.
        vault: What the caller has told the model itself, which the caller may see again.
        strategy_of: What is done with a kind.
        most: The most characters of an answer that are looked into.
        look_behind: Characters that are held back at most; None for what detectors ask for.
        lenient: Whether a text that could not be looked into stays as it is.

    Attributes:
        counts: How much was masked, by kind.
        blocked: The kinds that must not pass, as far as found.
        made: The placeholders that were put into the answer and stand for nothing.
        failure: Why a text stays as it is that nobody could look into.
    """

    def __init__(
        self,
        inspector: Inspector,
        vault: CallVault,
        strategy_of: StrategyOf,
        *,
        most: int,
        look_behind: int | None,
        lenient: bool = False,
    ) -> None:
        self.counts: dict[str, int] = {}
        self.blocked: set[str] = set()
        self.made: set[str] = set()
        self.failure: InspectionError | None = None
        self.look_behind = look_behind
        self.inspector = inspector
        self._vault = vault
        self._strategy_of = strategy_of
        self._most = most
        self._lenient = lenient
        self._characters = 0

    def filter(self, channel: Channel) -> TextFilter:
        """What masks one text of the answer."""
        if channel.kind == "arguments" or channel.json:
            return _Whole(self, json=channel.json)
        if channel.kind == "value" or (self.inspector.whole and self.look_behind is None):
            return _Whole(self)
        return _Piecewise(self)

    def text(self, text: str, _: Surface | None = None) -> str:
        """A whole text, masked.

        Raises:
            BlockedError: If it has something in it that must not pass.
            InspectionError: If it cannot be looked into.
        """
        try:
            findings = self.inspector.findings(text)
        except InspectionError as error:
            self.failed(error)
            return text
        return self.replaced(text, findings) if findings else text

    def failed(self, error: InspectionError) -> None:
        """A text could not be looked into.

        Raises:
            InspectionError: That, unless it is to pass nevertheless.
        """
        if not self._lenient:
            raise error.copy(outcome=Outcome.FAILED, phase="stream") from None
        self.failure = error

    def count(self, text: str) -> None:
        """Bound what is looked into.

        Raises:
            InspectionError: If it is more.
        """
        self._characters += len(text)
        if self._characters > self._most:
            self.failed(too_long(self._most, "answer"))

    def replaced(self, text: str, findings: Iterable[Finding], start: int = 0) -> str:
        """The text from `start` on with findings masked."""
        pieces: list[str] = []
        done = start
        for finding in findings:
            first = max(finding.start, done)
            pieces += (text[done:first], self._instead(finding.kind, text[first : finding.end]))
            done = finding.end
        pieces.append(text[done:])
        return "".join(pieces)

    def _instead(self, kind: str, value: str) -> str:
        own = self._vault.known(kind, value)
        if own is not None:  # the caller's, whom it is restored to
            return own
        self.counts[kind] = self.counts.get(kind, 0) + 1
        strategy = self._strategy_of(kind)
        mint = self._vault.mint
        if strategy == "block":
            self.blocked.add(kind)
            raise blocked([kind], outcome=Outcome.FAILED, phase="stream")
        if strategy == "placeholder":
            made = mint.placeholder(kind, mint.digest(kind, value))
            self.made.add(made)
            return made
        if strategy == "hash":
            return mint.mark(kind, value)
        return masked(kind, value) if strategy == "mask" else redacted(kind)


class _Whole:
    """Masks a text once it is there."""

    __slots__ = ("_json", "_pieces", "_screening")

    def __init__(self, screening: Screening, *, json: bool = False) -> None:
        self._screening = screening
        self._json = json
        self._pieces: list[str] = []

    def feed(self, text: str, /) -> str:
        self._screening.count(text)
        self._pieces.append(text)
        return ""

    def flush(self) -> str:
        text = "".join(self._pieces)
        self._pieces.clear()
        if not text:
            return text
        if self._json:  # what is written in escapes is looked at as what it says
            return map_json_text(text, self._text, _ARGUMENTS)
        return self._screening.text(text)

    def _text(self, text: str, surface: Surface) -> str:
        """One string, or all of what is no JSON: whoever mends it will read its escapes."""
        if surface is _ARGUMENTS and (read := without_escapes(text)) != text:
            masked_text = self._screening.text(read)
            if masked_text != read:
                return masked_text
        return self._screening.text(text, surface)


class _Piecewise:
    """Masks a text as far as it is certain."""

    __slots__ = ("_before", "_pending", "_screening", "_wanted")

    def __init__(self, screening: Screening) -> None:
        self._screening = screening
        self._before = ""  # let through, as it came: what follows may depend on it
        self._pending = ""
        self._wanted = _STEP

    def feed(self, text: str, /) -> str:
        self._screening.count(text)
        self._pending += text
        if len(self._pending) < self._wanted:
            return ""
        screening, window = self._screening, self._before + self._pending
        try:
            findings, certain = self._certain(window)
        except InspectionError as error:
            screening.failed(error)
            findings, certain = (), len(window)
        shown = self._show(window, findings, certain)
        # Looked at again once it has grown by a part of itself: all of it takes linear time.
        self._wanted = len(self._pending) + max(_STEP, len(self._pending) // 8)
        return shown

    def flush(self) -> str:
        window = self._before + self._pending
        if not self._pending:
            return ""
        try:
            findings = self._screening.inspector.findings(window)
        except InspectionError as error:
            self._screening.failed(error)
            findings = ()
        return self._show(window, findings, len(window))

    def _certain(self, window: str) -> tuple[Sequence[Finding], int]:
        inspector, most = self._screening.inspector, self._screening.look_behind
        findings, certain = inspector.certain(window)
        begun = window.rfind(OPEN, max(0, certain - 64), certain)
        if begun >= 0 and window.find(CLOSE, begun, certain) < 0:
            certain = begun  # not in the middle of what may be a placeholder
        if most is not None and len(window) - certain > most:
            # Sooner than detectors are certain: what they see now is what there is.
            least = _back(window, most)
            if least > certain:
                findings = inspector.findings(window)
                certain = least
                for finding in findings:
                    if finding.start < certain < finding.end:
                        certain = finding.start
        return findings, certain

    def _show(self, window: str, findings: Sequence[Finding], certain: int) -> str:
        """Let through up to `certain`, with what was found by there masked."""
        start = len(self._before)
        if certain <= start:
            return ""
        found = [one for one in findings if start < one.end <= certain]
        shown = self._screening.replaced(window[:certain], found, start)
        self._pending = window[certain:]
        before = _back(window[:certain], self._screening.inspector.behind)
        space = window.rfind(" ", max(0, before - _WORD), before)  # rather not within a word
        self._before = window[space if space >= 0 else before : certain]
        return shown


def _back(text: str, characters: int) -> int:
    """The index so many characters from the end, of those that take a place."""
    if text.isascii():
        return max(0, len(text) - characters)
    view = normal_text(text)
    return view.place(max(0, len(view.text) - characters))
