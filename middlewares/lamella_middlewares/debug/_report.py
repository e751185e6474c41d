"""What is told of one call: as text for a terminal or a file, and as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from lamella import Ending, Request, scrub
from lamella._drawing import draw, legible, time
from lamella._scrub_texts import clean_text
from lamella._trace_forms import plain
from lamella._trace_page import Extra, page
from lamella._trace_time import layer_times
from lamella_middlewares.debug._outline import answer_rows, content_rows, request_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lamella import Shown, TraceRecord
    from lamella_middlewares.debug._outline import Rows
    from lamella_middlewares.debug._state import State

_INDENT: Final = "  "
_NAME: Final = 12
_OWN_TIME: Final = "own time"
_MOST_LETTERS: Final = 2_000


@attrs.frozen(eq=False)
class Report:
    """A call that is over, and what its layers say of themselves at its end.

    Attributes:
        record: What happened.
        request: What was asked; only its outline is told.
        head: Who answered, as far as known.
        end: How the answer ended, as seen from the layer's place; None if that was never told.
        state: Asks what the layers inside say of themselves.
        shown: What may be seen of texts, by branch; None if that was not asked for.
    """

    record: TraceRecord
    request: Request[Any]
    head: Mapping[str, str]
    end: Ending | None
    state: State
    shown: Mapping[str, Shown] | None

    def parts(self) -> list[tuple[str, Rows]]:
        """What is told besides the drawing, part by part."""
        end = [] if self.end is None else answer_rows(self.end, self.head)
        times = [
            (each.layer, f"{time(each.own)} of {time(each.seconds)}{_passes(each.passes)}")
            for each in layer_times(self.record)
        ]
        found: list[tuple[str, Rows]] = [
            ("asked", [("what", self._asked()), *request_rows(self.request)]),
            ("answer", end),
            (_OWN_TIME, times),
            ("state", self.state.rows()),
        ]
        if self.shown is not None:
            nothing = [("nothing", "no layer of this pipeline redacts, so no text is shown")]
            # Images become texts here, and not on the way of the request: they may be large.
            content = {branch: shown.to_dict() for branch, shown in self.shown.items()}
            found.append(("content", content_rows(content) or nothing))
        return found

    def _asked(self) -> str:
        request, context = self.request, self.request.context
        words = [request.operation, "streamed" if request.stream else "whole"]
        facts = {"model": request.model, "tenant": context.tenant, "priority": context.priority}
        return ", ".join([*words, *[f"{name} {fact}" for name, fact in facts.items() if fact]])

    def page(self) -> str:
        """The report as an HTML page."""
        told = [(title, rows) for title, rows in self.parts() if title != _OWN_TIME]
        extras = [Extra(title.capitalize(), rows) for title, rows in told]
        return page(_clean(self.record), extras)

    def text(self, more: Rows) -> str:
        """The report as lines.

        Args:
            more: What else is to be said, after all that.
        """
        lines = [draw(_clean(self.record))]
        for title, rows in [*self.parts(), ("also", more)]:
            lines += [
                f"{_INDENT}{title if place == 0 else '':<{_NAME}}{_line(name)}: {_line(said)}"
                for place, (name, said) in enumerate(rows)
            ]
        return "\n".join(lines) + "\n"


def _passes(number: int) -> str:
    return "" if number == 1 else f", in {number} passes"


def _line(text: str) -> str:
    text = clean_text(text)
    return legible(text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]} ...")


def _clean(record: TraceRecord) -> TraceRecord:
    """Without what looks like a secret in the notes of somebody's layer."""
    notes = [attrs.evolve(note, fields=scrub(plain(note.fields))) for note in record.notes]
    return attrs.evolve(record, notes=tuple(notes))
