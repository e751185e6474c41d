"""The errors of many rows; they stand in the tree of `lamella._errors`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._errors import ConfigurationError, RefusedError

if TYPE_CHECKING:
    from lamella._bulk_report import MapReport


class JournalError(ConfigurationError):
    """Raised when a journal of rows cannot be gone on with.

    Another run is at it, it was begun with another pipeline, other options, or other rows, or it
    was taken away from under the run.
    """


class RowError(RefusedError):
    """Raised, or rather kept as its result, when a row is no request; nothing of it is sent."""

    code = "invalid_row"


class MapStoppedError(RefusedError):
    """Raised after the last result of many rows if not all of them were begun.

    What was begun has its results; with a journal the next run goes on from there. The cause
    (`__cause__`) is the error that every further row would have met; None for a ceiling on cost.

    Attributes:
        report: What the run has come to.
    """

    code = "map_stopped"
    report: MapReport | None = None
