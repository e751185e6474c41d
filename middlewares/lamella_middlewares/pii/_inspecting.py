"""Asking detectors about texts, such that what they raise says nothing of the text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lamella import ConfigurationError, Finding, InspectionError
from lamella_middlewares.pii._choices import is_table
from lamella_middlewares.pii._placeholders import FORM, KIND, OPEN
from lamella_middlewares.pii._strategies import redacted

if TYPE_CHECKING:
    from lamella import Detector
    from lamella_middlewares.pii._detect._scanner import Scanner

LAYER: Final = "pii"

AT_ONCE: Final = 4_096
"""Characters that are looked into on the event loop; more are, in a thread. What looks like numbers
all over takes up to 10 ms for so many."""

_TOO_LONG_TO_SHOW: Final = 8 * AT_ONCE
_SAID: Final = ("blocking", "reach")
_SAID_BY_OURS: Final = (*_SAID, "needs", "opens")
_BEHIND: Final = 256
_BUILT_IN: Final = "built-in detectors"
_OPTIONS: Final = 'a Detector, a registered name such as "presidio", or a table with `use`'


class Inspector:
    """Finds personal data in texts, and says so where that fails, without quoting them.

    Args:
        scanner: All detectors.
        strangers: Those of them that are not the library's own.

    Attributes:
        behind: How many characters before a finding may have to do with it. The library's own
            detectors look at words within some fifty characters; of others it is what they say.
        clear: Knows the requests in which it finds nothing.
    """

    __slots__ = ("_scanner", "behind", "clear")

    def __init__(self, scanner: Scanner, strangers: Iterable[Watched] = ()) -> None:
        from lamella_middlewares.pii._clear import ClearRequests

        self._scanner = scanner
        self.clear = ClearRequests(self)
        self.behind = max([_BEHIND, *[getattr(one, "reach", None) or 0 for one in strangers]])

    @property
    def blocking(self) -> bool:
        """Whether looking takes long, and has to be done in a thread."""
        return self._scanner.blocking

    @property
    def whole(self) -> bool:
        """Whether it takes whole texts to find something."""
        return self._scanner.reach is None

    def findings(self, text: str) -> Sequence[Finding]:
        """What is in the text, from left to right; nothing of what looks like a placeholder.

        Raises:
            InspectionError: If a detector fails. No cause or context comes with it: a stranger's
                exception may quote the text.
        """
        try:
            found = self._scanner.scan(text)
        except Exception as error:  # noqa: BLE001 - a stranger's detector may raise anything
            failure = _failure(error)
        else:
            return apart(text, found) if found and OPEN in text else found
        raise failure

    def redacted(self, text: str, _: object = None) -> str:
        """A text for observers, on whatever thread they are: one too long for that is not shown.

        Raises:
            InspectionError: As for `findings`.
        """
        if len(text) > _TOO_LONG_TO_SHOW:
            return f"[{len(text)} characters]"
        pieces: list[str] = []
        done = 0
        for finding in self.findings(text):
            pieces += (text[done : finding.start], redacted(finding.kind))
            done = finding.end
        return "".join([*pieces, text[done:]]) if pieces else text

    def certain(self, text: str) -> tuple[Sequence[Finding], int]:
        """The same of a text that may go on, with the index up to which that is certain.

        Raises:
            InspectionError: If a detector fails.
        """
        try:
            found, index = self._scanner.scan_open(text)
        except Exception as error:  # noqa: BLE001 - as above
            failure = _failure(error)
        else:
            return (apart(text, found) if found and OPEN in text else found), index
        raise failure


def apart(text: str, findings: Iterable[Finding]) -> list[Finding]:
    """What of the findings stands outside of all that looks like a placeholder."""
    walls = [found.span() for found in FORM.finditer(text)]
    pieces: list[Finding] = []
    passed = 0  # walls that end before all findings yet to come, which are in order as well
    for finding in findings:
        start = finding.start
        while passed < len(walls) and walls[passed][1] <= start:
            passed += 1
        for place in range(passed, len(walls)):
            first, last = walls[place]
            if first >= finding.end:
                break
            if first > start:
                pieces.append(Finding(start, first, finding.kind, finding.confidence))
            start = last
        if start < finding.end:
            pieces.append(Finding(start, finding.end, finding.kind, finding.confidence))
    return pieces


def failed(inspector: str, how: str) -> InspectionError:
    """The error of a text that nobody could look into."""
    error = InspectionError(
        f"PII could not look into a text: {inspector} {how}.",
        hint="Nothing of it was let through. Mend the detector, or leave it out.",
        layer=LAYER,
    )
    error.inspector = inspector
    return error


def _failure(error: Exception) -> InspectionError:
    if isinstance(error, InspectionError):
        fresh = failed(error.inspector, "")
        fresh.message = error.message
        fresh.args = error.args
        return fresh
    return failed(_BUILT_IN, f"failed with {type(error).__name__}")


class Watched:
    """A stranger's detector, whose failures and findings are looked at before anybody uses them.

    Args:
        detector: The detector.
        name: What to call it.
    """

    def __init__(self, detector: Detector, name: str) -> None:
        self._detector = detector
        self.name = name
        ours = type(detector).__module__.startswith("lamella_middlewares.")
        for attribute in _SAID_BY_OURS if ours else _SAID:
            if hasattr(detector, attribute):
                setattr(self, attribute, getattr(detector, attribute))

    @property
    def kinds(self) -> Collection[str]:
        """What it may find."""
        return self._detector.kinds

    def find(self, text: str, /) -> list[Finding]:
        """What is in the text.

        Raises:
            InspectionError: If the detector fails, or gives what is no finding of the text.
        """
        try:
            found = list(self._detector.find(text))
        except Exception as error:  # noqa: BLE001 - it may raise anything
            failure = failed(self.name, f"failed with {type(error).__name__}")
        else:
            for finding in found:
                _check(finding, len(text), self.name)
            return found
        raise failure


def _check(finding: object, length: int, name: str) -> None:
    if not isinstance(finding, Finding):
        raise failed(name, f"gave a {type(finding).__name__}, which is no Finding")
    found: Any = finding  # nobody has looked at what is in it
    start, end = found.start, found.end
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= length):
        raise failed(name, "gave a finding that is not inside of the text")
    if not _is_kind(found.kind):
        raise failed(name, "gave a finding whose kind is no word in lower case")
    if not isinstance(found.confidence, int | float) or not 0 <= found.confidence <= 1:
        raise failed(name, "gave a finding whose confidence is not between 0 and 1")


def detector_of(given: Any) -> Watched:
    """The detector that an entry of `PII(detectors=...)` stands for.

    Raises:
        ConfigurationError: If it is none.
        UnknownNameError: If no detector is registered under the name.
    """
    if isinstance(given, str):
        return _registered(given, {})
    if is_table(given):
        options: dict[str, Any] = dict(given)
        use = options.pop("use", None)
        if isinstance(use, str):
            return _registered(use, options)
    name = getattr(given, "name", None)
    return _watched(given, name if isinstance(name, str) and name else type(given).__name__)


def _registered(name: str, options: Mapping[str, Any]) -> Watched:
    from lamella import registry

    known = registry()
    found = known.get("detectors", name)
    if _is_detector(found):
        if options:
            raise ConfigurationError(
                f"PII(detectors=...): {name!r} is a detector already, and takes no options.",
                hint=f"Give {name!r} alone.",
            )
        return _watched(found, name)
    from lamella._structuring import build

    return _watched(build(known.factory("detectors", name), options), name)


def _is_detector(found: Any) -> bool:
    return not isinstance(found, type) and callable(getattr(found, "find", None))


def _watched(found: Any, name: str) -> Watched:
    kinds: Any = getattr(found, "kinds", None)
    if not _is_detector(found) or not _is_collection(kinds) or not kinds:
        raise ConfigurationError(
            f"PII(detectors=...): {type(found).__name__} is no detector.", hint=f"Give {_OPTIONS}."
        )
    wrong = [kind for kind in kinds if not _is_kind(kind)]
    if wrong or isinstance(kinds, str):
        raise ConfigurationError(
            f"PII(detectors=...): {name} finds {wrong or kinds!r}, which cannot be a kind.",
            hint='Kinds are a list of words in lower case, such as ["person", "order_number"].',
        )
    reach: Any = getattr(found, "reach", None)
    if reach is not None and (type(reach) is not int or reach < 1):
        raise ConfigurationError(
            f"PII(detectors=...): {name} has reach={reach!r}, which is no number of characters.",
            hint="Give a whole number above 0, or none for a detector that needs whole texts.",
        )
    return Watched(found, name)


def _is_collection(found: Any) -> bool:
    return isinstance(found, Collection)


def _is_kind(kind: object) -> bool:
    return isinstance(kind, str) and KIND.fullmatch(kind) is not None
