"""A trace as it was at one moment: what is drawn, written as JSON or as a page, and read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs

from lamella._attempts import Attempt
from lamella._nothing import NOTHING
from lamella._outcomes import Outcome
from lamella._spent import cost_of, costs_by_layer, costs_of, usage_of

if TYPE_CHECKING:
    from os import PathLike

    from lamella._money import Money
    from lamella._trace import Note, Span
    from lamella._usage import Usage


@attrs.frozen
class AdoptedTrace:
    """A call that this call shared, and that is counted as its own: a flight, for example.

    Attributes:
        branch: On whose behalf; the branches of its attempts begin with it.
        at: When it was adopted, in seconds since this call began.
        began: When it began, in seconds since this call began; below 0 if it was under way before.
        call: What happened in it, in its own time.
    """

    branch: str
    at: float
    began: float
    call: TraceRecord


@attrs.frozen(kw_only=True)
class TraceRecord:
    """What a trace says at one moment. Times are seconds since the call began.

    `trace.record()` makes one; it does not change when the call goes on.

    Attributes:
        call_id: The call's id.
        parent_id: The call that this one was detached from; None for most.
        started: Wall time of its beginning, in seconds since the epoch.
        seconds: How long it took, or has taken so far.
        outcome: How it ended; None while it is under way.
        attempts: Every attempt, those of adopted calls after its own.
        notes: What layers noted, in order.
        spans: Each layer's time; empty unless the call was timed.
        adopted: The calls that are counted as this one's.
        content: What a redacting layer lets observers see, by branch, as JSON; only where it was
            asked for.
    """

    call_id: str
    started: float
    seconds: float
    parent_id: str | None = None
    outcome: Outcome | None = None
    attempts: tuple[Attempt, ...] = ()
    notes: tuple[Note, ...] = ()
    spans: tuple[Span, ...] = ()
    adopted: tuple[AdoptedTrace, ...] = ()
    content: Mapping[str, Any] = NOTHING

    @property
    def usage(self) -> Usage:
        """What all attempts consumed together, as far as known."""
        return usage_of(self.attempts)

    @property
    def cost(self) -> Money | None:
        """What the call has cost; None as for `Trace.cost`."""
        return cost_of(self.attempts)

    @property
    def costs(self) -> dict[str, Money]:
        """The known costs by currency."""
        return costs_of(self.attempts)

    def costs_by_layer(self) -> dict[str, dict[str, Money]]:
        """The known costs by the layer that asked for the attempts; see `Trace.costs_by_layer`."""
        return costs_by_layer(self.attempts)

    def draw(self) -> str:
        """The call as text; see `Trace.draw`."""
        from lamella._drawing import draw

        return draw(self)

    def to_dict(self) -> dict[str, Any]:
        """The call as JSON values; see `Trace.to_dict`."""
        from lamella._trace_forms import trace_form

        return trace_form(self)

    def to_json(self, *, indent: int | None = None) -> str:
        """The call as JSON text, in ASCII; see `Trace.to_dict`.

        Args:
            indent: Spaces for each level; None writes one line.
        """
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Self:
        """Read what `to_dict` has made, of this version or an older one.

        What the form has besides is left alone.

        Raises:
            ValueError: If it is no trace, with the place of what is wrong; or of a newer version.
        """
        from lamella._trace_reading import record_from

        return record_from(cls, form)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` has written.

        Raises:
            ValueError: If it is no JSON, or as for `from_dict`.
        """
        try:
            form: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            msg = f"This is no JSON, so it is no trace: {error}."
            raise ValueError(msg) from None
        return cls.from_dict(form)

    def page(self) -> str:
        """The call as one HTML page; see `Trace.page`."""
        from lamella._trace_page import page

        return page(self)

    def write_page(self, path: str | PathLike[str]) -> Path:
        """Write the page to a file; see `Trace.write_page`."""
        from lamella._whole_files import write_whole

        return write_whole(path, self.page())
