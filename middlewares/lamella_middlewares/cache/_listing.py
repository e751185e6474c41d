"""How the commands of `lamella cache` show what is kept. Content is shown only where asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from lamella import BlobInfo
    from lamella._answer_codec import KeptAnswer
    from lamella_middlewares.cache._shelves import Shelf

HEADERS: Final = (
    "key", "tenant", "model", "operation", "age", "fresh for", "kept for", "size", "tokens", "tags"
)  # fmt: skip

_KEY: Final = 12
"""Characters of a key that are enough to tell it from the others at sight."""
_SHOWN: Final = 60
"""Characters of content in a table."""
_SPANS: Final = ((172_800.0, 86_400.0, "d"), (7_200.0, 3_600.0, "h"), (120.0, 60.0, "min"))


@attrs.frozen
class Entry:
    """One kept answer, as it is shown.

    Attributes:
        shelf: Where it is.
        info: What the store knows of it.
        answer: What it is; None if it cannot be read.
    """

    shelf: Shelf
    info: BlobInfo
    answer: KeptAnswer | None

    @property
    def key(self) -> str:
        """The digest of the request."""
        return self.info.key.rpartition(":")[2]

    @property
    def tags(self) -> list[str]:
        """The words by which it can be purged."""
        if self.answer is None:
            return []
        # What is compared by meaning is tagged with the first part of its own key besides.
        return sorted([tag for tag in self.answer.tags if not self.key.startswith(f"{tag}-")])

    @property
    def tokens(self) -> int | None:
        """What a hit saves."""
        usage = None if self.answer is None else self.answer.usage
        return None if usage is None else usage.total_tokens

    @property
    def fresh_for(self) -> float | None:
        """Seconds for which it still is fresh, 0 if it is stale; None for ever, or if unknown."""
        if self.answer is None or self.answer.fresh_for is None:
            return None
        return max(0.0, self.answer.fresh_for - self.info.age)

    def form(self, *, content: bool) -> dict[str, Any]:
        """As JSON."""
        answer, info = self.answer, self.info
        form: dict[str, Any] = {
            "layer": self.shelf.layer,
            "namespace": self.shelf.namespace,
            "key": self.key,
            "readable": answer is not None,
            "tenant": None if answer is None else answer.tenant,
            "model": None if answer is None else answer.model,
            "operation": None if answer is None else answer.operation,
            "age": round(info.age, 3),
            "fresh_for": _rounded(self.fresh_for),
            "expires_in": _rounded(info.expires_in),
            "size": info.size,
            "tokens": self.tokens,
            "cost": None if answer is None or answer.cost is None else str(answer.cost),
            "tags": self.tags,
        }
        if content:
            form["content"] = content_of(answer)
            if answer is not None and answer.question:
                form["question"] = answer.question
        return form

    def line(self, *, content: bool) -> tuple[str, ...]:
        """As a line of a table."""
        answer = self.answer
        if answer is None:
            known = ("?", "?", "cannot be read")
        else:
            known = (answer.tenant or "-", answer.model or "-", answer.operation)
        ever = "-" if answer is None else "ever"
        cells = (
            self.key.rpartition("-")[2][:_KEY],
            *known,
            span(self.info.age),
            ever if self.fresh_for is None else span(self.fresh_for) if self.fresh_for else "stale",
            "ever" if self.info.expires_in is None else span(self.info.expires_in),
            size(self.info.size),
            "-" if self.tokens is None else f"{self.tokens:,}",
            ", ".join(self.tags) or "-",
        )
        if not content:
            return cells
        said = [None if answer is None else answer.question, content_of(answer)]
        return (*cells, _short(" -> ".join([text for text in said if text]) or "-"))


def show_entries(entries: Sequence[Entry], *, content: bool) -> None:
    """Print a table of each shelf's entries."""
    from lamella.cli._render import show_table

    headers = (*HEADERS, "content") if content else HEADERS
    shelves = {id(entry.shelf): entry.shelf for entry in entries}
    for number, shelf in enumerate(shelves.values()):
        if len(shelves) > 1:
            print_text(f"\n{shelf}" if number else f"{shelf}")
        mine = [entry for entry in entries if entry.shelf is shelf]
        show_table(headers, [entry.line(content=content) for entry in mine])


def content_of(answer: KeptAnswer | None) -> str | None:
    """What the model said, as text; None where that is no text, or cannot be read."""
    if answer is None or answer.operation != "chat":
        return None
    from lamella import ChatResponse

    found = ChatResponse(answer.events, answer.head)
    calls = [f"{call.name}({call.arguments})" for call in found.tool_calls]
    return "\n".join([text for text in (found.text, *calls) if text])


@attrs.define
class Group:
    """What is kept of one tenant and model.

    Attributes:
        entries: How many answers.
        size: Their bytes.
        tokens: What one hit on each would save.
    """

    entries: int = 0
    size: int = 0
    tokens: int = 0


@attrs.define
class Kept:
    """What is kept on a shelf, added up.

    Attributes:
        groups: By tenant, model and operation.
        unreadable: How many cannot be read: damaged, signed with another key, of another version.
        entries: How many there are.
        size: Their bytes.
        stale: How many are no longer fresh.
    """

    groups: dict[tuple[str | None, str | None, str], Group] = attrs.field(
        factory=dict[tuple[str | None, str | None, str], Group]
    )
    unreadable: int = 0
    entries: int = 0
    size: int = 0
    stale: int = 0

    def add(self, entry: Entry) -> None:
        """Count an entry."""
        self.entries += 1
        self.size += entry.info.size
        answer = entry.answer
        if answer is None:
            self.unreadable += 1
            return
        self.stale += entry.fresh_for == 0
        group = self.groups.setdefault((answer.tenant, answer.model, answer.operation), Group())
        group.entries += 1
        group.size += entry.info.size
        group.tokens += entry.tokens or 0

    def form(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "entries": self.entries,
            "bytes": self.size,
            "stale": self.stale,
            "unreadable": self.unreadable,
            "kept": [
                {
                    "tenant": tenant,
                    "model": model,
                    "operation": operation,
                    "entries": group.entries,
                    "bytes": group.size,
                    "tokens": group.tokens,
                }
                for (tenant, model, operation), group in self._sorted()
            ],
        }

    def lines(self) -> list[tuple[str, ...]]:
        """As lines of a table, the largest first."""
        return [
            (
                tenant or "-",
                model or "-",
                operation,
                f"{group.entries:,}",
                size(group.size),
                f"{group.tokens:,}",
            )
            for (tenant, model, operation), group in self._sorted()
        ]

    def _sorted(self) -> Iterable[tuple[tuple[str | None, str | None, str], Group]]:
        return sorted(self.groups.items(), key=lambda item: (-item[1].size, str(item[0])))


def print_text(text: str) -> None:
    """Print a line; what a store holds can be anybody's, and steers no terminal."""
    from lamella.cli._output import harmless, show

    show(lambda: harmless(text), lambda: text)


def span(seconds: float) -> str:
    """A span of time, short."""
    for least, unit, name in _SPANS:
        if seconds >= least:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """A number of bytes, short."""
    amount, names = float(count), ["B", "KiB", "MiB", "GiB"]
    while amount >= 1024 and len(names) > 1:
        amount /= 1024
        names.pop(0)
    return f"{amount:.0f} {names[0]}" if names[0] == "B" else f"{amount:.1f} {names[0]}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
