"""Values put back where their placeholders stand, in texts that arrive in pieces.

No more of a text is held back than what may still become a live placeholder, and so never more than
the longest one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from lamella._answer_shape import answer_shape
from lamella_middlewares.pii._placeholders import BODY, CLOSE, FORM, OPEN, kind_of

if TYPE_CHECKING:
    from lamella import Channel, Event, Request, TextFilter
    from lamella_middlewares.pii._vault import CallVault

_PLAIN: Final = re.compile(rf"(?P<whole>{OPEN}{BODY}{CLOSE})|(?P<part>{OPEN}[A-Z0-9_]*)\Z")

_OPEN_JSON: Final = rf"(?:{OPEN}|\\u27[eE]6)"
_CLOSE_JSON: Final = rf"(?:{CLOSE}|\\u27[eE]7)"
_ESCAPE_BEGUN: Final = r"\\(?:u(?:2(?:7[eE]?)?)?)?"
_JSON: Final = re.compile(
    rf"(?P<whole>{_OPEN_JSON}{BODY}{_CLOSE_JSON})"
    rf"|(?P<part>{_OPEN_JSON}[A-Z0-9_]*(?:{_ESCAPE_BEGUN})?|{_ESCAPE_BEGUN})\Z"
    r"|\\.",  # any other escape, so that its second character begins nothing
    re.DOTALL,
)
_ESCAPED_OPEN: Final = re.compile(r"\A\\u27[eE]6")
_UNFINISHED: Final = re.compile(rf"{_ESCAPE_BEGUN}\Z")

_HALF_PAIR: Final = re.compile("[\ud800-\udfff]")

_MOST_LOOSE: Final = 80
"""Characters that are remembered of what was let through, to count it if it becomes a token."""


class Restoring:
    """Restores the texts of one answer.

    Args:
        vault: What placeholders stand for.
        tools: The tools in whose arguments values are restored; True for all, False for none.
        ours: Placeholders that are to stay, and that no count is to call unknown.

    Attributes:
        counts: How many were restored, by kind.
        unknown: How many tokens of the form of a placeholder stand for nothing here.
    """

    def __init__(
        self,
        vault: CallVault,
        *,
        tools: bool | Collection[str],
        ours: Collection[str] = (),
    ) -> None:
        self.counts: dict[str, int] = {}
        self.unknown = 0
        self._vault = vault
        self._tools = tools
        self._ours = ours

    def filter(self, channel: Channel) -> TextFilter:
        """What restores one text of the answer."""
        if channel.kind == "arguments" and not self._runs(channel.tool):
            return UNCHANGED
        return _Filter(self, self._vault, json=channel.json)

    def value(self, placeholder: str) -> str | None:
        """What stands behind a placeholder, counted; None if it is not live."""
        value = self._vault.value(placeholder)
        if value is not None:
            kind = kind_of(placeholder)
            self.counts[kind] = self.counts.get(kind, 0) + 1
        elif placeholder not in self._ours:
            self.unknown += 1
        return value

    def _runs(self, tool: str | None) -> bool:
        if isinstance(self._tools, bool):
            return self._tools
        return tool is not None and tool in self._tools


class _Unchanged:
    """Lets a text through."""

    __slots__ = ()

    def feed(self, text: str, /) -> str:
        return text

    def flush(self) -> str:
        return ""


UNCHANGED: Final = _Unchanged()


class _Filter:
    """Restores one text."""

    __slots__ = ("_held", "_json", "_loose", "_pattern", "_restoring", "_vault")

    def __init__(self, restoring: Restoring, vault: CallVault, *, json: bool) -> None:
        self._restoring = restoring
        self._vault = vault
        self._json = json
        self._pattern = _JSON if json else _PLAIN
        self._held = ""  # may still become a live placeholder
        self._loose = ""  # let through, and may still become one that is not live

    def feed(self, text: str, /) -> str:
        """The text restored, as far as it is certain."""
        if (
            not self._held
            and not self._loose
            and OPEN not in text
            and not (self._json and "\\" in text)
        ):
            return text
        loose, self._loose = self._loose, ""
        if loose:
            self._count_loose(loose, text)
        text, self._held = self._held + text, ""
        return self._pattern.sub(self._change, text)

    def flush(self) -> str:
        """What was held back: nothing follows that would make it a placeholder."""
        held, self._held, self._loose = self._held, "", ""
        return held

    def _change(self, found: re.Match[str]) -> str:
        whole = found["whole"]
        if whole is not None:
            return self._whole(whole)
        part = found["part"]
        return found[0] if part is None else self._part(part)

    def _whole(self, written: str) -> str:
        placeholder = written
        if self._json:
            body = _ESCAPED_OPEN.sub(OPEN, written)
            placeholder = body if body.endswith(CLOSE) else body[: -len(r"\u27e7")] + CLOSE
        value = self._restoring.value(placeholder)
        if value is None:
            return written
        if not self._json:
            return value
        # Half a surrogate pair cannot be sent or stored but as an escape.
        escaped = json.dumps(value, ensure_ascii=False)[1:-1]
        return _HALF_PAIR.sub(_as_escape, escaped)

    def _part(self, part: str) -> str:
        """The end of what has come: held back if it may become a live placeholder."""
        begun, rest = part, ""
        if self._json:
            begun = _ESCAPED_OPEN.sub(OPEN, part)
            unfinished = _UNFINISHED.search(begun)
            if unfinished is not None:
                begun, rest = begun[: unfinished.start()], unfinished[0]
        if not begun:  # an escape that may be the bracket
            self._held = part
            return ""
        if self._vault.begins(begun + CLOSE if rest else begun):
            self._held = part
            return ""
        self._held = rest
        let_through = part[: len(part) - len(rest)]
        if not rest and len(begun) < _MOST_LOOSE:
            self._loose = begun
        return let_through

    def _count_loose(self, loose: str, text: str) -> None:
        """Whether what was let through has become a token now; if it may yet, remember it."""
        found = _PLAIN.match(loose + text)
        if found is None:
            return
        if found["whole"] is not None:
            self._restoring.value(found["whole"])
        elif len(found["part"]) < _MOST_LOOSE:
            self._loose = found["part"]


def tools_of(
    request: Request[Any] | None, *, named: bool | tuple[str, ...]
) -> bool | tuple[str, ...]:
    """The tools in whose arguments values are restored: those named, and one that is the answer.

    What a layer outside takes for the answer, the caller reads; no program runs with it.
    """
    tool = None if request is None else answer_shape(request.context).tool
    if tool is None or named is True:
        return named
    return (*(named or ()), tool)


def tokens_in(events: Iterable[Event]) -> list[str]:
    """What has the form of a placeholder in the words and arguments of an answer."""
    written: list[str] = [
        getattr(event, "text", "") or getattr(event, "arguments", "") for event in events
    ]
    text = "".join(written)
    return FORM.findall(text) if OPEN in text else []


def _as_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
