"""Where reports go: text to a sink, and a page to a folder. All of it in the writer's thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from lamella._text_sinks import TextStream, stream_of, write_text

if TYPE_CHECKING:
    from lamella_middlewares.debug._outline import Rows
    from lamella_middlewares.debug._pages import Pages
    from lamella_middlewares.debug._report import Report


@attrs.frozen(eq=False)
class Telling:
    """Writes reports.

    Attributes:
        sink: As for `Debug`.
        pages: Where pages go; None writes none.
    """

    sink: Callable[[str], object] | TextStream | str
    pages: Pages | None

    def __call__(self, item: Mapping[str, Any]) -> None:
        """Write one report.

        Raises:
            Exception: Why there is no page of it; its text has been written by then.
        """
        report: Report = item["report"]
        also: Rows = []
        failure: Exception | None = None
        if self.pages is not None:
            try:
                also.append(("page", str(self.pages.write(report.record, report.page()))))
            except Exception as error:  # noqa: BLE001 - raised below: the text is wanted still more
                failure = error
                why = error.strerror if isinstance(error, OSError) else None
                also.append(("page", f"could not be written: {why or type(error).__name__}"))
        if item.get("dropped"):
            also.append(("dropped", f"{item['dropped']} reports before this one"))
        self._say(report.text(also))
        if failure is not None:
            raise failure

    def _say(self, text: str) -> None:
        if callable(self.sink):
            self.sink(text)
        else:
            write_text(stream_of(self.sink), text)
