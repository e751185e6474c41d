"""The scanner: all detectors over one text, as spans of that text that do not overlap."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from typing import Any, Final

from lamella import Detector, Finding
from lamella._normal_text import NormalText, normal_text, settled
from lamella._safe_patterns import SafePattern
from lamella_middlewares.pii._detect._kept import KeptFindings
from lamella_middlewares.pii._detect._look import Look, Sign
from lamella_middlewares.pii._detect._overlaps import resolved

KEPT_FROM: Final = 200
"""Characters from which on the findings of a text are kept: below, looking again is as quick."""

_LOOK_FIRST: Final = 4_000
"""Characters up to which a text is looked at before it is asked for: most have nothing, and to look
takes little longer than the digest of them."""

Find = Callable[[str], Iterable[Finding]]

_HALF_PAIR: Final = re.compile("[\ud800-\udfff]")
_marks: Final = count(1)


class Scanner:
    """Runs detectors over texts. Thread-safe; keeps no text.

    Args:
        detectors: Their order decides between findings that are equally long and sure.
        allow: What is not to be found: values, compared without regard to case, and patterns,
            which must match a whole value. What stands inside an allowed value is allowed with it.
        cache: Where the findings of longer texts are kept; None keeps nothing. Scanners may share
            one.

    Attributes:
        kinds: What may be found.
        reach: The most characters that any detector looks at around a finding, counted without
            invisible ones; None if one needs whole texts.
        blocking: Whether a detector takes long: then scan in a thread.
    """

    def __init__(
        self,
        detectors: Sequence[Detector],
        *,
        allow: Iterable[str | SafePattern] = (),
        cache: KeptFindings | None = None,
    ) -> None:
        self._detectors = tuple(detectors)
        signs: list[Sign] = []
        steps: list[tuple[int | None, Callable[[str], bool] | None, Find]] = []
        for detector in detectors:
            sign = getattr(detector, "sign", None)
            number = len(signs) if isinstance(sign, Sign) else None
            if isinstance(sign, Sign):
                signs.append(sign)
            steps.append((number, getattr(detector, "needs", None), detector.find))
        self._look = Look(signs)
        self._steps = tuple(steps)
        self._finds = tuple([find for _, _, find in steps])
        self._signed = len(signs) == len(steps) and all(needs is None for _, needs, _ in steps)
        self._opens = tuple([_opening(detector) for detector in detectors])
        allowed = tuple(allow)
        self._allowed = frozenset(_folded(value) for value in allowed if isinstance(value, str))
        self._patterns = tuple(value for value in allowed if not isinstance(value, str))
        self._cache = cache
        self._mark = next(_marks).to_bytes(8, "big")
        reaches = [_reach(detector) for detector in detectors]
        self.reach = None if None in reaches else max((r for r in reaches if r), default=0)
        self.blocking = any(getattr(detector, "blocking", False) for detector in detectors)
        self.kinds = frozenset(kind for detector in detectors for kind in detector.kinds)

    def maybe(self, text: str) -> bool:
        """Whether something could be in the text: False is certain, and quick to say."""
        view = _view(text).text
        return bool(self._asked(view))

    def scan(self, text: str) -> tuple[Finding, ...]:
        """What is in the text, from left to right, no two on one character.

        Raises:
            ValueError: A detector gave a span that is not one of the text.
            Exception: Whatever else a detector raises. The text was not inspected then, and the
                error may quote it.
        """
        cache = self._cache
        if cache is None or len(text) < KEPT_FROM:
            return self._scan(text)
        view: NormalText | None = None
        asked: Sequence[Find] = ()
        if len(text) <= _LOOK_FIRST and self._look.quick:
            view = _view(text)
            asked = self._asked(view.text)
            if not asked:
                return ()
        digest = cache.digest(self._mark, text)
        found = cache.get(digest)
        if found is None:
            found = self._scan(text) if view is None else self._found(view, asked)
            cache.put(digest, found)
        return found

    def scan_open(self, text: str) -> tuple[tuple[Finding, ...], int]:
        """What is certain of a text that may go on: findings, and the index up to which they hold.

        Whatever is put behind the text, up to that index `scan` finds these and no others, and
        nothing that reaches beyond it. The index is 0 while a detector needs the whole text, and
        often far behind `len(text) - reach`: a key may be long, but mostly none has begun.
        """
        if None in self._opens:
            return (), 0
        text = text[: settled(text)]
        view = _view(text)
        edge = min([opens(view.text) for opens in self._opens if opens], default=len(view.text))
        raw = _raw(view.text, self._asked(view.text))
        # By falling end, each that goes on beyond the edge moves it to where it begins.
        for finding in sorted(raw, key=_end, reverse=True):
            if finding.end <= edge:
                break
            edge = min(edge, finding.start)
        certain = view.place(edge)
        found = self._in_source(view, [finding for finding in raw if finding.end <= edge])
        # A character that is several in the view may be cut by the edge.
        while found and found[-1].end > certain:
            certain = min(certain, found.pop().start)
        return tuple(found), certain

    def _scan(self, text: str) -> tuple[Finding, ...]:
        view = _view(text)
        asked = self._asked(view.text)
        return self._found(view, asked) if asked else ()

    def _found(self, view: NormalText, asked: Sequence[Find]) -> tuple[Finding, ...]:
        raw = _raw(view.text, asked)
        return tuple(self._in_source(view, raw)) if raw else ()

    def _asked(self, text: str) -> Sequence[Find]:
        """What finds something in a text, of the detectors whose sign is there."""
        seen = self._look.seen(text)
        if self._signed:
            finds = self._finds
            return [finds[number] for number in sorted(seen)] if seen else ()
        return [
            find
            for sign, needs, find in self._steps
            if (sign is None or sign in seen) and (needs is None or needs(text))
        ]

    def _in_source(self, view: NormalText, raw: list[Finding]) -> list[Finding]:
        """The findings that hold, where they are in the original."""
        length = len(view.text)
        for finding in raw:
            if not 0 <= finding.start < finding.end <= length:
                raise ValueError(
                    f"A detector of {finding.kind!r} found [{finding.start}:{finding.end}] in a "
                    f"text of {length} characters."
                )
        if self._allowed or self._patterns:
            raw = self._without_allowed(view.text, raw)
        if view.text is view.source or not raw:
            return resolved(raw)
        original = view.original
        spans = [(*original(f.start, f.end), f) for f in raw]
        return resolved(
            Finding(start, end, finding.kind, finding.confidence)
            for start, end, finding in spans
            if start < end
        )

    def _without_allowed(self, text: str, raw: list[Finding]) -> list[Finding]:
        allowed = [f for f in raw if self._is_allowed(text[f.start : f.end])]
        if not allowed:
            return raw
        # The furthest end of all allowed that begin at or before a place: what ends by then is in.
        allowed.sort(key=_start)
        kept: list[Finding] = []
        reached = place = 0
        for finding in sorted(raw, key=_start):
            while place < len(allowed) and allowed[place].start <= finding.start:
                reached = max(reached, allowed[place].end)
                place += 1
            if finding.end > reached:
                kept.append(finding)
        return kept

    def _is_allowed(self, value: str) -> bool:
        if self._allowed and _folded(value) in self._allowed:
            return True
        whole = (0, len(value))
        return any(match.span() == whole for p in self._patterns for match in p.finditer(value))


def _raw(text: str, asked: Sequence[Find]) -> list[Finding]:
    found: list[Finding] = []
    for find in asked:
        found.extend(find(text))
    return found


def _view(text: str) -> NormalText:
    view = normal_text(text)
    if not view.text.isascii() and _HALF_PAIR.search(view.text):
        # Half a surrogate pair is no character, and engines differ about it. One for one, so that
        # places stay.
        view.text = _HALF_PAIR.sub("\ufffd", view.text)
    return view


def _folded(value: str) -> str:
    return normal_text(value, fold_case=True).text


def _reach(detector: Any) -> int | None:
    return getattr(detector, "reach", None)


def _opening(detector: Any) -> Callable[[str], int] | None:
    """What says where something may have begun; None for a detector that needs whole texts."""
    opens: Callable[[str], int] | None = getattr(detector, "opens", None)
    reach = _reach(detector)
    if opens is None and reach is not None:
        return partial(_within, reach)
    return opens


def _within(reach: int, text: str) -> int:
    return max(0, len(text) - reach)


def _start(finding: Finding) -> int:
    return finding.start


def _end(finding: Finding) -> int:
    return finding.end
